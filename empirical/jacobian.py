"""The Jacobian profile of a network: rank at every tap, under every notion, from one pass.

Directions are the pixels of a square patch (768 for 16x16x3). Float fields give spectra; the exact
field gives a proved lower bound at each separator tap and an upper bound from its structure;
families give the largest rank the architecture allows (theory.md, sections 2 and 5).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.blocks import Columns, Plan, plan_blocks
from empirical.fields import FloatField, ModField, random_primes
from empirical.finite import Sketch
from empirical.images import pixel_hash
from empirical.models import weights_hash
from empirical.profile import Profile
from empirical.records import Record
from empirical.spectrum import (
    Spectrum,
    effective_rank,
    participation_ratio,
    relative_rank,
    stable_rank,
)  # fmt: skip
from empirical.tangents import Engine, Kinks, Tangent, push
from empirical.taps import Tap, default_taps, named_taps
from theory.errors import InputError

FIELDS = ("float32", "float64", "exact", "family", "architecture", "sandwich")
PATTERN = "proved for the recorded pattern"


@dataclass(frozen=True)
class Request:
    """What is asked of one image: the directions, and where they are placed."""

    patch: int | None
    corner: tuple[int, int]
    directions: int
    background: str


def jacobian_profile(
    model: nn.Module,
    image: Tensor,
    *,
    field: str = "float64",
    patch: int | None = 16,
    at: tuple[int, int] | None = None,
    background: str = "image",
    taps: Sequence[str] | Sequence[Tap] | None = None,
    eps: Sequence[float] = (1e-3, 1.1920929e-07),
    primes: int = 3,
    seed: int = 0,
    memory: int | None = None,
    device: str = "cpu",
    name: str | None = None,
    weights: str | None = None,
    image_name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Profile:
    """Measure the Jacobian of ``model`` at ``image`` along the pixels of a patch, tap by tap.

    Args:
        model: any module in eval mode; it is not modified.
        image: preprocessed, [channels, height, width].
        field: ``float32``, ``float64``, ``exact``, ``family`` (smooth slopes free, weights
            stored), ``architecture`` (weights free too) or ``sandwich`` (all that apply).
        patch: side of the square of pixels whose directions are pushed; None for all pixels.
        at: (row, column) of the patch's corner; centred by default.
        background: ``image`` keeps the pixels around the patch, ``zero`` blanks them.
        taps: module paths or taps; the stem, every block, pooled features and logits by default.
        eps: tolerances of the relative ranks.
        primes: number of random primes (exact) or draws (families), the maximum reported.
        seed: seed of primes and draws.
        memory: bytes that tangents may use; directions are pushed in blocks that fit.
        device: ``cpu`` or ``cuda``.
        name, weights, image_name: how records call the model, its weights and the image.
        progress: called with a line of text as each tap is done.

    Returns:
        The profile: records, spectra by tap, peak bytes of tangents, seconds.

    Raises:
        InputError: the model trains, has half-precision weights, or the patch does not fit.
        UnsupportedError: an operation has no rule over the field.
    """
    if field not in FIELDS:
        raise InputError(f"no field is called {field!r}; the fields are {', '.join(FIELDS)}")
    _check_model(model)
    image = torch.as_tensor(image)
    request = _request(image, patch, at, background)
    chosen = _taps(model, taps, image)
    run = _Run(
        model=model, image=_background(image, request), request=request, taps=chosen,
        eps=tuple(eps), primes=primes, seed=seed, memory=memory, device=torch.device(device),
        name=name or type(model).__name__, weights=weights or weights_hash(model.state_dict()),
        picture=image_name or pixel_hash(image.detach().cpu()), progress=progress,
    )  # fmt: skip
    return run.sandwich() if field == "sandwich" else run.measure(field)


@dataclass
class _Run:
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

    def measure(self, kind: str) -> Profile:
        """All records of one field."""
        if kind in ("float32", "float64"):
            return self.floats(getattr(torch, kind))
        if kind == "exact":
            return self.exact()
        return self.family(kind)

    def sandwich(self) -> Profile:
        """Float64, exact where the network is piecewise linear, and both families."""
        from theory.errors import UnsupportedError

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
        records: list[Record] = []
        spectra: dict[str, np.ndarray] = {}
        engine = Engine(FloatField(dtype))

        def finish(tap: Tap, spec: Spectrum, shape: tuple[int, ...]) -> None:
            spectra[tap.name] = spec.values
            took = time.perf_counter() - started
            extra = {
                "error": spec.error, "sigma_1": float(spec.values[0]) if len(spec.values) else 0.0,
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
                    )  # fmt: skip
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

        columns = Columns(self.plan(engine), self.taps)
        for part in columns.plan.parts:
            self.push(engine, part, lambda tap, x, p=part: columns.add(tap, x, p, finish, dtype))
        columns.finish(finish, dtype)
        notes = tuple(f"{op} went through torch.func.jvp" for op in sorted(engine.fallbacks))
        return Profile(tuple(records), spectra, engine.peak, time.perf_counter() - started, notes)

    def exact(self) -> Profile:
        """Ranks mod random primes, the structural upper bound, and whether they meet."""
        started = time.perf_counter()
        best: dict[str, tuple[int, tuple[int, ...], int]] = {}
        kinks, peak, count = Kinks(), 0, 0
        primes = random_primes(self.primes, self.seed)
        seconds: dict[int, float] = {}
        for number, prime in enumerate(primes):
            begun = time.perf_counter()
            engine = Engine(ModField(prime), structural=number == 0)
            for tap, rank, shape, active in self.ranks(engine, self.seed + number):
                old = best.get(tap.name, (-1, shape, active))
                best[tap.name] = (max(rank, old[0]), shape, old[2])
                count = max(count, engine.operations)
            if number == 0:
                kinks = engine.kinks
            peak = max(peak, engine.peak)
            seconds[prime] = time.perf_counter() - begun
        records = []
        bound = self.request.directions
        took = time.perf_counter() - started
        for tap in self.taps:
            rank, shape, active = best[tap.name]
            if tap.separator:
                bound = min(bound, active)
            upper = bound if tap.separator else min(bound, active)
            met = rank == upper
            extra = {
                "upper": upper, "active_units": active, "primes": list(primes),
                "pattern_certified": False, "kinks": kinks.units, "kinks_in_doubt": kinks.in_doubt,
                "smallest_relative_margin": kinks.margin if np.isfinite(kinks.margin) else None,
                "seconds_a_prime": list(seconds.values()),
                "weights_as": "stored weights, batch norm folded as its float64 scale",
            }  # fmt: skip
            records.append(
                self.record(
                    tap,
                    shape,
                    "exact",
                    rank,
                    took,
                    low=rank,
                    high=upper,
                    known=PATTERN if met else "probable",
                    dtype="mod p",
                    extra=extra,
                )  # fmt: skip
            )
            records.append(
                self.record(
                    tap,
                    shape,
                    "structural",
                    upper,
                    took,
                    known=PATTERN,
                    dtype="structure",
                    extra={"active_units": active, "why": "directions and active units"},
                )  # fmt: skip
            )
        return Profile(tuple(records), {}, peak, took)

    def family(self, kind: str) -> Profile:
        """The maximum over draws of a family's rank."""
        started = time.perf_counter()
        best: dict[str, tuple[int, tuple[int, ...]]] = {}
        primes = random_primes(self.primes, self.seed)
        peak = 0
        for number, prime in enumerate(primes):
            draw = self.seed * 7919 + number
            engine = Engine(ModField(prime), family=True, seed=draw)
            model = None
            if kind == "architecture":
                model = with_random_weights(self.model, draw).to(self.device)
            for tap, rank, shape, _ in self.ranks(engine, draw, model):
                best[tap.name] = (max(rank, best.get(tap.name, (-1, shape))[0]), shape)
            peak = max(peak, engine.peak)
        notion = "family(weights)" if kind == "family" else "architecture"
        took = time.perf_counter() - started
        records = tuple(
            self.record(
                tap, best[tap.name][1], notion, best[tap.name][0], took, known="probable",
                dtype="mod p", extra={"primes": list(primes)},
            )
            for tap in self.taps
        )  # fmt: skip
        return Profile(records, {}, peak, took)

    def ranks(
        self, engine: Engine, seed: int, model: nn.Module | None = None
    ) -> list[tuple[Tap, int, tuple[int, ...], int]]:
        """(tap, rank mod p, shape, structurally active units) of every tap, over mod-p tangents."""
        sketches: dict[str, Sketch] = {}
        found: dict[str, tuple[tuple[int, ...], int]] = {}
        k = self.request.directions
        for part in self.plan(engine).parts:

            def read(tap: Tap, x: Tangent) -> None:
                if tap.name not in sketches:
                    sketches[tap.name] = Sketch(k, engine.field, seed * 1009 + tap.index)
                    active = int(x.support.sum()) if x.support is not None else x.primal.numel()
                    found[tap.name] = (tuple(x.primal.shape[1:]), active)
                sketches[tap.name].add(x, part)

            self.push(engine, part, read, model)
        out = []
        for tap in self.taps:
            rank = sketches[tap.name].rank()
            self.say(f"{tap.name} {engine.field.name} {rank}")
            out.append((tap, rank, *found[tap.name]))
        return out

    def push(
        self,
        engine: Engine,
        part: range,
        read: Callable[[Tap, Tangent], None],
        model: nn.Module | None = None,
    ) -> None:
        """One block of directions through the network."""
        dtype = engine.field.dtype
        net = model if model is not None else self.convert(dtype)
        primal = self.image.to(dtype)[None].to(self.device)
        if engine.family:
            generator = torch.Generator().manual_seed(engine.seed)
            p = engine.field.prime
            primal = torch.randint(-(p // 2), p // 2, primal.shape, generator=generator).to(primal)
        data, offset = directions(self.image, self.request, part, dtype)
        by_name = {tap.name: tap for tap in self.taps}
        push(
            net, primal, data.to(self.device), engine, list(by_name),
            lambda name, x: read(by_name[name], x), offset,
        )  # fmt: skip

    def plan(self, engine: Engine) -> Plan:
        """Blocks of directions that fit the memory budget, from a pass with one direction."""

        def probe() -> tuple[int, int]:
            trial = Engine(FloatField(engine.field.dtype))
            rows: dict[str, int] = {}
            self.push(trial, range(1), lambda tap, x: rows.__setitem__(tap.name, x.data_.numel()))
            return trial.peak, sum(rows.values())

        return plan_blocks(
            self.request.directions, self.memory, engine.field.dtype, probe, self.device
        )

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
        import timm

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
            versions={"torch": torch.__version__, "timm": timm.__version__},
            extra=extra or {},
        )  # fmt: skip

    def say(self, text: str) -> None:
        """Tell the caller's progress."""
        if self.progress is not None:
            self.progress(text)


def directions(
    image: Tensor, request: Request, part: range, dtype: torch.dtype
) -> tuple[Tensor, tuple[int, ...]]:
    """Unit directions ``part`` of the patch as [K, 1, C, h, w] and the patch's place."""
    channels = image.shape[0]
    h, w = (request.patch, request.patch) if request.patch else tuple(image.shape[1:])
    data = torch.zeros(len(part), channels * h * w, dtype=dtype)
    data[torch.arange(len(part)), torch.tensor(list(part))] = 1
    # channels last, as every window after it
    block = data.view(len(part), h, w, channels).permute(0, 3, 1, 2)[:, None]
    return block, (0, 0, *request.corner)


def with_random_weights(model: nn.Module, seed: int) -> nn.Module:
    """A float64 copy whose parameters and running statistics are random: a free architecture."""
    generator = torch.Generator().manual_seed(seed)
    free = copy.deepcopy(model).double().requires_grad_(False)
    for parameter in free.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    for key, buffer in free.named_buffers():
        if key.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=torch.float64) + 0.5)
        elif key.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
    return free


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _request(
    image: Tensor, patch: int | None, at: tuple[int, int] | None, background: str
) -> Request:
    if image.ndim != 3:
        raise InputError(f"an image is [channels, height, width], got shape {tuple(image.shape)}")
    if background not in ("image", "zero"):
        raise InputError(f"the background is 'image' or 'zero', got {background!r}")
    if not bool(torch.isfinite(image).all()):
        raise InputError("the image has pixels that are NaN or infinite")
    channels, height, width = image.shape
    if patch is None:
        return Request(None, (0, 0), image.numel(), background)
    if not 0 < patch <= min(height, width):
        raise InputError(f"a {patch}x{patch} patch does not fit in an image of {height}x{width}")
    corner = at if at is not None else ((height - patch) // 2, (width - patch) // 2)
    if not (0 <= corner[0] <= height - patch and 0 <= corner[1] <= width - patch):
        raise InputError(
            f"a {patch}x{patch} patch at row {corner[0]}, column {corner[1]} leaves the image "
            f"of {height}x{width}; the last place is {height - patch}, {width - patch}"
        )
    return Request(patch, (int(corner[0]), int(corner[1])), channels * patch * patch, background)


def _background(image: Tensor, request: Request) -> Tensor:
    image = image.detach().to(torch.float64).cpu()
    if request.background == "image" or request.patch is None:
        return image
    (y, x), p = request.corner, request.patch
    blank = torch.zeros_like(image)
    blank[:, y : y + p, x : x + p] = image[:, y : y + p, x : x + p]
    return blank


def _taps(
    model: nn.Module, taps: Sequence[str] | Sequence[Tap] | None, image: Tensor
) -> tuple[Tap, ...]:
    if taps is None:
        return default_taps(model, tuple(image.shape))
    given = list(taps)
    if all(isinstance(tap, Tap) for tap in given):
        return tuple(given)  # type: ignore[arg-type]
    return named_taps(model, [str(tap) for tap in given])


def _check_model(model: nn.Module) -> None:
    """Refuse what would make the numbers wrong."""
    for path, module in model.named_modules():
        if module.training and isinstance(
            module, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
        ):
            raise InputError(
                f"{type(module).__name__} {path!r} is in training mode: its output is not a "
                "function of one image; call model.eval()"
            )
        if getattr(module, "fused_attn", False) is True:
            raise InputError(
                f"fused attention at {path!r} has no forward derivative; call "
                "timm.layers.set_fused_attn(False) before the model is built"
            )
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"weights {key!r} are {_name(tensor.dtype)}; call model.float(), which is exact"
            )


def save(profile: Profile, folder: Path) -> None:
    """Write spectra as .npz beside a run's records."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "spectra.npz", **profile.spectra)  # type: ignore[arg-type]
