"""The pool of rank inequalities that the DAG prover combines.

Every entry is an instance of one of a few rules (``RULES``), each a theorem about all matrices over a
field: Frobenius' inequality, products, sums, transposes, sizes; sub-modularity of stacked rows
(Shannon) is one of Frobenius. The pool starts from the terms of the statement and grows by taking
them apart: factoring words, splitting sums, selecting block rows, dividing one term by others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, lcm

from theory.blocks import (
    ONE,
    Algebra,
    Block,
    Key,
    Poly,
    add,
    identity,
    multiply,
    scale,
    select,
    transpose,
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
    "ingleton": "Ingleton's inequality of the four block rows of M",
}
#: Ingleton's inequality: which block rows are stacked, with what coefficient
INGLETON = {
    "01": 1,
    "02": 1,
    "03": 1,
    "12": 1,
    "13": 1,
    "0": -1,
    "1": -1,
    "23": -1,
    "012": -1,
    "013": -1,
}


def pick_rows(m: Block, keep: str) -> Block:
    """Some block rows of a stack, named by their digits: ``"02"`` is the first over the third."""
    return Block(tuple(m.rows[int(k)] for k in keep), m.cols, tuple(m.cells[int(k)] for k in keep))


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
    elif rule == "ingleton":
        ranks = [(pick_rows(m[0], keep), c) for keep, c in INGLETON.items()]
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
        deadline: ``time.monotonic()`` after which ``emit`` raises ``TimeoutError``.
    """

    algebra: Algebra
    limit: int = 160
    transposes: bool = False
    deadline: float = math.inf
    terms: dict[Key, Block] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    _canonical: dict[Key, Canonical] = field(default_factory=dict)
    _seen: set[object] = field(default_factory=set)
    _facts: dict[tuple[Key, Key], tuple[Block, Block]] = field(default_factory=dict)
    _lefts: dict[Key, list[Block]] = field(default_factory=dict)
    _rights: dict[Key, list[Block]] = field(default_factory=dict)
    done: set[Key] = field(default_factory=set)
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
        right, back_right = mirror(right_t), mirror(back_right_t)
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
        if time.monotonic() > self.deadline:
            raise TimeoutError
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


def mirror(choice: Block) -> Block:
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
