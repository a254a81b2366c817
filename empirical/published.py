"""What the paper published, beside what a run measured, with the tolerance that counts as agreement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from empirical.records import Record
from empirical.subject import Subject
from empirical.verdicts import INAPPLICABLE

#: classification dimension on ImageNet validation (theory.md, section 7): (published, width)
PUBLISHED = {
    "resnet18": (149, 512), "resnet50": (131, 2048), "resmlp_24_224": (196, 384),
    "gmixer_24_224": (199, 384), "vit_tiny_patch16_224": (109, 192),
    "swin_tiny_patch4_window7_224": (344, 768),
}  # fmt: skip
#: relative difference that counts as agreement: other weights of the same name and another PCA
#: (centred or not) move the crossing by about that much
AGREEMENT = 0.1


def published_records(records: Iterable[Record]) -> list[Record]:
    """Published beside measured classification dimensions, where there is a measured one."""
    found = []
    for r in records:
        if r.measurement != "classification" or r.model not in PUBLISHED or r.value is None:
            continue
        figure, width = PUBLISHED[r.model]
        low = r.value if r.low is None else r.low
        high = r.value if r.high is None else r.high
        inside = low <= figure <= high
        agrees = inside or abs(r.value - figure) <= AGREEMENT * figure
        verdict = "agrees" if agrees else "differs"
        note = (
            f"published {figure}/{width}, measured {r.value:g} [{low:g}, {high:g}]: {verdict} "
            f"(within {AGREEMENT:.0%}, or inside the bootstrap interval)"
        )
        extra = {"published": figure, "width": width, "verdict": verdict, "note": note}
        found.append(
            replace(r, measurement="published", extra=extra | {"tolerance": AGREEMENT})
        )  # fmt: skip
    return found


def published_table(records: Sequence[Record], seed: int) -> list[Record]:
    """One record a published figure: compared, or not applicable with the reason."""
    found = published_records(records)
    there = {r.model for r in found}
    measured = {r.model for r in records}
    for model, (figure, width) in PUBLISHED.items():
        if model in there:
            continue
        why = (
            "no labelled ImageNet images here: give the validation set with --images"
            if model in measured
            else "no ImageNet weights/data here: not among the networks of this run"
        )
        note = f"published {figure}/{width}; not applicable: {why}"
        found.append(
            Subject(model, seed=seed).record(
                "published", "classification(0.95)", None, tolerance=0.95,
                extra={
                    "published": figure, "width": width, "verdict": INAPPLICABLE,
                    "tolerance": AGREEMENT, "note": note,
                },
            )
        )  # fmt: skip
    return found
