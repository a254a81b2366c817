"""Records into the rows that the terminal, the page and the CSV show: one place, three readers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from empirical.records import Record
from empirical.verdicts import best_exact, epsilon, is_exact, structural, with_families

FLOAT32_EPS = 2.0**-23


@dataclass(frozen=True)
class TapRow:
    """One tap of one network at one image; a cell is None where nothing was measured.

    Attributes:
        tap, shape, separator: the tap, its output shape, and whether it separates input and output.
        upper: structural upper bound.
        family: generic rank of the family of networks with these weights.
        exact: best-known exact rank.
        float64: rank at float64 resolution.
        relative: relative(1e-3) rank; ``single``: relative(float32 eps) rank.
    """

    tap: str
    index: int
    shape: tuple[int, ...]
    separator: bool
    upper: Record | None
    family: Record | None
    exact: Record | None
    float64: Record | None
    relative: Record | None
    single: Record | None


@dataclass(frozen=True)
class Network:
    """What was measured of one network at one image."""

    model: str
    image: str
    weights: str
    directions: int
    title: str
    rows: tuple[TapRow, ...]


@dataclass(frozen=True)
class TheoryRow:
    """One row of the catalogue: verdicts of its statements and its property test."""

    id: str
    title: str
    status: str
    beyond: bool
    verdicts: str
    property: str
    ok: bool
    known: str


def networks(records: Iterable[Record]) -> tuple[Network, ...]:
    """Networks and images in the order they were measured."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.measurement == "jacobian":
            groups.setdefault((record.model, record.image), []).append(record)
    with_families(groups)
    found = []
    for (model, image), group in groups.items():
        names = {r.tap: r.tap_index for r in group}
        order = sorted(names, key=lambda tap: names[tap])
        first = group[0]
        picture = next((r.extra["image_name"] for r in group if "image_name" in r.extra), image)
        title = f"{model} on {picture}, {first.directions} directions"
        rows = tuple(_row(group, tap) for tap in order)
        found.append(Network(model, image, first.weights, first.directions, title, rows))
    return tuple(found)


def _row(group: Sequence[Record], tap: str) -> TapRow:
    here = [r for r in group if r.tap == tap and r.value is not None]

    def named(notion: str) -> Record | None:
        return next((r for r in here if r.notion == notion), None)

    def tolerance(eps: float) -> Record | None:
        close = (r for r in here if (e := epsilon(r.notion)) and abs(e / eps - 1) < 1e-3)
        return next(close, None)

    exact = best_exact(here, tap)
    return TapRow(
        tap=tap,
        index=here[0].tap_index,
        shape=here[0].shape,
        separator=here[0].separator,
        upper=structural(here).get(tap),
        family=named("family(weights)"),
        exact=exact if exact is not None and exact.known != "measured" else None,
        float64=next((r for r in here if is_exact(r) and r.known == "measured"), None),
        relative=tolerance(1e-3),
        single=tolerance(FLOAT32_EPS),
    )


def number(record: Record | None) -> str:
    """A rank as text: ``12``, or ``11-13`` where it is only known to lie between; ``.`` if absent.

    A lower bound that nothing meets from above is ``>= 12``.
    """
    if record is None or record.value is None:
        return "."
    low, high = record.low, record.high
    if low is not None and high is not None and low != high:
        return f"{low:g}-{high:g}"
    return f"{record.value:g}"


def exact_text(record: Record | None) -> str:
    """An exact rank with how it is known: ``12 =`` proved, ``12 p`` for what was recorded, ``12 ~``."""
    if record is None:
        return "."
    mark = {"proved": "=", "probable": "~", "measured": ""}
    value = record.value or 0
    return f"{value:g} {mark.get(record.known, 'p')}".rstrip()


def gap(record: Record | None) -> str:
    """The ratio of the singular values on the two sides of the threshold."""
    found = record.extra.get("gap") if record is not None else None
    if not isinstance(found, int | float):
        return "."
    if found < 10:
        return f"{found:.2f}"
    return f"{found:.0f}" if found < 1000 else f"1e{int(math.log10(found))}"


def shape_text(shape: Sequence[int]) -> str:
    """A shape as ``16x112x112``."""
    return "x".join(str(n) for n in shape)


COLUMNS = ("tap", "output", "bound", "exact", "family", "f64", "1e-3", "gap", "2^-23", "gap")


def cells(row: TapRow) -> tuple[str, ...]:
    """The cells of a row, in the order of ``COLUMNS``."""
    return (
        row.tap if row.separator else f"{row.tap} (not a separator)",
        shape_text(row.shape),
        number(row.upper),
        exact_text(row.exact),
        number(row.family),
        number(row.float64),
        number(row.relative),
        gap(row.relative),
        number(row.single),
        gap(row.single),
    )


def theory_rows(records: Iterable[Record]) -> tuple[TheoryRow, ...]:
    """The catalogue's rows that the records speak of, in catalogue order."""
    from theory.catalogue import CATALOGUE

    proofs: dict[str, list[dict[str, Any]]] = {}
    tests: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.measurement == "prove":
            proofs.setdefault(record.tap, []).append(record.extra)
        elif record.measurement == "property":
            tests[record.tap] = record.extra
    rows = []
    for entry in CATALOGUE:
        mine, test = proofs.get(entry.id, []), tests.get(entry.id)
        if not mine and test is None:
            continue
        counts: dict[str, int] = {}
        for extra in mine:
            counts[extra["verdict"]] = counts.get(extra["verdict"], 0) + 1
        verdicts = ", ".join(f"{n} {v}" if n > 1 else v for v, n in counts.items()) or "-"
        ok = all(extra["ok"] for extra in mine) and (test is None or bool(test["ok"]))
        text = "-" if test is None else str(test["summary"])
        rows.append(
            TheoryRow(
                entry.id, entry.title, entry.status, entry.beyond, verdicts, text, ok, entry.known
            )
        )
    return tuple(rows)
