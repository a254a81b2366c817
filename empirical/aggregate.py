"""Ranks over images, as distributions: median, quartiles and range, never the mean alone.

The largest exact rank over images is a lower bound of the supremum over all inputs (theory.md,
section 2), and nothing more: another image may have a larger one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from empirical.records import Record


@dataclass(frozen=True)
class Spread:
    """A number over images."""

    model: str
    tap: str
    notion: str
    images: int
    median: float
    quartiles: tuple[float, float]
    extremes: tuple[float, float]


def spreads(records: Iterable[Record]) -> tuple[Spread, ...]:
    """Jacobian ranks of each tap and notion over images, as distributions."""
    found = []
    for (model, tap, notion), values in _groups(records).items():
        if len(values) < 2:
            continue
        numbers = [r.value or 0.0 for r in values.values()]
        low, first, middle, third, high = np.percentile(numbers, [0, 25, 50, 75, 100])
        found.append(
            Spread(model, tap, notion, len(values), float(middle), (float(first), float(third)),
                   (float(low), float(high)))
        )  # fmt: skip
    return tuple(found)


def image_records(records: Iterable[Record]) -> list[Record]:
    """One record a tap and notion over images, and the supremum's lower bound from exact ranks."""
    known = _groups(records)
    found = []
    for s in spreads(records):
        group = list(known[s.model, s.tap, s.notion].values())
        first = group[0]
        settings = {"over": "images", "images": sorted(r.image for r in group)}
        note = (
            f"{s.images} images: median {s.median:g}, quartiles {s.quartiles[0]:g}-"
            f"{s.quartiles[1]:g}, range {s.extremes[0]:g}-{s.extremes[1]:g}"
        )
        found.append(
            replace(
                first, measurement="images", image="-", value=s.median, low=s.extremes[0],
                high=s.extremes[1], settings=first.settings | settings,
                extra={"quartiles": list(s.quartiles), "images": s.images, "note": note},
            )
        )  # fmt: skip
        if s.notion == "exact":
            # every image's lower end is proved, so the largest is a proved lower bound
            low = max(r.low if r.low is not None else 0.0 for r in group)
            found.append(
                replace(
                    first, measurement="supremum", image="-", notion="supremum", value=low,
                    low=low, high=None, settings=first.settings | settings,
                    extra={
                        "images": s.images,
                        "note": f"largest of {s.images} exact ranks: a lower bound of the supremum "
                        "over all inputs, which another image may exceed",
                    },
                )
            )  # fmt: skip
    return found


def _groups(records: Iterable[Record]) -> dict[tuple[str, str, str], dict[str, Record]]:
    """Records by (model, tap, notion), then by image; proved before measured."""
    groups: dict[tuple[str, str, str], dict[str, Record]] = {}
    for r in records:
        if r.measurement != "jacobian" or r.value is None or r.notion == "structural":
            continue
        if r.notion == "exact" and r.known == "measured":
            continue  # float64 resolution is another number than the exact rank
        groups.setdefault((r.model, r.tap, r.notion), {})[r.image] = r
    return groups
