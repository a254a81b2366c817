"""Multipliers of a pool's inequalities that sum to a goal: floating point first, then exactly.

HiGHS solves the linear program in floating point; its multipliers are rounded, or solved again on
their support, in rational arithmetic, and the identity is checked exactly before anything is handed
out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csc_matrix
from sympy import QQ
from sympy.polys.matrices import DomainMatrix

from theory.blocks import Block
from theory.pool import Pool, Row, Step
from theory.problem import Form

Vector = dict[object, Fraction]


def combine(pool: Pool, goal: Form) -> list[tuple[Fraction, Step]] | None:
    """Multipliers of pool inequalities that sum to the goal; None where there are none.

    What is left over is a non-negative constant. The sum is over canonical blocks.
    """
    target = _vector(pool, goal.ranks, goal.dims)
    constant = target.pop("", Fraction(0))
    if not target and constant >= 0:
        return []
    names: set[object] = {name for row in pool.rows for name in (*row.ranks, *row.dims)} | set(
        target
    )
    names.discard("")
    index = {name: i for i, name in enumerate(sorted(names, key=str))}
    if not pool.rows:
        return None
    data, at, column = [], [], []
    for j, row in enumerate(pool.rows):
        entries: list[tuple[object, Fraction]] = [*row.ranks.items(), *row.dims.items()]
        for name, c in entries:
            if name != "":
                data.append(float(c))
                at.append(index[name])
                column.append(j)
    matrix = csc_matrix((data, (at, column)), shape=(len(index), len(pool.rows)))
    rhs = np.zeros(len(index))
    for name, c in target.items():
        rhs[index[name]] = float(c)
    constants = np.array([[float(row.dims.get("", 0)) for row in pool.rows]])
    cost = np.array([1.0 + 0.01 * len(row.ranks) for row in pool.rows])
    found = linprog(
        cost, A_ub=constants, b_ub=[float(constant)], A_eq=matrix, b_eq=rhs, method="highs",
        options={"time_limit": min(60.0, max(0.1, pool.deadline - time.monotonic()))},
    )  # fmt: skip
    if found.status != 0:
        return None
    support = [j for j, x in enumerate(found.x) if x > 1e-7]
    exact = [Fraction(float(found.x[j])).limit_denominator(5040) for j in support]
    if not _sums_to(pool.rows, support, exact, target, constant):
        solved = _solve([pool.rows[j] for j in support], target)
        if solved is None or not _sums_to(pool.rows, support, solved, target, constant):
            return None
        exact = solved
    return [(x, pool.rows[j].step) for x, j in zip(exact, support, strict=True) if x]


def _vector(
    pool: Pool, ranks: Sequence[tuple[Block, Fraction | int]], dims: dict[str, Fraction]
) -> Vector:
    out: Vector = {name: c for name, c in dims.items() if c}
    for block, c in ranks:
        key = pool.term(block)
        out[key] = out.get(key, Fraction(0)) + c
    return {name: c for name, c in out.items() if c}


def _sums_to(
    rows: list[Row], support: list[int], times: list[Fraction], target: Vector, constant: Fraction
) -> bool:
    if any(x < 0 for x in times):
        return False
    left = dict(target)
    for j, x in zip(support, times, strict=True):
        for name, c in (*rows[j].ranks.items(), *rows[j].dims.items()):
            if name == "":
                constant -= x * c
            else:
                left[name] = left.get(name, Fraction(0)) - x * c
    return constant >= 0 and not any(left.values())


def _solve(rows: list[Row], target: Vector) -> list[Fraction] | None:
    """Exact multipliers on a support, 0 where one is free; None where there are none."""
    names = {n for r in rows for n in (*r.ranks, *r.dims)} | set(target)
    names.discard("")
    system = [
        [*(r.ranks.get(n, r.dims.get(n, 0)) for r in rows), target.get(n, 0)]  # type: ignore[call-overload]
        for n in names
    ]
    entries = [[QQ(x.numerator, x.denominator) for x in line] for line in system]
    form, pivots = DomainMatrix(entries, (len(system), len(rows) + 1), QQ).rref()
    if len(rows) in pivots:
        return None
    out = [Fraction(0)] * len(rows)
    for i, j in enumerate(pivots):
        value = form[i, len(rows)].element
        out[j] = Fraction(int(value.numerator), int(value.denominator))
    return out
