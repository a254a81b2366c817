"""Counterexamples as files: written whole, and replayed by the same search or on the recorded case.

A file records the row, which variant, the seed and the number of examples (the search is
deterministic in those) and the smallest case as plain data. Statement rows are replayed on the
recorded matrices themselves; other rows by the search.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from numeric.cases import Outcome, PropertyResult, search
from numeric.properties import property_for
from theory.catalogue import entry
from theory.errors import InputError

SCHEMA = 1


def write(
    folder: Path, row: str, variant: int | None, seed: int, requested: int, result: PropertyResult
) -> Path:
    """Write the counterexample of ``result`` to a new file in ``folder``; returns its path.

    Args:
        folder: made if it is missing.
        row: catalogue id.
        variant: false variant that was run, None for the row itself.
        seed: seed of the search.
        requested: examples that the search was allowed (they shape what it draws).
        result: with a counterexample.

    Raises:
        InputError: the folder cannot be written.
    """
    label = row if variant is None else f"{row}-false{variant + 1}"
    path = folder / f"counterexample-{label}-seed{seed}.json"
    data = {
        "schema": SCHEMA,
        "row": row,
        "variant": variant,
        "seed": seed,
        "examples": requested,
        "case": result.counterexample,
    }
    partial = path.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"cannot write the counterexample to {path}: {error.strerror}") from error
    return path


def read(path: Path) -> dict[str, Any]:
    """Read a counterexample file.

    Raises:
        InputError: the file is missing, no JSON, or not a counterexample of a known row.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        missing = {"row", "variant", "seed", "examples", "case"} - set(data)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        raise InputError(f"cannot read the counterexample {path}: {error}") from error
    if missing or data.get("schema") != SCHEMA:
        raise InputError(
            f"{path} is no counterexample of schema {SCHEMA}: missing {sorted(missing) or 'schema'}"
        )
    entry(data["row"])
    return dict(data)


def replay(data: dict[str, Any]) -> tuple[bool, str]:
    """Whether the counterexample still refutes, and how that was decided.

    Args:
        data: what :func:`read` returned.

    Raises:
        InputError: the recorded case does not fit the row.
    """
    case = data["case"]
    if "matrices" in case:
        from numeric.statement_properties import recheck

        outcome: Outcome = recheck(case)
        return outcome.holds is False, "the recorded matrices, ranks exact"
    prop = property_for(entry(data["row"]), data["variant"])
    found = search(prop, int(data["examples"]), int(data["seed"])).counterexample
    # through JSON, so that tuples and lists compare
    same = json.loads(json.dumps(found)) == case
    return same, "the search with the recorded seed"
