"""What the page shows of the laws of depth, network by network, from records alone."""

from __future__ import annotations

from collections.abc import Sequence

from empirical.records import Record
from empirical.report.curves import Line, curves
from empirical.report.rows import number
from empirical.report.section import TAPS, Section, first_image, image, of


def over_images(records: Sequence[Record]) -> list[Section]:
    """Ranks over images: median, quartiles, range; the supremum's lower bound."""
    rows = [r for r in of(records, "images") if r.notion in ("exact", "relative(0.001)")]
    best = {r.tap: r for r in of(records, "supremum")}
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
    rows = of(records, "lyapunov")
    whole = [r for r in rows if r.notion == "spectra" and r.extra.get("exponents")]
    gains = first_image([r for r in rows if r.notion != "spectra"])
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
    rows = first_image(of(records, "tokens"))
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
    rows = first_image(of(records, "centralisation"))
    if not rows:
        return []
    losses = {r.tap: r for r in of(records, "loss") if r.image == rows[0].image}
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
        f"At {image(rows)}. log10 spread: sigma_1 over the median. rank lost since the tap before "
        "(f: by float64 ranks, not proved) beside what residual-loss, residual-stack and Sylvester "
        "allow; none: a projection shortcut, or layers whose own rank is unknown."
    )
    return [
        Section("Concentration of the spectrum, loss of rank", note, figure, columns, tuple(cells))
    ]


def rises(records: Sequence[Record]) -> list[Section]:
    """Where a relative rank rises with depth: the taps and the largest rise's two spectra."""
    rows = of(records, "rise")
    if not rows:
        return []
    cells = tuple(
        (
            image([r]), str(r.settings["from"]), f"<= {r.extra['before']:g}", r.tap,
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
    rows = of(records, "ablation")
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
    note = f"At {image(rows)}; float ranks count singular values of at least 2^-23 of the largest."
    return [
        Section("Float32, float64 and exact ranks", note, columns=columns, rows=cells, text=(4,))
    ]
