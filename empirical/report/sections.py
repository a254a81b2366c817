"""The sections of one network, and the tables over all networks of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from empirical.records import Record
from empirical.report import laws, studies
from empirical.report.rows import number
from empirical.report.section import Section
from empirical.verdicts import ClaimVerdict, by_model


def of_network(records: Iterable[Record], model: str) -> list[Section]:
    """The sections of one network, those that the records can fill."""
    own = [r for r in records if r.model == model]
    makers = (
        laws.over_images, laws.exponents, laws.tokens, laws.concentration, laws.rises, laws.ablation,
        studies.accuracy, studies.dependences, studies.pca, studies.patches, studies.factorised,
    )  # fmt: skip
    return [s for make in makers for s in make(own)]


def whole_run(records: Sequence[Record]) -> list[Section]:
    """Tables over all networks: catalogue rows, published figures, cost."""
    found = []
    bounds = [r for r in records if r.measurement == "bound"]
    if bounds:
        models = list(dict.fromkeys(r.model for r in bounds))
        by_key = {(r.settings["row"], r.model): r for r in bounds}
        names = list(dict.fromkeys(str(r.settings["row"]) for r in bounds))
        cells = tuple(
            (name, *(_check(by_key.get((name, m))) for m in models), _why_not(bounds, name))
            for name in names
        )
        note = "Instances of each row that hold on what was measured, network by network."
        columns = ("row", *models, "where not applicable")
        found.append(
            Section(
                "The catalogue held against each network", note, columns=columns, rows=cells,
                text=(len(columns) - 1,),
            )
        )  # fmt: skip
    published = [r for r in records if r.measurement == "published"]
    if published:
        cells = tuple(
            (
                r.model, f"{r.extra['published']}/{r.extra.get('width', '?')}", number(r),
                str(r.extra.get("verdict", "-")), str(r.extra["note"]),
            )
            for r in published
        )  # fmt: skip
        columns = ("network", "published", "measured", "verdict", "detail")
        note = (
            "Classification dimension on ImageNet's validation set. Agreement: within 10 % of the "
            "published figure, or inside the bootstrap interval."
        )
        found.append(
            Section("Published and measured", note, columns=columns, rows=cells, text=(4,))
        )
    items = [r for r in records if r.measurement == "item"]
    if items:
        kinds = list(dict.fromkeys(str(r.settings.get("field", "-")) for r in items))
        models = list(dict.fromkeys(r.model for r in items))
        seconds: dict[tuple[str, str], float] = {}
        for r in items:
            key = (r.model, str(r.settings.get("field", "-")))
            seconds[key] = seconds.get(key, 0.0) + r.seconds
        cells = tuple(
            (m, *(f"{seconds[m, k]:.1f}" if (m, k) in seconds else "." for k in kinds),
             f"{sum(v for (n, _), v in seconds.items() if n == m):.1f}")
            for m in models
        )  # fmt: skip
        found.append(
            Section(
                "Seconds a study", "Images summed.", columns=("network", *kinds, "sum"), rows=cells
            )
        )
    return found


def _check(r: Record | None) -> str:
    if r is None:
        return "."
    if r.extra.get("broken"):
        return "BROKEN"
    return f"{r.value:g}" if r.value else "n/a"


def _why_not(bounds: Sequence[Record], row: str) -> str:
    """The reasons why a row is not compared on some networks."""
    reasons = [r.extra["note"] for r in bounds if r.settings["row"] == row and not r.value]
    return "; ".join(dict.fromkeys(map(str, reasons)))


def matrix(
    verdicts: Iterable[ClaimVerdict],
) -> tuple[tuple[str, ...], dict[tuple[str, str], ClaimVerdict]]:
    """(networks, (claim, network) -> verdict) of the overview."""
    found = by_model(verdicts)
    models = tuple(dict.fromkeys(v.model for v in found))
    return models, {(v.claim, v.model): v for v in found}
