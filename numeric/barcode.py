"""The barcode of a chain of maps: which directions are born where and die where.

Positions are 0..L (the spaces), r(i,j) = rank J_{i->j} with r(i,i) = d_i. The bar [i,j] has
multiplicity r(i,j) - r(i-1,j) - r(i,j+1) + r(i-1,j+1), terms outside the chain being 0; r(a,b) is
the number of bars that contain [a,b]. Source: theory.md, rows ``completeness`` and ``barcode``
(Gabriel 1972).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import flint

from numeric.scalars import EXACT, Matrix, Rational
from theory.errors import InputError

#: (i, j) with 0 <= i <= j <= L -> a number
Table = dict[tuple[int, int], int]


@dataclass(frozen=True)
class Barcode:
    """Bars of a chain with spaces 0..depth.

    Attributes:
        depth: number L of maps.
        bars: ``(i, j, multiplicity)`` with multiplicity >= 1, sorted.
    """

    depth: int
    bars: tuple[tuple[int, int, int], ...]

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The dimensions d_0..d_L of the spaces."""
        return tuple(self.rank(i, i) for i in range(self.depth + 1))

    def rank(self, a: int, b: int) -> int:
        """r(a,b): the number of bars that contain [a,b]."""
        return sum(m for i, j, m in self.bars if i <= a and b <= j)

    def to_json(self) -> dict[str, Any]:
        """Plain data: depth and bars."""
        return {"depth": self.depth, "bars": [list(bar) for bar in self.bars]}

    def lines(self) -> list[str]:
        """One line of text a bar: where it is born, where it dies, how often."""
        width = max((len(str(m)) for *_, m in self.bars), default=1)
        return [
            f"{m:>{width}} x [{i},{j}] " + " " * (4 * i) + "o" + "---o" * (j - i)
            for i, j, m in self.bars
        ]


def rank_table(maps: Sequence[Matrix]) -> Table:
    """All r(i,j) of the chain x -> maps[0] x -> maps[1] maps[0] x ..., exactly.

    Args:
        maps: flint rational matrices J_1..J_L, J_k of shape (d_k, d_{k-1}); at least one.

    Raises:
        InputError: no maps, or two neighbours do not compose (both shapes).
    """
    if not maps:
        raise InputError("a barcode needs at least one map")
    for k, (a, b) in enumerate(pairwise(maps)):
        if b.ncols() != a.nrows():
            raise InputError(
                f"maps {k + 1} and {k + 2} do not compose: shapes ({a.nrows()}, {a.ncols()}) and "
                f"({b.nrows()}, {b.ncols()})"
            )
    table: Table = {(0, 0): maps[0].ncols()}
    for k, matrix in enumerate(maps):
        table[k + 1, k + 1] = matrix.nrows()
    for i in range(len(maps)):
        product = maps[i]
        table[i, i + 1] = product.rank()
        for j in range(i + 1, len(maps)):
            product = maps[j] * product
            table[i, j + 1] = product.rank()
    return table


def bars_of_table(table: Mapping[tuple[int, int], int]) -> Table:
    """The inclusion-exclusion of every interval; negative numbers mean no chain has these ranks."""
    return {
        (i, j): table[i, j]
        - table.get((i - 1, j), 0)
        - table.get((i, j + 1), 0)
        + table.get((i - 1, j + 1), 0)
        for i, j in table
    }


def from_table(table: Mapping[tuple[int, int], int]) -> Barcode:
    """The barcode that has these ranks.

    Raises:
        InputError: no chain of linear maps has them; names the first negative bar (completeness).
    """
    depth = max((j for _, j in table), default=0)
    missing = [(i, j) for j in range(depth + 1) for i in range(j + 1) if (i, j) not in table]
    if missing:
        raise InputError(f"r{missing[0]} is missing: a chain of {depth} maps has all 0 <= i <= j")
    bars = bars_of_table(table)
    for (i, j), value in sorted(bars.items()):
        if value < 0:
            raise InputError(
                f"no chain has these ranks: r({i},{j}) - r({i - 1},{j}) - r({i},{j + 1}) + "
                f"r({i - 1},{j + 1}) = {value} < 0 (terms outside the chain are 0)"
            )
    return Barcode(depth, tuple((i, j, m) for (i, j), m in sorted(bars.items()) if m))


def barcode(maps: Sequence[Matrix]) -> Barcode:
    """The barcode of a chain of exact matrices; see :func:`rank_table` for arguments and errors."""
    return from_table(rank_table(maps))


def network_barcode(network: Any, x: Sequence[Rational]) -> Barcode:
    """The barcode of a small network at a rational input, from its exact layer Jacobians.

    Args:
        network: a :class:`numeric.networks.Network` whose layers stay rational.
        x: input, flattened.

    Raises:
        KinkError: a layer has no derivative on the path of x.
        UnsupportedError: a layer leaves the rationals.
    """
    return barcode(network.elements(x, EXACT))


def realise(code: Barcode) -> list[Matrix]:
    """0/1 matrices of a chain with this barcode: each bar carries one basis vector from i to j."""
    members = [
        [(i, j, c) for i, j, m in code.bars if i <= k <= j for c in range(m)]
        for k in range(code.depth + 1)
    ]
    chain = []
    for k in range(code.depth):
        source = {bar: at for at, bar in enumerate(members[k])}
        rows, cols = len(members[k + 1]), len(members[k])
        entries = [0] * (rows * cols)
        for at, bar in enumerate(members[k + 1]):
            if bar in source:
                entries[at * cols + source[bar]] = 1
        chain.append(flint.fmpq_mat(rows, cols, entries))
    return chain


def parse_bars(text: str) -> Barcode:
    """Read ``0-2x3, 1-1`` (birth-death, times multiplicity) into a barcode.

    Raises:
        InputError: the text is no list of bars.
    """
    bars: dict[tuple[int, int], int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        interval, _, times = part.partition("x")
        birth, _, death = interval.partition("-")
        if not (birth.strip().isdigit() and death.strip().isdigit() and (times or "1").isdigit()):
            raise InputError(f"cannot read the bar {part!r}; write birth-death, for example 0-2x3")
        i, j, m = int(birth), int(death), int(times or "1")
        if i > j:
            raise InputError(f"the bar {part!r} dies before it is born")
        bars[i, j] = bars.get((i, j), 0) + m
    if not bars:
        raise InputError("no bars given; write for example 0-2x3, 1-1")
    depth = max(1, *(j for _, j in bars))
    return Barcode(depth, tuple((i, j, m) for (i, j), m in sorted(bars.items()) if m))


def plot(code: Barcode, path: str, title: str = "barcode at x") -> None:
    """Draw the bars, one line for each copy, to an image or SVG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    copies = [(i, j) for i, j, m in code.bars for _ in range(m)]
    for at, (i, j) in enumerate(copies):
        alive = j == code.depth
        axes.plot([i, j], [at, at], "-o", color="C0" if alive else "C3", markersize=4)
    axes.set_xlabel("layer")
    axes.set_ylabel("direction")
    axes.set_xticks(range(code.depth + 1))
    axes.set_title(f"{title} (exact; blue reaches the output)")
    axes.invert_yaxis()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write the plot to {path}: {error}") from error
