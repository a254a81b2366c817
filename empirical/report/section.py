"""A heading with a plot and a table, and how sections pick their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from empirical.records import Record

TAPS = "tap, in the order of the forward pass"


@dataclass(frozen=True)
class Section:
    """One heading with a plot, a table or both.

    Attributes:
        title: the heading.
        note: a sentence below it.
        figure: SVG text, or empty.
        columns, rows: the table; no rows, no table.
        text: columns that hold sentences.
    """

    title: str
    note: str = ""
    figure: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: tuple[int, ...] = ()


def of(records: Sequence[Record], measurement: str) -> list[Record]:
    """The records of one measurement in the order of the forward pass."""
    found = [r for r in records if r.measurement == measurement]
    return sorted(found, key=lambda r: r.tap_index)


def first_image(records: Sequence[Record]) -> list[Record]:
    """The records at the image that was measured first."""
    return [r for r in records if r.image == records[0].image] if records else []


def image(records: Sequence[Record]) -> str:
    """How the first record calls its image."""
    return str(records[0].extra.get("image_name", records[0].image))
