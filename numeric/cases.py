"""A property as data, and the search that runs it outside pytest.

A :class:`Property` is a strategy and a check; :func:`search` runs it on a number of examples with a
seed, counts tight and strict cases, and keeps Hypothesis's smallest counterexample. Health checks
stay on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from hypothesis import Phase, Verbosity, given, reject, seed, settings
from hypothesis import strategies as st


@dataclass(frozen=True)
class Outcome:
    """What one example showed.

    Attributes:
        holds: whether the statement held; None when the example does not decide it (rejected).
        slack: how far from equality an inequality was (0 is tight), None for other statements.
        shown: the example as plain data, enough to replay it.
    """

    holds: bool | None
    slack: float | None
    shown: dict[str, Any]


@dataclass(frozen=True)
class Property:
    """A statement made testable.

    Attributes:
        id: catalogue id, with ``#false1`` and so on for a false variant.
        strategy: draws cases.
        check: turns a case into an :class:`Outcome`.
        inequality: whether both tight and strict cases must occur.
        most: examples beyond which the property learns nothing new (limit rows are costly and have
            few cases); None for no cap.
    """

    id: str
    strategy: st.SearchStrategy[Any]
    check: Callable[[Any], Outcome]
    inequality: bool
    most: int | None = None


def tag(row: str, variant: int | None) -> str:
    """The id of a row's property, or of the property of its false variant."""
    return row if variant is None else f"{row}#false{variant + 1}"


@dataclass(frozen=True)
class PropertyResult:
    """What a run of a property found.

    Attributes:
        id: catalogue id.
        examples: examples run, up to and including the first that failed.
        tight: how many had slack 0; strict: how many had positive slack (0 and 0 unless the row is
            an inequality).
        counterexample: plain data of the smallest failing example, or None.
        seconds: wall time.
    """

    id: str
    examples: int
    tight: int
    strict: int
    counterexample: dict[str, Any] | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


class _RefutedError(AssertionError):
    """The property failed on an example."""


@dataclass
class _Counts:
    examples: int = 0
    tight: int = 0
    strict: int = 0
    worst: dict[str, Any] | None = None
    ticks: Callable[[], None] = field(default=lambda: None)

    def add(self, outcome: Outcome) -> None:
        if self.worst is not None:  # shrinking: counts stand still
            if not outcome.holds:
                self.worst = outcome.shown
            return
        self.examples += 1
        self.ticks()
        if not outcome.holds:
            self.worst = outcome.shown
        elif outcome.slack is not None:
            self.tight += outcome.slack == 0
            self.strict += outcome.slack > 0


def outcomes(prop: Property, examples: int, number: int = 0) -> list[Outcome]:
    """Every outcome of a property on drawn cases, failures included: how often it is true."""
    seen: list[Outcome] = []

    @seed(number)
    @settings(max_examples=examples, database=None, deadline=None, phases=(Phase.generate,))
    @given(prop.strategy)
    def run(case: Any) -> None:
        outcome = prop.check(case)
        if outcome.holds is None:
            reject()
        seen.append(outcome)

    run()
    return seen


def search(
    prop: Property, examples: int, number: int = 0, tick: Callable[[], None] | None = None
) -> PropertyResult:
    """Run a property on ``examples`` drawn cases; on failure shrink to the smallest.

    Args:
        prop: the property.
        examples: how many cases to draw at most.
        number: the seed; the same seed gives the same cases.
        tick: called after every example (a progress bar).
    """
    counts = _Counts(ticks=tick or (lambda: None))
    many = examples if prop.most is None else min(examples, prop.most)

    @seed(number)
    @settings(
        max_examples=many,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        print_blob=False,
    )
    @given(prop.strategy)
    def run(case: Any) -> None:
        outcome = prop.check(case)
        if outcome.holds is None:
            reject()
        counts.add(outcome)
        if not outcome.holds:
            raise _RefutedError

    start = perf_counter()
    with suppress(_RefutedError):
        run()
    return PropertyResult(
        prop.id, counts.examples, counts.tight, counts.strict, counts.worst, perf_counter() - start
    )
