"""Properties of the catalogue rows about singular values.

Matrices are exact (small integers times powers of two) and their products are formed exactly;
singular values are float64, and a comparison may fall short by at most ``RELATIVE`` of the largest
number in it, far above the rounding error of an SVD of size 4 (a few 1e-16) and far below any false
variant's excess. Each maker takes the catalogue row and the number of a false variant (None for the
row itself).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numeric.cases import Outcome, Property, tag
from numeric.decoding import Bytes, decoded
from numeric.scalars import EXACT, Matrix, to_float
from theory.catalogue import Entry

RELATIVE = 1e-9


def sigma(matrix: Matrix) -> NDArray[np.float64]:
    """Singular values, descending, of an exact matrix."""
    values: NDArray[np.float64] = np.linalg.svd(np.array(to_float(matrix)), compute_uv=False)
    return values


def fractions(matrix: Matrix) -> list[list[str]]:
    """Rows of text, as counterexamples show them."""
    return [[str(e) for e in row] for row in matrix.tolist()]


def scaled(b: Bytes, rows: int, cols: int) -> Matrix:
    """A shifted diagonal of powers of 2^-12, sometimes mixed by a small integer matrix."""
    shift, mixed = b.below(2 * cols) % cols, b.below(3) == 2
    powers = [Fraction(1, 2 ** (12 * (p % 3))) for p in b.take(rows)]
    entries: list[Any] = [0] * (rows * cols)
    for i in range(rows):
        if i + shift < cols:
            entries[i * cols + i + shift] = powers[i]
    matrix = EXACT.matrix(rows, cols, entries)
    return matrix * b.unimodular(cols) if mixed else matrix


def relative_rank(values: NDArray[np.float64], eps: float) -> tuple[int, int]:
    """Lower and upper end of relative(eps) under a relative perturbation of ``RELATIVE``."""
    if not len(values) or values[0] == 0:
        return 0, 0
    ratio = values / values[0]
    positive = ratio > 1e-14
    low = int((positive & (ratio >= eps * (1 + RELATIVE))).sum())
    return low, int((positive & (ratio >= eps * (1 - RELATIVE))).sum())


def _pair(b: Bytes) -> tuple[Matrix, Matrix]:
    m, n, p = (1 + b.below(3) for _ in range(3))
    return scaled(b, m, n), scaled(b, n, p)


def _amount(slack: float, scale: float) -> float:
    """Slack with the numerically tight ones set to 0."""
    return 0.0 if abs(slack) <= RELATIVE * scale else float(slack)


def eps_calculus(entry: Entry, variant: int | None) -> Property:
    """sigma_k(AB) <= sigma_1(A) sigma_k(B); relative(eps) with rho; absolute(tau), contractions."""
    parts = (0, 1, 2) if variant is None else (1 + variant,)

    def decode(b: Bytes) -> Any:
        part = parts[b.below(len(parts))]
        a, c = _pair(b)
        return part, Fraction(1, 2 ** b.below(16)), a, c

    def check(case: Any) -> Outcome:
        part, threshold, a, c = case
        sa, sc, sp = sigma(a), sigma(c), sigma(a * c)
        shown = {"part": part, "threshold": str(threshold), "A": fractions(a), "B": fractions(c)}
        if part == 0:
            n = min(len(sp), len(sc))
            slack = float((sa[0] * sc[:n] - sp[:n]).min())
            amount = _amount(slack, float(sa[0] * sc[0]))
        elif part == 1:
            bound = sa[0] * sc[0]
            rho = 1.0 if variant is not None or not bound else float(sp[0] / bound)
            left = relative_rank(sp, float(threshold))[0]
            amount = float(relative_rank(sc, float(threshold) * rho)[1] - left)
        else:
            if variant is None:  # scale A down to a contraction
                scale = Fraction(1, 2 ** max(0, int(np.ceil(np.log2(max(1.0, sa[0]))))))
                sp, shown["scaled"] = sp * float(scale), str(scale)
            else:  # the missing hypothesis: A may stretch by 4
                sp = sp * 4
            left = int((sp >= float(threshold) * (1 + RELATIVE)).sum())
            amount = float(int((sc >= float(threshold) * (1 - RELATIVE)).sum()) - left)
        return Outcome(amount >= 0, max(amount, 0.0), shown)

    return Property(tag(entry.id, variant), decoded(48, decode), check, True)


def log_majorisation(entry: Entry, variant: int | None) -> Property:
    """Horn: products of the k largest; false variant: the k-th alone."""

    def decode(b: Bytes) -> Any:
        n = 1 + b.below(3)
        return b.below(n), scaled(b, n, n), scaled(b, n, n)

    def check(case: Any) -> Outcome:
        k, a, c = case
        sa, sc, sp = sigma(a), sigma(c), sigma(a * c)
        if variant is None:
            left, right = float(np.prod(sp[: k + 1])), float(np.prod(sa[: k + 1] * sc[: k + 1]))
        else:
            left, right = float(sp[k]), float(sa[k] * sc[k])
        amount = _amount(right - left, float(sa[0] * sc[0]) ** (k + 1) if not variant else 1.0)
        shown = {"k": k + 1, "A": fractions(a), "B": fractions(c)}
        return Outcome(amount >= 0, max(amount, 0.0), shown)

    return Property(tag(entry.id, variant), decoded(60, decode), check, True)


def weyl(entry: Entry, variant: int | None) -> Property:
    """A singular value moves by at most the norm; false variant: by at most sigma_i(E)."""

    def decode(b: Bytes) -> Any:
        n = 1 + b.below(3)
        return b.below(n), scaled(b, n, n), scaled(b, n, n)

    def check(case: Any) -> Outcome:
        i, a, e = case
        sa, se, both = sigma(a), sigma(e), sigma(a + e)
        bound = float(se[0] if variant is None else se[i])
        amount = _amount(bound - abs(float(both[i] - sa[i])), float(sa[0] + se[0]))
        shown = {"i": i + 1, "A": fractions(a), "E": fractions(e)}
        return Outcome(amount >= 0, max(amount, 0.0), shown)

    return Property(tag(entry.id, variant), decoded(60, decode), check, True)
