"""``rankfall measure classification``: how many principal components the head needs."""

from __future__ import annotations

from typing import Any

import click

from empirical.records import Record
from rankfall.measuring import LABELS, Asked, options
from theory.errors import InputError

PROJECTIONS = ("centred", "uncentred", "official")


@click.command("classification", context_settings={"help_option_names": ["-h", "--help"]})
@options
@LABELS
@click.option("--fraction", type=float, default=0.95, show_default=True, help="Of the accuracy.")
@click.option("--projection", type=click.Choice(PROJECTIONS), help="One; centred and uncentred.")
@click.option("--bootstrap", type=click.IntRange(0), default=200, show_default=True)
@click.option(
    "--estimator", type=click.Choice(["incremental", "official"]), default="incremental",
    show_default=True, help="official: the official loop over k < n.",
)  # fmt: skip
def command(
    fraction: float, projection: str | None, bootstrap: int, estimator: str, **shared: Any
) -> int:
    """Classification dimension of the last features of MODEL over labelled images.

    Without --images the digits networks use their held-out digits.
    """
    from empirical.classification import measure

    asked = Asked(**shared)
    line = asked.line(
        "classification", fraction=fraction, projection=projection, bootstrap=bootstrap,
        estimator=estimator,
    )  # fmt: skip
    if estimator == "official" and projection not in (None, "official"):
        raise InputError(f"--estimator official has its own projection, not {projection!r}")
    loaded = asked.load()
    found, labels, subject = asked.features(loaded)
    records: list[Record] = []
    kinds = (projection,) if projection else PROJECTIONS[:2]
    for kind in ("official",) if estimator == "official" else kinds:
        result = measure(
            found.features, found.weight, found.bias, labels, fraction=fraction, projection=kind,
            estimator=estimator, bootstrap=bootstrap, seed=asked.seed,
        )  # fmt: skip
        records += result.records(subject)
        asked.keep(records, line)
    title = f"{loaded.name}: classification dimension over {len(labels)} images"
    return asked.answer(records, title, line)
