"""Counterexamples: by one integer program for chains, by a search over small matrices for the rest."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import lcm

import numpy as np
import sympy as sp
from scipy.optimize import Bounds, LinearConstraint, milp

from theory.chains import Chain, ChainForm, Interval, chain_form, read_chain, realise
from theory.evaluate import bind
from theory.rational import Matrix
from theory.sample import sample_matrices
from theory.statements import Statement
from theory.tolerance import sample_monomial
from theory.witness import Witness, shrink, violates

MAX_DIM = 4
_MAX_MAPS = 40  # beyond this the integer program is replaced by the single negative interval


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        witness: the counterexample, or None.
        tried: how many assignments of matrices were evaluated (with hypotheses that held).
    """

    witness: Witness | None
    tried: int


def refute_chain(
    statement: Statement,
    *,
    positive: bool = False,
    dims: int | None = None,
    deadline: float = math.inf,
) -> Witness | None:
    """A counterexample to a statement about chains, by an integer program over bar multiplicities.

    All disjuncts of one conjunct are violated together, so a disjunction that no single interval
    refutes is refuted too.

    Args:
        statement: a statement whose ranks are of products along simple paths.
        positive: whether every dimension must be at least 1.
        dims: a value that every dimension must have.
        deadline: ``time.monotonic()`` at which to stop.

    Returns:
        A witness with 0/1 matrices of the smallest total dimension, or None: the statement is not
        about chains, or no chain (with these dimensions) violates it.
    """
    chain = read_chain(statement)
    if chain is None or sum(map(len, chain.paths)) > _MAX_MAPS:
        return None
    best: Witness | None = None
    hypotheses = [[chain_form(chain, i.form) for i in c] for c in statement.hypotheses]
    for clause in statement.goal:
        for choice in product(*hypotheses):
            goal = [chain_form(chain, i.form) for i in clause]
            forms = [f for f in (*goal, *choice) if f is not None]
            if len(forms) < len(goal) + len(choice):
                return None
            left = min(10.0, deadline - time.monotonic())
            if left <= 0:
                return best
            found = _program(chain, forms[: len(goal)], forms[len(goal) :], positive, dims, left)
            if found is None or not violates(statement, found):
                continue
            if best is None or found.size() < best.size():
                best = found
    return best


def _program(
    chain: Chain,
    goal: Sequence[ChainForm],
    assumed: Sequence[ChainForm],
    positive: bool,
    dims: int | None,
    seconds: float,
) -> Witness | None:
    intervals: list[tuple[int, Interval]] = [
        (p, (a, b))
        for p, path in enumerate(chain.paths)
        for a in range(len(path) + 1)
        for b in range(a, len(path) + 1)
    ]
    columns = len(intervals) + len(chain.constants)
    lines: list[np.ndarray] = []
    lower: list[float] = []
    upper: list[float] = []

    def put(line: np.ndarray, low: float, high: float) -> None:
        lines.append(line)
        lower.append(low)
        upper.append(high)

    def line_of(form: ChainForm) -> tuple[np.ndarray, int]:
        values = [Fraction(form.values[p][k]) for p, k in intervals]
        values += [form.symbols.get(s, Fraction(0)) for s in chain.constants]
        scale = lcm(form.constant.denominator, *(v.denominator for v in values))
        return np.array([int(v * scale) for v in values], dtype=float), int(form.constant * scale)

    for form in goal:
        line, constant = line_of(form)
        put(line, -np.inf, -1 - constant)
    for form in assumed:
        line, constant = line_of(form)
        put(line, -constant, np.inf)
    for places in chain.places.values():
        rows = []
        for p, k in places:
            rows.append(np.zeros(columns))
            for x, (q, (a, b)) in enumerate(intervals):
                if p == q and a <= k <= b:
                    rows[-1][x] = 1.0
        for other in rows[1:]:
            put(rows[0] - other, 0.0, 0.0)
        if dims is not None:
            put(rows[0], float(dims), float(dims))
        elif positive:
            put(rows[0], 1.0, np.inf)
    cost = np.array([1.0 + b - a for _, (a, b) in intervals] + [1.0] * len(chain.constants))
    solved = milp(
        cost,
        constraints=LinearConstraint(np.array(lines), lower, upper),
        integrality=np.ones(columns),
        bounds=Bounds(0, np.inf),
        options={"time_limit": seconds},
    )
    if solved.x is None:
        return None
    counts = [round(x) for x in solved.x]
    matrices: dict[str, Matrix] = {}
    for p, path in enumerate(chain.paths):
        bars = {k: n for (q, k), n in zip(intervals, counts, strict=False) if q == p and n}
        matrices.update(zip(path, realise(bars, len(path)), strict=True))
    values = dict(zip((s.name for s in chain.constants), counts[len(intervals) :], strict=True))
    return Witness(matrices, values)


