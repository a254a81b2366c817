"""The passes behind a Jacobian profile: one over the floats, one a prime, one a family draw.

Each returns a profile of records; ``empirical.jacobian`` checks the request and chooses among them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical import exact_pass
from empirical.blocks import Columns, Plan, plan_blocks
from empirical.chunks import Costs
from empirical.directions import Request, directions
from empirical.engine import Engine, TurnedError
from empirical.fields import FloatField
from empirical.finite import Sketch
from empirical.machine import fixed_bytes, trim, versions
from empirical.profile import Profile
from empirical.push import push
from empirical.records import Record
from empirical.spectrum import (
    Spectrum,
    effective_rank,
    participation_ratio,
    relative_rank,
    stable_rank,
)
from empirical.tangents import Tangent
from empirical.taps import Tap
from theory.errors import UnsupportedError


@dataclass
class Run:
    """One call of ``jacobian_profile``: its inputs, and the measurements as methods."""

    model: nn.Module
    image: Tensor
    request: Request
    taps: tuple[Tap, ...]
    eps: tuple[float, ...]
    primes: int
    seed: int
    memory: int | None
    device: torch.device
    name: str
    weights: str
    picture: str
    progress: Callable[[str], None] | None
    converted: dict[torch.dtype, nn.Module] = field(default_factory=dict)
    costs: dict[torch.dtype, Costs] = field(default_factory=dict)

    def measure(self, kind: str) -> Profile:
        """All records of one field."""
        if kind in ("float32", "float64"):
            return self.floats(getattr(torch, kind))
        if kind == "exact":
            return exact_pass.exact(self)
        return exact_pass.family(self, kind)

    def sandwich(self) -> Profile:
        """Float64, exact where the network is piecewise linear, and both families."""
        profiles = [self.measure("float64")]
        for kind in ("exact", "family", "architecture"):
            try:
                profiles.append(self.measure(kind))
            except UnsupportedError as error:
                profiles.append(Profile((), {}, 0, 0.0, (f"{kind}: UNSUPPORTED: {error}",)))
        return Profile.join(profiles)

    def floats(self, dtype: torch.dtype) -> Profile:
        """Spectra over a float field, with relative ranks and the smooth ranks."""
        started = time.perf_counter()
        with suppress(TurnedError):  # a tap shown, or said, to be a separator is none at this image
            return self._floats(dtype, started)
        # outside: the error would keep the first pass's tangents alive
        return self._floats(dtype, started, ("pushed twice: a branch goes around a separator",))

    def _floats(self, dtype: torch.dtype, started: float, already: tuple[str, ...] = ()) -> Profile:
        """One attempt; directions are turned in the first one only."""
        records: list[Record] = []
        spectra: dict[str, np.ndarray] = {}
        engine = Engine(FloatField(dtype))

        def finish(tap: Tap, spec: Spectrum, shape: tuple[int, ...]) -> None:
            spectra[tap.name] = spec.values
            took = time.perf_counter() - started
            extra = {
                "error": spec.error, "sigma_1": float(spec.values[0]) if len(spec.values) else 0.0,
                "error_is": "an estimate, not a bound: random-walk growth of rounding, at "
                "the kinks that this precision finds",
                "weights_as": f"stored weights converted to {_name(dtype)}",
            }  # fmt: skip
            for eps in self.eps:
                found = relative_rank(spec, eps)
                gap = found.gap if np.isfinite(found.gap) else None
                records.append(
                    self.record(
                        tap,
                        shape,
                        f"relative({eps!r})",
                        found.value,
                        took,
                        low=found.low,
                        high=found.high,
                        tolerance=eps,
                        dtype=_name(dtype),
                        extra={**extra, "gap": gap},
                    )
                )
            for notion, measure in (
                ("stable", stable_rank), ("effective", effective_rank),
                ("participation", participation_ratio),
            ):  # fmt: skip
                value = measure(spec.values)
                records.append(
                    self.record(tap, shape, notion, value, took, dtype=_name(dtype), extra=extra)
                )
            self.say(f"{tap.name} {found.value}")

        columns = Columns(self.plan(engine), self.taps, may_turn=not already)
        for part in columns.plan.parts:

            def read(tap: Tap, x: Tangent, part: range = part) -> None:
                columns.add(tap, x, part, finish, dtype)

            self.push(engine, part, read, chunks=columns.plan.chunks)
        if engine.mixed:
            raise TurnedError(f"{', '.join(engine.mixed)}: a tangent of the basis before the turn")
        columns.finish(finish, dtype)
        notes = tuple(f"{op} went through torch.func.jvp" for op in sorted(engine.fallbacks))
        seconds = time.perf_counter() - started
        return Profile(tuple(records), spectra, engine.peak, seconds, already + notes)

    def ranks(
        self, engine: Engine, seed: int, model: nn.Module | None = None
    ) -> list[tuple[Tap, int, tuple[int, ...], int]]:
        """(tap, rank mod p, shape, structurally active units) of every tap, over mod-p tangents."""
        sketches: dict[str, Sketch] = {}
        found: dict[str, tuple[tuple[int, ...], int]] = {}
        k = self.request.directions
        plan = self.plan(engine)
        for part in plan.parts:

            def read(tap: Tap, x: Tangent, part: range = part) -> None:
                if tap.name not in sketches:
                    sketches[tap.name] = Sketch(k, engine.field, seed * 1009 + tap.index)
                    active = int(x.support.sum()) if x.support is not None else x.primal.numel()
                    found[tap.name] = (tuple(x.primal.shape[1:]), active)
                sketches[tap.name].add(x, part)

            self.push(engine, part, read, model, chunks=plan.chunks)
            engine.kinks.close()
            engine.structural = False  # every block sees the whole patch: once is enough
        out = []
        by_name = {tap.name: tap for tap in self.taps}
        for name in found:  # in the order in which they were reached
            tap = by_name[name]
            rank = sketches[name].rank()
            self.say(f"{tap.name} {engine.field.name} {rank}")
            out.append((tap, rank, *found[tap.name]))
        return out

    def push(
        self,
        engine: Engine,
        part: range,
        read: Callable[[Tap, Tangent], None],
        model: nn.Module | None = None,
        *,
        chunks: Mapping[str, int] | None = None,
        costs: Costs | None = None,
    ) -> None:
        """One block of directions through the network."""
        dtype = engine.field.dtype
        if self.device.type == "cuda":  # on by default for convolutions: a noise floor of 1e-3
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        net = model if model is not None else self.convert(dtype)
        primal = self.image.to(dtype)[None].to(self.device)
        if engine.family:
            generator = torch.Generator().manual_seed(engine.seed)
            p = engine.field.prime
            primal = torch.randint(-(p // 2), p // 2, primal.shape, generator=generator).to(primal)
        data, offset = directions(self.image, self.request, part, dtype)
        engine.directions = self.request.directions  # blocks take the same way, and the planned one
        by_name = {tap.name: tap for tap in self.taps}

        def on_tap(name: str, x: Tangent) -> None:
            read(by_name[name], x)
            if self.memory is not None:
                trim()

        push(
            net, primal, data.to(self.device), engine, list(by_name),
            on_tap, offset, chunks=chunks, costs=costs,
        )  # fmt: skip

    def plan(self, engine: Engine) -> Plan:
        """Blocks of directions that fit the memory budget, from a pass with one direction."""
        dtype = engine.field.dtype
        if dtype not in self.costs:  # one probe serves every prime and draw
            costs = self.costs[dtype] = Costs(between=1)
            rehearsal = Engine(FloatField(dtype), rehearsal=True)
            self.push(rehearsal, range(1), lambda tap, x: None, costs=costs)
        return plan_blocks(
            self.request.directions, self.memory, self.costs[dtype], fixed_bytes(self.device),
            self.device,
        )  # fmt: skip

    def convert(self, dtype: torch.dtype) -> nn.Module:
        """A copy of the model in ``dtype`` on the device, made once."""
        if dtype not in self.converted:
            self.converted[dtype] = (
                copy.deepcopy(self.model).to(dtype=dtype, device=self.device).requires_grad_(False)
            )
        return self.converted[dtype]

    def record(
        self,
        tap: Tap,
        shape: tuple[int, ...],
        notion: str,
        value: float,
        seconds: float,
        *,
        low: float | None = None,
        high: float | None = None,
        tolerance: float | None = None,
        known: str = "measured",
        dtype: str,
        extra: dict[str, Any] | None = None,
    ) -> Record:
        """One number with everything that belongs to it."""
        patch = self.request.patch
        return Record(
            measurement="jacobian", model=self.name, weights=self.weights, image=self.picture,
            tap=tap.name, tap_index=tap.index, separator=tap.separator, shape=shape,
            directions=self.request.directions, notion=notion, tolerance=tolerance, value=value,
            low=value if low is None else low, high=value if high is None else high, known=known,
            dtype=dtype, device=str(self.device), seconds=round(seconds, 3), seed=self.seed,
            settings={
                "patch": patch, "at": list(self.request.corner),
                "background": self.request.background,
                "primes": self.primes if dtype == "mod p" else None,
            },
            versions={"torch": torch.__version__, **versions("timm")},
            extra=extra or {},
        )  # fmt: skip

    def say(self, text: str) -> None:
        """Tell the caller's progress."""
        if self.progress is not None:
            self.progress(text)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
