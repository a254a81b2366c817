"""What the page shows of the studies of data, pixels and layers, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from empirical.records import Record
from empirical.report.curves import Line, curves
from empirical.report.rows import exact_text, number
from empirical.report.section import Section, of


def accuracy(records: Sequence[Record]) -> list[Section]:
    """Accuracy against the number of principal components, one curve a projection."""
    rows = [r for r in of(records, "classification") if r.extra.get("curve")]
    if not rows:
        return []
    lines = [
        Line(
            str(r.settings.get("projection", "-")), range(1, len(r.extra["curve"]) + 1),
            [float(v) for v in r.extra["curve"]],
        )
        for r in rows
    ]  # fmt: skip
    full = float(rows[0].extra["accuracy_original"])
    figure = curves(
        lines, "principal components kept", "accuracy of the network's own head",
        mark=(rows[0].tolerance or 0.95) * full,
    )  # fmt: skip
    cells = tuple(
        (
            str(r.settings.get("projection", "-")), f"{r.value:g}", f"{r.low:g}-{r.high:g}",
            f"{r.extra['last']:g}", str(len(r.extra["curve"])),
        )
        for r in rows
    )  # fmt: skip
    columns = ("projection", "first crossing", "bootstrap", "last crossing", "width")
    note = f"Accuracy {full:.1%} with all components; the line is the fraction that has to be kept."
    return [Section("Classification dimension", note, figure, columns, cells)]


def dependences(records: Sequence[Record]) -> list[Section]:
    """Each class's logit from a few others."""
    rows = [r for r in of(records, "dependence") if r.extra.get("each")]
    cells = []
    for r in rows:
        for c in r.extra["each"]:
            levels = c["carriers"]
            cells.append(
                (
                    str(c["class"]), str(r.settings.get("samples", "-")), str(c["support"]),
                    *("." if levels.get(k) is None else str(levels[k])
                      for k in ("0.9", "0.95", "0.99")),
                    f"{c['accuracy_class']:.1%}", f"{c['accuracy_class_original']:.1%}",
                )
            )  # fmt: skip
    if not cells:
        return []
    columns = (
        "class", "samples", f"logits at w = {rows[0].tolerance:g}", "90 %", "95 %", "99 %",
        "accuracy", "before",
    )  # fmt: skip
    note = (
        "How many other logits carry a class's logit: at the default penalty, and the fewest on "
        "the path that explain so much of its variance; accuracy of the class when its logit is "
        "replaced, on held-out images."
    )
    return [Section("Sparse dependences", note, columns=columns, rows=tuple(cells[:60]))]


def pca(records: Sequence[Record]) -> list[Section]:
    """Perturbed PCA dimension, one column a noise."""
    rows = of(records, "pca")
    if not rows:
        return []
    noises = sorted({float(r.settings["noise"]) for r in rows}, reverse=True)
    by_tap = [(tap, list(group)) for tap, group in groupby(rows, key=lambda r: r.tap)]
    cells = []
    for tap, group in by_tap:
        found = {float(r.settings["noise"]): r for r in group}
        first = group[0]
        bias = found[noises[-1]].extra.get("bias") if noises[-1] in found else None
        cells.append(
            (
                tap,
                *(
                    number(found.get(n)) + (" s" if n in found and found[n].extra["saturated"] else "")
                    for n in noises
                ),
                f"{first.extra['bound']:g}", "." if bias is None else f"{bias:+g}",
            )
        )  # fmt: skip
    columns = ("tap", *(f"noise {n:g}" for n in noises), "bound", "over the Jacobian")
    note = f"{rows[0].settings['samples']} samples; s: saturated at the bound."
    return [Section("Perturbed PCA dimension", note, columns=columns, rows=tuple(cells))]


def patches(records: Sequence[Record]) -> list[Section]:
    """The patch's place and size, the background and the image."""
    rows = [r for r in of(records, "patch") if "place" in r.extra]
    cells = tuple(
        (
            r.tap, str(r.extra["image_name"]), str(r.extra["size"]), str(r.extra["place"]),
            str(r.extra["background"]), str(r.directions), number(r),
        )
        for r in rows
    )  # fmt: skip
    if not cells:
        return []
    columns = ("tap", "image", "side", "place", "background", "directions", "relative(1e-3)")
    return [Section("The patch: place, size, background, image", columns=columns, rows=cells)]


def factorised(records: Sequence[Record]) -> list[Section]:
    """What a pruning engineer needs: ranks of each layer and parameters saved."""
    rows = of(records, "factorise")
    cells = tuple(
        (r.tap, "x".join(map(str, r.shape)), exact_text(r), str(r.extra.get("kept_rank", ".")),
         str(r.extra.get("saved", ".")))
        for r in rows
    )  # fmt: skip
    columns = ("layer", "shape", "exact", "kept rank", "saved")
    return [Section("Layers to factorise", columns=columns, rows=cells)] if cells else []
