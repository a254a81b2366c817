"""Singular-value exponents of a measured network by the QR method over its blocks.

An orthonormal basis of input directions goes through one block at a time: J_k Q_{k-1} = Q_k R_k. The
triangles R_k multiply to the network's Jacobian up to an isometry, so ``numeric.products`` reads
the log singular values off them however small they are, where an SVD of the product loses all
below 1e-16. A direction that falls below a block's own rounding floor is dropped there and counted:
its logarithm would be noise.

Beside them stand the gains of each block and the exponents of Gaussian layers of the same widths
(theory.md, gaussian-exponents), which trained networks need not follow.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from empirical.qr_method import gaussian_prediction, log_spectrum, split
from empirical.records import Record
from empirical.subject import Subject
from empirical.taps import Tap
from theory.errors import InputError, UnsupportedError

#: the threshold of the relative rank that is read off the log spectrum
EPS = 1e-3


@dataclass(frozen=True, eq=False)
class Exponents:
    """Log singular values along the chain of taps.

    Attributes:
        taps: the taps, in forward order.
        shapes: of their outputs.
        gains: per tap, log |diag R_k|: the growth in that block of each basis direction.
        logs: per tap, descending log singular values of the Jacobian up to there; one for each
            direction that no block so far took below its rounding floor.
        dropped: per tap, directions lost so far to a block's rounding floor although the tap is
            wide enough for them: zero, or too small to tell in float64.
        ceilings: per tap, upper bound of the logarithm of what was dropped: -inf where nothing was,
            inf behind a later block, whose norm on what was dropped nobody knows.
        changes: per tap, how far a logarithm may be off: rounding where the SVD of the product
            tells them all, else what the last sweep of the QR iteration still moved.
        exponents: (1/L) (log sigma_k - log sigma_1) at the last tap that is wide enough for all
            directions, over the directions alive there.
        gaussian, deviation: mean and standard deviation of the same for L Gaussian layers of the
            same widths.
        depth: L, the blocks up to that tap.
        directions: of the input.
        seconds: wall time.
    """

    taps: tuple[Tap, ...]
    shapes: tuple[tuple[int, ...], ...]
    gains: tuple[np.ndarray, ...]
    logs: tuple[np.ndarray, ...]
    dropped: tuple[int, ...]
    ceilings: tuple[float, ...]
    changes: tuple[float, ...]
    exponents: np.ndarray
    gaussian: np.ndarray
    deviation: np.ndarray
    depth: int
    directions: int
    seconds: float

    def records(self, subject: Subject) -> tuple[Record, ...]:
        """Relative rank 1e-3 from the log spectrum at each tap, with the gains; the exponents."""
        found = []
        for i, (tap, shape, gain, log) in enumerate(
            zip(self.taps, self.shapes, self.gains, self.logs, strict=True)
        ):
            dropped, change = self.dropped[i], self.changes[i]
            here = replace(
                subject, tap=tap.name, tap_index=tap.index, separator=tap.separator, shape=shape
            )
            low, count, high = (
                int((log >= log[0] + np.log(EPS) + move).sum())
                for move in (2 * change, 0.0, -2 * change)
            )
            if self.ceilings[i] >= log[0] + np.log(EPS) - 2 * change:
                high += dropped
            spread = float(log[0] - log[-1])
            note = f"log sigma_1 / sigma_{len(log)} {spread:.2f}, median gain {np.median(gain):.3f}"
            if dropped:
                note += f"; {dropped} directions below a block's rounding floor: zero or too small"
            found.append(
                here.record(
                    "lyapunov", "relative(0.001)", float(count), low=float(low), high=float(high),
                    tolerance=EPS, directions=self.directions, seconds=self.seconds,
                    settings={"by": "QR method"},
                    extra={
                        "log_top": float(log[0]), "log_spread": spread,
                        "alive": len(log), "dropped": dropped, "change": change,
                        "gain_median": float(np.median(gain)), "gain_top": float(gain.max()),
                        "kind": tap.kind,
                        "note": note,
                    },
                )
            )  # fmt: skip
        middle = len(self.exponents) // 2
        away = self.apart()[middle]
        found.append(
            subject.record(
                "lyapunov", "spectra", float(self.exponents[middle]), directions=self.directions,
                seconds=self.seconds, settings={"by": "QR method", "what": "median exponent"},
                extra={
                    "exponents": [float(v) for v in self.exponents],
                    "gaussian": [float(v) for v in self.gaussian],
                    "deviation": [float(v) for v in self.deviation],
                    "apart": float(away), "depth": self.depth,
                    "note": f"median exponent {self.exponents[middle]:.3f} a block over "
                    f"{self.depth} blocks; Gaussian layers of these widths "
                    f"{self.gaussian[middle]:.3f} +- {self.deviation[middle]:.3f}",
                },
            )
        )  # fmt: skip
        return tuple(found)

    def apart(self) -> np.ndarray:
        """How many standard deviations of the Gaussian prediction each exponent is away from it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (self.exponents - self.gaussian) / self.deviation
        found[0] = 0.0  # the first exponent is 0 by definition
        return np.asarray(found)


