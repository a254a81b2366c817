"""Passes mod p: ranks of the recorded pattern with their bounds, and draws of a family."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from empirical.directions import with_random_weights
from empirical.engine import Engine
from empirical.fields import ModField, random_primes
from empirical.pattern import Choice, Kinks
from empirical.profile import Profile
from empirical.rounding import PatternCheck, check_pattern

if TYPE_CHECKING:
    from empirical.passes import Run

PATTERN = "proved for the recorded pattern"
ELEMENTS = "proved for the recorded element Jacobians"


def exact(run: Run) -> Profile:
    """Ranks mod random primes, the structural upper bound, and whether they meet.

    Once every lower bound meets its upper bound no further prime can change anything.
    """
    started = time.perf_counter()
    best: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    kinks, peak = Kinks(), 0
    patterns: set[int] = set()
    bounds: dict[str, tuple[int, str]] = {}
    seconds: dict[str, float] = {}
    for number, prime in enumerate(random_primes(run.primes, run.seed)):
        begun = time.perf_counter()
        engine = Engine(ModField(prime), structural=number == 0)
        results = run.ranks(engine, run.seed + number)
        for tap, rank, shape, _ in results:
            best[tap.name] = max(rank, best.get(tap.name, 0))
            shapes[tap.name] = shape
        if number == 0:
            kinks = engine.kinks
            active = {tap.name: units for tap, _, _, units in results}
            bounds = upper_bounds(run, active, kinks.choices)
        peak = max(peak, engine.peak)
        patterns |= engine.kinks.patterns
        seconds[str(prime)] = round(time.perf_counter() - begun, 3)
        if all(best[name] >= upper for name, (upper, _) in bounds.items()):
            break
    check = _check(run, kinks, patterns)
    took = time.perf_counter() - started
    records = []
    whole = ELEMENTS if kinks.points else "proved" if check.certified else PATTERN
    decided = check.certified or not (kinks.in_doubt or check.differs)
    for tap in run.taps:
        rank, (upper, why) = best[tap.name], bounds[tap.name]
        extra = {
            "upper": upper,
            "why": why,
            "seconds_a_prime": seconds,
            "pattern_certified": check.certified,
            "pattern": asdict(check),
            "element_jacobians_at_recorded_points": sorted(kinks.points),
            "kinks": kinks.units,
            "kinks_in_doubt": kinks.in_doubt,
            "smallest_relative_margin": kinks.margin if np.isfinite(kinks.margin) else None,
            "weights_as": "stored weights, batch norm folded as its float64 scale",
        }
        known = whole if rank == upper and decided else "probable"
        records.append(
            run.record(
                tap, shapes[tap.name], "exact", rank, took, low=rank, high=upper, known=known,
                dtype="mod p", extra=extra,
            )
        )  # fmt: skip
        records.append(
            run.record(
                tap, shapes[tap.name], "structural", upper, took, known=whole,
                dtype="structure", extra={"why": why},
            )
        )  # fmt: skip
    notes = [] if decided else [f"{kinks.in_doubt} kinks in doubt"]
    notes.append(f"pattern: {check.why}")
    return Profile(tuple(records), {}, peak, took, tuple(notes))


def _check(run: Run, kinks: Kinks, patterns: set[int]) -> PatternCheck:
    """Whether the pattern of the first pass is the true one, and all passes took it."""
    check = check_pattern(run.convert(torch.float64), run.image[None].to(run.device), kinks.choices)
    if len(patterns) > 1:
        check = replace(
            check,
            certified=False,
            why=f"not certified: float64 recorded {len(patterns)} patterns in as many passes",
        )
    run.say(f"pattern: {check.why}")
    return check


def upper_bounds(
    run: Run, active: dict[str, int], choices: Sequence[Choice]
) -> dict[str, tuple[int, str]]:
    """Smallest structural upper bound of each tap, and which one it is.

    The directions; the units of this and earlier separators that the patch reaches and the
    recorded pattern leaves active; the audit of the architecture.
    """
    from empirical.facts import facts
    from theory.audit import audit

    live = torch.zeros(run.image.shape, dtype=torch.bool)
    (y, x), p = run.request.corner, run.request.patch
    live[:, y : y + p if p else None, x : x + p if p else None] = True
    names = [tap.name for tap in run.taps if tap.separator]
    found = facts(
        run.model, tuple(run.image.shape), image=run.image, live=live, taps=names, choices=choices
    )
    audited = {
        bound.tap: bound.upper
        for bound in (audit(found, run.image.numel(), run.request.directions) if found else ())
    }
    best = (run.request.directions, f"{run.request.directions} directions")
    bounds = {}
    by_name = {tap.name: tap for tap in run.taps}
    for tap in (by_name[name] for name in active):  # in the order of the pass
        here = min(best, (active[tap.name], f"{active[tap.name]} active units at {tap.name}"))
        upper = audited.get(tap.name)
        if tap.separator and isinstance(upper, int):
            here = min(here, (upper, f"structural audit at {tap.name}"))
        if tap.separator:
            best = here
        bounds[tap.name] = here
    return bounds


def family(run: Run, kind: str) -> Profile:
    """The maximum over draws of a family's rank."""
    started = time.perf_counter()
    best: dict[str, tuple[int, tuple[int, ...]]] = {}
    primes = random_primes(run.primes, run.seed)
    peak, used = 0, []
    for number, prime in enumerate(primes):
        draw = run.seed * 7919 + number
        engine = Engine(ModField(prime), family=True, seed=draw)
        model = None
        if kind == "architecture":
            model = with_random_weights(run.model, draw).to(run.device)
        for tap, rank, shape, _ in run.ranks(engine, draw, model):
            best[tap.name] = (max(rank, best.get(tap.name, (-1, shape))[0]), shape)
        peak = max(peak, engine.peak)
        used.append(prime)
        if all(r >= min(run.request.directions, math.prod(s)) for r, s in best.values()):
            break  # no draw can exceed the directions or the width
    notion = "family(weights)" if kind == "family" else "architecture"
    took = time.perf_counter() - started
    records = tuple(
        run.record(
            tap, best[tap.name][1], notion, best[tap.name][0], took, known="probable",
            dtype="mod p", extra={"primes": used},
        )
        for tap in run.taps
    )  # fmt: skip
    return Profile(records, {}, peak, took)
