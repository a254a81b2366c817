"""The pool of rank inequalities that the DAG prover combines.

Every entry is an instance of one of a few rules (``RULES``), each a theorem about all matrices over a
field: Frobenius' inequality, products, sums, transposes, sizes; sub-modularity of stacked rows
(Shannon) is one of Frobenius. The pool starts from the terms of the statement and grows by taking
them apart: factoring words, splitting sums, selecting block rows, dividing one term by others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product as cartesian
from math import gcd, lcm

from theory.blocks import (
    ONE,
    Algebra,
    Block,
    Key,
    Poly,
    add,
    blockdiag,
    hstack,
    identity,
    multiply,
    scale,
    select,
    transpose,
    vstack,
    zero,
)
from theory.errors import UnsupportedError

Dims = dict[str, Fraction]

#: rule -> what it says, with the names of its matrices
RULES = {
    "frobenius": "rank(A*B) + rank(B*C) <= rank(B) + rank(A*B*C)",
    "product": "rank(P*M*Q) <= rank(M)",
    "sum": "rank(A + B) <= rank(A) + rank(B)",
    "rows": "rank(M) <= rows(M)",
    "columns": "rank(M) <= cols(M)",
    "inverse": "M*N == I implies rank(M) >= rows(M)",
    "zero": "rank(O) <= 0",
    "positive": "rank(M) >= 0",
    "dimension": "a dimension is >= 0",
    "transpose": "rank(M.T) <= rank(M)",
    "hypothesis": "a linear hypothesis of the statement",
}


@dataclass(frozen=True, eq=False)
class Step:
    """An instance of a rule: ``sum(c * rank(M)) + sum(c * dimension) + constant >= 0``."""

    rule: str
    blocks: tuple[Block, ...]
    ranks: tuple[tuple[Block, int | Fraction], ...]
    dims: Dims = field(default_factory=dict)
    index: int = -1


def total(dims: Iterable[str], sign: int = 1) -> Dims:
    """A sum of dimensions; numbers are collected under the empty name."""
    out: Dims = {}
    for d in dims:
        name, value = ("", Fraction(d)) if d.isdigit() else (d, ONE)
        out[name] = out.get(name, Fraction(0)) + sign * value
    return out


def step(rule: str, *m: Block) -> Step:
    """The inequality of a rule for these matrices (see ``RULES`` for their order)."""
    if rule == "frobenius":
        ab, bc = multiply(m[0], m[1]), multiply(m[1], m[2])
        ranks = [(m[1], 1), (multiply(ab, m[2]), 1), (ab, -1), (bc, -1)]
    elif rule == "product":
        ranks = [(m[1], 1), (multiply(multiply(m[0], m[1]), m[2]), -1)]
    elif rule == "sum":
        ranks = [(m[0], 1), (m[1], 1), (add(m[0], m[1]), -1)]
    elif rule in ("rows", "columns"):
        sizes = m[0].rows if rule == "rows" else m[0].cols
        return Step(rule, m, ((m[0], -1),), total(sizes))
    elif rule == "inverse":
        return Step(rule, m, ((m[0], 1),), total(m[0].rows, -1))
    elif rule in ("zero", "positive"):
        ranks = [(m[0], -1 if rule == "zero" else 1)]
    elif rule == "transpose":
        ranks = [(m[0], 1), (transpose(m[0]), -1)]
    else:
        raise UnsupportedError(f"no rule {rule!r}")
    return Step(rule, m, tuple(ranks))


@dataclass(frozen=True, eq=False)
class Canonical:
    """A block with the same rank as another: ``block = left * other * right`` and back."""

    block: Block
    key: Key
    down: tuple[Block, Block]
    up: tuple[Block, Block]


@dataclass
class Row:
    """A pool inequality over canonical terms."""

    step: Step
    ranks: dict[Key, Fraction]
    dims: Dims


@dataclass
class Pool:
    """Inequalities found so far, over the ranks of canonical blocks.

    Attributes:
        algebra: what makes two blocks equal.
        limit: the pool stops growing at this many terms.
        transposes: whether terms are transposed too (the statement speaks of a transpose).
    """

    algebra: Algebra
    limit: int = 160
    transposes: bool = False
    terms: dict[Key, Block] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    _canonical: dict[Key, Canonical] = field(default_factory=dict)
    _seen: set[object] = field(default_factory=set)
    _facts: dict[tuple[Key, Key], tuple[Block, Block]] = field(default_factory=dict)
    _lefts: dict[Key, list[Block]] = field(default_factory=dict)
    _rights: dict[Key, list[Block]] = field(default_factory=dict)
    _done: set[Key] = field(default_factory=set)
    _pending: list[tuple[Block, Block, Block]] = field(default_factory=list)

    # ---- canonical terms -------------------------------------------------------------------
    def canonical(self, m: Block) -> Canonical:
        """The block without zero and repeated rows and columns, in order, with positive sign."""
        key = self.algebra.key(m)
        if key in self._canonical:
            return self._canonical[key]
        flat, n = key[2], len(m.cols)
        lines = [tuple(flat[i * n : i * n + n]) for i in range(len(m.rows))]
        left, back_left = _thin(m.rows, lines)
        columns = [tuple(flat[i * n + j] for i in range(len(m.rows))) for j in range(n)]
        right_t, back_right_t = _thin(m.cols, columns)
        right, back_right = _mirror(right_t), _mirror(back_right_t)
        small = multiply(multiply(left, m), right)
        factor = _content(self.algebra.unfold(small))
        if factor != 1:
            left, small = scale(left, 1 / factor), scale(small, 1 / factor)
            back_left = scale(back_left, factor)
        result = Canonical(small, self.algebra.key(small), (left, right), (back_left, back_right))
        self._canonical[key] = result
        return result

    def term(self, m: Block) -> Key:
        """Register a term; returns its canonical key."""
        c = self.canonical(m)
        if c.key not in self.terms:
            self.terms[c.key] = c.block
            if c.block.is_zero() or not any(c.key[2]):
                self.emit(step("zero", c.block))
        return c.key

    def known(self, m: Block) -> bool:
        """Whether the term is registered, or zero."""
        c = self.canonical(m)
        return c.key in self.terms or not any(c.key[2])

    def emit(self, s: Step) -> None:
        """Add an inequality unless it is trivial or already there."""
        ranks: dict[Key, Fraction] = {}
        for m, c in s.ranks:
            k = self.term(m)
            ranks[k] = ranks.get(k, Fraction(0)) + c
        ranks = {k: c for k, c in ranks.items() if c}
        signature = (frozenset(ranks.items()), frozenset(s.dims.items()))
        if (ranks or s.dims) and signature not in self._seen:
            self._seen.add(signature)
            self.rows.append(Row(s, ranks, s.dims))

    def transports(self, m: Block, sign: int) -> Step | None:
        """The product step between a block and its canonical form; None where they coincide.

        With ``sign`` 1: rank(canonical) - rank(m) >= 0; with -1 the other way.
        """
        c = self.canonical(m)
        if c.key == self.algebra.key(m):
            return None
        if sign < 0:
            return step("product", c.down[0], m, c.down[1])
        return step("product", c.up[0], c.block, c.up[1])

    # ---- growth ----------------------------------------------------------------------------
    def fact(self, left: Block, right: Block) -> None:
        """Use a factorisation: products, Sylvester, and Frobenius with its neighbours."""
        kl, kr = self.algebra.key(left), self.algebra.key(right)
        if (kl, kr) in self._facts:
            return
        self._facts[kl, kr] = (left, right)
        self.emit(step("product", identity(left.rows), left, right))
        self.emit(step("product", left, right, identity(right.cols)))
        self.emit(step("frobenius", left, identity(left.cols), right))
        self._lefts.setdefault(kr, []).append(left)
        self._rights.setdefault(kl, []).append(right)
        self._pending += [(outer, left, right) for outer in self._lefts.get(kl, [])]
        self._pending += [(left, right, outer) for outer in self._rights.get(kr, [])]

    def frobenius(self, *, freely: bool) -> None:
        """Emit Frobenius' inequality for neighbouring factorisations ``A*B`` and ``B*C``.

        Args:
            freely: also where ``A*B*C`` is a new term.
        """
        waiting, self._pending = self._pending, []
        for a, b, c in waiting:
            room = freely and len(self.terms) < self.limit
            if room or self.known(multiply(multiply(a, b), c)):
                self.emit(step("frobenius", a, b, c))
            else:
                self._pending.append((a, b, c))

    def split(self, a: Block, b: Block) -> None:
        """Use a sum ``a + b``: each of the three is at most the sum of the others."""
        whole = add(a, b)
        self.emit(step("sum", a, b))
        self.emit(step("sum", whole, scale(b, -ONE)))
        self.emit(step("sum", whole, scale(a, -ONE)))

    def grow(self, deadline: float) -> bool:
        """Take apart every term that has not been; False where there was none or no room."""
        todo = [k for k in self.terms if k not in self._done]
        for k in todo:
            if len(self.terms) > self.limit or time.monotonic() > deadline:
                return False
            self._done.add(k)
            m = self.terms[k]
            try:
                self._take_apart(m)
            except UnsupportedError:
                continue
        return bool(todo)

    def _take_apart(self, m: Block) -> None:
        for rule in ("rows", "columns", "positive"):
            self.emit(step(rule, m))
        inverse = _inverse(m)
        if inverse is not None:
            self.emit(step("inverse", m, inverse))
        if self.transposes:
            flat = self.algebra.unfold(m)
            turned = transpose(flat)
            self.emit(step("transpose", flat))
            self.emit(step("transpose", turned))
        for left, right in self._factors(m):
            self.fact(left, right)
        for a, b in self._sums(m):
            self.split(a, b)
        many_rows, many_cols = len(m.rows) > 1, len(m.cols) > 1
        for i in range(len(m.rows) if many_rows else 0):
            rest = [r for r in range(len(m.rows)) if r != i]
            for keep in ([i], rest):
                self.fact(select(m.rows, keep), m)
        for j in range(len(m.cols) if many_cols else 0):
            rest = [c for c in range(len(m.cols)) if c != j]
            for keep in ([j], rest):
                self.fact(m, _mirror(select(m.cols, keep)))
        for i, j in cartesian(range(1, len(m.rows)), range(1, len(m.cols))):
            if _vanishes(m, slice(0, i), slice(j, None)) and _vanishes(
                m, slice(i, None), slice(0, j)
            ):
                top = select(m.rows, list(range(i)))
                right = _mirror(select(m.cols, list(range(j, len(m.cols)))))
                self.emit(step("frobenius", top, m, right))

    def _width(self, letter: str, side: int) -> str:
        if letter.endswith("'"):
            return self.algebra.shapes[letter[:-1]][1 - side]
        return self.algebra.shapes[letter][side]

    def _factors(self, m: Block) -> Iterator[tuple[Block, Block]]:
        """Factorisations of a block: common prefixes of rows, suffixes of columns, stacks."""
        for i, row in enumerate(m.cells):
            words = [w for p in row for w in p]
            for n in range(1, _common(row, 1) + 1):
                word = words[0][:n]
                if len(words) == 1 and word == words[0]:
                    break
                inner = self._width(word[-1], 1)
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
                inner = self._width(word[-n], 0)
                dims = (*m.cols[:j], inner, *m.cols[j + 1 :])
                right = _replace_diagonal(dims, m.cols, j, {word[-n:]: ONE})
                cells = tuple(
                    (*row[:j], {w[:-n]: c for w, c in row[j].items()}, *row[j + 1 :])
                    for row in m.cells
                )
                yield Block(m.rows, dims, cells), right
        p = m.cells[0][0]
        if len(m.rows) == len(m.cols) == 1 and 1 < len(p) <= 4 and all(len(w) > 1 for w in p):
            dims = tuple(self._width(w[0], 1) for w in p)  # A*C + B*D = [A B] * [C; D]
            first = tuple({w[:1]: c} for w, c in p.items())
            rest = tuple(({w[1:]: ONE},) for w in p)
            yield Block(m.rows, dims, (first,)), Block(dims, m.cols, rest)
        if len(m.rows) > 1 and len(m.cols) == 1:
            parts = [Block((r,), m.cols, (row,)) for r, row in zip(m.rows, m.cells, strict=True)]
            yield _fold(blockdiag, parts), _fold(vstack, [identity(m.cols)] * len(parts))
        if len(m.cols) > 1 and len(m.rows) == 1:
            parts = [Block(m.rows, (c,), ((p,),)) for c, p in zip(m.cols, m.cells[0], strict=True)]
            yield _fold(hstack, [identity(m.rows)] * len(parts)), _fold(blockdiag, parts)

    def _sums(self, m: Block) -> Iterator[tuple[Block, Block]]:
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
            for p, q in self._polynomial_splits(m.cells[0][0]):
                yield Block(m.rows, m.cols, ((p,),)), Block(m.rows, m.cols, ((q,),))

    def _polynomial_splits(self, p: Poly) -> Iterator[tuple[Poly, Poly]]:
        if 1 < len(p) <= 6:
            for word, c in p.items():
                yield {word: c}, {w: d for w, d in p.items() if w != word}
        elif len(p) == 1:
            ((word, c),) = p.items()
            sums = [i for i, x in enumerate(word) if x in self.algebra.lets]
            for i in {sums[0], sums[-1]} if sums else ():
                value = self.algebra.lets[word[i]]
                for part in value:
                    one = {word[:i] + part + word[i + 1 :]: c * value[part]}
                    rest = {
                        word[:i] + w + word[i + 1 :]: c * d for w, d in value.items() if w != part
                    }
                    yield one, rest

    # ---- residual blocks ---------------------------------------------------------------------
    def telescope(self, m: Block, side: int) -> None:
        """Split ``(I+G)*w`` into ``w + G*w``, then ``w`` again, from the left or the right."""
        while len(m.cells[0][0]) == 1:
            ((word, c),) = m.cells[0][0].items()
            self.subwords(m)
            if not word or () not in self.algebra.lets.get(word[side], {}):
                return
            value = self.algebra.lets[word[side]]
            before, after = ((), word[1:]) if side == 0 else (word[:-1], ())
            parts = {w: {before + w + after: c * d} for w, d in value.items()}
            rest = {w: d for v, p in parts.items() if v for w, d in p.items()}
            one, other = (Block(m.rows, m.cols, ((p,),)) for p in (parts[()], rest))
            self.split(one, other)
            self.subwords(other)
            m = one

    def subwords(self, m: Block) -> None:
        """A word has at most the rank of each of its letters, and of each term inside it."""
        if len(m.cells[0][0]) != 1:
            return
        ((word, c),) = m.cells[0][0].items()
        n = len(word)
        for i in range(n):
            for j in range(i + 1, n + 1):
                if (i, j) == (0, n):
                    continue
                rows, cols = (self._width(word[i], 0),), (self._width(word[j - 1], 1),)
                inner = Block(rows, cols, (({word[i:j]: ONE},),))
                if j == i + 1 or self.known(inner):
                    left = Block(m.rows, rows, (({word[:i]: c},),))
                    self.emit(
                        step("product", left, inner, Block(cols, m.cols, (({word[j:]: ONE},),)))
                    )

    # ---- one term divided by others --------------------------------------------------------
    def divide(self, m: Block, others: list[Block]) -> None:
        """Write ``m = sum(u * other * v)`` where that succeeds, and emit the sums and products."""
        target = self.algebra.unfold_poly(m.cells[0][0])
        polys = [self.algebra.unfold_poly(o.cells[0][0]) for o in others]
        choices = [[w for w, c in p.items() if w and abs(c) == 1][:4] for p in polys]
        if not all(choices):
            return
        for count, leads in enumerate(cartesian(*choices)):
            if count >= 64:
                return
            parts = self._division(target, list(zip(polys, leads, strict=True)))
            if parts is None or len(parts) < 2:
                continue
            pieces = []
            for index, u, v, c in parts:
                o = others[index]
                left = Block((m.rows[0],), o.rows, (({u: c},),))
                right = Block(o.cols, (m.cols[0],), (({v: ONE},),))
                self.emit(step("product", left, o, right))
                pieces.append(multiply(multiply(left, o), right))
            partial = pieces[0]
            for piece in pieces[1:]:
                self.emit(step("sum", partial, piece))
                partial = add(partial, piece)
            self.term(partial)
            return

    def _division(
        self, target: Poly, divisors: list[tuple[Poly, tuple[str, ...]]]
    ) -> list[tuple[int, tuple[str, ...], tuple[str, ...], Fraction]] | None:
        parts: list[tuple[int, tuple[str, ...], tuple[str, ...], Fraction]] = []
        rest = dict(target)
        for _ in range(24):
            if not rest:
                return parts
            hit = None
            for index, (p, lead) in enumerate(divisors):
                n = len(lead)
                for w in sorted(rest, key=lambda w: (-len(w), w)):
                    at = next((i for i in range(len(w) - n + 1) if w[i : i + n] == lead), None)
                    if at is not None:
                        hit = (index, w[:at], w[at + n :], rest[w] / p[lead])
                        break
                if hit:
                    break
            if hit is None:
                return None
            index, u, v, c = hit
            parts.append(hit)
            for w, d in divisors[index][0].items():
                rest[u + w + v] = rest.get(u + w + v, Fraction(0)) - c * d
            rest = self.algebra.unfold_poly({w: d for w, d in rest.items() if d})
        return None

    # ---- Shannon's inequalities on stacked rows --------------------------------------------
    def shannon(self, signals: list[Block]) -> None:
        """Elemental inequalities h(S+i) + h(S+j) >= h(S+i+j) + h(S) for rows over one source."""
        n = len(signals)
        for mask in range(1 << n):
            base = [signals[k] for k in range(n) if mask >> k & 1]
            outside = [k for k in range(n) if not mask >> k & 1]
            for a, i in enumerate(outside):
                for j in outside[a + 1 :]:
                    x, y = _fold(vstack, [*base, signals[i]]), _fold(vstack, [*base, signals[j]])
                    self._submodular(x, y, len(_fold(vstack, base).rows) if base else 0)

    def _submodular(self, x: Block, y: Block, common: int) -> None:
        """rank(x over y) + rank(z) <= rank(x) + rank(y) where z is the first ``common`` rows of both.

        It is Frobenius' inequality on ``[P -P] * blockdiag(x, y) * [I; I]``, whose product vanishes.
        """
        both = blockdiag(x, y)
        keep = list(range(common)) or [0]
        p, q = select(x.rows, keep), scale(select(y.rows, keep), -ONE)
        if not common:
            p, q = zero(x.rows[:1], x.rows), zero(x.rows[:1], y.rows)
        unit = identity(x.cols)
        outer = hstack(p, q)
        self.emit(step("frobenius", outer, both, vstack(unit, unit)))
        self.emit(
            step(
                "product",
                identity(p.rows),
                multiply(outer, both),
                vstack(unit, scale(unit, Fraction(0))),
            )
        )
        above = vstack(hstack(x, zero(x.rows, y.cols)), zero(y.rows, both.cols))
        self.emit(step("sum", above, add(both, above, -1)))


def _fold(join: object, parts: list[Block]) -> Block:
    out = parts[0]
    for part in parts[1:]:
        out = join(out, part)  # type: ignore[operator]
    return out


def _mirror(choice: Block) -> Block:
    """The transpose of a matrix of numbers."""
    cells = tuple(tuple(row[j] for row in choice.cells) for j in range(len(choice.cols)))
    return Block(choice.cols, choice.rows, cells)


def _thin(dims: tuple[str, ...], lines: Sequence[tuple[object, ...]]) -> tuple[Block, Block]:
    """Matrices that drop zero and repeated lines and sort, and that put them back."""
    keep: list[int] = []
    for i, line in enumerate(lines):
        if any(line) and all(lines[k] != line for k in keep):
            keep.append(i)
    keep = sorted(keep, key=lambda i: str(lines[i])) or [0]
    back: tuple[tuple[Poly, ...], ...] = tuple(
        tuple({(): ONE} if any(lines[i]) and lines[i] == lines[k] else {} for k in keep)
        for i in range(len(dims))
    )
    return select(dims, keep), Block(dims, tuple(dims[k] for k in keep), back)


def _content(m: Block) -> Fraction:
    """What divides a block to make its coefficients coprime integers, the first positive."""
    numbers = [c for row in m.cells for p in row for _, c in sorted(p.items())]
    if not numbers:
        return ONE
    size = Fraction(gcd(*(c.numerator for c in numbers)), lcm(*(c.denominator for c in numbers)))
    return size if numbers[0] > 0 else -size


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


def _vanishes(m: Block, rows: slice, cols: slice) -> bool:
    return not any(p for row in m.cells[rows] for p in row[cols])


def _inverse(m: Block) -> Block | None:
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