def measure(
    model: nn.Module,
    image: Tensor,
    taps: Sequence[Tap],
    *,
    directions: int | None = None,
    chunk: int = 64,
    sweeps: int = 60,
    tolerance: float = 1e-6,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Exponents:
    """Push a basis through a network block by block.

    Args:
        model: in eval mode, its blocks run one after the other between the taps.
        image: preprocessed, [channels, height, width].
        taps: separator taps in forward order; others are left out.
        directions: random orthonormal input directions; all of them by default.
        chunk: directions differentiated at once.
        sweeps: at most so many of the QR iteration over the triangles, where the SVD of their
            product cannot tell the smallest singular values. Two of ratio q part like q^(2 sweeps).
        tolerance: stop when a sweep moves no logarithm by more.
        seed: seed of the directions.
        device: where to run.
        progress: called with (done, total) taps.

    Raises:
        InputError: no separator taps, or more directions than inputs.
        UnsupportedError: the Jacobian is zero.
    """
    started = time.perf_counter()
    chosen = tuple(tap for tap in taps if tap.separator)
    inputs = image.numel()
    count = inputs if directions is None else directions
    if not chosen or not 0 < count <= inputs:
        raise InputError(f"{len(chosen)} separator taps and {count} of {inputs} directions")
    net = copy.deepcopy(model).to(device=device, dtype=torch.float64).eval()
    x = image.to(device=device, dtype=torch.float64)[None]
    generator = torch.Generator().manual_seed(seed)
    if count < inputs:
        draw = torch.randn(inputs, count, generator=generator, dtype=torch.float64)
        basis = torch.linalg.qr(draw).Q
    else:
        basis = torch.eye(inputs, dtype=torch.float64)
    basis = basis.to(device)
    shapes, gains, logs, changes = [], [], [], []
    dropped: list[int] = []
    ceilings: list[float] = []
    triangles: list[np.ndarray] = []
    before, point, room = "", x, count
    top = 0.0  # log of the product of the norms of the blocks so far
    for done, tap in enumerate(chosen, 1):
        step = segment(net, x, before, tap.name)
        value = step(point)
        before_block = min(basis.shape[1], value[0].numel())
        basis, r, norm, floor = split(push(step, point, basis, chunk))
        if not len(r):
            raise UnsupportedError(f"the Jacobian up to {tap.name} is zero: it has no exponents")
        triangles.append(r.cpu().numpy())
        gains.append(np.log(np.abs(np.diag(triangles[-1]))))
        spectrum, change = log_spectrum(triangles, sweeps, tolerance)
        logs.append(spectrum)
        changes.append(change)
        room = min(room, value[0].numel())
        # a later block may raise what was dropped by more than it raises the rest
        fresh = top + np.log(floor) if len(r) < before_block else -np.inf
        ceilings.append(float(fresh if not (dropped and dropped[-1]) else np.inf))
        top += np.log(norm)
        dropped.append(room - len(r))
        shapes.append(tuple(value.shape[1:]))
        before, point = tap.name, value
        if progress is not None:
            progress(done, len(chosen))
    narrow = (i for i, shape in enumerate(shapes) if prod(shape) < count)
    last = max(next(narrow, len(shapes)) - 1, 0)
    widths = [prod(shape) for shape in shapes[: last + 1]]
    mean, deviation = gaussian_prediction(widths, min(count, min(widths)))
    alive = len(logs[last])
    exponents = (logs[last] - logs[last][0]) / (last + 1)
    return Exponents(
        chosen, tuple(shapes), tuple(gains), tuple(logs), tuple(dropped), tuple(ceilings),
        tuple(changes), exponents, mean[:alive], deviation[:alive], last + 1, count,
        time.perf_counter() - started,
    )  # fmt: skip


class _ReachedError(Exception):
    """The segment's end: what follows need not run."""


def segment(net: nn.Module, x: Tensor, before: str, after: str) -> Callable[[Tensor], Tensor]:
    """The map from the output of module ``before`` (the input where empty) to that of ``after``.

    The whole network runs up to ``after`` with ``before``'s output replaced, which is the same map
    because ``before`` separates.
    """
    modules = dict(net.named_modules())

    def run(value: Tensor) -> Tensor:
        caught: list[Tensor] = []

        def stop(_m: nn.Module, _i: object, output: Tensor) -> None:
            caught.append(output)
            raise _ReachedError

        handles = [modules[after].register_forward_hook(stop)]
        if before:
            handles.append(modules[before].register_forward_hook(lambda _m, _i, _o: value))
        try:
            net(x if before else value)
        except _ReachedError:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return caught[0]

    return run


def push(step: Callable[[Tensor], Tensor], point: Tensor, basis: Tensor, chunk: int) -> Tensor:
    """J of ``step`` at ``point`` times the columns of ``basis``; [outputs, columns]."""

    def along(v: Tensor) -> Tensor:
        image: Tensor = jvp(step, (point,), (v.view(point.shape),))[1]
        return image.flatten()

    with torch.no_grad():
        parts = [
            vmap(along)(basis[:, a : a + chunk].T.contiguous())
            for a in range(0, basis.shape[1], chunk)
        ]
    return torch.cat(parts).T
