"""Verdicts on the claims about data sets, tokens, spectra and depth laws, from records alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from empirical.records import Record
from empirical.verdicts import (
    CONFIRMED,
    CONTRADICTED,
    INAPPLICABLE,
    UNDECIDED,
    VIOLATED,
    ClaimVerdict,
    Decision,
    ends,
)

MEASUREMENTS = (
    "classification", "dependence", "lyapunov", "tokens", "centralisation", "pca", "bound", "loss",
)  # fmt: skip
#: standard deviations that count as agreement with the Gaussian prediction: a normal variable is
#: further away once in 370 times
DEVIATIONS = 3.0
#: effective ranks closer than this fraction are called equal: the float64 error of a spectrum is
#: far below it, a tenth of a singular value's share is not worth a verdict
CLOSE = 0.01
#: a network below this many times the accuracy of guessing has none to keep
CHANCE = 2.0
#: tokens have come together when they are this much closer than with their skips
TOGETHER = 0.1
#: noise at which the PCA dimension is judged: the paper's
NOISE = 1e-3


def judge(model: str, records: Sequence[Record]) -> list[ClaimVerdict]:
    """Verdicts of one network, a claim and image each."""
    found = []
    for r in records:
        for claim, one in _SINGLE.items():
            decided = one(r)
            if decided is not None:
                verdict, why, tap = decided
                found.append(ClaimVerdict(claim, model, verdict, why, tap, r.image))
    groups: dict[str, list[Record]] = defaultdict(list)
    for r in records:
        groups[r.image].append(r)
    for image, group in groups.items():
        for claim, decide in _CURVES.items():
            decided = decide(group)
            if decided is not None:
                verdict, why, tap = decided
                found.append(ClaimVerdict(claim, model, verdict, why, tap, image))
    return found


def _classification(r: Record) -> Decision:
    """Classification dimension against half the feature width, by its bootstrap interval."""
    if not r.notion.startswith("classification") or r.value is None or not r.shape:
        return None
    if r.measurement != "classification":
        return None
    if (chance := _chance(r, "accuracy_original")) is not None:
        return chance
    width = r.shape[-1]
    low, high = ends(r)
    why = f"{r.value:g} [{low:g}, {high:g}] of {width} principal components"
    if 2 * high <= width:
        return CONFIRMED, why, r.tap
    return (VIOLATED if 2 * low > width else UNDECIDED), why, r.tap


def _dependence(r: Record) -> Decision:
    """Independence deficit on own samples: how few logits carry another, at what accuracy."""
    if r.measurement != "dependence" or "accuracy" not in r.extra or r.value is None:
        return None
    if r.settings.get("samples", "own") != "own":
        return None
    if (chance := _chance(r, "accuracy_overall_original")) is not None:
        return chance
    kept, full = float(r.extra["accuracy"]), float(r.extra.get("accuracy_original", 1.0))
    if not r.value:
        penalty = r.tolerance or 0.0
        square = float(r.extra.get("objective", 0.0))  # of the empty combination
        if square < penalty:
            why = f"mean square {square:.3g} of the logit is below the penalty {penalty:g}"
            return UNDECIDED, f"{why}: no combination can pay", r.tap
        return VIOLATED, f"the best combination at w = {penalty:g} is empty", r.tap
    why = f"class {r.extra.get('class', '?')} from {r.value:g} logits: "
    why += f"its accuracy {kept:.0%}, was {full:.0%}"
    return (CONFIRMED if kept >= 0.95 * full else VIOLATED), why, r.tap


def _dependence_all(r: Record) -> Decision:
    """The stronger question: fewest logits that explain 95 % of another's variance on all images."""
    if r.measurement != "dependence" or r.settings.get("samples") != "all":
        return None
    each = r.extra.get("each")
    if not each or r.directions < 2:
        return None
    counts = {c["class"]: c["carriers"].get("0.95") for c in each}
    known = {label: n for label, n in counts.items() if n is not None}
    others = r.directions - 1
    if not known:
        return VIOLATED, f"no {others} logits explain 95 % of another's variance", r.tap
    label = min(known, key=lambda c: known[c])
    why = f"class {label}: {known[label]} of {others} logits explain 95 % of its variance"
    return (CONFIRMED if 2 * known[label] <= others else VIOLATED), why, r.tap


def _chance(r: Record, key: str) -> Decision:
    """NOT APPLICABLE where the network guesses: there is no accuracy to keep."""
    classes, accuracy = r.extra.get("classes"), r.extra.get(key)
    if not classes or accuracy is None or accuracy > CHANCE / classes:
        return None
    why = f"its accuracy {accuracy:.1%} is that of guessing among {classes} classes"
    return INAPPLICABLE, f"{why}: there is none to keep", r.tap


