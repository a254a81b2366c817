"""Singular values of products of thousands of layers, without ever forming the product.

One sweep of the QR method, A_k Q_{k-1} = Q_k R_k, turns A_L ... A_1 into Q_L R_L ... R_1 and the
sums of log |diag R_k| approach the logarithms of the singular values (Lyapunov spectrum; Benettin
et al. 1980). Sweeping again over the transposed triangles makes them the singular values of this
very product, not only in the limit of many layers: the diagonal converges as in the QR iteration.
Nothing over- or underflows, since only logarithms are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.errors import InputError
from theory.notions import Notion

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class ProductSpectrum:
    """Logarithms of the singular values of a product of layers.

    Attributes:
        logs: natural logarithms in decreasing order (-inf for an exact zero), shape (k,) with k the
            smallest width of the chain.
        change: how much the last sweep still moved any of them; the error is about that, plus
            rounding of about L n eps. Values that are zero in exact arithmetic appear as rounding
            noise: the rank of a product is a question for ``numeric.exact``.
        layers: number L of factors.
    """

    logs: Array
    change: float
    layers: int

    @property
    def exponents(self) -> Array:
        """(1/L) log sigma_k, the finite-depth Lyapunov exponents."""
        return self.logs / self.layers

    def relative_rank(self, eps: float) -> tuple[Notion, int]:
        """#{i : sigma_i >= eps sigma_1} with its notion; ``eps`` in (0, 1]."""
        if not 0 < eps <= 1:
            raise InputError(f"eps={eps}: a relative tolerance lies in (0, 1]")
        notion = Notion("relative", (repr(float(eps)),))
        if not self.logs.size or self.logs[0] == -math.inf:
            return notion, 0
        return notion, int(np.sum(self.logs >= self.logs[0] + math.log(eps)))


def product_spectrum(
    layers: Iterable[Any], *, sweeps: int = 20, tolerance: float = 1e-10
) -> ProductSpectrum:
    """Log singular values of A_L ... A_1.

    Args:
        layers: A_1 first, each of shape (d_k, d_{k-1}), finite. May be a generator; the triangles
            kept between sweeps take 8 L n^2 bytes (with ``sweeps=1`` nothing is kept).
        sweeps: at most this many; 1 is the classical QR method.
        tolerance: stop when a sweep changes no logarithm by more.

    Raises:
        InputError: no layers, shapes that do not compose, non-finite entries, ``sweeps`` below 1.
    """
    if sweeps < 1:
        raise InputError(f"sweeps={sweeps}: at least one is needed")
    triangles, logs, count = _sweep(_checked(layers), keep=sweeps > 1)
    if not count:
        raise InputError("a product of no layers has no size; give at least one matrix")
    change = math.inf
    for _ in range(sweeps - 1):
        triangles, fresh, _ = _sweep((t.T for t in reversed(triangles)), keep=True)
        size = min(len(fresh), len(logs))
        with np.errstate(invalid="ignore"):
            moved = np.abs(fresh[:size] - logs[:size])
        logs, change = fresh, float(np.nan_to_num(moved, nan=0.0).max(initial=0.0))
        if change <= tolerance:
            break
    return ProductSpectrum(np.sort(logs)[::-1], change, count)


def _checked(layers: Iterable[Any]) -> Iterable[Array]:
    width: int | None = None
    for k, layer in enumerate(layers, 1):
        matrix = np.asarray(layer, dtype=np.float64)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise InputError(f"layer {k} has shape {matrix.shape}; give a non-empty matrix")
        if width is not None and matrix.shape[1] != width:
            raise InputError(f"layer {k} takes {matrix.shape[1]} inputs and gets {width}")
        if not np.isfinite(matrix).all():
            raise InputError(f"layer {k} has a non-finite entry")
        width = matrix.shape[0]
        yield matrix


def _sweep(layers: Iterable[Array], *, keep: bool) -> tuple[list[Array], Array, int]:
    """One pass: the triangles, the sums of log |diag|, the number of layers."""
    basis: Array | None = None
    triangles: list[Array] = []
    logs: Array = np.zeros(0)
    count = 0
    with np.errstate(divide="ignore"):
        for layer in layers:
            basis, triangle = np.linalg.qr(layer if basis is None else layer @ basis)
            if keep:
                triangles.append(triangle)
            steps = np.log(np.abs(np.diag(triangle)))
            logs = steps if not count else logs[: len(steps)] + steps
            count += 1
    return triangles, logs, count
