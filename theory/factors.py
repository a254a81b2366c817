"""Taking a block matrix apart: its factorisations and its splits into two summands.

Everything here is an identity between block matrices; ``theory.growth`` turns identities into rank
inequalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from theory.blocks import ONE, Algebra, Block, Poly, add, blockdiag, hstack, identity, vstack


def factors(algebra: Algebra, m: Block) -> Iterator[tuple[Block, Block]]:
    """Factorisations of a block: common prefixes of rows, suffixes of columns, stacks."""
    for i, row in enumerate(m.cells):
        words = [w for p in row for w in p]
        for n in range(1, _common(row, 1) + 1):
            word = words[0][:n]
            if len(words) == 1 and word == words[0]:
                break
            inner = algebra.side(word[-1], 1)
            dims = (*m.rows[:i], inner, *m.rows[i + 1 :])
            left = _replace_diagonal(m.rows, dims, i, {word: ONE})
            peeled = tuple({w[n:]: c for w, c in p.items()} for p in row)
            yield left, Block(dims, m.cols, (*m.cells[:i], peeled, *m.cells[i + 1 :]))
    for j in range(len(m.cols)):
        column = [row[j] for row in m.cells]
        words = [w for p in column for w in p]
        if len(words) == 1 and len(m.rows) * len(m.cols) == 1:
            break  # a single word was split from the left
        for n in range(1, _common(column, -1) + 1):
            word = words[0]
            if len(words) == 1 and n == len(word):
                break
            inner = algebra.side(word[-n], 0)
            dims = (*m.cols[:j], inner, *m.cols[j + 1 :])
            right = _replace_diagonal(dims, m.cols, j, {word[-n:]: ONE})
            cells = tuple(
                (*row[:j], {w[:-n]: c for w, c in row[j].items()}, *row[j + 1 :]) for row in m.cells
            )
            yield Block(m.rows, dims, cells), right
    p = m.cells[0][0]
    if len(m.rows) == len(m.cols) == 1 and 1 < len(p) <= 4 and all(len(w) > 1 for w in p):
        dims = tuple(algebra.side(w[0], 1) for w in p)  # A*C + B*D = [A B] * [C; D]
        first = tuple({w[:1]: c} for w, c in p.items())
        rest = tuple(({w[1:]: ONE},) for w in p)
        yield Block(m.rows, dims, (first,)), Block(dims, m.cols, rest)
    if len(m.rows) > 1 and len(m.cols) == 1:
        parts = [Block((r,), m.cols, (row,)) for r, row in zip(m.rows, m.cells, strict=True)]
        yield fold(blockdiag, parts), fold(vstack, [identity(m.cols)] * len(parts))
    if len(m.cols) > 1 and len(m.rows) == 1:
        parts = [Block(m.rows, (c,), ((p,),)) for c, p in zip(m.cols, m.cells[0], strict=True)]
        yield fold(hstack, [identity(m.rows)] * len(parts)), fold(blockdiag, parts)


def sums(algebra: Algebra, m: Block) -> Iterator[tuple[Block, Block]]:
    """Splits of a block into two: words of a sum, block rows, block columns."""
    if len(m.rows) > 1:
        for i in range(len(m.rows)):
            part = Block(
                m.rows,
                m.cols,
                tuple(r if k == i else ({},) * len(r) for k, r in enumerate(m.cells)),
            )
            yield part, add(m, part, -1)
    elif len(m.cols) > 1:
        for j in range(len(m.cols)):
            row = tuple(p if k == j else {} for k, p in enumerate(m.cells[0]))
            part = Block(m.rows, m.cols, (row,))
            yield part, add(m, part, -1)
    else:
        for p, q in polynomial_splits(algebra, m.cells[0][0]):
            yield Block(m.rows, m.cols, ((p,),)), Block(m.rows, m.cols, ((q,),))


def polynomial_splits(algebra: Algebra, p: Poly) -> Iterator[tuple[Poly, Poly]]:
    """Splits of a cell: one word and the rest, or one summand of an abbreviation and the rest."""
    if 1 < len(p) <= 6:
        for word, c in p.items():
            yield {word: c}, {w: d for w, d in p.items() if w != word}
    elif len(p) == 1:
        ((word, c),) = p.items()
        sums = [i for i, x in enumerate(word) if x in algebra.lets]
        for i in {sums[0], sums[-1]} if sums else ():
            value = algebra.lets[word[i]]
            for part in value:
                one = {word[:i] + part + word[i + 1 :]: c * value[part]}
                rest = {word[:i] + w + word[i + 1 :]: c * d for w, d in value.items() if w != part}
                yield one, rest


def fold(join: object, parts: list[Block]) -> Block:
    """Join blocks from the left with ``vstack``, ``hstack`` or ``blockdiag``."""
    out = parts[0]
    for part in parts[1:]:
        out = join(out, part)  # type: ignore[operator]
    return out


def _common(cells: Iterable[Poly], side: int) -> int:
    """Letters shared by all words at their beginning (side 1) or end (-1)."""
    words = [w[::side] for p in cells for w in p]
    if not words:
        return 0
    n = 0
    while all(len(w) > n and w[n] == words[0][n] for w in words):
        n += 1
    return n


def _replace_diagonal(rows: tuple[str, ...], cols: tuple[str, ...], at: int, p: Poly) -> Block:
    n = len(rows)
    return Block(
        rows,
        cols,
        tuple(
            tuple((p if i == at else {(): ONE}) if i == j else {} for j in range(n))
            for i in range(n)
        ),
    )


def vanishes(m: Block, rows: slice, cols: slice) -> bool:
    """Whether a part of a block is zero as it is written."""
    return not any(p for row in m.cells[rows] for p in row[cols])


def right_inverse(m: Block) -> Block | None:
    """A right inverse made of numbers, where each row has its own column with only +-I in it."""
    cells: list[list[Poly]] = [[{} for _ in m.rows] for _ in m.cols]
    for i, row in enumerate(m.cells):
        for j, p in enumerate(row):
            alone = all(not m.cells[k][j] for k in range(len(m.rows)) if k != i)
            if alone and set(p) == {()} and abs(p[()]) == 1:
                cells[j][i] = dict(p)
                break
        else:
            return None
    return Block(m.cols, m.rows, tuple(tuple(r) for r in cells))
