"""Singular-value exponents of a measured network by the QR method over its blocks.

An orthonormal basis of input directions goes through one block at a time: J_k Q_{k-1} = Q_k R_k. The
triangles R_k multiply to the network's Jacobian up to an isometry, so ``numeric.products`` reads
the log singular values off them however small they are, where an SVD of the product loses all
below 1e-16. Beside them stand the gains of each block and the exponents of Gaussian layers
(theory.md, gaussian-exponents), which trained networks need not follow.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from empirical.records import Record
from empirical.subject import Subject
from empirical.taps import Tap
from numeric.products import product_spectrum
from theory.constants import gaussian_exponents
from theory.errors import InputError


@dataclass(frozen=True, eq=False)
class Exponents:
    """Log singular values along the chain of taps.

    Attributes:
        taps: the taps, in forward order.
        shapes: of their outputs.
        gains: per tap, log |diag R_k|: the growth in that block of each basis direction.
        logs: per tap, descending log singular values of the Jacobian up to there.
        exponents: (1/L) (log sigma_k - log sigma_1) at the last tap that keeps the width.
        gaussian: the same for L Gaussian layers of as many directions.
        directions: of the input.
        seconds: wall time.
    """

    taps: tuple[Tap, ...]
    shapes: tuple[tuple[int, ...], ...]
    gains: tuple[np.ndarray, ...]
    logs: tuple[np.ndarray, ...]
    exponents: np.ndarray
    gaussian: np.ndarray
    directions: int
    seconds: float

    def records(self, subject: Subject) -> tuple[Record, ...]:
        """Relative rank 1e-3 from the log spectrum at each tap, with the gains; and the exponents."""
        found = []
        for tap, shape, gain, log in zip(
            self.taps, self.shapes, self.gains, self.logs, strict=True
        ):
            here = replace(
                subject, tap=tap.name, tap_index=tap.index, separator=tap.separator, shape=shape
            )
            count = int((np.isfinite(log) & (log >= log[0] + np.log(1e-3))).sum())
            finite = log[np.isfinite(log)]
            found.append(
                here.record(
                    "lyapunov", "relative(0.001)", float(count), tolerance=1e-3,
                    directions=self.directions, seconds=self.seconds, settings={"by": "QR method"},
                    extra={
                        "log_top": float(log[0]) if len(finite) else None,
                        "log_spread": float(finite[0] - finite[-1]) if len(finite) else None,
                        "gain_median": _median(gain), "gain_top": _top(gain),
                        "kind": tap.kind,
                        "note": f"log sigma_1 / sigma_min {float(finite[0] - finite[-1]):.2f}, "
                        f"median block gain {_median(gain):.3f}" if len(finite) else "zero",
                    },
                )
            )  # fmt: skip
        middle = len(self.exponents) // 2
        found.append(
            subject.record(
                "lyapunov", "spectra", float(self.exponents[middle]), directions=self.directions,
                seconds=self.seconds, settings={"by": "QR method", "what": "median exponent"},
                extra={
                    "exponents": [_finite(v) for v in self.exponents],
                    "gaussian": [float(v) for v in self.gaussian],
                    "note": f"median exponent {self.exponents[middle]:.3f} a block, "
                    f"Gaussian layers {self.gaussian[middle]:.3f}",
                },
            )
        )  # fmt: skip
        return tuple(found)


def measure(
    model: nn.Module,
    image: Tensor,
    taps: Sequence[Tap],
    *,
    directions: int | None = None,
    chunk: int = 64,
    sweeps: int = 60,
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
        sweeps: at most so many of the QR method; near-equal values need many to part.
        seed: seed of the directions.
        device: where to run.
        progress: called with (done, total) taps.

    Raises:
        InputError: no separator taps, or more directions than inputs.
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
    basis = torch.eye(inputs, dtype=torch.float64)
    if count < inputs:
        basis, _ = torch.linalg.qr(
            torch.randn(inputs, count, generator=generator, dtype=torch.float64)
        )
    basis = basis.to(device)
    shapes, gains, logs = [], [], []
    triangles: list[np.ndarray] = []
    before, point = "", x
    for done, tap in enumerate(chosen, 1):
        step = segment(net, x, before, tap.name)
        value = step(point)
        pushed = _push(step, point, basis, chunk)
        basis, r = torch.linalg.qr(pushed)
        triangles.append(r.cpu().numpy())
        with np.errstate(divide="ignore"):
            gains.append(np.log(np.abs(np.diag(triangles[-1]))))
        logs.append(np.sort(product_spectrum(triangles, sweeps=sweeps, tolerance=1e-12).logs)[::-1])
        shapes.append(tuple(value.shape[1:]))
        before, point = tap.name, value
        if progress is not None:
            progress(done, len(chosen))
    width = max(len(log) for log in logs)
    last = max(i for i, log in enumerate(logs) if len(log) == width)
    exponents = (logs[last] - logs[last][0]) / (last + 1)
    gaussian = np.array([float(v) for v in gaussian_exponents(width, 15)])
    return Exponents(
        chosen, tuple(shapes), tuple(gains), tuple(logs), exponents, gaussian, count,
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


def _push(step: Callable[[Tensor], Tensor], point: Tensor, basis: Tensor, chunk: int) -> Tensor:
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


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _top(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
