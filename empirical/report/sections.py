"""What the page shows of each network beside its ranks, as plots and tables, from records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from empirical.records import Record
from empirical.report.curves import Line, curves
from empirical.report.rows import exact_text, number
from empirical.verdicts import ClaimVerdict, by_model

TAPS = "tap, in the order of the forward pass"


@dataclass(frozen=True)
class Section:
    """One heading with a plot, a table or both.

    Attributes:
        title: the heading.
        note: a sentence below it.
        figure: SVG text, or empty.
        columns, rows: the table; no rows, no table.
        text: columns that hold sentences.
    """

    title: str
    note: str = ""
    figure: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: tuple[int, ...] = ()


def of_network(records: Iterable[Record], model: str) -> list[Section]:
    """The sections of one network, those that the records can fill."""
    own = [r for r in records if r.model == model]
    makers = (
        over_images, exponents, tokens, concentration, rises, ablation, accuracy, dependences, pca,
        patches, factorised,
    )  # fmt: skip
    return [s for make in makers for s in make(own)]


def _of(records: Sequence[Record], measurement: str) -> list[Record]:
    found = [r for r in records if r.measurement == measurement]
    return sorted(found, key=lambda r: r.tap_index)


def _first_image(records: Sequence[Record]) -> list[Record]:
    """The records at the image that was measured first."""
    return [r for r in records if r.image == records[0].image] if records else []


def _image(records: Sequence[Record]) -> str:
    return str(records[0].extra.get("image_name", records[0].image))


def over_images(records: Sequence[Record]) -> list[Section]:
    """Ranks over images: median, quartiles, range; the supremum's lower bound."""
    rows = [r for r in _of(records, "images") if r.notion in ("exact", "relative(0.001)")]
    best = {r.tap: r for r in _of(records, "supremum")}
    if not rows:
        return []
    cells = tuple(
        (
            r.tap, r.notion, f"{r.extra['images']}", f"{r.value:g}",
            f"{r.extra['quartiles'][0]:g}-{r.extra['quartiles'][1]:g}", f"{r.low:g}-{r.high:g}",
            f">= {best[r.tap].value:g}" if r.notion == "exact" and r.tap in best else ".",
        )
        for r in rows
    )  # fmt: skip
    note = (
        "supremum: the largest exact rank over the images is a lower bound of the supremum over "
        "all inputs; another image may exceed it."
    )
    columns = ("tap", "notion", "images", "median", "quartiles", "range", "supremum")
    return [Section("Ranks over images", note, columns=columns, rows=cells)]


def exponents(records: Sequence[Record]) -> list[Section]:
    """Singular-value exponents against the Gaussian prediction, and the block gains."""
    rows = _of(records, "lyapunov")
    whole = [r for r in rows if r.notion == "spectra" and r.extra.get("exponents")]
    gains = _first_image([r for r in rows if r.notion != "spectra"])
    found = []
    if whole:
        r = whole[0]
        e, g, d = (list(map(float, r.extra[k])) for k in ("exponents", "gaussian", "deviation"))
        x = list(range(1, len(e) + 1))
        lines = [
            Line("measured", x, e),
            Line(
                "Gaussian layers of these widths, +- 3 deviations", x, g,
                [a - 3 * b for a, b in zip(g, d, strict=True)],
                [a + 3 * b for a, b in zip(g, d, strict=True)],
            ),
        ]  # fmt: skip
        figure = curves(lines, "singular value k", "(1/L) log(sigma_k / sigma_1)")
        found.append(Section("Singular-value exponents (QR method)", str(r.extra["note"]), figure))
    if gains:
        cells = tuple(
            (
                r.tap, number(r), f"{r.extra['gain_median']:.3f}", f"{r.extra['gain_top']:.3f}",
                f"{r.extra['log_spread']:.2f}", str(r.extra.get("alive", ".")),
                str(r.extra.get("dropped", ".")),
            )
            for r in gains
            if r.extra.get("gain_median") is not None and r.extra.get("log_spread") is not None
        )  # fmt: skip
        columns = (
            "tap", "relative(1e-3)", "median gain", "top gain", "log spread", "alive", "dropped",
        )  # fmt: skip
        note = (
            "gain: log |diag R| of the block; log spread: log sigma_1 / sigma_min over the "
            "directions alive; dropped: below a block's own rounding floor, zero or too small."
        )
        found.append(Section("Gains of the blocks", note, columns=columns, rows=cells))
    return found


def tokens(records: Sequence[Record]) -> list[Section]:
    """Distance of the token matrix from equal tokens, with and without skips."""
    rows = _first_image(_of(records, "tokens"))
    if not rows:
        return []
    lines: list[Line] = []
    names: list[str] = []
    for skips, word in ((True, "with skips"), (False, "without skips")):
        own = [r for r in rows if r.settings.get("skips") is skips]
        names = [r.tap for r in own] or names
        y = [float(r.extra["distance"]) for r in own]
        lines.append(Line(word, list(range(len(own))), y))
    figure = curves(lines, TAPS, "distance from equal tokens", ticks=names, log=True)
    cells = tuple(
        (
            r.tap, "with" if r.settings.get("skips") else "without", number(r),
            f"{float(r.extra['distance']):.2g}", f"{float(r.extra['stable']):.2f}",
        )
        for r in rows
    )  # fmt: skip
    columns = ("block", "skips", "relative(1e-3)", "distance", "stable rank")
    note = "Token matrix [tokens, width] after each block; |X - 1 mean| / |X| in Frobenius norm."
    return [Section("Token rank by depth", note, figure, columns, cells)]


