"""Verdicts on the claims of the paper, computed from records and from nothing else.

A float rank enters a comparison by the end of its interval that cannot be a rounding artefact
(theory.md, 5.7). Verdicts: HOLDS, REFUTED (a claim that this measurement refutes: a finding),
UNDECIDED (intervals overlap, or nothing was measured that could decide), CONTRADICTED (a proved
statement and a number disagree: a defect here or in the theory, exit status 1).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from empirical.records import Record

HOLDS, REFUTED, UNDECIDED, CONTRADICTED = "HOLDS", "REFUTED", "UNDECIDED", "CONTRADICTED"

#: claim id -> (the claim in words, where the paper makes it or why it is here)
CLAIMS: dict[str, tuple[str, str]] = {
    "principle": (
        "Rank never grows with depth: exact rank along separator taps",
        "principle of rank diminishing (diminishing)",
    ),
    "structural-bound": (
        "No rank exceeds the bound that the architecture proves",
        "bottleneck, residual-loss, partial-drop and the layers' rank rules",
    ),
    "family-bound": (
        "A trained network's rank stays within its family's generic rank",
        "sandwich: what is lost below it is learned or numerical",
    ),
    "numerical-monotone": (
        "Numerical rank is non-increasing with depth",
        "the paper's curves; false in general (eps-monotone)",
    ),
    "rank-loss": (
        "Deep features keep less than half of the first tap's numerical rank",
        "the paper's main observation",
    ),
    "classification-dimension": (
        "Few principal components of the features keep 95 % of the accuracy",
        "classification dimension",
    ),
    "independence-deficit": (
        "Some class's logit is a combination of a few other logits",
        "independence deficit",
    ),
}

_RELATIVE = re.compile(r"relative\(([^()]*)\)$")
#: the paper's threshold for relative ranks
EPS = 1e-3


@dataclass(frozen=True)
class ClaimVerdict:
    """What the records say about one claim on one network.

    Attributes:
        claim: a key of ``CLAIMS``.
        model: the network.
        verdict: HOLDS, REFUTED, UNDECIDED or CONTRADICTED.
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


def judge(records: Iterable[Record]) -> tuple[ClaimVerdict, ...]:
    """Verdict of each claim on each network and image that the records speak of."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    by_model: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.measurement == "jacobian":
            groups[record.model, record.image].append(record)
        elif record.measurement in ("classification", "dependence"):
            by_model[record.model].append(record)
    verdicts: list[ClaimVerdict] = []
    for (model, image), group in groups.items():
        for claim, decide in _JACOBIAN.items():
            decided = decide(group)
            if decided is not None:
                verdict, why, tap = decided
                verdicts.append(ClaimVerdict(claim, model, verdict, why, tap, image))
    for model, group in by_model.items():
        verdicts += _classification(model, group) + _dependence(model, group)
    return tuple(verdicts)


def epsilon(notion: str) -> float | None:
    """The threshold of ``relative(eps)``, or None for another notion."""
    match = _RELATIVE.match(notion)
    return float(match.group(1)) if match and match.group(1) else None


def is_exact(record: Record) -> bool:
    """Whether the record is about the exact rank of J or of J P (float64 numbers included)."""
    return record.notion == "exact" or record.notion.startswith("partial")


def best_exact(records: Sequence[Record], tap: str) -> Record | None:
    """The best-known exact rank at a tap: proved before probable before measured."""
    order = ("proved", "proved for the recorded pattern", "probable", "measured")
    here = [r for r in records if r.tap == tap and is_exact(r) and r.low is not None]
    return min(here, key=lambda r: order.index(r.known), default=None)


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


Decision = tuple[str, str, str] | None


def _at(records: Iterable[Record], notion: str) -> dict[str, Record]:
    return {r.tap: r for r in records if r.notion == notion and r.value is not None}


def _ends(record: Record) -> tuple[float, float]:
    """The interval of a record; a float rank without one is only known from its value."""
    value = 0.0 if record.value is None else record.value
    low = value if record.low is None else record.low
    high = float("inf") if record.high is None else record.high
    return low, high


def _principle(records: Sequence[Record]) -> Decision:
    """Whether some later separator tap provably has more rank than an earlier one."""
    names = taps(records)
    known = [(tap, r) for tap in names if (r := best_exact(records, tap)) is not None]
    if len(known) < 2:
        return None
    bounds = structural(records)
    proved, seen = (float("inf"), ""), (float("inf"), "")
    doubt = ""
    for tap, record in known:
        low, high = _ends(record)
        if low > proved[0]:
            why = f"rank at least {low:g} at {tap}, proved at most {proved[0]:g} at {proved[1]}"
            return CONTRADICTED, why, tap
        if low > seen[0] and not doubt:
            doubt = f"float rank {low:g} at {tap} after {seen[0]:g} at {seen[1]}"
        certain = high if record.known.startswith("proved") else float("inf")
        if tap in bounds:
            certain = min(certain, bounds[tap].value or 0)
        proved = min(proved, (certain, tap))
        seen = min(seen, (high, tap))
    chain = " >= ".join(dict.fromkeys(f"{_ends(r)[0]:g}" for _, r in known))
    if doubt:
        return UNDECIDED, f"{doubt}; a float spectrum bounds no exact rank from above", known[-1][0]
    if all(r.low == r.high and r.known.startswith("proved") for _, r in known):
        how = max((r.known for _, r in known), key=len)
        return HOLDS, f"exact ranks {chain}, {how}", known[-1][0]
    return HOLDS, f"lower ends {chain}, none above an earlier upper end", known[-1][0]


def _structural(records: Sequence[Record]) -> Decision:
    """Every rank's lower end against the structural upper bound of its tap."""
    bounds = structural(records)
    if not bounds:
        return None
    count = tight = 0
    for record in records:
        bound = bounds.get(record.tap)
        if bound is None or record.value is None or record.notion == "structural":
            continue
        if not (is_exact(record) or epsilon(record.notion) is not None):
            continue
        low = _ends(record)[0]
        if low > (bound.value or 0):
            why = f"{record.notion} rank at least {low:g} above the proved bound {bound.value:g}"
            return CONTRADICTED, why, record.tap
        count += 1
        tight += is_exact(record) and low == bound.value
    if not count:
        return None
    return HOLDS, f"{count} ranks within their bounds, {tight} exact ranks meet them", "-"


