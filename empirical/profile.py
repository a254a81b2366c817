"""A Jacobian profile: records and spectra, and how they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from empirical.records import Record
from theory.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, eq=False)
class Profile:
    """What one call measured.

    Attributes:
        records: one for each (tap, notion).
        spectra: tap name -> descending singular values (float fields only).
        peak_bytes: largest number of bytes of live tangents.
        seconds: wall time, spectra included.
        notes: operations that fell back, fields that do not apply.
    """

    records: tuple[Record, ...]
    spectra: dict[str, np.ndarray]
    peak_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()

    @classmethod
    def join(cls, profiles: Sequence[Profile]) -> Profile:
        """Several fields of one network as one profile."""
        spectra = {tap: s for profile in profiles for tap, s in profile.spectra.items()}
        return cls(
            tuple(r for profile in profiles for r in profile.records),
            spectra,
            max(profile.peak_bytes for profile in profiles),
            sum(profile.seconds for profile in profiles),
            tuple(note for profile in profiles for note in profile.notes),
        )

    def value(self, tap: str, notion: str) -> float:
        """The number of one tap under one notion.

        Raises:
            InputError: there is no such record.
        """
        for record in self.records:
            if record.tap == tap and record.notion == notion:
                assert record.value is not None
                return record.value
        raise InputError(f"no record of tap {tap!r} under {notion!r}")

    def notions(self) -> tuple[str, ...]:
        """The notions measured, in order."""
        return tuple(dict.fromkeys(r.notion for r in self.records))

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Header and one row of cells a tap."""
        notions = self.notions()
        header = ("tap", "shape", *(_short(n) for n in notions))
        taps = dict.fromkeys((r.tap_index, r.tap) for r in self.records)
        cells = []
        by_key = {(r.tap, r.notion): r for r in self.records}
        for _, tap in sorted(taps):
            own = [by_key.get((tap, n)) for n in notions]
            first = next(r for r in own if r is not None)
            shape = "x".join(map(str, first.shape))
            name = tap if first.separator else f"{tap} (not a separator)"
            cells.append((name, shape, *(_cell(r) for r in own)))
        return header, cells

    def table(self) -> Table:
        """A rich table, one row a tap."""
        from rich.markup import escape as verbatim
        from rich.table import Table

        header, cells = self.rows()
        table = Table(
            title=verbatim(self.title()), caption=verbatim("\n".join((LEGEND, *self.notes)))
        )
        for index, column in enumerate(header):
            table.add_column(column, justify="left" if index < 2 else "right", overflow="fold")
        for row in cells:
            table.add_row(*map(verbatim, row))
        return table

    def lines(self) -> list[str]:
        """Plain lines for a pipe: tab-separated cells."""
        header, cells = self.rows()
        return ["\t".join(row) for row in (header, *cells)]

    def title(self) -> str:
        """Model, directions, seconds and peak."""
        if not self.records:
            return "nothing was measured"
        first = self.records[0]
        return (
            f"{first.model}: rank along {first.directions} directions "
            f"({self.seconds:.1f} s, tangents at most {self.peak_bytes / 2**30:.2f} GiB)"
        )

    def __rich__(self) -> Table:
        return self.table()

    def _repr_html_(self) -> str:
        header, cells = self.rows()
        head = "".join(f"<th>{escape(c)}</th>" for c in header)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in cells
        )
        return (
            f"<table><caption>{escape(self.title())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def plot(self, ax: Any = None) -> Any:
        """Ranks over depth, one line a notion; returns the matplotlib axes."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(7, 4), layout="constrained").subplots()
        for notion in self.notions():
            own = sorted(
                (r for r in self.records if r.notion == notion and r.separator),
                key=lambda r: r.tap_index,
            )
            ax.plot([r.tap_index for r in own], [r.value for r in own], marker="o", label=notion)
        ax.set_xlabel("tap, in forward order")
        ax.set_ylabel("rank")
        ax.legend()
        return ax

    def to_pandas(self) -> Any:
        """The records as a data frame.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError("to_pandas needs pandas: pip install pandas") from error
        from dataclasses import asdict

        return pandas.DataFrame([asdict(r) for r in self.records])


LEGEND = (
    "= proved; p proved for the recorded pattern (or element Jacobians); ~ probable; "
    "[low, high] where rounding leaves room (by an estimate of the rounding)"
)
MARKS = {
    "proved": "=",
    "proved for the recorded pattern": "p",
    "proved for the recorded element Jacobians": "p",
}


def _short(notion: str) -> str:
    name, _, inside = notion.partition("(")
    if name == "relative":
        return f"rel({float(inside.rstrip(')')):.2g})"
    return {"participation": "particip.", "architecture": "arch.", "family": "family"}.get(
        name, name
    )


def _cell(record: Record | None) -> str:
    if record is None or record.value is None:
        return "-"
    value = record.value
    text = f"{value:.1f}" if isinstance(value, float) and not value.is_integer() else f"{value:.0f}"
    if record.notion == "exact":
        return f"{text} {MARKS.get(record.known) or f'~ <= {record.high:.0f}'}"
    if record.notion.startswith(("family", "architecture")):
        return text + " ~"
    if record.low != record.high:
        return f"{text} [{record.low:.0f}, {record.high:.0f}]"
    return text
