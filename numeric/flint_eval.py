"""Parsed statements evaluated over flint: a SymPy matrix expression becomes a closure on matrices.

``theory.evaluate`` is the reference (exact, slower); this is the same semantics compiled once a
statement, so that a property can run thousands of cases a second. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import add, mul
from typing import Any

import flint
import sympy
from sympy.matrices.expressions.blockmatrix import BlockMatrix
from sympy.matrices.expressions.kronecker import KroneckerProduct

from numeric.scalars import Matrix
from theory.errors import UnsupportedError
from theory.statements import Statement

Matrices = Mapping[str, Matrix]
Dims = Mapping[str, int]
Closure = Callable[[Matrices, Dims], Matrix]


def dimension(expr: Any, dims: Dims) -> int:
    """The value of a dimension (an integer, a symbol, or a sum of those)."""
    if isinstance(expr, int) or expr.is_Integer:
        return int(expr)
    if expr.is_Symbol:
        return dims[expr.name]
    return int(expr.subs({s: dims[s.name] for s in expr.free_symbols}))


def stack_rows(parts: list[Matrix]) -> Matrix:
    """Vertical concatenation."""
    entries = [e for p in parts for e in p.entries()]
    return flint.fmpq_mat(sum(p.nrows() for p in parts), parts[0].ncols(), entries)


def stack_cols(parts: list[Matrix]) -> Matrix:
    """Horizontal concatenation."""
    return stack_rows([p.transpose() for p in parts]).transpose()


def kron(a: Matrix, b: Matrix) -> Matrix:
    """The Kronecker product."""
    u, v = a.tolist(), b.tolist()
    entries = [x * y for row in u for other in v for x in row for y in other]
    return flint.fmpq_mat(a.nrows() * b.nrows(), a.ncols() * b.ncols(), entries)


def _identity(n: int) -> Matrix:
    return flint.fmpq_mat(n, n, [int(i == j) for i in range(n) for j in range(n)])


def compile_matrix(expr: Any) -> Closure:
    """A closure (matrices, dims) -> fmpq_mat for a SymPy matrix expression.

    Raises:
        UnsupportedError: the expression has a node that is not in the grammar.
    """
    if isinstance(expr, sympy.MatrixSymbol):
        name = expr.name
        return lambda m, d: m[name]
    if isinstance(expr, sympy.Identity):
        n = expr.shape[0]
        return lambda m, d: _identity(dimension(n, d))
    if isinstance(expr, sympy.ZeroMatrix):
        rows, cols = expr.shape
        return lambda m, d: flint.fmpq_mat(dimension(rows, d), dimension(cols, d))
    if isinstance(expr, sympy.MatMul):
        scale = Fraction(1)
        parts = []
        for arg in expr.args:
            if arg.is_Matrix or isinstance(arg, sympy.MatrixExpr):
                parts.append(compile_matrix(arg))
            else:
                scale *= Fraction(int(arg.p), int(arg.q))
        factor = flint.fmpq(scale.numerator, scale.denominator)
        if factor == 1:
            return lambda m, d: reduce(mul, (p(m, d) for p in parts))
        return lambda m, d: reduce(mul, (p(m, d) for p in parts)) * factor
    if isinstance(expr, sympy.MatAdd):
        terms = [compile_matrix(a) for a in expr.args]
        return lambda m, d: reduce(add, (t(m, d) for t in terms))
    if isinstance(expr, sympy.MatPow):
        base, exponent = compile_matrix(expr.args[0]), int(expr.args[1])
        if exponent == 0:
            n = expr.shape[0]
            return lambda m, d: _identity(dimension(n, d))
        return lambda m, d: reduce(mul, [base(m, d)] * exponent)
    if isinstance(expr, sympy.Transpose):
        inner = compile_matrix(expr.args[0])
        return lambda m, d: inner(m, d).transpose()
    if isinstance(expr, KroneckerProduct):
        factors = [compile_matrix(a) for a in expr.args]
        return lambda m, d: reduce(kron, (f(m, d) for f in factors))
    if isinstance(expr, BlockMatrix):  # BlockDiagMatrix too: its blocks include the zeros
        grid = [
            [compile_matrix(expr.blocks[i, j]) for j in range(expr.blockshape[1])]
            for i in range(expr.blockshape[0])
        ]
        return lambda m, d: stack_rows([stack_cols([b(m, d) for b in row]) for row in grid])
    raise UnsupportedError(f"no exact evaluation of {type(expr).__name__} in {expr}")


#: constant, (coefficient, index of a rank), (coefficient, dimension)
Form = tuple[Fraction, tuple[tuple[Fraction, int], ...], tuple[tuple[Fraction, Any], ...]]


@dataclass(frozen=True)
class Compiled:
    """A statement ready to be evaluated; made by :func:`compile_statement`."""

    ranks: tuple[Closure, ...]
    goal: tuple[tuple[Form, ...], ...]
    hypotheses: tuple[tuple[Form, ...], ...]
    equations: tuple[Closure, ...]

    def evaluate(
        self, matrices: Matrices, dims: Dims, rank: Callable[[Matrix], int]
    ) -> Fraction | None:
        """Slack of the goal: the least over the conjuncts of the largest over the disjuncts.

        Returns:
            The slack (negative where the statement is false), or None where a hypothesis fails.
        """
        for equation in self.equations:
            if any(e != 0 for e in equation(matrices, dims).entries()):
                return None
        known: dict[int, int] = {}

        def value(form: Form) -> Fraction:
            total, ranks, sizes = form
            for c, index in ranks:
                if index not in known:
                    known[index] = rank(self.ranks[index](matrices, dims))
                total = total + c * known[index]
            for c, size in sizes:
                total = total + c * dimension(size, dims)
            return total

        for clause in self.hypotheses:
            if max(value(form) for form in clause) < 0:
                return None
        return min(max(value(form) for form in clause) for clause in self.goal)


def compile_statement(statement: Statement) -> Compiled:
    """Compile a parsed statement.

    Raises:
        UnsupportedError: an expression that this module does not know.
    """
    index: dict[Any, int] = {}

    def forms(clauses: Any) -> tuple[tuple[Form, ...], ...]:
        return tuple(
            tuple(
                (
                    ineq.form.constant,
                    tuple((c, index.setdefault(m, len(index))) for c, m in ineq.form.ranks),
                    tuple(ineq.form.dims),
                )
                for ineq in clause
            )
            for clause in clauses
        )

    goal, hypotheses = forms(statement.goal), forms(statement.hypotheses)
    equations = tuple(compile_matrix(e) for e in statement.equations)
    return Compiled(tuple(compile_matrix(m) for m in index), goal, hypotheses, equations)
