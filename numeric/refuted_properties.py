"""Properties of the refuted rows (R): the usual claims fail on explicit families.

Each property replays the catalogue's counterexamples, products formed exactly, and varies them; the
growth of the gap in the families that do not collapse is compared with ``theory.constants``. A
tolerance is at least four standard errors of the estimate and is stated beside it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from numeric.cases import Outcome, Property, tag
from numeric.decoding import Bytes, decoded
from numeric.limit_properties import self_product
from numeric.scalars import EXACT, Matrix
from numeric.spectral_properties import relative_rank, sigma
from theory.catalogue import Entry
from theory.constants import collapse_counterexamples


def _replay(layers: tuple[tuple[tuple[str, ...], ...], ...], eps: float) -> list[int]:
    """Relative rank after each layer, the products formed exactly."""
    ranks, product = [], None
    for rows in layers:
        entries = [Fraction(e) for row in rows for e in row]
        matrix = EXACT.matrix(len(rows), len(rows[0]), entries)
        product = matrix if product is None else matrix * product
        ranks.append(relative_rank(sigma(product), eps)[1])
    return ranks


def _catalogue_replays(entry: Entry) -> list[dict[str, Any]]:
    """Counterexamples of the row whose replay does not give the recorded ranks."""
    wrong = []
    for example in entry.counterexamples:
        inside = example.notion.partition("(")[2].rstrip(")")
        ranks = _replay(example.layers, float(Fraction(inside)))
        if tuple(ranks) != example.values:
            wrong.append({"notion": example.notion, "ranks": ranks, "recorded": example.values})
    return wrong


def eps_monotone(entry: Entry, variant: int | None) -> Property:
    """diag(t, 1) then diag(1, t) has relative(eps) 1, then 2, for t < eps: the claim is false.

    False variant: the claim itself, on the same chains.
    """
    wrong = _catalogue_replays(entry)

    def decode(b: Bytes) -> tuple[Fraction, Fraction, int]:
        e, copies = 1 + b.below(20), 1 + b.below(3)
        return Fraction(1, 2**e), Fraction(2) ** (4 - e - b.below(12)), copies

    def check(case: Any) -> Outcome:
        eps, t, copies = case
        first, second = _diagonal([t, 1] * copies), _diagonal([1, t] * copies)
        ranks = [relative_rank(sigma(m), float(eps))[1] for m in (first, second * first)]
        shown = {"eps": str(eps), "t": str(t), "copies": copies, "ranks": ranks, "replays": wrong}
        if variant is not None:
            return Outcome(ranks[1] <= ranks[0], None, shown)
        low, high = min(t, 1 / t), Fraction(1)
        before = copies * (2 if low >= eps * high else 1)
        return Outcome(not wrong and ranks == [before, 2 * copies], None, shown)

    return Property(tag(entry.id, variant), decoded(4, decode), check, False)


def _diagonal(values: list[Any]) -> Matrix:
    n = len(values)
    return EXACT.matrix(n, n, [values[i] if i == j else 0 for i in range(n) for j in range(n)])


def collapse_is_universal(entry: Entry, variant: int | None) -> Property:
    """Three families that do not collapse, each with its predicted growth of the gap.

    Orthogonal: products of rational rotations and reflections stay exactly orthogonal. Diagonal:
    E gap = (2/sqrt pi) sqrt L within 2 % (40,000 chains: standard error 0.4 %). Residual
    I + G/sqrt(2L): E cosh(gap) = e within 6 % (40,000 chains, standard error about 1 %, and the
    limit is approached as 1/L) and E norm_F^2 / n = (1 + 1/L)^L within 2 %. False variant: the
    relative rank falls with depth, of Gaussian layers (where it is true) and of orthogonal ones.
    """
    wrong = _catalogue_replays(entry)
    constants = {name: float(v) for name, v in collapse_counterexamples().items()}

    def check(case: Any) -> Outcome:
        family, depth, seed = case
        rng = np.random.default_rng(seed)
        shown: dict[str, Any] = {"family": family, "L": depth, "seed": seed, "replays": wrong}
        if family == "orthogonal":
            product = _diagonal([1, 1])
            for _ in range(depth):
                p, q = int(rng.integers(1, 9)), int(rng.integers(1, 9))
                c, s, h = p * p - q * q, 2 * p * q, p * p + q * q  # a Pythagorean rotation
                step = [Fraction(v, h) for v in (c, -s, s, c)]
                product = EXACT.matrix(2, 2, step) * product
            ranks = [2, relative_rank(sigma(product), 0.5)[1]]
            shown["ranks"] = ranks
            if variant is not None:
                return Outcome(ranks[1] < ranks[0], None, shown)
            gram = product.transpose() * product
            return Outcome(not wrong and gram == _diagonal([1, 1]) and ranks[1] == 2, None, shown)
        if family == "gaussian":  # only the false variant draws it: here the claim is true
            rank = self_product(family, 2, seed, depth, np.zeros(2))
            return Outcome(rank < 2, None, shown | {"ranks": [2, rank]})
        chains = 40_000
        if family == "diagonal":
            logs = np.zeros((chains, 2))
            for _ in range(depth):
                logs += rng.standard_normal((chains, 2))
            gap = float(np.abs(logs[:, 0] - logs[:, 1]).mean())
            expected = constants["diagonal"] * depth**0.5
            shown |= {"gap": gap, "expected": expected}
            return Outcome(not wrong and abs(gap / expected - 1) <= 0.02, None, shown)
        product = np.broadcast_to(np.eye(2), (chains, 2, 2))
        for _ in range(depth):
            step = np.eye(2) + rng.standard_normal((chains, 2, 2)) / (2 * depth) ** 0.5
            product = step @ product
        square = (product**2).sum((1, 2))
        determinant = np.abs(np.linalg.det(product))
        cosh, norm = float((square / (2 * determinant)).mean()), float(square.mean() / 2)
        expected_norm = (1 + 1 / depth) ** depth
        shown |= {"E cosh gap": cosh, "expected": constants["residual"], "E norm^2/n": norm}
        good = abs(cosh / constants["residual"] - 1) <= 0.06
        return Outcome(not wrong and good and abs(norm / expected_norm - 1) <= 0.02, None, shown)

    if variant is not None:
        cases: Any = [("orthogonal", depth, s) for depth in (4, 12) for s in (1, 2)]
        cases += [("gaussian", depth, s) for depth in (200, 400) for s in (1, 2)]
    else:
        cases = [("orthogonal", depth, s) for depth in (4, 12, 40) for s in (1, 2)]
        cases += [("diagonal", depth, 1) for depth in (16, 64)]
        cases += [("residual", depth, 1) for depth in (64, 128)]
    return Property(tag(entry.id, variant), st.sampled_from(cases), check, False, most=len(cases))
