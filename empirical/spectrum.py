"""Singular values of a Jacobian and what is read off them: relative ranks as Weyl intervals.

The spectrum comes from a QR of J in the precision in which J was computed and an SVD of the triangle
in float64, never from J^T J, whose float32 cut-off is sqrt(n * eps32) of the largest singular value:
Householder's QR by steps, or Cholesky's where the columns are nearly orthogonal (``empirical.turned``).
A QR of a float32 J in float64 costs twice as much and tells nothing more: its own error, 4e-7 of
sigma_1 in float32 at most where it was measured, is below that of the pass. A float spectrum carries
an error bound, so a relative rank is an interval, not a number (theory.md, rows *weyl* and section 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from empirical.threads import shares, side_by_side
from theory.errors import InputError

#: rows of one QR step; the triangle of the steps before is stacked on top. Errors grow with it (in
#: float32, 768 columns: 4e-7 of sigma_1 for 2304 rows, 5e-6 for 16384), repeated work shrinks
STEP = 3072
#: rows looked at together for those that are zero
STRIP = 8192
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values, descending, and a bound on the error of each.

    Attributes:
        values: float64 array of min(rows, directions) singular values.
        error: estimate of the spectral norm of the error in J (rounding of the pass in ``dtype``
            and of the decomposition); by Weyl it bounds the error of every singular value.
        shape: (rows, directions) of the Jacobian.
    """

    values: np.ndarray
    error: float
    shape: tuple[int, int]


@dataclass(frozen=True)
class Interval:
    """A relative rank: the count at the threshold, its Weyl interval, and the gap there.

    Attributes:
        value: number of singular values at or above ``eps * sigma_1``.
        low, high: the counts if every singular value moved by the error bound.
        gap: sigma_value / sigma_(value + 1), infinite when nothing is below.
    """

    value: int
    low: int
    high: int
    gap: float


def triangle(
    rows: Tensor, upper: Tensor | None = None, precision: torch.dtype = torch.float64
) -> Tensor:
    """R of a QR of [upper; J], in steps: J is given as [directions, rows] (transposed).

    Rows of zeros (units that a ReLU has switched off, places that the patch does not reach) change
    nothing and are left out: often half of all.

    Args:
        rows: J transposed.
        upper: R of the rows before.
        precision: of the QR, torch.float64 or torch.float32.

    Returns:
        [min(rows, directions), directions] in ``precision``.
    """
    parts = shares(rows, 4 * STEP)
    if len(parts) == 1:
        return _chain(rows, upper, precision)
    triangles = side_by_side(lambda part: _chain(part, None, precision), parts)
    return _reduce(torch.cat([*([] if upper is None else [upper]), *triangles]))


def _reduce(stacked: Tensor) -> Tensor:
    """R of a QR of ``stacked``, itself where it has no more rows than columns."""
    if stacked.shape[0] <= stacked.shape[1]:
        return stacked
    return torch.geqrf(stacked)[0][: stacked.shape[1]].triu()


def _chain(rows: Tensor, upper: Tensor | None, precision: torch.dtype) -> Tensor:
    """One step after another, the triangle of the steps before on top."""
    k, m = rows.shape
    block = rows.new_empty((k, k + STEP), dtype=precision)
    have = 0
    if upper is not None:
        have = upper.shape[0]
        block[:, :have] = upper.T
    for start in range(0, m, STRIP):
        strip, _ = without_zeros(rows[:, start : start + STRIP])
        while strip.shape[1]:
            taken, strip = strip.tensor_split([k + STEP - have], 1)
            block[:, have : have + taken.shape[1]] = taken
            have += taken.shape[1]
            if have == k + STEP:
                have = k  # R over reflectors, which go: without copying it once more
                block[:, :k].copy_(torch.geqrf(block.T)[0][:k].T).tril_()
    return _reduce(block[:, :have].T)


def without_zeros(strip: Tensor) -> tuple[Tensor, Tensor | None]:
    """The columns of ``strip`` that are not zero throughout, and which they are (None: all)."""
    if bool((strip[0] != 0).all()):  # the first direction alone often sees every unit
        return strip, None
    alive = ((strip.amax(0) != 0) | (strip.amin(0) != 0)).nonzero().flatten()
    if len(alive) == strip.shape[1]:
        return strip, None
    # index_select takes four times as long
    return strip.gather(1, alive.expand(strip.shape[0], -1)), alive


