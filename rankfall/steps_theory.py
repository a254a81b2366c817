"""Steps (a) and (b) of the main job: prove the catalogue, and test every row on exact networks.

Each statement and each row becomes one record; what is in the run folder already is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from empirical.records import Record
from empirical.runs import Run
from theory.catalogue import CATALOGUE
from theory.catalogue.entry import Entry
from theory.notions import EXACT, Notion, parse_notion

#: seconds for one statement; the whole catalogue takes far less
TIMEOUT = 20.0
#: verdicts that a status expects of the prover; a hand-proved row may be beyond it, never refuted
EXPECTED = {"K": ("PROVED",), "A": ("PROVED", "UNKNOWN"), "N": ("UNKNOWN",), "R": ("REFUTED",)}


def _theory_record(measurement: str, row: Entry, index: int, **changes: Any) -> Record:
    base: dict[str, Any] = {"measurement": measurement, "model": "-", "weights": "-", "image": "-"}
    base |= {"tap": row.id, "tap_index": index, "separator": False, "shape": (), "directions": 0}
    base |= {"notion": str(_notion(row)), "tolerance": None, "value": None, "low": None}
    base |= {"high": None, "known": "measured", "dtype": "rational", "device": "cpu"}
    base |= {"seconds": 0.0, "seed": 0}
    return Record(**(base | changes))


def _notion(row: Entry) -> Notion:
    """The notion a row is proved for: exact wherever it speaks of exact ranks."""
    return EXACT if "exact" in row.notions else parse_notion(row.notions[0])


def expected(row: Entry) -> tuple[str, ...]:
    """Prover verdicts that meet the row's status."""
    return EXPECTED[row.status.split(",")[0].strip()]


def statements() -> list[tuple[int, Entry, str]]:
    """The work list of step (a): (index of the row, row, statement)."""
    return [(i, row, text) for i, row in enumerate(CATALOGUE) for text in row.statements]


def prove_all(run: Run, tick: Callable[[str], None]) -> None:
    """Prove each statement of the catalogue and keep its certificate or witness.

    Args:
        run: the run folder.
        tick: called with a row's id after each statement.
    """
    from theory.prover import prove

    for index, row, text in statements():
        settings = {"statement": text, "given": list(row.given)}
        record = _theory_record("prove", row, index, settings=settings)
        if not run.has(record.key):
            verdict = prove(text, given=row.given, notion=_notion(row), timeout=TIMEOUT)
            file = _keep(run, row.id, record.key, verdict)
            extra = {
                "verdict": verdict.kind,
                "ok": verdict.kind in expected(row),
                "statement": text,
                "reason": verdict.reason,
                "file": file,
            }
            decided = verdict.kind in ("PROVED", "REFUTED")
            value = float(verdict.kind == "PROVED") if decided else None
            run.append(
                _theory_record(
                    "prove", row, index, settings=settings, extra=extra, value=value, low=value,
                    high=value, known="proved" if decided else "measured",
                    seconds=round(verdict.seconds, 3),
                )
            )  # fmt: skip
        tick(row.id)


def _keep(run: Run, row: str, key: str, verdict: Any) -> str | None:
    """Check a proof with the independent checker and write it, or a witness, to the run folder."""
    data = verdict.certificate or verdict.witness
    if data is None:
        return None
    if verdict.certificate is not None:
        from theory.certificates import check

        check(verdict.certificate)
    name = f"certificates/{row}-{key[:6]}.json"
    run.write(name, json.dumps(data, indent=1, default=str) + "\n")
    return name


def check_all(run: Run, examples: int, seed: int, tick: Callable[[str], None]) -> None:
    """Run each row's property on random small networks with exact ranks, and its false variants.

    Args:
        run: the run folder.
        examples: examples a row.
        seed: seed of the examples.
        tick: called with a row's id after each row.
    """
    from numeric.properties import run_false_variant, run_property

    for index, row in enumerate(CATALOGUE):
        settings = {"examples": examples, "variants": [v.text for v in row.false_variants]}
        record = _theory_record("property", row, index, settings=settings, seed=seed)
        if not run.has(record.key):
            result = run_property(row.id, examples=examples, seed=seed)
            refuted = missed = 0
            for number in range(len(row.false_variants)):
                variant = run_false_variant(row.id, number, seed=seed)
                caught = variant.counterexample is not None
                refuted, missed = refuted + caught, missed + (not caught)
            holds = result.counterexample is None
            total = len(row.false_variants)
            summary = f"{result.examples} cases; {refuted}/{total} variants refuted"
            if not holds:
                summary = f"FAILS: {json.dumps(result.counterexample, default=str)[:300]}"
            extra = {"ok": holds and not missed, "summary": summary}
            run.append(
                _theory_record(
                    "property", row, index, settings=settings, extra=extra, seed=seed,
                    value=float(result.examples), low=float(result.examples),
                    high=float(result.examples), seconds=round(result.seconds, 3),
                )
            )  # fmt: skip
        tick(row.id)


def rows() -> int:
    """How many rows step (b) tests."""
    return len(CATALOGUE)
