"""The truth of a statement on given matrices, exactly over the rationals.

A statement's value is the slack of its goal: the smallest, over its conjuncts, of the largest slack
among the alternatives. It holds when the slack is at least 0 and is tight at exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import sympy as sp
from sympy.matrices.expressions.kronecker import KroneckerProduct

from theory import rational
from theory.errors import InputError, UnsupportedError
from theory.rational import Matrix
from theory.statements import Clause, Statement

Entries = Sequence[Sequence[Fraction | int]]
RankFunction = Callable[[Matrix], int]


@dataclass(frozen=True)
class Evaluation:
    """What a statement says of given matrices.

    Attributes:
        holds: whether the goal holds.
        hypotheses_hold: whether every hypothesis holds (a witness needs these, and not the goal).
        slack: how much room is left (negative: violated by that much).
        tight: whether the slack is 0.
    """

    holds: bool
    hypotheses_hold: bool
    slack: Fraction
    tight: bool


def evaluate(
    statement: Statement,
    matrices: Mapping[str, Matrix | Entries],
    dims: Mapping[str, int] | None = None,
    *,
    rank: RankFunction = rational.rank,
) -> Evaluation:
    """Evaluate a statement on matrices.

    Args:
        statement: the statement.
        matrices: a rational matrix for each name (nested lists, or ``Matrix`` where a side is 0).
        dims: values of dimensions that no matrix fixes (constants, sizes of lone identities).
        rank: the exact rank function.

    Raises:
        InputError: a matrix or a dimension is missing, or shapes disagree (both are shown).
    """
    given = {name: _matrix(m) for name, m in matrices.items()}
    values = bind(statement, {n: (m.rows, m.cols) for n, m in given.items()}, dims or {})
    ranks: dict[sp.MatrixExpr, int] = {}

    def value(term: sp.Expr) -> Fraction:
        if isinstance(term, sp.MatrixExpr):
            if term not in ranks:
                ranks[term] = rank(substitute(term, given, values))
            return Fraction(ranks[term])
        return Fraction(_dim(term, values))

    def slack(clause: Clause) -> Fraction:
        return max(sum((c * value(t) for c, t in i.form.terms), i.form.constant) for i in clause)

    goal = min((slack(c) for c in statement.goal), default=Fraction(0))
    assumed = all(
        rational.is_zero(substitute(e, given, values)) for e in statement.equations
    ) and all(slack(c) >= 0 for c in statement.hypotheses)
    return Evaluation(goal >= 0, assumed, goal, goal == 0)


def bind(
    statement: Statement, shapes: Mapping[str, tuple[int, int]], dims: Mapping[str, int]
) -> dict[sp.Symbol, int]:
    """Values of the statement's dimension symbols from the shapes of its matrices.

    Raises:
        InputError: a matrix is missing, or two shapes give one dimension different values.
    """
    values = {s: int(dims[s.name]) for s in statement.dimensions if s.name in dims}
    for name, pair in statement.matrices.items():
        if name not in shapes:
            raise InputError(f"no matrix given for {name}")
        for symbol, size in zip(pair, shapes[name], strict=True):
            if isinstance(symbol, sp.Symbol) and values.setdefault(symbol, size) != size:
                raise InputError(
                    f"{name} is {shapes[name][0]} x {shapes[name][1]}, but {symbol} is already "
                    f"{values[symbol]}: {name} must be {pair[0]} x {pair[1]}"
                )
    for name, pair in statement.matrices.items():
        for symbol, size in zip(pair, shapes[name], strict=True):
            if _dim(symbol, values) != size:
                raise InputError(f"{name} has size {size} where {symbol} = {_dim(symbol, values)}")
    missing = [str(s) for s in statement.dimensions if s not in values]
    if missing:
        raise InputError(f"no value given for {', '.join(missing)}")
    return values


def _dim(expr: sp.Expr, values: Mapping[sp.Symbol, int]) -> int:
    if isinstance(expr, sp.Symbol):
        if expr not in values:
            raise InputError(f"no value given for {expr}")
        return values[expr]
    return int(expr.subs(values)) if expr.free_symbols else int(expr)


def _matrix(m: Matrix | Entries) -> Matrix:
    return m if isinstance(m, Matrix) else rational.matrix(len(m), len(m[0]) if m else 0, m)


def substitute(
    expr: sp.MatrixExpr, given: Mapping[str, Matrix], values: Mapping[sp.Symbol, int]
) -> Matrix:
    """The value of a matrix expression.

    Raises:
        UnsupportedError: the expression has a part outside the grammar.
    """

    def go(e: sp.MatrixExpr) -> Matrix:
        return substitute(e, given, values)

    if isinstance(expr, sp.MatrixSymbol):
        return given[str(expr.name)]
    if isinstance(expr, sp.Identity):
        return rational.identity(_dim(expr.rows, values))
    if isinstance(expr, sp.ZeroMatrix):
        return rational.zero(_dim(expr.rows, values), _dim(expr.cols, values))
    if isinstance(expr, sp.MatMul):
        factor = Fraction(1)
        parts = []
        for f in expr.args:
            if isinstance(f, sp.MatrixExpr):
                parts.append(go(f))
            else:
                factor *= Fraction(int(f.p), int(f.q))
        out = reduce(rational.multiply, parts)
        whole = int(factor) if factor.denominator == 1 else factor
        return out if factor == 1 else rational.scale(out, whole)
    if isinstance(expr, sp.MatAdd):
        return reduce(rational.add, map(go, expr.args))
    if isinstance(expr, sp.Transpose):
        return rational.transpose(go(expr.arg))
    if isinstance(expr, sp.MatPow):
        base = go(expr.base)
        return reduce(rational.multiply, [base] * int(expr.exp), rational.identity(base.rows))
    if isinstance(expr, KroneckerProduct):
        return reduce(rational.kron, map(go, expr.args))
    if isinstance(expr, sp.BlockMatrix):
        height, width = expr.blockshape
        grid = [[go(expr.blocks[i, j]) for j in range(width)] for i in range(height)]
        return rational.blocks(grid)
    raise UnsupportedError(f"cannot evaluate {type(expr).__name__}: {expr}")
