"""Verdicts on the claims of the paper, computed from records and from nothing else.

The claims about the Jacobian's rank at one image are judged here; those about data sets, tokens and
spectra in ``empirical.study_claims``. The words are those of ``empirical.verdicts``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from empirical import study_claims
from empirical.records import Record
from empirical.verdicts import (
    CONFIRMED,
    CONTRADICTED,
    EPS,
    INAPPLICABLE,
    PROVED,
    UNDECIDED,
    VIOLATED,
    ClaimVerdict,
    Decision,
    best_exact,
    ends,
    epsilon,
    is_exact,
    structural,
    taps,
    with_families,
)

#: claim id -> (the claim in words, where the paper makes it or why it is here)
CLAIMS: dict[str, tuple[str, str]] = {
    "principle": (
        "Rank never grows with depth: exact rank along separator taps",
        "principle of rank diminishing (diminishing)",
    ),
    "exact-loss": (
        "Exact rank itself, not only its numerical shadow, falls before the logits",
        "structural impetus; piecewise-linear networks only",
    ),
    "structural-bound": (
        "No rank exceeds the bound that the architecture proves",
        "bottleneck, residual-loss, partial-drop and the layers' rank rules",
    ),
    "family-bound": (
        "A trained network's rank stays within its family's generic rank",
        "sandwich: what is lost below it is learned or numerical",
    ),
    "catalogue-bounds": (
        "Every bound of the catalogue that applies holds on what was measured",
        "chain, residual, partial and spectral rows of the catalogue",
    ),
    "numerical-monotone": (
        "Numerical rank is non-increasing with depth",
        "the paper's curves; false in general (eps-monotone)",
    ),
    "rank-loss": (
        "Deep features keep less than half of the first tap's numerical rank",
        "the paper's main observation",
    ),
    "centralisation": (
        "The spectrum concentrates: the last block's effective rank is below the first tap's",
        "implicit impetus (spectrum centralisation)",
    ),
    "exponential-collapse": (
        "Singular values part with depth at the rate of Gaussian layers of the same widths",
        "implicit impetus (gaussian-exponents)",
    ),
    "token-collapse": (
        "Attention without skips drives the tokens together, and the skips prevent it",
        "token-collapse (Dong et al. 2021)",
    ),
    "pca-dimension": (
        "The perturbed PCA dimension falls with depth",
        "the paper's second estimate of intrinsic dimension",
    ),
    "classification-dimension": (
        "Few principal components of the features keep 95 % of the accuracy",
        "classification dimension",
    ),
    "independence-deficit": (
        "Some class's logit is a combination of a few other logits on its own images",
        "independence deficit, w = 20",
    ),
    "independence-deficit-all": (
        "Half of the other logits or fewer explain 95 % of some logit over all images",
        "independence deficit, the stronger question",
    ),
}


def judge(records: Iterable[Record]) -> tuple[ClaimVerdict, ...]:
    """Verdict of each claim on each network and image that the records speak of."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    by_network: dict[str, list[Record]] = defaultdict(list)
    scopes: list[Record] = []
    for record in records:
        if record.measurement == "jacobian":
            groups[record.model, record.image].append(record)
        elif record.measurement == "scope":
            scopes.append(record)
        elif record.measurement in study_claims.MEASUREMENTS:
            by_network[record.model].append(record)
    with_families(groups)
    verdicts: list[ClaimVerdict] = []
    for (model, image), group in groups.items():
        for claim, decide in _JACOBIAN.items():
            decided = decide(group)
            if decided is not None:
                verdict, why, tap = decided
                verdicts.append(ClaimVerdict(claim, model, verdict, why, tap, image))
    for model, group in by_network.items():
        verdicts += study_claims.judge(model, group)
    decided_already = {(v.claim, v.model) for v in verdicts}
    for r in scopes:
        claim = str(r.settings["claim"])
        if (claim, r.model) not in decided_already:
            verdicts.append(ClaimVerdict(claim, r.model, INAPPLICABLE, str(r.extra["why"])))
    return tuple(verdicts)


def _at(records: Iterable[Record], notion: str) -> dict[str, Record]:
    return {r.tap: r for r in records if r.notion == notion and r.value is not None}


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
        low, high = ends(record)
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
    chain = " >= ".join(dict.fromkeys(f"{ends(r)[0]:g}" for _, r in known))
    if doubt:
        return UNDECIDED, f"{doubt}; a float spectrum bounds no exact rank from above", known[-1][0]
    if all(r.low == r.high and r.known.startswith("proved") for _, r in known):
        how = max((r.known for _, r in known), key=len)
        return PROVED, f"exact ranks {chain}, {how}", known[-1][0]
    return CONFIRMED, f"lower ends {chain}, none above an earlier upper end", known[-1][0]


