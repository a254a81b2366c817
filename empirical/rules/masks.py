"""Entries chosen by a mask that does not depend on the input: kept or replaced, a linear operation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from empirical.engine import Engine
from empirical.rules.boxes import Block, broadcast, crop, entries, unite
from empirical.rules.operands import ones_support, primal_of, support_of
from empirical.tangents import Tangent, rule
from empirical.waiting import Steps

aten = torch.ops.aten


@rule(aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf)
def where(engine: Engine, func: Any, mask: Tensor, a: Any, b: Any) -> Tangent:
    """``a`` where the mask is true, ``b`` elsewhere."""
    if isinstance(mask, Tangent):
        raise engine.refuse(func, "a mask that depends on the input")
    mask = engine.once(lambda: mask.to(torch.bool, copy=True))
    for fill in (a, b):
        if engine.family and not isinstance(fill, Tangent) and not _finite(fill):
            raise engine.refuse(
                func, "an infinite fill has no residue; measure it with --field float64"
            )
    primal = engine.once(lambda: torch.where(mask, primal_of(engine, a), primal_of(engine, b)))
    shape = tuple(primal.shape)
    blocks, supports = [], []
    for x, dropped in zip((a, b), engine.once(lambda: (~mask, mask)), strict=True):
        if isinstance(x, Tangent):
            blocks.append(_without(broadcast(x, shape), dropped))
            support = support_of(x, shape)
            supports.append(None if support is None else support & ~dropped)
    data, offset = blocks[0] if len(blocks) == 1 else unite(engine, *blocks)
    return engine.wrap(primal, data, offset, ones_support(*supports))


def _without(block: Block, dropped: Tensor) -> Block:
    """The block with zeros where ``dropped``, also where its entries are not finite (``sqrt`` at 0)."""
    data, offset = block
    dropped = crop(dropped, block)
    if isinstance(data, Steps):
        return data.then(lambda t, c: t.masked_fill(c, 0), dropped), offset
    return entries(data).masked_fill(dropped, 0), offset


@rule(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(engine: Engine, func: Any, x: Any, mask: Tensor, value: Any) -> Any:
    """``value`` where the mask is true, x elsewhere."""
    return where(engine, func, mask, value, x)


def _finite(fill: Any) -> bool:
    return bool(fill.isfinite().all()) if isinstance(fill, Tensor) else math.isfinite(fill)
