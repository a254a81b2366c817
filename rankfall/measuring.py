"""What the measurement commands share: their options, their data, and how they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from theory.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from empirical.data import Labelled
    from empirical.features import Features
    from empirical.models import LoadedModel
    from empirical.records import Record
    from empirical.subject import Subject

_OPTIONS = (
    click.argument("model"),
    click.option("--images", metavar="DIR|DATASET", help="Class folders, or a timm data set."),
    click.option("--data-root", metavar="DIR", help="Folder of a timm data set."),
    click.option("--count", type=click.IntRange(1), help="Stratified subsample of so many."),
    click.option("--checkpoint", type=click.Path(dir_okay=False), help="Local weights."),
    click.option("--random-weights", is_flag=True, help="Untrained weights drawn with --seed."),
    click.option("--seed", type=int, default=0, show_default=True),
    click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
    click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder."),
    click.option("--json", "as_json", is_flag=True, help="Records as JSON lines."),
)
#: of the measurements that need labels
LABELS = click.option(
    "--labels", "label_file", metavar="FILE", help="Lines file,label for a flat DIR."
)


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass(frozen=True)
class Asked:
    """The shared options of one call."""

    model: str
    images: str | None
    data_root: str | None
    count: int | None
    checkpoint: str | None
    random_weights: bool
    seed: int
    device: str
    out: Path | None
    as_json: bool
    label_file: str | None = None

    def load(self) -> LoadedModel:
        """The network.

        Raises:
            InputError: it cannot be loaded, or there is no such device.
        """
        from empirical.machine import device_of
        from rankfall.show import load_shown

        device_of(self.device)  # before the network is loaded
        return load_shown(
            self.model, checkpoint=self.checkpoint, random_weights=self.random_weights,
            seed=self.seed,
        )  # fmt: skip

    def data(self, loaded: LoadedModel) -> Labelled:
        """The labelled images."""
        from empirical.data import labelled
        from rankfall.show import TerminalProgress

        with TerminalProgress() as progress:
            progress.start("reading images", 1)
            return labelled(
                loaded, self.images, label_file=self.label_file, root=self.data_root,
                count=self.count, seed=self.seed,
                progress=lambda done, total: progress.tell(f"{done} of {total}"),
            )  # fmt: skip

    def pictures(self, loaded: LoadedModel) -> list[tuple[str, Tensor]]:
        """The images without their labels, one by default."""
        from empirical.data import pictures

        return pictures(loaded, self.images, self.count or 1, self.seed, root=self.data_root)

    def features(self, loaded: LoadedModel) -> tuple[Features, Any, Subject]:
        """(features, labels, subject) of the labelled images, in one pass."""
        from empirical.features import collect
        from empirical.subject import at_features
        from rankfall.show import TerminalProgress

        data = self.data(loaded)
        with TerminalProgress() as progress:
            progress.start(f"{loaded.name} on {len(data.images)} images", 1)
            found = collect(
                loaded.model, data.images, device=self.device,
                progress=lambda done, total: progress.tell(f"{done} of {total}"),
            )  # fmt: skip
        subject = at_features(loaded, data, found, self.seed, self.device)
        return found, data.labels, subject

    def keep(self, records: Sequence[Record], command: str) -> None:
        """Append to the run folder what is not there yet, so that an error later loses nothing."""
        from empirical.runs import Run

        if self.out is not None:
            with Run.open(self.out, command, self.seed) as run:
                run.extend(records)

    def answer(self, records: Sequence[Record], title: str, command: str) -> int:
        """Keep the records in the run folder, then print them."""
        from empirical.report.rows import number
        from rankfall.show import table

        self.keep(records, command)
        if self.as_json:
            for record in records:
                click.echo(record.to_json())
            return 0
        rows = [(r.tap, r.notion, number(r), str(r.extra.get("note", ""))) for r in records]
        table(title, ("tap", "notion", "value", "detail"), rows, wrap=(1, 3))
        return 0

    def line(self, name: str, **more: Any) -> str:
        """The command as text, for the run folder."""
        parts = [f"measure {name} {self.model}"]
        given = {
            "images": self.images, "labels": self.label_file, "count": self.count,
            "checkpoint": self.checkpoint, "random-weights": self.random_weights or None, **more,
        }  # fmt: skip
        return " ".join([*parts, *(f"--{k} {v}" for k, v in given.items() if v is not None)])


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Comma-separated numbers.

    Raises:
        InputError: one of them is none.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} takes numbers such as 1e-3,1e-5, got {text!r}") from error
