"""What ``rankfall numeric rank`` prints, as data and as text."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from numeric.certificate import CertifiedRank
from numeric.floatrank import float_ranks


def as_data(
    file: Path, matrix: Any, result: CertifiedRank, *, replayed: bool, limit: float
) -> dict[str, Any]:
    """The result with numpy's and torch's answers beside it, ready for JSON."""
    return {
        "schema": 1,
        "file": str(file),
        "rows": result.rows,
        "columns": result.columns,
        "notion": "exact",
        "known": "proved",
        "rank": result.lower if result.complete else None,
        "lower": result.lower,
        "upper": result.upper,
        "upper_by": "kernel" if result.witness.kernel else "shape",
        "prime": str(result.prime),
        "certificate_bytes": len(result.witness.to_json()),
        "replayed": replayed,
        "seconds": result.seconds,
        "note": result.note,
        "float": [
            vars(answer) for answer in float_ranks(matrix, result.lower, result.upper, limit=limit)
        ],
    }


def as_text(data: dict[str, Any]) -> str:
    """Plain lines of at most 80 columns."""
    if data["rank"] is None:
        value = f"{data['lower']} to {data['upper']} (exact over the rationals, both ends proved)"
    else:
        value = f"{data['rank']} (exact over the rationals, proved)"
    size = data["certificate_bytes"]
    lines = [
        f"{data['file']}: {data['rows']} x {data['columns']}",
        f"rank         {value}",
        f"certificate  {size} bytes: a minor non-zero mod {data['prime']},",
        f"             upper bound by {_upper(data)}"
        + ("; replayed without the algorithm" if data["replayed"] else ""),
    ]
    if not data["replayed"]:
        lines.append(f"time         {data['seconds']:.3g} s")
    for answer in data["float"]:
        lines.append(
            f"{answer['library']:12} {answer['rank'] if answer['rank'] is not None else '-'} "
            f"({answer['notion']}, {answer['dtype']}, measured)"
        )
        if answer["why"]:
            lines += textwrap.wrap(
                answer["why"], 79, initial_indent=" " * 13, subsequent_indent=" " * 13
            )
    if data["note"]:
        lines += textwrap.wrap(data["note"], 79, break_long_words=False)
    return "\n".join(lines)


def _upper(data: dict[str, Any]) -> str:
    return "an exact kernel" if data["upper_by"] == "kernel" else "the matrix's shape"
