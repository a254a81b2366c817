"""What a run was expected to show and did not, and what it could not decide: its exit status."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from empirical.records import Record
from empirical.sandwich import ClaimVerdict


def shortfalls(
    records: Sequence[Record], verdicts: Iterable[ClaimVerdict]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was expected and missed, and what was asked for and stayed undecided."""
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
    return tuple(missed), tuple(undecided)


def exit_status(missed: Sequence[str], undecided: Sequence[str]) -> int:
    """1 for something missed, then 3 for something undecided, else 0."""
    return 1 if missed else 3 if undecided else 0
