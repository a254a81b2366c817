"""Properties of the rows about dimension and small noise: covers, affine spans, covariances.

The dimension rows are tested where dimension is decided exactly: covering numbers of sets of missing
digits, affine spans of values on the pieces of small ReLU networks, and covariances of quadratic maps.
Each maker takes the catalogue row and the number of a false variant (None for the row itself).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from numeric.cases import Outcome, Property, tag
from numeric.decoding import Bytes, decoded
from numeric.networks import Linear, Network, ReLU
from numeric.scalars import EXACT, to_float
from numeric.spectral_properties import RELATIVE, fractions
from theory.catalogue import Entry


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

    return Property(tag(entry.id, variant), decoded(16, decode), check, True)


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

    return Property(tag(entry.id, variant), decoded(64, decode), check, False)


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

    return Property(tag(entry.id, variant), decoded(32, decode), check, False)
