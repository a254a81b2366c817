"""Random small matrices for the search of counterexamples, built to satisfy a statement's hypotheses.

Equations in which some matrix occurs linearly are solved for it; the others are met by drawing the
structured matrices that usually meet them (idempotent, nilpotent, involutory, zero, ...).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction

import sympy as sp

from theory import rational
from theory.evaluate import substitute
from theory.rational import Matrix
from theory.statements import Statement

#: of the square matrices P D P^-1: nilpotent, idempotent, involutory, minus idempotent, others
_EIGENVALUES: tuple[tuple[Fraction | int, ...], ...] = (
    (0,), (0, 1), (1, -1), (0, -1), (-1, 0, 1, 2, Fraction(1, 2)),
)  # fmt: skip


def sample_matrices(
    statement: Statement, values: Mapping[sp.Symbol, int], rng: random.Random
) -> dict[str, Matrix] | None:
    """Matrices of the sizes ``values``; None where the equations could not be met."""
    shapes = {
        name: (_size(r, values), _size(c, values)) for name, (r, c) in statement.matrices.items()
    }
    repeat = rng.random() < 0.25  # equal matrices are a measure-zero case that refutes much
    matrices: dict[str, Matrix] = {}
    for name, shape in shapes.items():
        twin = next((m for m in matrices.values() if (m.rows, m.cols) == shape), None)
        if twin is not None and repeat:
            matrices[name] = rational.scale(twin, rng.choice((1, -1)))
        else:
            matrices[name] = sample(*shape, rng)
    for equation in statement.equations:
        if rational.is_zero(substitute(equation, matrices, values)):
            continue
        names = [str(s) for s in equation.atoms(sp.MatrixSymbol)]
        rng.shuffle(names)
        for name in names:
            solved = _solve(equation, name, shapes[name], matrices, values, rng)
            if solved is not None:
                matrices[name] = solved
                break
        else:
            return None
    return matrices


def _size(expr: sp.Expr, values: Mapping[sp.Symbol, int]) -> int:
    return values[expr] if isinstance(expr, sp.Symbol) else int(expr.subs(values))


def sample(rows: int, cols: int, rng: random.Random) -> Matrix:
    """One matrix: dense, sparse, of low rank, rational, or structured (square ones)."""
    kind = rng.randrange(14)
    if kind == 0:
        return rational.zero(rows, cols)
    if kind <= 2:  # a partial permutation, the shape of an interval module
        places = list(range(cols))
        rng.shuffle(places)
        lines = [[0] * cols for _ in range(rows)]
        sign = rng.choice((1, 1, -1))
        for i in range(rng.randint(0, min(rows, cols))):
            lines[i][places[i]] = sign
        return rational.matrix(rows, cols, lines)
    if kind <= 4:
        return _dense(rows, cols, rng, (-1, 0, 1))
    if kind == 5:
        return _dense(rows, cols, rng, (0, 1))
    if kind == 6 or rows != cols:  # low rank
        r = rng.randint(0, min(rows, cols))
        small = (-1, 0, 1, 1, 2)
        return rational.multiply(_dense(rows, r, rng, small), _dense(r, cols, rng, small))
    if kind == 7:
        return rational.scale(rational.identity(rows), rng.choice((1, -1, 2, Fraction(1, 2))))
    if kind == 8:
        return _dense(rows, cols, rng, (0, 1, -1, Fraction(1, 2), Fraction(-1, 3), 2))
    return _conjugate(rows, rng, _EIGENVALUES[kind - 9], nilpotent=kind == 9)


def _dense(rows: int, cols: int, rng: random.Random, entries: tuple[Fraction | int, ...]) -> Matrix:
    return rational.matrix(
        rows, cols, [[rng.choice(entries) for _ in range(cols)] for _ in range(rows)]
    )


def _conjugate(
    n: int, rng: random.Random, values: tuple[Fraction | int, ...], *, nilpotent: bool
) -> Matrix:
    """``P D P^-1``: nilpotent (D a shift with gaps), or D diagonal with the given values."""
    d: list[list[Fraction | int]] = [[0] * n for _ in range(n)]
    for i in range(n):
        if nilpotent and i + 1 < n:
            d[i][i + 1] = rng.choice((0, 1, 1))
        elif not nilpotent:
            d[i][i] = rng.choice(values)
    out = rational.matrix(n, n, d)
    for _ in range(
        rng.choice((0, 0, 1, 2, 3)) if n > 1 else 0
    ):  # elementary conjugations keep entries small
        i, j = rng.sample(range(n), 2)
        c = rng.choice((1, -1))
        e, f = ([[int(a == b) for b in range(n)] for a in range(n)] for _ in range(2))
        e[i][j], f[i][j] = c, -c
        left, right = rational.matrix(n, n, e), rational.matrix(n, n, f)
        out = rational.multiply(rational.multiply(left, out), right)
    return out


def _solve(
    equation: sp.MatrixExpr,
    name: str,
    shape: tuple[int, int],
    matrices: Mapping[str, Matrix],
    values: Mapping[sp.Symbol, int],
    rng: random.Random,
) -> Matrix | None:
    """A random solution of the equation in one matrix, the others fixed; None if it is not linear."""
    rows, cols = shape

    def at(entries: list[Fraction | int]) -> list[Fraction | int]:
        lines = [entries[i * cols : (i + 1) * cols] for i in range(rows)]
        m = substitute(equation, {**matrices, name: rational.matrix(rows, cols, lines)}, values)
        return [x for row in m.entries for x in row]

    n = rows * cols
    base = at([0] * n)
    columns = [at([int(i == k) for i in range(n)]) for k in range(n)]
    system = [[*(c[i] - base[i] for c in columns), -base[i]] for i in range(len(base))]
    solution = _random_solution(system, n, rng)
    if solution is None or any(at(solution)):  # the last: it was not linear after all
        return None
    lines = [solution[i * cols : (i + 1) * cols] for i in range(rows)]
    return rational.matrix(rows, cols, lines)


def _random_solution(
    system: list[list[Fraction | int]], n: int, rng: random.Random
) -> list[Fraction | int] | None:
    pivots: list[int] = []
    for j in range(n):
        top = len(pivots)
        r = next((i for i in range(top, len(system)) if system[i][j]), None)
        if r is None:
            continue
        system[top], system[r] = system[r], system[top]
        head = Fraction(system[top][j])
        system[top] = [x / head for x in system[top]]
        for i in range(len(system)):
            if i != top and system[i][j]:
                f = system[i][j]
                system[i] = [x - f * y for x, y in zip(system[i], system[top], strict=True)]
        pivots.append(j)
    if any(line[-1] for line in system[len(pivots) :]):
        return None
    sparse = rng.random() < 0.5
    out: list[Fraction | int] = [
        0 if j in pivots or (sparse and rng.random() < 0.5) else rng.choice((-1, 0, 1, 1))
        for j in range(n)
    ]
    free = {j: out[j] for j in range(n) if j not in pivots}
    for i, j in enumerate(pivots):
        x = system[i][-1] - sum((system[i][k] * v for k, v in free.items()), Fraction(0))
        out[j] = int(x) if Fraction(x).denominator == 1 else Fraction(x)
    return out
