"""The recorded pattern: which side of every kink, and which winner of every window, a pass took."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """What one piecewise-linear operation decided, in the order of the pass (theory.md 5.1).

    Attributes:
        operation: the aten operation.
        path: module path, for messages and for facts about that module.
        support: boolean, of the input's shape: units with a structurally non-zero tangent. Only
            there the choice matters.
        kinks: where a scalar function's slope changes, ascending; empty for a max pool.
        slope: that function's slope, entry by entry.
        slopes: the slopes used, of the input's shape; None for a max pool.
        winners: flat places of a max pool's winners in each channel; None for a scalar function.
    """

    operation: str
    path: str
    support: Tensor
    kinks: tuple[float, ...] = ()
    slope: Callable[[Tensor], Tensor] | None = None
    slopes: Tensor | None = None
    winners: Tensor | None = None


def largest(values: Tensor) -> float:
    """The largest finite absolute value, 1 where there is none: masked scores are infinite."""
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 1.0


@dataclass
class Kinks:
    """What the recorded pattern rests on (theory.md 5.1).

    Attributes:
        units: kinks seen by units with a structurally non-zero tangent.
        in_doubt: how many of them stand exactly at a kink.
        margin: smallest relative distance from a kink among the others.
        choices: the pattern itself, in the order of the pass.
        points: operations whose exact slope is taken at the float64 input recorded for them.
        seen: running checksum of the pattern of the pass under way; ``patterns`` those of passes done.
    """

    units: int = 0
    in_doubt: int = 0
    margin: float = float("inf")
    choices: list[Choice] = field(default_factory=list)
    points: set[str] = field(default_factory=set)
    seen: int = 0
    patterns: set[int] = field(default_factory=set)

    def see(self, decisions: Tensor) -> None:
        """Add slopes or winners to the checksum: passes must agree on the pattern."""
        self.seen = zlib.crc32(decisions.cpu().contiguous().numpy().data, self.seen)

    def close(self) -> None:
        """A pass is done."""
        self.patterns.add(self.seen)
        self.seen = 0

    def note(self, distance: Tensor, scale: float) -> None:
        """Add the distances from the kink of the units that matter (a flat tensor)."""
        self.units += distance.numel()
        zero = int((distance == 0).sum())
        self.in_doubt += zero
        if distance.numel() > zero:
            nearest = float(distance[distance > 0].min())
            self.margin = min(self.margin, nearest / max(scale, 1e-300))