def concentration(records: Sequence[Record]) -> list[Section]:
    """Soft ranks by depth, and the loss of rank in each block beside its proved bound."""
    rows = _first_image(_of(records, "centralisation"))
    if not rows:
        return []
    losses = {r.tap: r for r in _of(records, "loss") if r.image == rows[0].image}
    lines = [
        Line("effective rank", range(len(rows)), [r.value or 0.0 for r in rows]),
        Line("participation ratio", range(len(rows)), [r.extra["participation"] for r in rows]),
        Line("stable rank", range(len(rows)), [r.extra["stable"] for r in rows]),
    ]
    figure = curves(lines, TAPS, "soft rank of the Jacobian", ticks=[r.tap for r in rows])
    cells = []
    for r in rows:
        loss = losses.get(r.tap)
        lost, bound = ".", "."
        if loss is not None:
            lost = f"{loss.value:g}" + (
                "" if loss.low is not None and loss.low == loss.value else " f"
            )
            bound = "none" if loss.extra.get("bound") is None else f"<= {loss.extra['bound']:g}"
            bound += " BROKEN" if loss.extra.get("broken") else ""
        cells.append(
            (
                r.tap, f"{r.value:.2f}", f"{r.extra['participation']:.2f}",
                f"{r.extra['stable']:.2f}", f"{r.extra['spread']:.2f}", lost, bound,
            )
        )  # fmt: skip
    columns = (
        "tap", "effective", "participation", "stable", "log10 spread", "rank lost", "proved bound",
    )  # fmt: skip
    note = (
        f"At {_image(rows)}. log10 spread: sigma_1 over the median. rank lost since the tap before "
        "(f: by float64 ranks, not proved) beside what residual-loss, residual-stack and Sylvester "
        "allow; none: a projection shortcut, or layers whose own rank is unknown."
    )
    return [
        Section("Concentration of the spectrum, loss of rank", note, figure, columns, tuple(cells))
    ]


def rises(records: Sequence[Record]) -> list[Section]:
    """Where a relative rank rises with depth: the taps and the largest rise's two spectra."""
    rows = _of(records, "rise")
    if not rows:
        return []
    cells = tuple(
        (
            _image([r]), str(r.settings["from"]), f"<= {r.extra['before']:g}", r.tap,
            f">= {r.value:g}",
        )
        for r in rows
    )  # fmt: skip
    top = max(rows, key=lambda r: (r.value or 0.0) - float(r.extra["before"]))
    lines = []
    for key, name in (("spectrum_before", str(top.settings["from"])), ("spectrum_after", top.tap)):
        values = [float(v) for v in top.extra[key]]
        x = [i / max(1, len(values) - 1) for i in range(len(values))]
        lines.append(Line(name, x, values))
    figure = ""
    if all(line.y for line in lines):
        figure = curves(
            lines, "place in the spectrum, 0 largest to 1 smallest", "sigma / sigma_1", log=True,
            mark=1e-3,
        )  # fmt: skip
    note = "relative(1e-3) is not monotone in depth (eps-monotone). The plot: the largest rise."
    columns = ("image", "from", "rank", "to", "rank")
    return [Section("Where the relative rank rises", note, figure, columns, cells, (0,))]


def ablation(records: Sequence[Record]) -> list[Section]:
    """Float32, float64 and exact ranks side by side."""
    rows = _of(records, "ablation")
    if not rows:
        return []
    cells = tuple(
        (
            r.tap, f"{r.extra.get('float32', r.value):g}", f"{r.extra['float64']:g}",
            "." if r.extra["exact"] is None else f"{r.extra['exact']:g}",
            str(r.extra.get("known") or "-"),
        )
        for r in rows
    )  # fmt: skip
    columns = ("tap", "float32", "float64", "exact", "exact is")
    note = f"At {_image(rows)}; float ranks count singular values of at least 2^-23 of the largest."
    return [
        Section("Float32, float64 and exact ranks", note, columns=columns, rows=cells, text=(4,))
    ]


def accuracy(records: Sequence[Record]) -> list[Section]:
    """Accuracy against the number of principal components, one curve a projection."""
    rows = [r for r in _of(records, "classification") if r.extra.get("curve")]
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
    rows = [r for r in _of(records, "dependence") if r.extra.get("each")]
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
    rows = _of(records, "pca")
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
    rows = [r for r in _of(records, "patch") if "place" in r.extra]
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
    rows = _of(records, "factorise")
    cells = tuple(
        (r.tap, "x".join(map(str, r.shape)), exact_text(r), str(r.extra.get("kept_rank", ".")),
         str(r.extra.get("saved", ".")))
        for r in rows
    )  # fmt: skip
    columns = ("layer", "shape", "exact", "kept rank", "saved")
    return [Section("Layers to factorise", columns=columns, rows=cells)] if cells else []


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