def refute_interval(statement: Statement) -> Witness | None:
    """The quick counterexample for long chains: copies of one interval on which a conjunct is negative."""
    chain = read_chain(statement)
    if chain is None or len(chain.paths) != 1 or statement.hypotheses:
        return None
    n = len(chain.paths[0])
    for clause in statement.goal:
        if len(clause) != 1:
            continue
        form = chain_form(chain, clause[0].form)
        if form is None or form.symbols:
            continue
        negative = [k for k, v in form.values[0].items() if v < 0]
        if form.constant < 0:
            bars: dict[Interval, int] = {}
        elif negative:
            worst = min(negative, key=lambda k: (k[1] - k[0], k))
            bars = {worst: int(form.constant / -Fraction(form.values[0][worst])) + 1}
        else:
            continue
        found = Witness(dict(zip(chain.paths[0], realise(bars, n), strict=True)), {})
        if violates(statement, found):
            return found
    return None


Sampler = Callable[[Statement, Mapping[sp.Symbol, int], random.Random], dict[str, Matrix] | None]


def search(
    statement: Statement,
    *,
    deadline: float,
    tries: int,
    seed: int = 0,
    positive: bool = False,
    dims: int | None = None,
) -> Search:
    """Look for a counterexample among small integer and rational matrices, then shrink it.

    Args:
        statement: any statement.
        deadline: ``time.monotonic()`` at which to stop.
        tries: how many assignments to try at most.
        seed: of the random matrices.
        positive: whether every dimension must be at least 1.
        dims: a value that every dimension must have; then the witness keeps it.
    """
    if statement.notion.name in ("exact", "partial"):
        sampler: Sampler = sample_matrices
    elif statement.notion.name in ("relative", "absolute"):
        sampler = sample_monomial  # where these ranks are counted exactly
    else:
        return Search(None, 0)
    rng = random.Random(seed)
    tried = 0
    own = _own_dimensions(statement)
    sides = [s for s in statement.dimensions if s not in own]
    for k in range(tries):
        if k % 16 == 0 and time.monotonic() > deadline:
            break
        most = 1 + min(MAX_DIM - 1, int(k**0.5) % 4 if k > 40 else k // 14)
        values = {
            s: rng.randint(0 if rng.random() < 0.3 else 1, most) for s in statement.dimensions
        }
        if rng.random() < 0.3 and values:  # square cases matter and are rare by chance
            values = dict.fromkeys(values, rng.randint(1, most))
        values |= dict.fromkeys(sides, dims) if dims is not None else {}
        matrices = sampler(statement, values, rng)
        if matrices is None:
            continue
        if positive and not all(m.rows and m.cols for m in matrices.values()):
            continue
        tried += 1
        witness = Witness(matrices, {s.name: values[s] for s in own})
        if violates(statement, witness):
            small = shrink(statement, witness, positive=positive, dims=dims)
            if dims is None:
                small, more = _smaller(statement, small, sampler, rng, positive=positive)
                tried += more
            return Search(small, tried)
    return Search(None, tried)


def _smaller(
    statement: Statement, witness: Witness, sampler: Sampler, rng: random.Random, *, positive: bool
) -> tuple[Witness, int]:
    """Look below a witness: shrinking drops basis vectors one by one, a fresh draw can drop more."""
    tried, since, own = 0, 0, _own_dimensions(statement)
    while since < 60:
        since += 1
        shapes = {n: (m.rows, m.cols) for n, m in witness.matrices.items()}
        bounds = bind(statement, shapes, witness.dims)
        values = {s: rng.randint(min(1, top), top) for s, top in bounds.items()}
        if sum(values.values()) >= sum(bounds.values()):
            continue
        matrices = sampler(statement, values, rng)
        if matrices is None:
            continue
        tried += 1
        found = Witness(matrices, {s.name: values[s] for s in own})
        if found.size() < witness.size() and violates(statement, found):
            witness, since = shrink(statement, found, positive=positive), 0
    return witness, tried


def _own_dimensions(statement: Statement) -> list[sp.Symbol]:
    """The symbols whose value no matrix fixes by being one of its sides."""
    fixed = {s for pair in statement.matrices.values() for s in pair if isinstance(s, sp.Symbol)}
    return [s for s in statement.dimensions if s not in fixed]
