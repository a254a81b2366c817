"""``rankfall measure classification``: how many principal components the head needs."""

from __future__ import annotations

from typing import Any

import click

from empirical.records import Record
from rankfall.measuring import Asked, options

PROJECTIONS = ("centred", "uncentred", "official")


@click.command("classification", context_settings={"help_option_names": ["-h", "--help"]})
@options
@click.option("--fraction", type=float, default=0.95, show_default=True, help="Of the accuracy.")
@click.option("--projection", type=click.Choice(PROJECTIONS), help="One; centred and uncentred.")
@click.option("--bootstrap", type=click.IntRange(0), default=200, show_default=True)
def command(fraction: float, projection: str | None, bootstrap: int, **shared: Any) -> int:
    """Classification dimension of the last features of MODEL over labelled images.

    Without --images the digits networks use their held-out digits.
    """
    from empirical.classification import measure

    asked = Asked(**shared)
    loaded = asked.load()
    found, labels, subject = asked.features(loaded)
    records: list[Record] = []
    for kind in (projection,) if projection else PROJECTIONS[:2]:
        result = measure(
            found.features, found.weight, found.bias, labels, fraction=fraction, projection=kind,
            bootstrap=bootstrap, seed=asked.seed,
        )  # fmt: skip
        records += result.records(subject)
    title = f"{loaded.name}: classification dimension over {len(labels)} images"
    return asked.answer(records, title, asked.line("classification", fraction=fraction))
