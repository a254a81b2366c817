"""Re-prove the catalogue from nothing: what ``rankfall theory check`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from theory.catalogue import Entry
from theory.catalogue.entry import Counterexample
from theory.coq import CoqResult, export_many, run
from theory.notions import parse_notion
from theory.prover import prove
from theory.rational import Matrix, matrix, multiply
from theory.tolerance import rank_function

#: seconds for a hand-proved row's statement: the prover may find it, and is not expected to
HAND_PROVED = 1.0


@dataclass(frozen=True)
class RowCheck:
    """What was found of one row.

    Attributes:
        id: the row.
        status: its status in the catalogue.
        ok: whether what was found is what the catalogue says.
        verdicts: the verdict of each statement.
        how: one line for a reader.
        certificates: the certificates found, each accepted by the independent checker.
    """

    id: str
    status: str
    ok: bool
    verdicts: tuple[str, ...]
    how: str
    certificates: tuple[dict[str, Any], ...]


def check_row(e: Entry) -> RowCheck:
    """Prove a row's statements; replay the counterexamples of a refuted one."""
    if e.counterexamples:
        replayed = [replay(c) == c.values for c in e.counterexamples]
        how = f"{len(replayed)} counterexamples replayed exactly"
        return RowCheck(e.id, e.status, all(replayed), ("REFUTED",), how, ())
    timeout = 60.0 if "K" in e.status else HAND_PROVED
    verdicts = [prove(t, given=e.given, timeout=timeout) for t in e.statements]
    kinds = tuple(v.kind for v in verdicts)
    certificates = tuple(v.certificate for v in verdicts if v.certificate is not None)
    ok = "REFUTED" not in kinds and (
        "K" not in e.status or (bool(kinds) and set(kinds) == {"PROVED"})
    )
    if certificates:
        how = f"{len(certificates)} of {len(kinds)} statements proved, certificates checked"
    elif "A" in e.status:
        how = "proof by hand in docs/catalogue.md; property-tested"
    else:
        how = "limit statement; `rankfall numeric check` compares with the predicted constants"
    return RowCheck(e.id, e.status, ok, kinds, how, certificates)


def replay(counterexample: Counterexample) -> tuple[int, ...]:
    """The relative ranks after the first 1, 2, ... layers of a counterexample, exactly."""
    count = rank_function(parse_notion(counterexample.notion))
    ranks = []
    whole: Matrix | None = None
    for layer in counterexample.layers:
        m = matrix(len(layer), len(layer[0]), [[Fraction(x) for x in r] for r in layer])
        whole = m if whole is None else multiply(m, whole)
        ranks.append(count(whole))
    return tuple(ranks)


def kernel(certificates: Sequence[dict[str, Any]]) -> CoqResult:
    """Have the Coq kernel check all certificates in one run."""
    return run(export_many(certificates))