def _family(records: Sequence[Record]) -> Decision:
    """Exact lower bounds against the family's rank (a probable upper bound)."""
    family = _at(records, "family(weights)")
    pairs = [
        (r, family[tap])
        for tap in taps(records, separators_only=False)
        if tap in family and (r := best_exact(records, tap)) is not None
    ]
    if not pairs:
        return None
    for record, bound in pairs:
        if _ends(record)[0] > (bound.value or 0):
            why = f"exact rank at least {_ends(record)[0]:g}, family rank {bound.value:g}"
            return CONTRADICTED, why, record.tap
    below = [(r, b) for r, b in pairs if r.high is not None and r.high < (b.value or 0)]
    if below:
        record, bound = below[0]
        why = (
            f"{record.tap}: rank {record.high:g} below the family's {bound.value:g}: not structural"
        )
        return HOLDS, why, record.tap
    return HOLDS, f"{len(pairs)} taps within the family's rank", "-"


def _monotone(records: Sequence[Record]) -> Decision:
    """Whether relative(EPS) rank surely grows between two consecutive separator taps."""
    curve = _curve(records)
    if len(curve) < 2:
        return None
    growth: list[tuple[float, str, str]] = []
    overlap = False
    for before, after in pairwise(curve):
        if _ends(after)[0] > _ends(before)[1]:
            jump = f"{before.value:g} at {before.tap}, then {after.value:g} at {after.tap}"
            growth.append((_ends(after)[0] - _ends(before)[1], jump, after.tap))
        overlap |= _ends(after)[1] > _ends(before)[0]
    if growth:
        _, jump, tap = max(growth)
        return REFUTED, f"relative({EPS:g}) rank grows: {jump} ({len(growth)} rises)", tap
    values = " .. ".join(dict.fromkeys(f"{r.value:g}" for r in curve))
    if overlap and any(r.low != r.high for r in curve):
        return UNDECIDED, f"intervals overlap: {values}", "-"
    return HOLDS, f"on this network: {values}", "-"


def _loss(records: Sequence[Record]) -> Decision:
    """Numerical rank of the pooled features (or the last block) against the first tap's."""
    curve = _curve(records)
    blocks = [r for r in curve if r.extra.get("kind") != "logits"] or curve[:-1]
    if len(blocks) < 2:
        return None
    first, last = blocks[0], blocks[-1]
    why = f"relative({EPS:g}) rank {first.value:g} at {first.tap}, {last.value:g} at {last.tap}"
    if 2 * _ends(last)[1] < _ends(first)[0]:
        return HOLDS, why, last.tap
    if 2 * _ends(last)[0] >= _ends(first)[1]:
        return REFUTED, why, last.tap
    return UNDECIDED, why, last.tap


def _curve(records: Sequence[Record]) -> list[Record]:
    chosen = [r for r in records if r.separator and epsilon(r.notion) == EPS]
    return sorted((r for r in chosen if r.value is not None), key=lambda r: r.tap_index)


_JACOBIAN: dict[str, Callable[[Sequence[Record]], Decision]] = {
    "principle": _principle,
    "structural-bound": _structural,
    "family-bound": _family,
    "numerical-monotone": _monotone,
    "rank-loss": _loss,
}


def _classification(model: str, records: Sequence[Record]) -> list[ClaimVerdict]:
    """Classification dimension against the feature width."""
    found = []
    for r in records:
        if not r.notion.startswith("classification") or r.value is None or not r.shape:
            continue
        width = r.shape[-1]
        why = f"{r.value:g} of {width} principal components"
        verdict = HOLDS if 2 * _ends(r)[1] <= width else REFUTED
        found.append(ClaimVerdict("classification-dimension", model, verdict, why, r.tap, r.image))
    return found


def _dependence(model: str, records: Sequence[Record]) -> list[ClaimVerdict]:
    """Independence deficit: how few logits carry another, and at what accuracy."""
    found = []
    for r in records:
        if r.measurement != "dependence" or "accuracy" not in r.extra or r.value is None:
            continue
        kept, full = float(r.extra["accuracy"]), float(r.extra.get("accuracy_original", 1.0))
        over = f"fitted on {r.settings.get('samples', 'all')} samples"
        why = f"class {r.extra.get('class', '?')} from {r.value:g} logits, {over}: "
        why += f"its accuracy {kept:.0%}, was {full:.0%}"
        verdict = HOLDS if kept >= 0.95 * full else REFUTED
        if not r.value:
            verdict, why = UNDECIDED, f"the penalty leaves no logit in, {over}"
        found.append(ClaimVerdict("independence-deficit", model, verdict, why, r.tap, r.image))
    return found
