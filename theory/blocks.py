"""Block matrices of words: the matrices that the DAG prover reasons about.

A cell is a polynomial in non-commuting letters, ``{("A", "B"): 1, (): -1}`` for ``A*B - I``; a letter is
a map of the statement, a transposed one (``A'``), or an abbreviation of a sum (``S1 = I + G``), so that
``(I+G7)*...*(I+G1)`` stays one word. Two blocks are the same matrix when their cells agree after the
abbreviations are unfolded and the matrix hypotheses (``A*A == A``) are used as rewriting rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from theory.errors import UnsupportedError

Word = tuple[str, ...]
Poly = dict[Word, Fraction]
Key = tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[tuple[Word, Fraction], ...], ...]]

#: a polynomial with more words than this is not expanded
MAX_WORDS = 600
ONE = Fraction(1)


@dataclass(frozen=True, eq=False)
class Block:
    """A block matrix: the heights of its block rows, the widths of its columns, and its cells."""

    rows: tuple[str, ...]
    cols: tuple[str, ...]
    cells: tuple[tuple[Poly, ...], ...]

    def is_zero(self) -> bool:
        """Whether every cell is the empty sum."""
        return not any(cell for row in self.cells for cell in row)


def _clean(p: Poly) -> Poly:
    return {w: c for w, c in p.items() if c}


def add_poly(p: Poly, q: Poly) -> Poly:
    """The sum of two polynomials."""
    out = dict(p)
    for word, c in q.items():
        out[word] = out.get(word, Fraction(0)) + c
    return _clean(out)


def multiply_poly(p: Poly, q: Poly) -> Poly:
    """The product of two polynomials, words concatenated."""
    if len(p) * len(q) > MAX_WORDS:
        raise UnsupportedError(f"a product expands to more than {MAX_WORDS} words")
    out: Poly = {}
    for u, a in p.items():
        for v, b in q.items():
            out[u + v] = out.get(u + v, Fraction(0)) + a * b
    return _clean(out)


def identity(dims: tuple[str, ...]) -> Block:
    """The identity matrix with this partition."""
    return Block(
        dims,
        dims,
        tuple(
            tuple({(): ONE} if i == j else {} for j in range(len(dims))) for i in range(len(dims))
        ),
    )


def zero(rows: tuple[str, ...], cols: tuple[str, ...]) -> Block:
    """The zero matrix with these partitions."""
    return Block(rows, cols, tuple(tuple({} for _ in cols) for _ in rows))


def add(a: Block, b: Block, sign: int = 1) -> Block:
    """``a + sign * b``, block by block.

    Raises:
        UnsupportedError: the partitions differ.
    """
    if (a.rows, a.cols) != (b.rows, b.cols):
        raise UnsupportedError(
            f"cannot add blocks {a.rows} x {a.cols} and {b.rows} x {b.cols}: write both with the same stacks"
        )
    return Block(
        a.rows,
        a.cols,
        tuple(
            tuple(
                add_poly(p, {w: sign * c for w, c in q.items()}) for p, q in zip(r, s, strict=True)
            )
            for r, s in zip(a.cells, b.cells, strict=True)
        ),
    )


def scale(a: Block, factor: Fraction) -> Block:
    """``factor * a``."""
    return Block(
        a.rows,
        a.cols,
        tuple(tuple(_clean({w: factor * c for w, c in p.items()}) for p in r) for r in a.cells),
    )


def multiply(a: Block, b: Block) -> Block:
    """``a * b``, block by block.

    Raises:
        UnsupportedError: the inner partitions differ.
    """
    if a.cols != b.rows:
        raise UnsupportedError(
            f"cannot multiply blocks with inner partitions {a.cols} and {b.rows}: a stack meets "
            "an unstacked map; name the parts of that map"
        )
    cells = []
    for row in a.cells:
        out: list[Poly] = [{} for _ in b.cols]
        for p, other in zip(row, b.cells, strict=True):
            if p:
                out = [
                    add_poly(t, multiply_poly(p, q)) if q else t
                    for t, q in zip(out, other, strict=True)
                ]
        cells.append(tuple(out))
    return Block(a.rows, b.cols, tuple(cells))


def vstack(a: Block, b: Block) -> Block:
    """``a`` over ``b``.

    Raises:
        UnsupportedError: the column partitions differ.
    """
    if a.cols != b.cols:
        raise UnsupportedError(f"cannot stack blocks with columns {a.cols} and {b.cols}")
    return Block(a.rows + b.rows, a.cols, a.cells + b.cells)


def hstack(a: Block, b: Block) -> Block:
    """``a`` beside ``b``.

    Raises:
        UnsupportedError: the row partitions differ.
    """
    if a.rows != b.rows:
        raise UnsupportedError(f"cannot put blocks with rows {a.rows} and {b.rows} side by side")
    return Block(
        a.rows, a.cols + b.cols, tuple(r + s for r, s in zip(a.cells, b.cells, strict=True))
    )


def blockdiag(a: Block, b: Block) -> Block:
    """``a`` and ``b`` on the diagonal."""
    return vstack(hstack(a, zero(a.rows, b.cols)), hstack(zero(b.rows, a.cols), b))


def select(dims: tuple[str, ...], keep: list[int]) -> Block:
    """The matrix that keeps the block rows ``keep`` of a column with partition ``dims``."""
    return Block(
        tuple(dims[i] for i in keep),
        dims,
        tuple(tuple({(): ONE} if i == j else {} for j in range(len(dims))) for i in keep),
    )


def transpose(a: Block) -> Block:
    """The transpose: words reversed, ``A`` and ``A'`` exchanged, cells mirrored.

    Abbreviations must have been unfolded (``Algebra.unfold``) before.
    """

    def letter(x: str) -> str:
        return x[:-1] if x.endswith("'") else x + "'"

    def cell(p: Poly) -> Poly:
        return {tuple(letter(x) for x in reversed(w)): c for w, c in p.items()}

    cells = tuple(
        tuple(cell(a.cells[i][j]) for i in range(len(a.rows))) for j in range(len(a.cols))
    )
    return Block(a.cols, a.rows, cells)


@dataclass
class Algebra:
    """Abbreviations and rewriting rules: what makes two polynomials the same matrix.

    Attributes:
        shapes: letter -> (height, width).
        lets: abbreviation -> its sum.
        rules: leading word -> what it equals, one for each matrix hypothesis.
    """

    shapes: dict[str, tuple[str, str]]
    lets: dict[str, Poly] = field(default_factory=dict)
    rules: list[tuple[Word, Poly]] = field(default_factory=list)
    _cache: dict[Word, Poly] = field(default_factory=dict)
    _keys: dict[Block, Key] = field(default_factory=dict)

    def letter(self, p: Poly, height: str, width: str) -> str:
        """An abbreviation of the sum ``p``, the same one for the same sum."""
        for name, value in self.lets.items():
            if value == p and self.shapes[name] == (height, width):
                return name
        name = f"S{len(self.lets) + 1}_"
        self.lets[name] = dict(p)
        self.shapes[name] = (height, width)
        return name

    def side(self, letter: str, axis: int) -> str:
        """The height (axis 0) or width (1) of a letter; a transposed one has them exchanged."""
        name = letter.removesuffix("'")
        return self.shapes[name][axis if name == letter else 1 - axis]

    def equate(self, difference: Block) -> bool:
        """Use ``difference == 0`` as rewriting rules; False where a cell has no usable lead."""
        usable = True
        for row in difference.cells:
            for cell in row:
                p = self.unfold_poly(cell)
                if not p:
                    continue
                lead = max(p, key=lambda w: (len(w), w))
                if abs(p[lead]) != 1 or not lead:
                    usable = False
                    continue
                rest = {w: -c / p[lead] for w, c in p.items() if w != lead}
                self.rules.append((lead, rest))
                self._cache.clear()
                self._keys.clear()
        return usable

    def _word(self, word: Word) -> Poly:
        """A word unfolded and rewritten."""
        if word in self._cache:
            return self._cache[word]
        out: Poly | None = None
        for i, x in enumerate(word):
            if x in self.lets:
                out = {}
                for w, c in self.lets[x].items():
                    part = self._word(word[:i] + w + word[i + 1 :])
                    out = add_poly(out, {v: c * d for v, d in part.items()})
                    if len(out) > MAX_WORDS:
                        raise UnsupportedError(f"a sum expands to more than {MAX_WORDS} words")
                break
        else:
            for lead, rest in self.rules:
                n = len(lead)
                at = next((i for i in range(len(word) - n + 1) if word[i : i + n] == lead), None)
                if at is not None:
                    out = {}
                    for w, c in rest.items():
                        part = self._word(word[:at] + w + word[at + n :])
                        out = add_poly(out, {v: c * d for v, d in part.items()})
                    break
        self._cache[word] = {word: ONE} if out is None else out
        return self._cache[word]

    def unfold_poly(self, p: Poly) -> Poly:
        """A polynomial without abbreviations, rewritten by the hypotheses."""
        out: Poly = {}
        for word, c in p.items():
            out = add_poly(out, {v: c * d for v, d in self._word(word).items()})
        return out

    def unfold(self, a: Block) -> Block:
        """A block without abbreviations, rewritten by the hypotheses."""
        return Block(a.rows, a.cols, tuple(tuple(self.unfold_poly(p) for p in r) for r in a.cells))

    def key(self, a: Block) -> Key:
        """What makes two blocks equal: hashable."""
        if a not in self._keys:
            cells = tuple(
                tuple(sorted(self.unfold_poly(p).items())) for row in a.cells for p in row
            )
            self._keys[a] = (a.rows, a.cols, cells)
        return self._keys[a]


def to_json(a: Block) -> dict[str, object]:
    """A block as JSON: a word is its letters joined by spaces, a coefficient a string."""
    return {
        "rows": list(a.rows),
        "cols": list(a.cols),
        "cells": [
            [{" ".join(w): str(c) for w, c in sorted(p.items())} for p in row] for row in a.cells
        ],
    }


def from_json(data: Mapping[str, Any]) -> Block:
    """A block from ``to_json``."""
    cells = tuple(
        tuple({tuple(w.split()): Fraction(c) for w, c in cell.items()} for cell in row)
        for row in data["cells"]
    )
    return Block(tuple(data["rows"]), tuple(data["cols"]), cells)
