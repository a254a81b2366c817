"""Rank by depth as SVG text: self-contained, sharp at every width, readable without colour."""

from __future__ import annotations

import io
from collections.abc import Callable

from empirical.records import Record
from empirical.report.rows import Network, TapRow

#: legend text, colour, marker, line style, how to read it from a row
_LINES: tuple[tuple[str, str, str, str, Callable[[TapRow], Record | None]], ...] = (
    ("structural upper bound", "#8a8a8a", "", "-", lambda row: row.upper),
    ("family of these weights", "#7b4fa3", "v", ":", lambda row: row.family),
    ("float64 resolution", "#2a7fb8", "s", "--", lambda row: row.float64),
    ("exact", "#111111", "o", "-", lambda row: row.exact),
    ("relative(float32 eps)", "#d9822b", "^", "-.", lambda row: row.single),
    ("relative(1e-3)", "#c23b3b", "D", "-", lambda row: row.relative),
)


def rank_by_depth(network: Network, title: str | None = None) -> str:
    """The plot of one network at one image.

    Args:
        network: its rows; taps that are no separators are left out.
        title: text above the axes; none by default, since the page has its own heading.

    Returns:
        An ``<svg>`` element as text, with labelled axes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = [row for row in network.rows if row.separator]
    settings = {"svg.fonttype": "path", "svg.hashsalt": "rankfall", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(5.0, 4.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        # lines that coincide stay visible: each is drawn thinner, on top of the one before
        widths, sizes = (7, 4, 3, 2, 1.5, 1), (0, 8, 7, 5.5, 4.5, 3)
        for (label, colour, marker, style, read), width, size in zip(
            _LINES, widths, sizes, strict=True
        ):
            points = [(i, r) for i, row in enumerate(rows) if (r := read(row)) is not None]
            if not points:
                continue
            x = [i for i, _ in points]
            y = [r.value or 0.0 for _, r in points]
            axes.plot(
                x, y, color=colour, marker=marker, linestyle=style, label=label, markersize=size,
                linewidth=width, alpha=1 if marker else 0.5,
            )  # fmt: skip
            low = [v if r.low is None else r.low for (_, r), v in zip(points, y, strict=True)]
            high = [v if r.high is None else r.high for (_, r), v in zip(points, y, strict=True)]
            if low != high:
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.margins(y=0.08)
        axes.set_ylim(bottom=0)
        axes.set_xticks(range(len(rows)), [row.tap for row in rows], rotation=90, fontsize=8)
        axes.set_xlabel("tap, in the order of the forward pass")
        axes.set_ylabel(f"rank of the Jacobian over {network.directions} directions")
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize=8, loc="best", framealpha=0.85)
        if title:
            axes.set_title(title, fontsize=9)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "rankfall"})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
