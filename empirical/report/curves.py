"""Small line plots as SVG text, with labelled axes: self-contained, readable without colour."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

STYLES = (
    ("#111111", "o", "-"), ("#2a7fb8", "s", "--"), ("#c23b3b", "D", "-."), ("#7b4fa3", "v", ":"),
    ("#d9822b", "^", "-"), ("#3a7d44", "P", "--"),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One curve: points, a band around it where there is one."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def curves(
    lines: Sequence[Line],
    xlabel: str,
    ylabel: str,
    *,
    ticks: Sequence[str] | None = None,
    log: bool = False,
    mark: float | None = None,
) -> str:
    """Curves in one frame as an ``<svg>`` element.

    Args:
        lines: what is drawn; at most as many as there are styles look different.
        xlabel: below the horizontal axis.
        ylabel: beside the vertical axis.
        ticks: names of the places 0, 1, ... on the horizontal axis.
        log: logarithmic vertical axis; values that are not positive are left out.
        mark: a horizontal line at this height.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "path", "svg.hashsalt": "rankfall", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(5.0, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for (colour, marker, style), line in zip(
            STYLES * (len(lines) // len(STYLES) + 1), lines, strict=False
        ):
            points = [
                (a, b) for a, b in zip(line.x, line.y, strict=True) if not log or b > 0
            ]  # fmt: skip
            few = len(points) <= 24
            axes.plot(
                [a for a, _ in points], [b for _, b in points], color=colour, linestyle=style,
                marker=marker if few else "", markersize=4, linewidth=1.5, label=line.label,
            )  # fmt: skip
            if line.low is not None and line.high is not None:
                axes.fill_between(
                    line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0
                )
        if mark is not None:
            axes.axhline(mark, color="#8a8a8a", linewidth=1)
        if log:
            axes.set_yscale("log")
        if ticks is not None:
            axes.set_xticks(range(len(ticks)), ticks, rotation=90, fontsize=8)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize=8, loc="best", framealpha=0.85)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "rankfall"})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
