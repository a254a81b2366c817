"""``rankfall measure dependence``: how few other logits carry a class's logit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from empirical.records import Record
from rankfall.measuring import LABELS, Asked, options
from theory.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@click.command("dependence", context_settings={"help_option_names": ["-h", "--help"]})
@options
@LABELS
@click.option("--w", "weight", type=float, default=20.0, show_default=True, help="Penalty.")
@click.option("--samples", type=click.Choice(["own", "all", "both"]), default="both")
@click.option("--covariance", is_flag=True, help="The covariance form: centred logits.")
@click.option("--points", type=click.IntRange(0), default=20, show_default=True, help="Of a path.")
@click.option(
    "--estimator", type=click.Choice(["lasso", "official"]), default="lasso", show_default=True,
    help="official: 5000 subgradient steps at --w.",
)  # fmt: skip
@click.option(
    "--classes", default="all", show_default=True, metavar="all|present|N,...",
    help="present: those with at least two images.",
)  # fmt: skip
def command(
    weight: float, samples: str, covariance: bool, points: int, estimator: str, classes: str,
    **shared: Any,
) -> int:  # fmt: skip
    """Independence deficit of the logits of MODEL over labelled images."""
    from empirical.dependence import measure
    from empirical.forced import forced
    from rankfall.show import TerminalProgress

    asked = Asked(**shared)
    line = asked.line(
        "dependence", w=weight, samples=samples, covariance=covariance, estimator=estimator,
        points=points, classes=classes,
    )  # fmt: skip
    loaded = asked.load()
    found, labels, subject = asked.features(loaded)
    subject = replace(subject, shape=(found.logits.shape[1],))
    chosen = _classes(classes, labels, found.logits.shape[1])
    records: list[Record] = []
    with TerminalProgress() as progress:
        for choice in ("own", "all") if samples == "both" else (samples,):
            progress.start(f"{loaded.name}, {choice} samples", 1)
            result = measure(
                found.logits, labels, weight=weight, samples=choice, covariance=covariance,
                points=points, estimator=estimator, seed=asked.seed, classes=chosen,
                progress=lambda done, total: progress.tell(f"class {done} of {total}"),
            )  # fmt: skip
            records += result.records(subject)
            asked.keep(records, line)
    must = forced(found.weight, found.features, found.bias)
    note = f"lambda^T W = 0 for {must.head} independent lambda; {must.span} forced by the features"
    records.append(
        subject.record(
            "dependence", "exact", float(must.head), known="proved",
            settings={"what": "forced by the head"}, extra={"span": must.span, "note": note},
        )
    )  # fmt: skip
    title = f"{loaded.name}: dependence among {found.logits.shape[1]} logits"
    return asked.answer(records, title, line)


def _classes(text: str, labels: Tensor, count: int) -> list[int] | None:
    """The classes asked for; None for all.

    Raises:
        InputError: it names no class, or one that the network does not have.
    """
    if text == "all":
        return None
    if text == "present":
        present = labels.bincount(minlength=count)
        chosen = (present >= 2).nonzero().flatten().tolist()
        if not chosen:
            raise InputError("--classes present: no class has two images; give more with --count")
        return chosen
    parts = [part.strip() for part in text.split(",") if part.strip()]
    bad = [p for p in parts if not p.isdecimal() or int(p) >= count]
    if bad or not parts:
        raise InputError(
            f"--classes takes all, present or numbers below {count}, got {(bad or [text])[0]!r}"
        )
    return [int(p) for p in parts]