def _exponents(r: Record) -> Decision:
    """The median exponent against the Gaussian prediction, in its standard deviations."""
    if r.measurement != "lyapunov" or r.notion != "spectra":
        return None
    why = str(r.extra.get("note", ""))
    if r.extra.get("depth", 0) < 2 or not r.extra.get("deviation"):
        return UNDECIDED, f"{why}: one block shows no law of depth", r.tap
    apart = float(r.extra["apart"])
    if abs(apart) <= DEVIATIONS:
        return CONFIRMED, f"{why}; within {DEVIATIONS:g} standard deviations", r.tap
    pace = "faster" if apart < 0 else "slower"
    return VIOLATED, f"{why}: they part {pace}, {abs(apart):.0f} standard deviations away", r.tap


_SINGLE: dict[str, Callable[[Record], Decision]] = {
    "classification-dimension": _classification,
    "independence-deficit": _dependence,
    "independence-deficit-all": _dependence_all,
    "exponential-collapse": _exponents,
}


def _ordered(records: Sequence[Record], measurement: str) -> list[Record]:
    chosen = [r for r in records if r.measurement == measurement and r.value is not None]
    return sorted(chosen, key=lambda r: r.tap_index)


def _centralisation(records: Sequence[Record]) -> Decision:
    """Effective rank of the last tap before the logits against the first tap's."""
    curve = [
        r for r in _ordered(records, "centralisation")
        if r.separator and r.extra.get("kind") != "logits"
    ]  # fmt: skip
    if len(curve) < 2:
        return None
    first, last = curve[0], curve[-1]
    a, b = first.value or 0.0, last.value or 0.0
    why = f"effective rank {a:.3g} at {first.tap}, {b:.3g} at {last.tap}"
    peak = max(curve, key=lambda r: r.value or 0.0)
    if peak is not first:
        why += f", largest {peak.value:.3g} at {peak.tap}"
    if abs(a - b) <= CLOSE * max(a, b):
        return UNDECIDED, why, last.tap
    return (CONFIRMED if b < a else VIOLATED), why, last.tap


def _tokens(records: Sequence[Record]) -> Decision:
    """Distance from equal tokens at the last block, without skips against with them."""
    rows = [r for r in _ordered(records, "tokens") if r.extra.get("attention")]
    curves = {
        skips: [r for r in rows if r.settings.get("skips") is skips] for skips in (True, False)
    }
    if not curves[True] or not curves[False]:
        return None
    kept, bare = curves[True][-1], curves[False]
    distances = [float(r.extra["distance"]) for r in bare]
    why = (
        f"distance from equal tokens without skips {', '.join(f'{d:.2g}' for d in distances)}; "
        f"with them {float(kept.extra['distance']):.2g} at {kept.tap}"
    )
    if distances[-1] <= TOGETHER * float(kept.extra["distance"]):
        return CONFIRMED, why, bare[-1].tap
    return VIOLATED, why, bare[-1].tap


def _pca(records: Sequence[Record]) -> Decision:
    """PCA dimension of the last tap before the logits against the first tap's."""
    curve = [
        r for r in _ordered(records, "pca")
        if r.settings.get("noise") == NOISE and r.extra.get("kind") != "logits"
    ]  # fmt: skip
    if len(curve) < 2:
        return None
    first, last = curve[0], curve[-1]
    a, b = first.value or 0.0, last.value or 0.0
    why = f"{a:g} at {first.tap}, {b:g} at {last.tap}"
    if last.extra.get("saturated") and b >= float(first.settings.get("samples", 0)) - 1:
        return UNDECIDED, f"{why}: saturated by {first.settings['samples']} samples", last.tap
    if b < a:  # a saturated first tap has at least that dimension
        return CONFIRMED, why, last.tap
    return (UNDECIDED if first.extra.get("saturated") else VIOLATED), why, last.tap


def _bounds(records: Sequence[Record]) -> Decision:
    """Every catalogue row that was compared, and every loss beside its bound."""
    rows = [r for r in records if r.measurement == "bound" and r.value]
    losses = [r for r in records if r.measurement == "loss"]
    if not rows and not losses:
        return None
    for r in rows:
        if r.extra.get("broken"):
            why = f"{r.settings['row']}: {r.extra['note']}"
            return CONTRADICTED, why, str(r.extra.get("where", "-"))
    for r in losses:
        if r.extra.get("broken"):
            return CONTRADICTED, f"residual-loss: {r.extra['note']}", r.tap
    checks = sum(int(r.value or 0) for r in rows)
    bounded = sum(r.extra.get("bound") is not None for r in losses)
    why = f"{checks} instances of {len(rows)} rows hold"
    return CONFIRMED, f"{why}, {bounded} of {len(losses)} losses within a proved bound", "-"


_CURVES: dict[str, Callable[[Sequence[Record]], Decision]] = {
    "centralisation": _centralisation,
    "token-collapse": _tokens,
    "pca-dimension": _pca,
    "catalogue-bounds": _bounds,
}
