"""The recorded pattern: which side of every kink, and which winner of every window, a pass took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
