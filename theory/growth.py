"""Growing the pool: from the terms of a statement to instances of the rules about their parts.

Terms are factored and split (``theory.factors``), residual blocks telescope, one term is divided by
others, and block rows over one source satisfy Shannon's inequalities.
"""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import combinations
from itertools import product as cartesian

from theory.blocks import (
    ONE,
    Algebra,
    Block,
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
from theory.factors import factors, fold, right_inverse, sums, vanishes
from theory.pool import Pool, mirror, step


def grow(pool: Pool, deadline: float) -> bool:
    """Take apart every term that has not been; False where there was none or no room."""
    todo = [k for k in pool.terms if k not in pool.done]
    for k in todo:
        if len(pool.terms) > pool.limit or time.monotonic() > deadline:
            return False
        pool.done.add(k)
        m = pool.terms[k]
        try:
            take_apart(pool, m)
        except UnsupportedError:
            continue
    return bool(todo)


def take_apart(pool: Pool, m: Block) -> None:
    """Emit what the shape, the factors and the summands of a term say about its rank."""
    for rule in ("rows", "columns", "positive"):
        pool.emit(step(rule, m))
    inverse = right_inverse(m)
    if inverse is not None:
        pool.emit(step("inverse", m, inverse))
    if pool.transposes:
        flat = pool.algebra.unfold(m)
        turned = transpose(flat)
        pool.emit(step("transpose", flat))
        pool.emit(step("transpose", turned))
    for left, right in factors(pool.algebra, m):
        pool.fact(left, right)
    for a, b in sums(pool.algebra, m):
        pool.split(a, b)
    many_rows, many_cols = len(m.rows) > 1, len(m.cols) > 1
    for i in range(len(m.rows) if many_rows else 0):
        rest = [r for r in range(len(m.rows)) if r != i]
        for keep in ([i], rest):
            pool.fact(select(m.rows, keep), m)
    for j in range(len(m.cols) if many_cols else 0):
        rest = [c for c in range(len(m.cols)) if c != j]
        for keep in ([j], rest):
            pool.fact(m, mirror(select(m.cols, keep)))
    for i, j in cartesian(range(1, len(m.rows)), range(1, len(m.cols))):
        if vanishes(m, slice(0, i), slice(j, None)) and vanishes(m, slice(i, None), slice(0, j)):
            top = select(m.rows, list(range(i)))
            right = mirror(select(m.cols, list(range(j, len(m.cols)))))
            pool.emit(step("frobenius", top, m, right))


def telescope(pool: Pool, m: Block, side: int) -> None:
    """Split ``(I+G)*w`` into ``w + G*w``, then ``w`` again, from the left or the right."""
    while len(m.cells[0][0]) == 1:
        ((word, c),) = m.cells[0][0].items()
        subwords(pool, m)
        if not word or () not in pool.algebra.lets.get(word[side], {}):
            return
        value = pool.algebra.lets[word[side]]
        before, after = ((), word[1:]) if side == 0 else (word[:-1], ())
        parts = {w: {before + w + after: c * d} for w, d in value.items()}
        rest = {w: d for v, p in parts.items() if v for w, d in p.items()}
        one, other = (Block(m.rows, m.cols, ((p,),)) for p in (parts[()], rest))
        pool.split(one, other)
        subwords(pool, other)
        m = one


def subwords(pool: Pool, m: Block) -> None:
    """A word has at most the rank of each of its letters, and of each term inside it."""
    if len(m.cells[0][0]) != 1:
        return
    ((word, c),) = m.cells[0][0].items()
    n = len(word)
    for i in range(n):
        for j in range(i + 1, n + 1):
            if (i, j) == (0, n):
                continue
            rows, cols = (pool.algebra.side(word[i], 0),), (pool.algebra.side(word[j - 1], 1),)
            inner = Block(rows, cols, (({word[i:j]: ONE},),))
            if j == i + 1 or pool.known(inner):
                left = Block(m.rows, rows, (({word[:i]: c},),))
                pool.emit(step("product", left, inner, Block(cols, m.cols, (({word[j:]: ONE},),))))


def divide(pool: Pool, m: Block, others: list[Block]) -> None:
    """Write ``m = sum(u * other * v)`` where that succeeds, and emit the sums and products."""
    target = pool.algebra.unfold_poly(m.cells[0][0])
    polys = [pool.algebra.unfold_poly(o.cells[0][0]) for o in others]
    choices = [[w for w, c in p.items() if w and abs(c) == 1][:4] for p in polys]
    if not all(choices):
        return
    for count, leads in enumerate(cartesian(*choices)):
        if count >= 64:
            return
        parts = division(pool.algebra, target, list(zip(polys, leads, strict=True)))
        if parts is None or len(parts) < 2:
            continue
        pieces = []
        for index, u, v, c in parts:
            o = others[index]
            left = Block((m.rows[0],), o.rows, (({u: c},),))
            right = Block(o.cols, (m.cols[0],), (({v: ONE},),))
            pool.emit(step("product", left, o, right))
            pieces.append(multiply(multiply(left, o), right))
        partial = pieces[0]
        for piece in pieces[1:]:
            pool.emit(step("sum", partial, piece))
            partial = add(partial, piece)
        pool.term(partial)
        return


def division(
    algebra: Algebra, target: Poly, divisors: list[tuple[Poly, tuple[str, ...]]]
) -> list[tuple[int, tuple[str, ...], tuple[str, ...], Fraction]] | None:
    """Divide a polynomial by others with given leading words: quotients, or None with a rest."""
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
        rest = algebra.unfold_poly({w: d for w, d in rest.items() if d})
    return None


def shannon(pool: Pool, signals: list[Block]) -> None:
    """Elemental inequalities h(S+i) + h(S+j) >= h(S+i+j) + h(S) for rows over one source."""
    n = len(signals)
    for mask in range(1 << n):
        base = [signals[k] for k in range(n) if mask >> k & 1]
        outside = [k for k in range(n) if not mask >> k & 1]
        for a, i in enumerate(outside):
            for j in outside[a + 1 :]:
                x, y = fold(vstack, [*base, signals[i]]), fold(vstack, [*base, signals[j]])
                submodular(pool, x, y, len(fold(vstack, base).rows) if base else 0)


def ingleton(pool: Pool, signals: list[Block]) -> None:
    """Ingleton's inequality for every choice of the first pair among four rows over one source."""
    for four in combinations(signals, 4):
        for a, b in combinations(four, 2):
            rest = [s for s in four if s is not a and s is not b]
            pool.emit(step("ingleton", fold(vstack, [a, b, *rest])))


def submodular(pool: Pool, x: Block, y: Block, common: int) -> None:
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
    pool.emit(step("frobenius", outer, both, vstack(unit, unit)))
    pool.emit(
        step(
            "product",
            identity(p.rows),
            multiply(outer, both),
            vstack(unit, scale(unit, Fraction(0))),
        )
    )
    above = vstack(hstack(x, zero(x.rows, y.cols)), zero(y.rows, both.cols))
    pool.emit(step("sum", above, add(both, above, -1)))
