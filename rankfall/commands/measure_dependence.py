"""``rankfall measure dependence``: how few other logits carry a class's logit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from empirical.records import Record
from rankfall.measuring import Asked, options


@click.command("dependence", context_settings={"help_option_names": ["-h", "--help"]})
@options
@click.option("--w", "weight", type=float, default=20.0, show_default=True, help="Penalty.")
@click.option("--samples", type=click.Choice(["own", "all", "both"]), default="both")
@click.option("--covariance", is_flag=True, help="The covariance form: centred logits.")
@click.option("--points", type=click.IntRange(0), default=20, show_default=True, help="Of a path.")
def command(weight: float, samples: str, covariance: bool, points: int, **shared: Any) -> int:
    """Independence deficit of the logits of MODEL over labelled images."""
    from empirical.dependence import forced, measure

    asked = Asked(**shared)
    loaded = asked.load()
    found, labels, subject = asked.features(loaded)
    subject = replace(subject, shape=(found.logits.shape[1],))
    records: list[Record] = []
    for choice in ("own", "all") if samples == "both" else (samples,):
        result = measure(
            found.logits, labels, weight=weight, samples=choice, covariance=covariance,
            points=points, seed=asked.seed,
        )  # fmt: skip
        records += result.records(subject)
    must = forced(found.weight, found.features)
    note = f"lambda^T W = 0 for {must.head} independent lambda; {must.span} forced by the features"
    records.append(
        subject.record(
            "dependence", "exact", float(must.head), known="proved",
            settings={"what": "forced by the head"}, extra={"span": must.span, "note": note},
        )
    )  # fmt: skip
    title = f"{loaded.name}: dependence among {found.logits.shape[1]} logits"
    return asked.answer(
        records, title, asked.line("dependence", w=weight, samples=samples, covariance=covariance)
    )
