"""Properties of the catalogue rows about singular values, dimension and small noise.

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

from numeric.cases import Outcome, Property
from numeric.networks import Linear, Network, ReLU
from numeric.scalars import EXACT, Matrix, to_float
from numeric.strategies import Bytes, decoded
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


def _tag(entry: Entry, variant: int | None) -> str:
    return entry.id if variant is None else f"{entry.id}#false{variant + 1}"


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

    return Property(_tag(entry, variant), decoded(48, decode), check, True)


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

    return Property(_tag(entry, variant), decoded(60, decode), check, True)


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

    return Property(_tag(entry, variant), decoded(60, decode), check, True)


def _missing_digits(base: int, digits: tuple[int, ...], level: int) -> list[Fraction]:
    """Left ends of the level's cells of the set of expansions with these digits only."""
    points = [Fraction(0)]
    for k in range(1, level + 1):
        points = [p + Fraction(d, base**k) for p in points for d in digits]
    return sorted(points)


def _cantor(x: Fraction, level: int) -> Fraction:
    """The devil's staircase to ``level`` ternary digits."""
    value = Fraction(0)
    for k in range(1, level + 1):
        digit = int(x * 3)
        x = x * 3 - digit
        if digit == 1:
            return value + Fraction(1, 2**k)
        value += Fraction(digit // 2, 2**k)
    return value


def _covers(points: list[Fraction], size: Fraction) -> int:
    """Fewest intervals of length ``size`` that cover points of the line (greedy is optimal)."""
    count, end = 0, None
    for p in sorted(points):
        if end is None or p > end:
            count, end = count + 1, p + size
    return count


def dimension(entry: Entry, variant: int | None) -> Property:
    """The step of the proof: f with Lipschitz constant c maps a cover of size d to one of size c d.

    Sets of missing digits have exact covering numbers; f is a small exact ReLU network of one
    variable with its own bound c (product of the weights' sums of absolute values). False
    variant: the Cantor function, almost everywhere smooth with slope 0, taken with c = 1.
    """
    level = 5

    def decode(b: Bytes) -> Any:
        base = 3
        digits = ((0, 2), (0, 1), (0,), (0, 1, 2))[b.below(4)]
        width = 1 + b.below(3)
        first, second = b.integers(width), b.integers(width)
        bias = [Fraction(v, 6) for v in b.integers(width)]
        return digits, base, 1 + b.below(level), first, bias, second, b.below(2)

    def check(case: Any) -> Outcome:
        digits, base, m, first, bias, second, staircase = case
        points = _missing_digits(base, digits, level)
        shown = {"digits": list(digits), "base": base, "m": m, "level": level}
        if variant is not None and staircase:
            image, constant = [_cantor(p, level) for p in points], Fraction(1)
            shown["f"] = "the Cantor function"
        else:
            constant = Fraction(sum(abs(u * v) for u, v in zip(first, second, strict=True)))
            image = [
                sum(
                    (
                        v * max(Fraction(0), u * p + c)
                        for u, v, c in zip(first, second, bias, strict=True)
                    ),
                    Fraction(0),
                )
                for p in points
            ]
            shown["f"] = f"{second} . relu({first} x + {[str(c) for c in bias]})"
        size = Fraction(1, base**m)
        amount = float(_covers(points, size) - _covers(image, constant * size))
        return Outcome(amount >= 0, max(amount, 0.0), shown)

    return Property(_tag(entry, variant), decoded(16, decode), check, True)


def rank_is_dimension(entry: Entry, variant: int | None) -> Property:
    """Largest rank J over sampled pieces = largest affine dimension of values on those pieces.

    The left side comes from Jacobians, the right from values only: differences of F on a tiny
    simplex inside the piece. False variant: the rank on the first piece alone.
    """
    step = Fraction(1, 2**40)

    def decode(b: Bytes) -> Any:
        n, hidden, outputs = 1 + b.below(3), 1 + b.below(4), 1 + b.below(3)

        def linear(rows: int, cols: int, power: int) -> Linear:
            flat = b.integers(rows * cols)
            bias = tuple(Fraction(v * 3**power + 1, 3**power) for v in b.integers(rows))
            return Linear(tuple(tuple(flat[i * cols :][:cols]) for i in range(rows)), bias)

        layers = (linear(hidden, n, 1), ReLU(), linear(outputs, hidden, 2), ReLU())
        points = tuple(tuple(b.integers(n, 4)) for _ in range(4))
        return Network((n,), layers), points

    def check(case: Any) -> Outcome:
        network, points = case
        n = network.input_shape[0]
        ranks, spans = [], []
        for x in points:
            ranks.append(network.jacobian(x).rank())
            base = network.forward(x)
            moved = [
                network.forward([v + step * (i == k) for i, v in enumerate(x)]) - base
                for k in range(n)
            ]
            rows = [e for column in moved for e in column.entries()]
            spans.append(EXACT.matrix(n, base.nrows(), rows).rank())
        left = max(ranks) if variant is None else ranks[0]
        shown = {"network": repr(network), "points": [list(x) for x in points]}
        return Outcome(left == max(spans), None, shown | {"ranks": ranks, "dimensions": spans})

    return Property(_tag(entry, variant), decoded(64, decode), check, False)


def pca_limit(entry: Entry, variant: int | None) -> Property:
    """Cov(F(x + eps z)) / eps^2 -> J J^T for random quadratic F, with the exact error term.

    F(t) = J t + t^T H t / 2. The covariance is integrated by Gauss-Hermite quadrature with three
    nodes a direction (exact to degree 5) and must differ from J J^T by eps^2 tr(H_i H_j) / 2.
    False variant: its rank at a fixed eps equals the rank of J (decided exactly).
    """

    def decode(b: Bytes) -> Any:
        n, m = 1 + b.below(2), 1 + b.below(3)
        J = b.matrix_of_rank(m, n, b.below(min(m, n) + 1))
        H = []
        for _ in range(m):
            s = EXACT.matrix(n, n, b.integers(n * n))
            H.append(s + s.transpose())
        if b.below(3) == 2:
            H = [h * 0 for h in H]
        return J, H, 1 + b.below(6)

    def check(case: Any) -> Outcome:
        J, H, k = case
        m, n = J.nrows(), J.ncols()
        eps = Fraction(1, 2**k)
        traces = EXACT.matrix(
            m, m, [sum((H[i] * H[j])[q, q] for q in range(n)) for i in range(m) for j in range(m)]
        )
        shown = {"J": fractions(J), "H": [fractions(h) for h in H], "eps": str(eps)}
        if variant is not None:
            covariance = J * J.transpose() + traces * EXACT.scalar(eps**2 / 2)
            return Outcome(covariance.rank() == J.rank(), None, shown)
        jac, hess = np.array(to_float(J)), [np.array(to_float(h)) for h in H]
        nodes, node_weights = np.array([0.0, 3**0.5, -(3**0.5)]), np.array([2 / 3, 1 / 6, 1 / 6])
        grid = np.stack(np.meshgrid(*[nodes] * n, indexing="ij"), -1).reshape(-1, n) * float(eps)
        weight = np.prod(np.stack(np.meshgrid(*[node_weights] * n, indexing="ij"), -1), -1).ravel()
        values = grid @ jac.T + np.stack([((grid @ h) * grid).sum(1) / 2 for h in hess], 1)
        centred = values - weight @ values
        measured = (centred * weight[:, None]).T @ centred / float(eps) ** 2
        error = measured - jac @ jac.T
        predicted = float(eps) ** 2 / 2 * np.array(to_float(traces))
        scale = 1 + float(np.abs(jac).max()) ** 2 + float(np.abs(predicted).max())
        return Outcome(bool(np.abs(error - predicted).max() <= RELATIVE * scale), None, shown)

    return Property(_tag(entry, variant), decoded(32, decode), check, False)
