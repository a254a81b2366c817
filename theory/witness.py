"""Witnesses: explicit matrices on which a statement is false, replayed exactly and made small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp

from theory.errors import InputError, UnsupportedError
from theory.evaluate import bind, evaluate, substitute
from theory.expressions import to_text
from theory.rational import Matrix
from theory.statements import Statement
from theory.tolerance import rank_function


@dataclass(frozen=True)
class Witness:
    """Matrices and sizes that violate a statement.

    Attributes:
        matrices: name -> rational matrix.
        dims: values of the sizes and constants that no matrix fixes.
    """

    matrices: Mapping[str, Matrix]
    dims: Mapping[str, int]

    def size(self) -> tuple[int, int, int, int]:
        """What shrinking makes small: rows and columns, then non-zeros, denominators, entries."""
        entries = [Fraction(x) for m in self.matrices.values() for r in m.entries for x in r]
        return (
            sum(m.rows + m.cols for m in self.matrices.values()) + sum(self.dims.values()),
            sum(1 for x in entries if x),
            sum(x.denominator for x in entries),
            int(sum(2 * abs(x.numerator) + (x < 0) for x in entries)),
        )


def violates(statement: Statement, witness: Witness) -> bool:
    """Replay: all hypotheses hold on the witness and the statement does not, in exact arithmetic.

    Ranks are those of the statement's notion.
    """
    rank = rank_function(statement.notion)
    try:
        result = evaluate(statement, witness.matrices, witness.dims, rank=rank)
    except (InputError, UnsupportedError):
        return False
    return result.hypotheses_hold and not result.holds


def shrink(
    statement: Statement, witness: Witness, *, positive: bool = False, dims: int | None = None
) -> Witness:
    """The smallest witness that dropping basis vectors and simplifying entries reaches.

    With ``positive`` no side becomes 0; with ``dims`` the sides stay as they are.
    """

    def allowed(w: Witness) -> bool:
        sides = [n for m in w.matrices.values() for n in (m.rows, m.cols)]
        return (not positive or all(sides)) and (dims is None or all(n == dims for n in sides))

    improved = True
    while improved:
        improved = False
        for smaller in _smaller(statement, witness):
            if (
                smaller.size() < witness.size()
                and allowed(smaller)
                and violates(statement, smaller)
            ):
                witness, improved = smaller, True
                break
    return witness


def _smaller(statement: Statement, witness: Witness) -> Iterator[Witness]:
    sizes = {n: (m.rows, m.cols) for n, m in witness.matrices.items()}
    values = bind(statement, sizes, witness.dims)
    for symbol, size in sorted(values.items(), key=str):
        for k in range(size):
            yield _drop(statement, witness, symbol, k)
    for name, value in witness.dims.items():
        if value > 0:
            yield Witness(witness.matrices, {**witness.dims, name: value - 1})
    for name, m in witness.matrices.items():
        for i, row in enumerate(m.entries):
            for j, x in enumerate(row):
                for y in (0, 1, -1, Fraction(x).numerator):
                    if y != x:
                        new = (*row[:j], y, *row[j + 1 :])
                        entries = (*m.entries[:i], new, *m.entries[i + 1 :])
                        changed = Matrix(m.rows, m.cols, entries)
                        yield Witness({**witness.matrices, name: changed}, witness.dims)


def _drop(statement: Statement, witness: Witness, symbol: sp.Symbol, k: int) -> Witness:
    """The witness without basis vector k of a dimension."""
    out = {}
    for name, m in witness.matrices.items():
        rows, cols = statement.matrices[name]
        keep_rows = [i for i in range(m.rows) if rows != symbol or i != k]
        keep_cols = [j for j in range(m.cols) if cols != symbol or j != k]
        entries = tuple(tuple(m.entries[i][j] for j in keep_cols) for i in keep_rows)
        out[name] = Matrix(len(keep_rows), len(keep_cols), entries)
    dims = {n: v - 1 if n == symbol.name and v > 0 else v for n, v in witness.dims.items()}
    return Witness(out, dims)


def to_json(statement: Statement, witness: Witness) -> dict[str, Any]:
    """The witness as data, with every rank that the statement speaks of (in its notion)."""
    sizes = {n: (m.rows, m.cols) for n, m in witness.matrices.items()}
    values = bind(statement, sizes, witness.dims)
    rank = rank_function(statement.notion)
    terms = {
        to_text(m): m
        for c in (*statement.goal, *statement.hypotheses)
        for i in c
        for _, m in i.form.ranks
    }
    return {
        "matrices": {
            name: {
                "rows": m.rows,
                "cols": m.cols,
                "entries": [[str(x) for x in row] for row in m.entries],
            }
            for name, m in witness.matrices.items()
        },
        "dims": {str(s): v for s, v in values.items()},
        "ranks": {t: rank(substitute(m, witness.matrices, values)) for t, m in terms.items()},
        "slack": str(evaluate(statement, witness.matrices, witness.dims, rank=rank).slack),
    }


def from_json(data: Mapping[str, Any]) -> Witness:
    """Read a witness back.

    Raises:
        InputError: the data is no witness.
    """
    try:
        matrices = {
            name: Matrix(
                int(m["rows"]),
                int(m["cols"]),
                tuple(tuple(Fraction(x) for x in row) for row in m["entries"]),
            )
            for name, m in data["matrices"].items()
        }
        return Witness(matrices, {str(k): int(v) for k, v in data["dims"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not a witness: {str(data)[:80]!r} ({error})") from error
