"""Singular values to a requested number of digits, and ranks read off them with their gap.

mpmath does the arithmetic. How many digits are right is not assumed but proved afterwards in ball
arithmetic: with M = U diag(s) V + R, Weyl's inequality (theory.md, row weyl) bounds the effect of R
and Ostrowski's that of U and V not being quite orthogonal. The error gives intervals for ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import flint
import mpmath

from numeric.exact import certified_rank
from numeric.matrices import ratios
from theory.errors import InputError
from theory.notions import Notion

_GUARD = 10


@dataclass(frozen=True)
class SingularValues:
    """Singular values in decreasing order.

    Attributes:
        values: mpmath numbers; those beyond the exact rank are exactly 0.
        digits: for each value, how many leading digits are trustworthy (-1 for an exact zero).
        error: proved bound of the absolute error of every value.
        rank: the exact rank, proved.
    """

    values: tuple[Any, ...]
    digits: tuple[int, ...]
    error: Any
    rank: int


@dataclass(frozen=True)
class SpectralRank:
    """The number of singular values at or above a threshold.

    Attributes:
        notion: ``relative(eps)`` or ``absolute(tau)``.
        value: the count for the computed values; ``low`` and ``high`` the counts that the error
            allows.
        low: smallest count within the error.
        high: largest count within the error.
        gap: ratio of the value that is last in to the value that is first out (infinity where
            nothing non-zero is out, or nothing is in): near 1 the count hangs on a hair.
    """

    notion: Notion
    value: int
    low: int
    high: int
    gap: float


def singular_values(matrix: Any, digits: int = 30) -> SingularValues:
    """Singular values with at least ``digits`` right digits, also of the smallest.

    Args:
        matrix: shape (rows, columns), as for ``numeric.matrices.ratios``.
        digits: significant decimal digits wanted, of every non-zero singular value.

    Raises:
        InputError: the matrix cannot be read, or ``digits`` is not positive.
    """
    if digits < 1:
        raise InputError(f"digits={digits}: ask for at least 1")
    entries, columns = ratios(matrix)
    small = min(len(entries), columns)
    rank = certified_rank(matrix).rank
    if rank == 0:
        return SingularValues((mpmath.mpf(0),) * small, (-1,) * small, mpmath.mpf(0), 0)
    if len(entries) < columns:
        entries = [list(column) for column in zip(*entries, strict=True)]
    working = digits + _GUARD
    while True:  # sigma_r is not 0 (that is proved), so some precision resolves it
        with mpmath.workdps(working), flint.ctx.workprec(4 * working + 64):
            values, errors = _svd(entries)
            pairs = zip(values[:rank], errors, strict=False)
            right = tuple(_digits(value, error, working) for value, error in pairs)
            if min(right) >= digits:
                zeros = small - rank
                return SingularValues(
                    tuple(values[:rank]) + (mpmath.mpf(0),) * zeros,
                    right + (-1,) * zeros,
                    max(errors[:rank]),
                    rank,
                )
        working *= 2


def _digits(value: Any, error: Any, most: int) -> int:
    """Trustworthy decimal digits of ``value``."""
    if not error < value:
        return 0
    return most if error == 0 else int(mpmath.floor(-mpmath.log10(error / value)))


def _svd(entries: list[list[tuple[int, int]]]) -> tuple[list[Any], list[Any]]:
    """Singular values of a matrix with rows >= columns, with a proved error bound of each."""
    table = mpmath.matrix([[mpmath.mpf(top) / bottom for top, bottom in row] for row in entries])
    left, values, right = mpmath.svd_r(table)
    exact = flint.arb_mat([[flint.arb(flint.fmpq(*ratio)) for ratio in row] for row in entries])
    u, v = (
        flint.arb_mat([[flint.arb(x) for x in row] for row in m.tolist()]) for m in (left, right)
    )
    s = [flint.arb(value) for value in values]
    scaled = flint.arb_mat([[u[i, j] * s[j] for j in range(len(s))] for i in range(u.nrows())])
    rest = _frobenius(exact - scaled * v)
    grams = (u.transpose() * u, v * v.transpose())
    defects = [_frobenius(gram - flint.arb_mat(len(s), len(s), 1)) for gram in grams]
    stretch = ((1 + defects[0]) * (1 + defects[1])).sqrt() - 1
    shrink = 1 - ((1 - defects[0]) * (1 - defects[1])).sqrt()
    worst = stretch.max(shrink)
    errors = [mpmath.mp.make_mpf((rest + sigma * worst).upper()._mpf_) for sigma in s]
    return list(values), errors


def _balls(matrix: Any) -> flint.arb_mat:
    """An mpmath matrix as exact balls: both store dyadic numbers."""
    return flint.arb_mat([[flint.arb(entry) for entry in row] for row in matrix.tolist()])


def _frobenius(matrix: flint.arb_mat) -> flint.arb:
    return sum((entry * entry for entry in matrix.entries()), flint.arb(0)).sqrt()


def relative_rank(spectrum: SingularValues, eps: float) -> SpectralRank:
    """#{i : sigma_i > 0 and sigma_i >= eps sigma_1}, with its interval and gap.

    Raises:
        InputError: ``eps`` is not in [0, 1].
    """
    if not 0 <= eps <= 1:
        raise InputError(f"eps={eps}: a relative tolerance lies in [0, 1]")
    largest = spectrum.values[0] if spectrum.values else mpmath.mpf(0)
    error = spectrum.error * (1 + eps)  # of sigma_i - eps sigma_1
    return _count(spectrum, eps * largest, error, Notion("relative", (repr(float(eps)),)))


def absolute_rank(spectrum: SingularValues, tau: float) -> SpectralRank:
    """#{i : sigma_i > 0 and sigma_i >= tau}, with its interval and gap.

    Raises:
        InputError: ``tau`` is negative or not finite.
    """
    if not (math.isfinite(tau) and tau >= 0):
        raise InputError(f"tau={tau}: an absolute tolerance is finite and not negative")
    return _count(spectrum, mpmath.mpf(tau), spectrum.error, Notion("absolute", (repr(tau),)))


def _count(spectrum: SingularValues, threshold: Any, error: Any, notion: Notion) -> SpectralRank:
    positive = spectrum.values[: spectrum.rank]  # proved to be all the non-zero ones
    value, low, high = (
        sum(1 for sigma in positive if sigma >= threshold + shift) for shift in (0, error, -error)
    )
    gap = math.inf
    if 0 < value < len(positive):
        gap = float(positive[value - 1] / positive[value])
    return SpectralRank(notion, value, low, high, gap)