def spectrum(J: Tensor, *, dtype: torch.dtype | None = None, operations: int = 0) -> Spectrum:
    """Singular values of ``J`` [outputs, directions], all in float64.

    Args:
        J: the Jacobian, float32 or float64.
        dtype: precision of the pass that made J; J's own by default.
        operations: number of operations of that pass; its rounding enters the error bound.

    Raises:
        InputError: an entry is NaN or infinite.
    """
    return from_triangle(
        triangle(J.T), (J.shape[0], J.shape[1]), dtype=dtype or J.dtype, operations=operations
    )


def from_triangle(
    R: Tensor,
    shape: tuple[int, int],
    *,
    dtype: torch.dtype,
    operations: int = 0,
    growth: float = 0.0,
) -> Spectrum:
    """Spectrum of the matrix of ``shape`` whose QR triangle is ``R``, in the precision of its QR.

    Args:
        R: [min(rows, directions), directions].
        shape: (rows, directions).
        dtype: precision of the pass.
        operations: of the pass.
        growth: of the relative error in Cholesky's QR (``empirical.turned``).
    """
    count = min(shape)
    if R.numel() == 0:
        return Spectrum(np.zeros(count), 0.0, shape)
    if not bool(torch.isfinite(R).all()):
        raise InputError("the Jacobian has entries that are NaN or infinite: no spectrum")
    values = torch.linalg.svdvals(R.to(torch.float64)).cpu().numpy()
    values = np.sort(np.concatenate([values, np.zeros(max(0, count - len(values)))]))[::-1][:count]
    norm = float(np.sqrt((values**2).sum()))
    # measured at 768 columns in float32: Householder by steps 6 units, Cholesky 9; here 55. A sum of
    # thousands of squares is off by some units for one column too
    units = max(2 * np.sqrt(shape[1]), 32.0 if growth else 0.0)
    own = UNIT[R.dtype] * units * max(1.0, growth * values[0] / norm if norm else 0.0)
    # random-walk growth of one unit roundoff an operation; an estimate, hence "measured"
    passed = UNIT.get(dtype, 2.0**-24) * 4 * np.sqrt(operations) if operations else 0.0
    return Spectrum(np.ascontiguousarray(values), float(norm * (own + passed)), shape)


def relative_rank(spec: Spectrum, eps: float) -> Interval:
    """``#{i : sigma_i > 0, sigma_i >= eps * sigma_1}`` with its Weyl interval.

    Raises:
        InputError: ``eps`` is not in (0, 1].
    """
    if not 0 < eps <= 1:
        raise InputError(f"a relative tolerance lies in (0, 1], got {eps}")
    values, error = spec.values, spec.error
    if not len(values) or values[0] <= 0:
        return Interval(0, 0, int((values + error > 0).sum()) if error else 0, float("inf"))
    top = values[0]
    value = int((values >= eps * top).sum())
    low = int(((values - error >= eps * (top + error)) & (values > error)).sum())
    high = int((values + error >= eps * max(top - error, 0.0)).sum())
    below = values[value] if value < len(values) else 0.0
    gap = float(values[value - 1] / below) if below > 0 else float("inf")
    return Interval(value, min(low, value), max(high, value), gap)


def absolute_rank(spec: Spectrum, tau: float) -> Interval:
    """``#{i : sigma_i > 0, sigma_i >= tau}`` with its Weyl interval."""
    if not tau > 0:
        raise InputError(f"an absolute tolerance is positive, got {tau}")
    values, error = spec.values, spec.error
    value = int((values >= tau).sum())
    low, high = int((values - error >= tau).sum()), int((values + error >= tau).sum())
    below = values[value] if value < len(values) else 0.0
    gap = float(values[value - 1] / below) if value and below > 0 else float("inf")
    return Interval(value, low, high, gap)


def stable_rank(values: np.ndarray) -> float:
    """Squared Frobenius norm over squared spectral norm (0 for the zero matrix)."""
    top = float(values[0]) if len(values) else 0.0
    return float(((values / top) ** 2).sum()) if top > 0 else 0.0


def effective_rank(values: np.ndarray) -> float:
    """Exponential of the entropy of the normalised singular values (Roy and Vetterli 2007)."""
    total = float(values.sum())
    if total <= 0:
        return 0.0
    p = values[values > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def participation_ratio(values: np.ndarray) -> float:
    """``(sum sigma^2)^2 / sum sigma^4``."""
    top = float(values[0]) if len(values) else 0.0
    if top <= 0:
        return 0.0
    squares = (values / top) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum())
