"""Expression DAGs: from a statement to a linear program over a pool of rank inequalities, and back.

The unknowns are multipliers of the pool's inequalities (``theory.pool``); the program asks that they
sum to the goal exactly. HiGHS finds them in floating point; they are then rounded, or solved again on
their support, in rational arithmetic, and the identity is checked exactly before a certificate is
written. A failure means that the rules tried do not suffice, never that the statement is false.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csc_matrix

from theory.blocks import ONE, Algebra, Block, Key, identity, multiply, to_json, transpose
from theory.chains import rectangles
from theory.errors import UnsupportedError
from theory.growth import divide, grow, ingleton, shannon, telescope
from theory.pool import Pool, Row, Step, step
from theory.problem import Form, Problem, problem

if TYPE_CHECKING:
    from theory.statements import Statement

Vector = dict[object, Fraction]


def combine(pool: Pool, goal: Form) -> list[tuple[Fraction, Step]] | None:
    """Multipliers of pool inequalities that sum to the goal; None where there are none.

    The steps include those that carry a block to its canonical form. What is left over is a
    non-negative constant.
    """
    target = _vector(pool, goal.ranks, goal.dims)
    constant = target.pop("", Fraction(0))
    if not target and constant >= 0:
        return _with_transports(pool, goal, [])
    names: set[object] = {name for row in pool.rows for name in (*row.ranks, *row.dims)} | set(
        target
    )
    names.discard("")
    index = {name: i for i, name in enumerate(sorted(names, key=str))}
    if not pool.rows:
        return None
    data, at, column = [], [], []
    for j, row in enumerate(pool.rows):
        entries: list[tuple[object, Fraction]] = [*row.ranks.items(), *row.dims.items()]
        for name, c in entries:
            if name != "":
                data.append(float(c))
                at.append(index[name])
                column.append(j)
    matrix = csc_matrix((data, (at, column)), shape=(len(index), len(pool.rows)))
    rhs = np.zeros(len(index))
    for name, c in target.items():
        rhs[index[name]] = float(c)
    constants = np.array([[float(row.dims.get("", 0)) for row in pool.rows]])
    cost = np.array([1.0 + 0.01 * len(row.ranks) for row in pool.rows])
    found = linprog(
        cost, A_ub=constants, b_ub=[float(constant)], A_eq=matrix, b_eq=rhs, method="highs",
        options={"time_limit": min(60.0, max(0.1, pool.deadline - time.monotonic()))},
    )  # fmt: skip
    if found.status != 0:
        return None
    support = [j for j, x in enumerate(found.x) if x > 1e-7]
    exact = [Fraction(float(found.x[j])).limit_denominator(5040) for j in support]
    if not _sums_to(pool.rows, support, exact, target, constant):
        solved = _solve([pool.rows[j] for j in support], target)
        if solved is None or not _sums_to(pool.rows, support, solved, target, constant):
            return None
        exact = solved
    return _with_transports(
        pool, goal, [(x, pool.rows[j].step) for x, j in zip(exact, support, strict=True) if x]
    )


def _vector(
    pool: Pool, ranks: Sequence[tuple[Block, Fraction | int]], dims: dict[str, Fraction]
) -> Vector:
    out: Vector = {name: c for name, c in dims.items() if c}
    for block, c in ranks:
        key = pool.term(block)
        out[key] = out.get(key, Fraction(0)) + c
    return {name: c for name, c in out.items() if c}


def _sums_to(
    rows: list[Row], support: list[int], times: list[Fraction], target: Vector, constant: Fraction
) -> bool:
    if any(x < 0 for x in times):
        return False
    left = dict(target)
    for j, x in zip(support, times, strict=True):
        for name, c in (*rows[j].ranks.items(), *rows[j].dims.items()):
            if name == "":
                constant -= x * c
            else:
                left[name] = left.get(name, Fraction(0)) - x * c
    return constant >= 0 and not any(left.values())


def _solve(rows: list[Row], target: Vector) -> list[Fraction] | None:
    """Exact multipliers on a support by Gaussian elimination; None where inconsistent."""
    names = {n for r in rows for n in (*r.ranks, *r.dims)} | set(target)
    names.discard("")
    system = []
    for name in names:
        line = [r.ranks.get(name, r.dims.get(name, Fraction(0))) for r in rows]  # type: ignore[call-overload]
        system.append([*line, target.get(name, Fraction(0))])
    pivots: list[int] = []
    for j in range(len(rows)):
        r = next((i for i in range(len(pivots), len(system)) if system[i][j]), None)
        if r is None:
            continue
        top = len(pivots)
        system[top], system[r] = system[r], system[top]
        system[top] = [x / system[top][j] for x in system[top]]
        for i in range(len(system)):
            if i != top and system[i][j]:
                f = system[i][j]
                system[i] = [x - f * y for x, y in zip(system[i], system[top], strict=True)]
        pivots.append(j)
    if any(line[-1] for line in system[len(pivots) :]):
        return None
    out = [Fraction(0)] * len(rows)
    for i, j in enumerate(pivots):
        out[j] = system[i][-1]
    return out


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


def step_to_json(times: Fraction, s: Step) -> dict[str, Any]:
    """A step of a certificate: rule, multiplier, matrices."""
    out: dict[str, Any] = {"rule": s.rule, "times": str(times)}
    if s.index >= 0:
        out["index"] = s.index
    if s.rule == "dimension":
        out["name"] = next(iter(s.dims))
    if s.blocks:
        out["matrices"] = [to_json(b) for b in s.blocks]
    return out


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
            return found
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


def certificate(
    statement: Statement, p: Problem, clauses: list[dict[str, Any]], kind: str
) -> dict[str, Any]:
    """The JSON data of a proof: the statement, the problem in block form, the steps."""
    return {
        "schema": 1,
        "kind": kind,
        "statement": statement.to_json(),
        "problem": p.to_json(),
        "clauses": clauses,
    }


def chain_certificate(
    statement: Statement,
    clauses: Sequence[tuple[int, Sequence[str], Mapping[tuple[int, int], Fraction]]],
) -> dict[str, Any]:
    """A certificate from the multipliers of a chain's interval inequalities.

    Args:
        statement: the statement about one chain.
        clauses: for each clause of the goal the inequality proved, the maps with the first applied
            first, and the multiplier of each interval ``(i, j)``, ``0 <= i <= j <= n``: it stands for
            ``r(i,j) - r(i-1,j) - r(i,j+1) + r(i-1,j+1) >= 0``, terms outside the chain being 0.

    Returns:
        A certificate in the format of ``prove_dag``.
    """
    p = problem(statement)
    out = []
    for disjunct, maps, multipliers in clauses:
        shapes = [p.maps[name] for name in maps]
        sizes = [shapes[0][1], *(s[0] for s in shapes)]

        def word(i: int, j: int, maps: Sequence[str] = maps, d: Sequence[str] = sizes) -> Block:
            return Block(
                (d[j],), (d[i],), (({tuple(maps[k] for k in range(j - 1, i - 1, -1)): ONE},),)
            )

        steps: list[tuple[Fraction, Step]] = []
        for (a, i, j, b), times in rectangles(multipliers).items():
            middle, first, last = word(i, j), a > 0, b < len(maps)
            before = word(a - 1, i) if first else identity(middle.cols)
            after = word(j, b + 1) if last else identity(middle.rows)
            if first and last:
                s = step("frobenius", after, middle, before)
            elif first or last:
                s = step("product", after, middle, before)
            else:
                s = step("positive", middle)
            steps.append((times, s))
        # rank of an identity is its size: carry the balance the right way
        for d, unit in ((d, identity((d,))) for d in dict.fromkeys(sizes)):
            net = sum((x * c for x, s in steps for b, c in s.ranks if _is_unit(b, d)), Fraction(0))
            if net > 0:
                steps.append((net, step("rows", unit)))
            elif net < 0:
                steps.append((-net, step("inverse", unit, unit)))
        out.append({"disjunct": disjunct, "steps": [step_to_json(x, s) for x, s in steps]})
    return certificate(statement, p, out, "chain")


def _is_unit(b: Block, d: str) -> bool:
    return b.rows == b.cols == (d,) and set(b.cells[0][0]) == {()}
