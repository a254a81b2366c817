"""What a rule asks of an operand: a tangent, a stored tensor, or a number."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from empirical.engine import Engine
from empirical.tangents import Tangent


def primal_of(engine: Engine, x: Any) -> Any:
    """Its primal; of a constant its value, in a family draw its residue."""
    if isinstance(x, Tangent):
        return x.primal
    if not engine.family:
        return x
    return engine.field.constant(x) if isinstance(x, Tensor) else engine.field.scalar(x)


def support_of(x: Any, shape: tuple[int, ...]) -> Tensor | None:
    """Its support, broadcast; None for a constant and where structure is not propagated."""
    if isinstance(x, Tangent) and x.support is not None:
        return x.support.expand(shape)
    return None


def ones_support(*tensors: Tensor | None) -> Tensor | None:
    """The union of supports, None where structure is not propagated."""
    known = [t for t in tensors if t is not None]
    if not known:
        return None
    out = known[0]
    for t in known[1:]:
        out = out | t
    return out
