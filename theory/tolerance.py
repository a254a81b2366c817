"""Ranks with a tolerance, counted exactly where a Gram matrix is diagonal.

Where ``M^T M`` or ``M M^T`` is diagonal its entries are the squared singular values, so ``relative(eps)``
and ``absolute(tau)`` are rational arithmetic. Monomial matrices (one non-zero a row and column at most)
are such, are closed under products, and suffice to refute what is false of these notions
(theory.md, section 2).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction

import sympy as sp

from theory import rational
from theory.errors import InputError, UnsupportedError
from theory.evaluate import RankFunction
from theory.notions import Notion
from theory.rational import Matrix
from theory.statements import Statement

_DEFAULT = "1/1000"


def threshold(notion: Notion) -> Fraction:
    """The tolerance of ``relative(eps)`` or ``absolute(tau)``; 1/1000 where none is written.

    Raises:
        InputError: it is no positive number.
    """
    text = notion.parameters[0] if notion.parameters else _DEFAULT
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"the tolerance {text!r} of {notion} is no number") from error
    if value <= 0:
        raise InputError(f"the tolerance {text!r} of {notion} must be positive")
    return value


def rank_function(notion: Notion) -> RankFunction:
    """The function that counts a notion's rank on an explicit matrix, exactly.

    Raises:
        UnsupportedError: the notion is not a function of one matrix's singular values.
    """
    if notion.name in ("exact", "partial"):
        return rational.rank
    if notion.name not in ("relative", "absolute"):
        raise UnsupportedError(f"{notion} is not counted on explicit matrices")
    limit, relative = threshold(notion), notion.name == "relative"

    def count(m: Matrix) -> int:
        values = _squared_singular_values(m)
        least = limit**2 * max(values, default=Fraction(0)) if relative else limit**2
        return sum(1 for x in values if x and x >= least)

    return count


def _squared_singular_values(m: Matrix) -> list[Fraction]:
    turned = rational.transpose(m)
    for gram in (rational.multiply(turned, m), rational.multiply(m, turned)):
        entries = gram.entries
        if not any(x for i, row in enumerate(entries) for j, x in enumerate(row) if i != j):
            return [Fraction(row[i]) for i, row in enumerate(entries)]
    raise UnsupportedError(
        "ranks with a tolerance are counted exactly where a Gram matrix is diagonal only"
    )


def sample_monomial(
    statement: Statement, values: Mapping[sp.Symbol, int], rng: random.Random
) -> dict[str, Matrix] | None:
    """Random monomial matrices, mostly diagonal, with entries spread around the tolerance."""
    t = threshold(statement.notion)
    sizes = (1, 1, t, 1 / t, t / 10, 10 / t, t / 100, 100 / t)
    out = {}
    for name, (r, c) in statement.matrices.items():
        rows, cols = (int(sp.sympify(x).subs(dict(values))) for x in (r, c))
        places = list(range(max(rows, cols)))
        shift = rng.random()
        if shift < 0.15:
            rng.shuffle(places)
        elif shift < 0.4:
            places = places[::-1]
        entries = [[Fraction(0)] * cols for _ in range(rows)]
        for i in range(rows):
            if places[i] < cols and rng.random() < 0.9:
                entries[i][places[i]] = Fraction(rng.choice(sizes))
        out[name] = rational.matrix(rows, cols, entries)
    return out
