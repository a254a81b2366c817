"""Proved lower bounds for the rank of smooth Jacobians, by ball arithmetic (flint's arb).

Gaussian elimination on balls: a pivot whose ball excludes zero is not zero, so the minor on the
pivots found is not zero (theory.md, section 5.6). Balls never prove a rank from above. The Jacobian
is asked for again at twice the precision as long as more pivots may be found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flint
import numpy as np

from numeric.matrices import entries_of, ratios
from theory.errors import InputError


@dataclass(frozen=True)
class BallBound:
    """A proved lower bound of an exact rank.

    Attributes:
        lower: the bound; the minor on ``rows`` x ``columns`` excludes zero.
        rows: pivot rows in the order of elimination.
        columns: pivot columns in the order of elimination.
        bits: working precision.
        shape: of the Jacobian.
    """

    lower: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    bits: int
    shape: tuple[int, int]

    @property
    def full(self) -> bool:
        """Whether the shape proves the same number from above."""
        return self.lower == min(self.shape)


def ball_rank(
    jacobian: flint.arb_mat | Callable[[], flint.arb_mat], *, bits: int = 128, most: int = 1024
) -> BallBound:
    """The largest proved lower bound up to the precision ``most``.

    Args:
        jacobian: balls that contain the entries, shape (m, n); or a function that computes them at
            flint's current precision, called again with twice the bits until the rank is full or
            ``most`` is reached.
        bits: first working precision.
        most: last working precision.

    Raises:
        InputError: ``bits`` is below 2 or above ``most``.
    """
    if not 2 <= bits <= most:
        raise InputError(f"bits={bits}, most={most}: need 2 <= bits <= most")
    best: BallBound | None = None
    while True:
        with flint.ctx.workprec(bits):
            balls = jacobian() if callable(jacobian) else jacobian
            rows, columns = _pivots(balls.tolist())
        shape = (balls.nrows(), balls.ncols())
        found = BallBound(len(rows), rows, columns, bits, shape)
        if best is None or found.lower > best.lower:
            best = found
        if best.full or bits >= most or not callable(jacobian):
            return best
        bits = min(2 * bits, most)


def replay(jacobian: flint.arb_mat | Callable[[], flint.arb_mat], bound: BallBound) -> bool:
    """Whether the bound's minor excludes zero, by flint's own ball determinant.

    Args:
        jacobian: as for ``ball_rank``.
        bound: what it returned.
    """
    if len(set(bound.rows)) != bound.lower or len(set(bound.columns)) != bound.lower:
        return False
    with flint.ctx.workprec(2 * bound.bits):
        balls = jacobian() if callable(jacobian) else jacobian
        if not bound.lower:
            return True
        minor = flint.arb_mat([[balls[i, j] for j in bound.columns] for i in bound.rows])
        return 0 not in minor.det()


def _pivots(table: list[list[Any]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Elimination with complete pivoting on the entry whose distance from zero is largest."""
    rows, columns = list(range(len(table))), list(range(len(table[0]) if table else 0))
    chosen: list[tuple[int, int]] = []
    while rows and columns:
        size, i, j = max(((table[i][j].abs_lower(), i, j) for i in rows for j in columns),
                         key=lambda entry: entry[0])  # fmt: skip
        if not size > 0:
            break
        chosen.append((i, j))
        rows.remove(i)
        columns.remove(j)
        pivot = table[i]
        for k in rows:
            row = table[k]
            factor = row[j] / pivot[j]
            for c in columns:
                row[c] -= factor * pivot[c]
    return tuple(i for i, _ in chosen), tuple(j for _, j in chosen)


def tanh_jacobian(weights: Sequence[Any], point: Sequence[Any]) -> Callable[[], flint.arb_mat]:
    """The Jacobian of x -> tanh(W_L ... tanh(W_1 x)) at ``point``, for ``ball_rank``.

    Args:
        weights: W_1 first, exact entries (floats are dyadic rationals), shapes that compose.
        point: the input, exact entries.

    Raises:
        InputError: shapes that do not compose, or entries that are no numbers.
    """
    exact = [_exact(w) for w in weights]
    start = _exact([[entry] for entry in point])
    sizes = [start.nrows()] + [w.nrows() for w in exact]
    for k, (w, size) in enumerate(zip(exact, sizes, strict=False), 1):
        if w.ncols() != size:
            raise InputError(f"layer {k} takes {w.ncols()} inputs and gets {size}")

    def jacobian() -> flint.arb_mat:
        value = flint.arb_mat(start)
        tangent = flint.arb_mat(start.nrows(), start.nrows(), 1)
        for w in map(flint.arb_mat, exact):
            values = [entry.tanh() for entry in (w * value).entries()]
            moved = (w * tangent).tolist()
            slopes = [1 - y * y for y in values]
            tangent = flint.arb_mat(
                [[s * x for x in row] for s, row in zip(slopes, moved, strict=True)]
            )
            value = flint.arb_mat([[y] for y in values])
        return tangent

    return jacobian


def _exact(matrix: Any) -> flint.arb_mat | flint.fmpq_mat:
    """Floats as balls of radius 0 (they are dyadic); fractions stay rationals until used."""
    entries, columns = entries_of(matrix)
    if isinstance(entries, np.ndarray):
        return flint.arb_mat(entries.tolist())
    rows, columns = ratios(matrix)
    return flint.fmpq_mat(len(rows), columns, [flint.fmpq(*entry) for row in rows for entry in row])
