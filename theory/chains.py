"""Chains of linear maps: a complete decision procedure by interval modules (theory of quiver A_n).

A chain ``V_0 -> V_1 -> ... -> V_n`` of linear maps is a direct sum of interval modules [a, b] (Gabriel):
lines that are born at a and die after b. So r(i, j), the rank of the composite V_i -> V_j (r(i, i) is a
dimension), is the number of bars that contain [i, j], and a linear form ``sum c(i, j) r(i, j)`` is
non-negative on all chains iff its value V(a, b) on every interval module is. As the number of bars [a, b]
is ``r(a,b) - r(a-1,b) - r(a,b+1) + r(a-1,b+1)``, which Frobenius' inequality says is non-negative, the
values V(a, b) are themselves the multipliers of the proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import Any

import numpy as np
import sympy as sp

from theory.rational import Matrix
from theory.statements import Clause, LinearForm, Statement

Interval = tuple[int, int]


@dataclass(frozen=True)
class Chain:
    """The chains that a statement speaks of.

    Attributes:
        paths: for each chain the names of its maps, the first applied first.
        places: dimension symbol -> the (path, position) pairs that have this dimension.
        constants: symbols that are no dimension of a chain: free integers.
    """

    paths: tuple[tuple[str, ...], ...]
    places: Mapping[sp.Symbol, tuple[tuple[int, int], ...]]
    constants: tuple[sp.Symbol, ...]


@dataclass(frozen=True)
class ChainForm:
    """A linear form in the r(i, j) of each path, integer constants and a constant.

    Attributes:
        values: for each path, V(a, b): the form's value on each interval module.
        symbols: coefficients of integer constants.
        constant: what is left.
    """

    values: tuple[dict[Interval, Fraction | int], ...]
    symbols: dict[sp.Symbol, Fraction]
    constant: Fraction


def _table(
    coefficients: Mapping[Interval, Fraction | int], n: int
) -> tuple[np.ndarray[Any, Any], int]:
    """V(a, b) times a common denominator (0 below the diagonal), and the denominator."""
    numbers: list[Any] = list(coefficients.values())
    scale = 1
    if any(type(c) is not int for c in numbers):
        scale = lcm(*(Fraction(c).denominator for c in numbers))
        numbers = [int(c * scale) for c in numbers]
    small = sum(map(abs, numbers)) < 2**62  # then no partial sum overflows int64
    table = np.zeros((n + 1, n + 1), dtype=np.int64 if small else object)
    if numbers:
        at = np.array(list(coefficients))
        table[at[:, 0], at[:, 1]] = np.array(numbers, dtype=table.dtype)
    table = np.cumsum(np.cumsum(table[::-1], axis=0)[::-1], axis=1)
    return np.triu(table), scale


def interval_values(
    coefficients: Mapping[Interval, Fraction | int], n: int
) -> dict[Interval, Fraction | int]:
    """V(a, b) for all 0 <= a <= b <= n, in O(n^2): sums of c(i, j) over a <= i <= j <= b.

    Args:
        coefficients: c(i, j) for 0 <= i <= j <= n; absent ones are 0.
        n: the number of maps.
    """
    table, scale = _table(coefficients, n)
    a, b = np.triu_indices(n + 1)
    values = table[a, b].tolist()
    if scale != 1:
        values = [Fraction(v, scale) for v in values]
    return dict(zip(zip(a.tolist(), b.tolist(), strict=True), values, strict=True))


@dataclass(frozen=True, eq=False)
class Decision:
    """Whether ``sum c(i, j) r(i, j) >= 0`` holds for all chains.

    Attributes:
        negative: the shortest interval on which the form is negative, or None: then it holds.
        table: V(a, b) times ``scale``, 0 below the diagonal.
        scale: the common denominator of the coefficients.
    """

    negative: Interval | None
    table: np.ndarray[Any, Any]
    scale: int

    def multipliers(self) -> dict[Interval, Fraction]:
        """The proof: (a, b) -> the positive multiplier of the number of bars [a, b]."""
        a, b = np.nonzero(self.table > 0)
        places = zip(a.tolist(), b.tolist(), strict=True)
        values = self.table[a, b].tolist()
        return {k: Fraction(int(v), self.scale) for k, v in zip(places, values, strict=True)}


def decide(coefficients: Mapping[Interval, Fraction | int], n: int) -> Decision:
    """Decide ``sum c(i, j) r(i, j) >= 0`` for all chains of n maps, in O(n^2)."""
    table, scale = _table(coefficients, n)
    a, b = np.nonzero(table < 0)
    negative = None
    if a.size:
        at = int(np.lexsort((a, b - a))[0])
        negative = (int(a[at]), int(b[at]))
    return Decision(negative, table, scale)


def words(form: LinearForm) -> Iterator[tuple[str, ...] | None]:
    """The products whose ranks a form speaks of, first applied first; None for anything else."""
    for _, m in form.ranks:
        factors = m.args if isinstance(m, sp.MatMul) else (m,)
        names = [f.name if isinstance(f, sp.MatrixSymbol) else None for f in factors]
        yield None if None in names else tuple(str(n) for n in reversed(names))


def read_chain(statement: Statement) -> Chain | None:
    """The chains of a statement; None if its terms are no products along simple paths."""
    if statement.equations or not statement.matrices:
        return None
    follows: dict[str, str] = {}
    seen: list[str] = []
    for clause in (*statement.goal, *statement.hypotheses):
        for inequality in clause:
            for word in words(inequality.form):
                if word is None or len(set(word)) != len(word):
                    return None
                seen.extend(x for x in word if x not in seen)
                for x, y in pairwise(word):
                    if follows.setdefault(x, y) != y:
                        return None
    if len(set(follows.values())) != len(follows):
        return None
    seen.extend(x for x in statement.matrices if x not in seen)  # maps named only by rows or cols
    paths: list[tuple[str, ...]] = []
    for start in seen:
        if start not in follows.values():
            line = [start]
            while line[-1] in follows:
                line.append(follows[line[-1]])
            paths.append(tuple(line))
    if sum(map(len, paths)) != len(seen):
        return None  # a cycle
    places: dict[sp.Symbol, list[tuple[int, int]]] = {}
    for p, path in enumerate(paths):
        sizes = [statement.matrices[path[0]][1], *(statement.matrices[x][0] for x in path)]
        for k, size in enumerate(sizes):
            if not isinstance(size, sp.Symbol):
                return None
            places.setdefault(size, []).append((p, k))
    constants = tuple(s for s in statement.dimensions if s not in places)
    return Chain(tuple(paths), {s: tuple(v) for s, v in places.items()}, constants)


def chain_form(chain: Chain, form: LinearForm) -> ChainForm | None:
    """A form over the chains; None if it has a term that is none of theirs (a product of sizes)."""
    coefficients: list[dict[Interval, Fraction]] = [{} for _ in chain.paths]
    symbols: dict[sp.Symbol, Fraction] = {}

    def put(p: int, interval: Interval, c: Fraction) -> None:
        coefficients[p][interval] = coefficients[p].get(interval, Fraction(0)) + c

    for (c, _), word in zip(form.ranks, words(form), strict=True):
        assert word is not None  # read_chain has refused other terms
        p = next(i for i, path in enumerate(chain.paths) if word[0] in path)
        first = chain.paths[p].index(word[0])
        put(p, (first, first + len(word)), c)
    for c, symbol in form.dims:
        if symbol in chain.places:
            p, k = chain.places[symbol][0]
            put(p, (k, k), c)
        elif isinstance(symbol, sp.Symbol):
            symbols[symbol] = symbols.get(symbol, Fraction(0)) + c
        else:
            return None
    values = tuple(
        interval_values(cs, len(path)) for cs, path in zip(coefficients, chain.paths, strict=True)
    )
    return ChainForm(values, symbols, form.constant)


def rectangles(
    multipliers: Mapping[Interval, Fraction],
) -> dict[tuple[int, int, int, int], Fraction]:
    """The same sum of bar counts with fewer terms.

    The bars [a, b] with ``first <= a <= last`` and b fixed add up to one Frobenius inequality,
    ``r(last,b) - r(first-1,b) - r(last,b+1) + r(first-1,b+1) >= 0``, and so do equal neighbours in b.

    Returns:
        ``(first, last, low, high)`` -> multiplier: a from first to last, b from low to high,
        last <= low.
    """
    open_: dict[tuple[int, int, Fraction], tuple[int, int]] = {}
    out: dict[tuple[int, int, int, int], Fraction] = {}

    def close(key: tuple[int, int, Fraction]) -> None:
        first, last, height = key
        place = (first, last, *open_.pop(key))
        out[place] = out.get(place, Fraction(0)) + height

    columns: dict[int, dict[int, Fraction]] = {}
    for (a, b), value in multipliers.items():
        columns.setdefault(b, {})[a] = value
    for b in sorted(columns):
        now = _strips(columns[b])
        for key in [k for k in open_ if k not in now or open_[k][1] != b - 1]:
            close(key)
        for key in now:
            open_[key] = (open_[key][0] if key in open_ else b, b)
    for key in list(open_):
        close(key)
    return out


def _strips(heights: Mapping[int, Fraction]) -> list[tuple[int, int, Fraction]]:
    """A histogram as horizontal strips (first, last, height), as few as a stack finds."""
    out: list[tuple[int, int, Fraction]] = []
    stack: list[tuple[int, Fraction]] = []  # start of a strip and the level that it rises to
    for a in range(min(heights), max(heights) + 2):
        height = heights.get(a, Fraction(0))
        start = a
        while stack and stack[-1][1] > height:
            start, level = stack.pop()
            floor = max(stack[-1][1] if stack else Fraction(0), height)
            out.append((start, a - 1, level - floor))
        if height > (stack[-1][1] if stack else 0):
            stack.append((start, height))
    return out


ClauseProof = tuple[int, tuple[str, ...], dict[Interval, Fraction]]


def prove_chain(statement: Statement) -> list[ClauseProof] | None:
    """For each conjunct of the goal: a disjunct, its chain and the multipliers that prove it.

    Returns None where some conjunct has no disjunct that is non-negative on every interval module, or
    where the goal is not about one chain. Hypotheses are not used: the expression prover uses them.
    """
    terms = [m for c in statement.goal for i in c for _, m in i.form.ranks]
    named = {str(s) for m in terms for s in m.atoms(sp.MatrixSymbol)}
    used = {name: shape for name, shape in statement.matrices.items() if name in named}
    chain = read_chain(replace(statement, hypotheses=(), equations=(), matrices=used))
    if chain is None or len(chain.paths) != 1:
        return None
    if any(len(v) > 1 for v in chain.places.values()):
        return None  # dimensions that must agree: the expression prover knows what that gives
    proofs = []
    for clause in statement.goal:
        proof = _prove_clause(chain, clause)
        if proof is None:
            return None
        proofs.append(proof)
    return proofs


def _prove_clause(chain: Chain, clause: Clause) -> ClauseProof | None:
    for index, inequality in enumerate(clause):
        form = chain_form(chain, inequality.form)
        if form is None or form.constant < 0 or form.symbols:
            continue
        values = form.values[0]
        if all(v >= 0 for v in values.values()):
            positive = {k: Fraction(v) for k, v in values.items() if v > 0}
            return index, chain.paths[0], positive
    return None


def realise(bars: Mapping[Interval, int], n: int) -> list[Matrix]:
    """0/1 matrices of a chain with these bars: map k sends each line to itself while its bar lasts.

    Args:
        bars: (a, b) -> how many lines are born at a and die after b, 0 <= a <= b <= n.
        n: the number of maps.

    Returns:
        n matrices; the k-th (from 0) has shape (dim V_{k+1}, dim V_k).
    """
    lines = [k for k in sorted(bars) for _ in range(bars[k])]
    alive: Sequence[list[int]] = [
        [x for x, (a, b) in enumerate(lines) if a <= i <= b] for i in range(n + 1)
    ]
    out = []
    for source, target in pairwise(alive):
        entries = tuple(tuple(int(x == y) for x in source) for y in target)
        out.append(Matrix(len(target), len(source), entries))
    return out
