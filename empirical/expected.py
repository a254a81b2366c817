"""What a run was expected to show and did not, and what it could not decide: its exit status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from empirical.records import Record
from empirical.verdicts import UNDECIDED, ClaimVerdict, by_model


def shortfalls(
    records: Sequence[Record], verdicts: Iterable[ClaimVerdict], *, claims: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was expected and missed, and what was asked for and stayed undecided.

    Args:
        records: of the run.
        verdicts: on the claims.
        claims: whether a verdict on every claim was asked for, as by ``validate``; then one that is
            not decidable at this precision counts.
    """
    verdicts = tuple(verdicts)
    missed = [f"{v.claim} on {v.model} at {v.tap}: {v.why}" for v in verdicts if v.failure]
    undecided: list[str] = []
    for r in records:
        if r.measurement == "prove" and not r.extra["ok"]:
            text = f"{r.tap}: {r.extra['verdict']}: {r.extra['statement']} ({r.extra['reason']})"
            decided = r.extra["verdict"] in ("PROVED", "REFUTED")
            (missed if decided else undecided).append(text)
        elif r.measurement == "property" and not r.extra["ok"]:
            missed.append(f"property of {r.tap}: {r.extra['summary']}")
        elif r.measurement == "item":
            for note in r.extra.get("notes", ()):
                if "UNSUPPORTED" in note:
                    undecided.append(f"{r.model}: {note}")
    if claims:
        undecided += [
            f"{v.claim} on {v.model}: {v.why}" for v in by_model(verdicts) if v.verdict == UNDECIDED
        ]
    return tuple(missed), tuple(undecided)


def asks_for_claims(info: Mapping[str, Any]) -> bool:
    """Whether the run of this ``run.json`` asked for a verdict on every claim."""
    return str(info.get("command", "")).startswith("validate")


def exit_status(missed: Sequence[str], undecided: Sequence[str], failed: Sequence[str] = ()) -> int:
    """2 for what could not be measured as asked, then 1 missed, then 3 undecided, else 0."""
    return 2 if failed else 1 if missed else 3 if undecided else 0
