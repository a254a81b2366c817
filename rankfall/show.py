"""How commands speak: tables on a terminal, tab-separated lines when piped, progress aside."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

if TYPE_CHECKING:
    from empirical.models import LoadedModel

#: columns of a progress line beside what is under way: the longest step, bar, counts, time
BESIDE = 62


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], wrap: Sequence[int] = ()
) -> None:
    """Print a table: rich on a terminal, at most 80 columns; tab-separated lines when piped.

    Args:
        title: line above it.
        columns: header.
        rows: cells as text.
        wrap: indices of text columns, aligned left and folded; the others are numbers.
    """
    if not sys.stdout.isatty():
        print(f"# {title}")
        for row in (columns, *rows):
            print("\t".join(row))
        print()
        return
    console = Console(highlight=False)
    shown = Table(
        title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    rows = list(rows)
    width = min(console.width, 80)
    least = [
        max(len(word) for row in (columns, *rows) for word in (row[index].split() or [""]))
        for index in range(len(columns))
    ]
    # where the longest words do not fit side by side they are broken, not cut off
    fits = sum(least) + 2 * len(columns) <= width
    for index, name in enumerate(columns):
        text = index == 0 or index in wrap
        shown.add_column(
            escape(name), justify="left" if text else "right", overflow="fold", no_wrap=not text,
            min_width=least[index] if text and fits else None,
        )  # fmt: skip
    for row in rows:
        shown.add_row(*map(escape, row))  # "[tokens, width]" is no style
    console.print(shown, width=width)


class TerminalProgress:
    """A bar on standard error where that is a terminal, else one line when a step begins."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars: Bars | None = None
        if self._console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description}", markup=False), BarColumn(10), MofNCompleteColumn(),
                TimeElapsedColumn(), TextColumn("{task.fields[what]}", markup=False),
                console=self._console, transient=True,
            )  # fmt: skip
        self._task: TaskID | None = None

    def __enter__(self) -> TerminalProgress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, step: str, total: int) -> None:
        """A step begins, with this many units of work."""
        if self._bars is None:
            print(f"{step} ({total})", file=sys.stderr, flush=True)
            return
        self._task = self._bars.add_task(step, total=total, what="")

    def tick(self, what: str) -> None:
        """One unit is done."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=1, what=self._cut(what))

    def tell(self, what: str) -> None:
        """Something is under way inside a unit."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, what=self._cut(what))

    def _cut(self, what: str) -> str:
        return what[: max(0, min(24, self._console.width - BESIDE))]


def load_shown(name: str, **options: Any) -> LoadedModel:
    """:func:`empirical.models.load` with a bar while a digits network is trained, its notes shown."""
    from empirical.models import load

    with TerminalProgress() as progress:

        def told(done: int, total: int) -> None:
            if done == 1:
                progress.start(f"training {name}, once", total)
            progress.tick(f"epoch {done}")

        loaded = load(name, progress=told, **options)
    for note in loaded.notes:
        print(f"{loaded.name}: {note}", file=sys.stderr)
    return loaded
