"""Expression DAGs: from a statement to a linear program over a pool of rank inequalities, and back.

The unknowns are multipliers of the pool's inequalities (``theory.pool``); the program asks that they
sum to the goal exactly (``theory.multipliers``). A failure means that the rules tried do not suffice,
never that the statement is false.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from theory.blocks import ONE, Algebra, Block, Key, identity, multiply, transpose
from theory.certificate_data import certificate, step_to_json
from theory.errors import UnsupportedError
from theory.growth import divide, grow, ingleton, shannon, telescope
from theory.multipliers import combine
from theory.pool import Pool, Step, step
from theory.problem import Form, Problem, problem

if TYPE_CHECKING:
    from theory.statements import Statement


def _with_transports(
    pool: Pool, goal: Form, steps: list[tuple[Fraction, Step]]
) -> list[tuple[Fraction, Step]]:
    """Steps over exact blocks: each block is carried to its canonical form where it differs."""
    moves: dict[tuple[Key, int], tuple[Fraction, Step]] = {}

    def move(block: Block, c: Fraction) -> None:
        sign = 1 if c > 0 else -1
        s = pool.transports(block, sign)
        if s is not None:
            key = (pool.algebra.key(block), sign)
            moves[key] = (moves.get(key, (Fraction(0), s))[0] + abs(c), s)

    net: dict[Key, Fraction] = {}
    example: dict[Key, Block] = {}
    for times, s in steps:
        for block, c in s.ranks:
            key = pool.algebra.key(block)
            net[key] = net.get(key, Fraction(0)) + times * c
            example[key] = block
    for block, c in goal.ranks:
        key = pool.algebra.key(block)
        net[key] = net.get(key, Fraction(0)) - c
        example[key] = block
    for key, c in net.items():
        # the pool's rows speak of canonical blocks; what the exact ones leave over is carried
        if c:
            move(example[key], c)
    return [*steps, *moves.values()]


def search(
    algebra: Algebra,
    goal: Form,
    hypotheses: Sequence[Form],
    *,
    deadline: float,
    transposes: bool = False,
) -> list[tuple[Fraction, Step]] | None:
    """Prove one inequality: grow the pool level by level until the program has a solution."""
    pool = Pool(algebra, transposes=transposes, deadline=deadline)
    terms = [block for block, _ in goal.ranks] + [b for h in hypotheses for b, _ in h.ranks]
    for block in terms:
        pool.term(block)
    for index, h in enumerate(hypotheses):
        pool.emit(Step("hypothesis", (), h.ranks, h.dims, index))
    dims = {d for pair in algebra.shapes.values() for d in pair}
    for name in sorted(d for d in dims if not d.isdigit()):
        pool.emit(Step("dimension", (), (), {name: Fraction(1)}))
    initial = [pool.canonical(b).block for b in terms]
    for level in range(5):
        if time.monotonic() > deadline:
            return None
        more = True
        if level == 0:
            _simple(pool, initial)
        elif level == 2:
            _letters(pool)
            _pairs(pool)
        elif level == 3:
            _stacks(pool)
        if level > 0:
            more = grow(pool, deadline)
            pool.frobenius(freely=level > 2)
        found = combine(pool, goal)
        if found is not None:
            return _with_transports(pool, goal, found)
        if not more and level > 2:
            return None
    return None


def _simple(pool: Pool, terms: list[Block]) -> None:
    """What needs no growth: sizes, residual blocks from either side, divisions."""
    for m in terms:
        for rule in ("rows", "columns"):
            pool.emit(step(rule, m))
        if len(m.rows) == len(m.cols) == 1:
            telescope(pool, m, 0)
            telescope(pool, m, -1)
    for m in list(pool.terms.values()):
        unit = identity(m.rows)
        if pool.algebra.key(m) == pool.algebra.key(unit):
            pool.emit(step("inverse", unit, unit))
    _divisions(pool, terms)


def _divisions(pool: Pool, terms: list[Block]) -> None:
    single = [b for b in terms if len(b.rows) == len(b.cols) == 1 and not b.is_zero()]
    for m in single:
        others = [o for o in single if o is not m and pool.algebra.key(o) != pool.algebra.key(m)]
        if len(m.cells[0][0]) > 1 and 0 < len(others) <= 6:
            try:
                divide(pool, m, others)
            except UnsupportedError:
                continue


def _letters(pool: Pool) -> None:
    """Where matrix hypotheses hold, each map is a term, since a product with it may simplify."""
    if pool.algebra.rules:
        for name, (height, width) in pool.algebra.shapes.items():
            if name not in pool.algebra.lets:
                letter = Block((height,), (width,), (({(name,): ONE},),))
                pool.term(letter)
                if pool.transposes:
                    pool.term(transpose(letter))


def _pairs(pool: Pool) -> None:
    """Products of two terms that vanish or are terms already."""
    for a in list(pool.terms.values()):
        for b in list(pool.terms.values()):
            if a.cols == b.rows and len(pool.terms) < pool.limit:
                try:
                    if pool.known(multiply(a, b)):
                        pool.fact(a, b)
                except UnsupportedError:
                    continue


def _stacks(pool: Pool) -> None:
    """Shannon's inequalities for the rows of stacks over one source."""
    groups: dict[tuple[str, ...], dict[Key, Block]] = {}
    for m in pool.terms.values():
        if len(m.rows) > 1:
            for i in range(len(m.rows)):
                row = Block((m.rows[i],), m.cols, (m.cells[i],))
                groups.setdefault(m.cols, {})[pool.algebra.key(row)] = row
    for rows in groups.values():
        if 2 <= len(rows) <= 5:
            shannon(pool, list(rows.values()))
        if 4 <= len(rows) <= 5:
            ingleton(pool, list(rows.values()))


def prove_problem(p: Problem, deadline: float) -> list[dict[str, Any]] | None:
    """A proof of every clause of the goal, each through one of its inequalities; None without."""
    blocks = [b for clause in p.goal for f in clause for b, _ in f.ranks]
    blocks += [b for h in p.hypotheses for b, _ in h.ranks] + list(p.vanishing)
    turned = any("'" in x for b in blocks for row in b.cells for c in row for w in c for x in w)
    clauses = []
    for clause in p.goal:
        for index, form in enumerate(clause):
            try:
                steps = search(p.algebra, form, p.hypotheses, deadline=deadline, transposes=turned)
            except TimeoutError:
                return None
            if steps is not None:
                clauses.append({"disjunct": index, "steps": [step_to_json(x, s) for x, s in steps]})
                break
        else:
            return None
    return clauses


def prove_dag(statement: Statement, timeout: float = 60.0) -> dict[str, Any] | None:
    """A certificate for a statement about any expressions, or None where the rules do not suffice.

    Args:
        statement: the statement; a product, sum, stack or transpose of maps may stand in a rank.
        timeout: seconds of search.

    Returns:
        A certificate that ``theory.certificates.check`` accepts, or None.

    Raises:
        UnsupportedError: an expression has no block form (Kronecker products, huge expansions).
    """
    p = problem(statement)
    clauses = prove_problem(p, time.monotonic() + timeout)
    return None if clauses is None else certificate(statement, p, clauses, "polymatroid")
