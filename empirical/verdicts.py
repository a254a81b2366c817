"""The words of a verdict, and how ranks are read from records before they are compared.

A float rank enters a comparison by the end of its interval that cannot be a rounding artefact
(theory.md, 5.7). The words: PROVED; CONFIRMED (within the stated error); VIOLATED (a claim that the
measurement refutes, with the tap: a finding); NOT DECIDABLE (at this precision); NOT APPLICABLE
(with the reason); CONTRADICTED (a proved statement and a number disagree: a defect here or in the
theory, exit status 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from empirical.records import KNOWN, Record

PROVED, CONFIRMED, VIOLATED = "PROVED", "CONFIRMED", "VIOLATED"
UNDECIDED, INAPPLICABLE, CONTRADICTED = "NOT DECIDABLE", "NOT APPLICABLE", "CONTRADICTED"
#: what a network's verdict is when its images differ: the first of these that occurs
PRECEDENCE = (CONTRADICTED, VIOLATED, UNDECIDED, CONFIRMED, PROVED, INAPPLICABLE)

#: the paper's threshold for relative ranks
EPS = 1e-3
_RELATIVE = re.compile(r"relative\(([^()]*)\)$")

#: (verdict, the numbers that decide it, the tap), or None where the records do not speak of it
Decision = tuple[str, str, str] | None


@dataclass(frozen=True)
class ClaimVerdict:
    """What the records say about one claim on one network.

    Attributes:
        claim: a key of ``sandwich.CLAIMS``.
        model: the network.
        verdict: one of the words above.
        why: the numbers that decide it.
        tap: where it is decided, or ``-``.
        image: the image's hash, or ``-``.
    """

    claim: str
    model: str
    verdict: str
    why: str
    tap: str = "-"
    image: str = "-"

    @property
    def failure(self) -> bool:
        """Whether the verdict means that something proved is contradicted."""
        return self.verdict == CONTRADICTED

    @property
    def css(self) -> str:
        """The verdict as a class name of the page."""
        return self.verdict.replace(" ", "-")


def by_model(verdicts: Iterable[ClaimVerdict]) -> tuple[ClaimVerdict, ...]:
    """One verdict a claim and network: the first of ``PRECEDENCE`` among its images, and how many."""
    groups: dict[tuple[str, str], list[ClaimVerdict]] = {}
    for v in verdicts:
        groups.setdefault((v.claim, v.model), []).append(v)
    found = []
    for group in groups.values():
        first = min(group, key=lambda v: PRECEDENCE.index(v.verdict))
        same = sum(v.verdict == first.verdict for v in group)
        share = f" ({same} of {len(group)} cases)" if len(group) > 1 else ""
        found.append(replace(first, why=first.why + share))
    return tuple(found)


def epsilon(notion: str) -> float | None:
    """The threshold of ``relative(eps)``, or None for another notion."""
    match = _RELATIVE.match(notion)
    return float(match.group(1)) if match and match.group(1) else None


def is_exact(record: Record) -> bool:
    """Whether the record is about the exact rank of J or of J P (float64 numbers included)."""
    return record.notion == "exact" or record.notion.startswith("partial")


def best_exact(records: Sequence[Record], tap: str) -> Record | None:
    """The best-known exact rank at a tap: proved before probable before measured."""
    here = [r for r in records if r.tap == tap and is_exact(r) and r.low is not None]
    return min(here, key=lambda r: KNOWN.index(r.known), default=None)


def structural(records: Iterable[Record]) -> dict[str, Record]:
    """The smallest structural upper bound of each tap."""
    best: dict[str, Record] = {}
    for record in records:
        if record.notion == "structural" and record.value is not None:
            old = best.get(record.tap)
            if old is None or record.value < (old.value or 0):
                best[record.tap] = record
    return best


def taps(records: Iterable[Record], separators_only: bool = True) -> list[str]:
    """Tap names in forward order."""
    found = {r.tap: r.tap_index for r in records if r.separator or not separators_only}
    return sorted(found, key=lambda tap: found[tap])


def ends(record: Record) -> tuple[float, float]:
    """The interval of a record; a float rank without one is only known from its value."""
    value = 0.0 if record.value is None else record.value
    low = value if record.low is None else record.low
    high = float("inf") if record.high is None else record.high
    return low, high


def with_families(groups: Mapping[tuple[str, str], list[Record]]) -> None:
    """Lend a network's family ranks to its images that have none, in place.

    A family contains every input (theory.md, section 2): drawn at one image it bounds them all, as
    long as the same directions vary.
    """
    lent: dict[str, list[Record]] = {}
    for (model, _), group in groups.items():
        drawn = [r for r in group if r.notion.startswith("family")]
        lent.setdefault(model, drawn)
    for (model, _), group in groups.items():
        if not any(r.notion.startswith("family") for r in group) and group:
            group += [r for r in lent[model] if r.directions == group[0].directions]
