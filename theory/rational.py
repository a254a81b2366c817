"""Exact matrices over the rationals, as lists of rows of ``Fraction``: small, for witnesses.

The theory room carries its own elimination so that a witness replays without any other library; the
numeric room passes python-flint's rank where sizes grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Matrix:
    """A rational matrix; the shape is explicit so that empty matrices have one.

    Attributes:
        rows: number of rows.
        cols: number of columns.
        entries: ``rows`` tuples of ``cols`` Fractions (or ints).
    """

    rows: int
    cols: int
    entries: tuple[tuple[Fraction | int, ...], ...]


def matrix(rows: int, cols: int, entries: Sequence[Sequence[Fraction | int]]) -> Matrix:
    """A matrix with an explicit shape."""
    return Matrix(rows, cols, tuple(tuple(r) for r in entries) if cols else ((),) * rows)


def identity(n: int) -> Matrix:
    """The n x n identity."""
    return Matrix(n, n, tuple(tuple(int(i == j) for j in range(n)) for i in range(n)))


def zero(rows: int, cols: int) -> Matrix:
    """The zero matrix."""
    return Matrix(rows, cols, ((0,) * cols,) * rows)


def multiply(a: Matrix, b: Matrix) -> Matrix:
    """``a b`` for shapes (m, n) and (n, p)."""
    columns = list(zip(*b.entries, strict=True)) if b.rows else [()] * b.cols
    entries = tuple(
        tuple(sum(x * y for x, y in zip(row, col, strict=True)) for col in columns)
        for row in a.entries
    )
    return Matrix(a.rows, b.cols, entries)


def add(a: Matrix, b: Matrix) -> Matrix:
    """``a + b``."""
    entries = tuple(
        tuple(x + y for x, y in zip(r, s, strict=True))
        for r, s in zip(a.entries, b.entries, strict=True)
    )
    return Matrix(a.rows, a.cols, entries)


def scale(a: Matrix, factor: Fraction | int) -> Matrix:
    """``factor * a``."""
    return Matrix(a.rows, a.cols, tuple(tuple(factor * x for x in r) for r in a.entries))


def transpose(a: Matrix) -> Matrix:
    """The transpose."""
    return Matrix(a.cols, a.rows, tuple(zip(*a.entries, strict=True)) if a.rows else ((),) * a.cols)


def blocks(grid: Sequence[Sequence[Matrix]]) -> Matrix:
    """A block matrix from rows of blocks."""
    entries: list[tuple[Fraction | int, ...]] = []
    for line in grid:
        for i in range(line[0].rows):
            entries.append(tuple(x for block in line for x in block.entries[i]))
    return Matrix(sum(g[0].rows for g in grid), sum(b.cols for b in grid[0]), tuple(entries))


def kron(a: Matrix, b: Matrix) -> Matrix:
    """The Kronecker product."""
    entries = tuple(tuple(x * y for x in r for y in s) for r in a.entries for s in b.entries)
    return Matrix(a.rows * b.rows, a.cols * b.cols, entries)


def is_zero(a: Matrix) -> bool:
    """Whether every entry is 0."""
    return not any(x for row in a.entries for x in row)


def rank(a: Matrix) -> int:
    """The exact rank, by elimination over the rationals (integers stay integers: Bareiss)."""
    rows = [list(r) for r in a.entries if any(r)]
    found, last = 0, Fraction(1)
    for j in range(a.cols):
        pivot = next((i for i in range(found, len(rows)) if rows[i][j]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        top = rows[found]
        for i in range(found + 1, len(rows)):
            head = rows[i][j]
            rows[i] = [
                _exact(top[j] * x - head * y, last) for x, y in zip(rows[i], top, strict=True)
            ]
        last = Fraction(top[j])
        found += 1
        if found == len(rows):
            break
    return found


def _exact(value: Fraction | int, divisor: Fraction) -> Fraction | int:
    """``value / divisor`` as an integer where it is one (Bareiss keeps integers integral)."""
    if isinstance(value, int) and divisor.denominator == 1:
        quotient, rest = divmod(value, divisor.numerator)
        if rest == 0:
            return quotient
    return Fraction(value) / divisor
