"""Turn records into a self-contained page and a CSV; nothing here measures or decides anything."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from empirical.expected import asks_for_claims, shortfalls
from empirical.records import Record
from empirical.report.plots import rank_by_depth
from empirical.report.rows import COLUMNS, cells, networks, theory_rows
from empirical.report.sections import matrix, of_network, whole_run
from empirical.sandwich import CLAIMS, judge
from empirical.verdicts import by_model

_CSV = (
    "measurement", "model", "weights", "image", "tap", "tap_index", "separator", "shape",
    "directions", "notion", "tolerance", "value", "low", "high", "known", "dtype", "device",
    "seconds", "seed",
)  # fmt: skip


def page(records: Sequence[Record], info: Mapping[str, Any]) -> str:
    """The page of a run as HTML that loads nothing from anywhere.

    Args:
        records: all records of the run.
        info: the contents of its ``run.json``.
    """
    from jinja2 import Environment

    verdicts = judge(records)
    claims = [
        (claim, words, mine)
        for claim, words in CLAIMS.items()
        if (mine := [v for v in by_model(verdicts) if v.claim == claim])
    ]
    theory = theory_rows(records)
    missed, undecided = shortfalls(records, verdicts, claims=asks_for_claims(info))
    models, overview = matrix(verdicts)
    found = networks(records)
    names = list(dict.fromkeys([n.model for n in found] + [r.model for r in records]))
    parts = []
    for name in names:
        own = [n for n in found if n.model == name]
        sections = of_network(records, name)
        if own or sections:
            # the first image is drawn, of the others only the numbers are shown
            figure = rank_by_depth(own[0]) if own else ""
            parts.append((name, own, figure, sections))
    environment = Environment(autoescape=True, trim_blocks=False)
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text())
    return template.render(
        info=info,
        claims=claims,
        models=models,
        overview=overview,
        parts=parts,
        sections=whole_run(records),
        theory=theory,
        failed=list(info.get("failed", [])),
        missed=missed,
        undecided=undecided,
        columns=COLUMNS,
        cells=cells,
    )


def table_csv(records: Sequence[Record]) -> str:
    """All records as CSV, settings and extra as JSON in the last two columns."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow((*_CSV, "settings", "extra"))
    for r in records:
        values = [getattr(r, name) for name in _CSV]
        writer.writerow((*values, json.dumps(r.settings), json.dumps(r.extra)))
    return buffer.getvalue()