def _exact_loss(records: Sequence[Record]) -> Decision:
    """Exact rank at the last tap before the logits against the first tap's, both proved."""
    chosen = [
        r
        for tap in taps(records)
        if (r := best_exact(records, tap)) is not None
        and r.known != "measured"
        and r.extra.get("kind") != "logits"
    ]
    if len(chosen) < 2:
        return None
    first, last = chosen[0], chosen[-1]
    low, high = ends(last)
    why = f"exact rank {first.low:g} at {first.tap}, {last.value:g} at {last.tap}, {last.known}"
    if high < (first.low or 0):
        fell = next(r for r in chosen if ends(r)[1] < (first.low or 0))
        return PROVED, f"{why}; below the first tap from {fell.tap} on", last.tap
    if low >= ends(first)[1]:
        return VIOLATED, f"{why}: nothing is lost", last.tap
    return UNDECIDED, f"{why}: the upper end is not proved", last.tap


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
        low = ends(record)[0]
        if low > (bound.value or 0):
            why = f"{record.notion} rank at least {low:g} above the proved bound {bound.value:g}"
            return CONTRADICTED, why, record.tap
        count += 1
        tight += is_exact(record) and low == bound.value
    if not count:
        return None
    return CONFIRMED, f"{count} ranks within their bounds, {tight} exact ranks meet them", "-"


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
        if ends(record)[0] > (bound.value or 0):
            why = f"exact rank at least {ends(record)[0]:g}, family rank {bound.value:g}"
            return CONTRADICTED, why, record.tap
    below = [(r, b) for r, b in pairs if r.high is not None and r.high < (b.value or 0)]
    if below:
        record, bound = below[0]
        why = (
            f"{record.tap}: rank {record.high:g} below the family's {bound.value:g}: not structural"
        )
        return CONFIRMED, why, record.tap
    return CONFIRMED, f"{len(pairs)} taps within the family's rank", "-"


def _monotone(records: Sequence[Record]) -> Decision:
    """Whether relative(EPS) rank surely grows between two consecutive separator taps."""
    curve = _curve(records)
    if len(curve) < 2:
        return None
    growth: list[tuple[float, str, str]] = []
    overlap = False
    for before, after in pairwise(curve):
        if ends(after)[0] > ends(before)[1]:
            jump = f"{before.value:g} at {before.tap}, then {after.value:g} at {after.tap}"
            growth.append((ends(after)[0] - ends(before)[1], jump, after.tap))
        overlap |= ends(after)[1] > ends(before)[0]
    if growth:
        _, jump, tap = max(growth)
        return VIOLATED, f"relative({EPS:g}) rank grows: {jump} ({len(growth)} rises)", tap
    values = " .. ".join(dict.fromkeys(f"{r.value:g}" for r in curve))
    if overlap and any(r.low != r.high for r in curve):
        return UNDECIDED, f"intervals overlap: {values}", "-"
    return CONFIRMED, f"on this network: {values}", "-"


def _loss(records: Sequence[Record]) -> Decision:
    """Numerical rank of the pooled features (or the last block) against the first tap's."""
    curve = _curve(records)
    blocks = [r for r in curve if r.extra.get("kind") != "logits"] or curve[:-1]
    if len(blocks) < 2:
        return None
    first, last = blocks[0], blocks[-1]
    why = f"relative({EPS:g}) rank {first.value:g} at {first.tap}, {last.value:g} at {last.tap}"
    if 2 * ends(last)[1] < ends(first)[0]:
        return CONFIRMED, why, last.tap
    if 2 * ends(last)[0] >= ends(first)[1]:
        return VIOLATED, why, last.tap
    return UNDECIDED, why, last.tap


def _curve(records: Sequence[Record]) -> list[Record]:
    chosen = [r for r in records if r.separator and epsilon(r.notion) == EPS]
    return sorted((r for r in chosen if r.value is not None), key=lambda r: r.tap_index)


_JACOBIAN: dict[str, Callable[[Sequence[Record]], Decision]] = {
    "principle": _principle,
    "exact-loss": _exact_loss,
    "structural-bound": _structural,
    "family-bound": _family,
    "numerical-monotone": _monotone,
    "rank-loss": _loss,
}
