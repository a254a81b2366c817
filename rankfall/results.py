"""A run's results on the terminal or as JSON: the same rows that the page shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from empirical.records import Record
from empirical.report.rows import COLUMNS, cells, networks, number, theory_rows
from empirical.sandwich import CLAIMS, judge
from empirical.verdicts import ClaimVerdict, by_model
from rankfall.show import table

_OTHERS = ("classification", "dependence", "pca", "lyapunov")


def show(records: Sequence[Record]) -> None:
    """Print what a run found: the catalogue, each network tap by tap, the claims."""
    theory = theory_rows(records)
    if theory:
        rows = [
            (r.id, r.status, r.verdicts + ("" if r.ok else " MISSED"), r.property) for r in theory
        ]
        table("The catalogue", ("row", "status", "verdicts", "property"), rows, wrap=(1, 2, 3))
    for network in networks(records):
        table(network.title, COLUMNS, [cells(row) for row in network.rows])
    others = [
        (r.model, r.notion, number(r), str(r.extra.get("note", "")))
        for r in records
        if r.measurement in _OTHERS
    ]
    if others:
        columns = ("network", "notion", "value", "detail")
        table("Other measurements", columns, others, wrap=(1, 3))
    claims = [(CLAIMS[v.claim][0], v.model, v.verdict, v.why) for v in by_model(judge(records))]
    if claims:
        columns = ("claim", "network", "verdict", "why")
        table("The claims of the paper on these networks", columns, claims, wrap=(1, 2, 3))


def as_json(
    records: Sequence[Record], verdicts: Sequence[ClaimVerdict], facts: dict[str, Any]
) -> str:
    """The same as one JSON object."""
    found = {
        **facts,
        "claims": [asdict(v) for v in verdicts],
        "catalogue": [asdict(row) for row in theory_rows(records)],
        "networks": [
            {
                "model": n.model, "image": n.image, "directions": n.directions,
                "taps": [dict(zip(_KEYS, cells(row), strict=True)) for row in n.rows],
            }
            for n in networks(records)
        ],
    }  # fmt: skip
    return json.dumps(found, indent=1)


_KEYS = (
    "tap", "shape", "structural", "exact", "family", "float64", "relative(0.001)", "gap",
    "relative(float32 eps)", "gap(float32 eps)",
)  # fmt: skip
