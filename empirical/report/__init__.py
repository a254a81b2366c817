"""Turn records into a self-contained page and a CSV; nothing here measures or decides anything."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from empirical.expected import shortfalls
from empirical.records import Record
from empirical.report.plots import rank_by_depth
from empirical.report.rows import COLUMNS, cells, networks, number, theory_rows
from empirical.sandwich import CLAIMS, judge

_SHOWN_ELSEWHERE = ("jacobian", "prove", "property", "item")
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
        if (mine := [v for v in verdicts if v.claim == claim])
    ]
    theory = theory_rows(records)
    missed, undecided = shortfalls(records, verdicts)
    environment = Environment(autoescape=True, trim_blocks=False)
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text())
    return template.render(
        info=info,
        claims=claims,
        networks=[(n, rank_by_depth(n)) for n in networks(records)],
        others=[r for r in records if r.measurement not in _SHOWN_ELSEWHERE],
        theory=theory,
        missed=missed,
        undecided=undecided,
        columns=COLUMNS,
        cells=cells,
        number=number,
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
