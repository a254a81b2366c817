"""Concatenation: the result's window is the smallest that holds each part's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from empirical.engine import Engine
from empirical.rules.operands import primal_of
from empirical.tangents import Tangent, rule, zeros_like_layout

aten = torch.ops.aten


@rule(aten.cat.default)
def cat(engine: Engine, func: Any, tensors: Sequence[Tensor], dim: int = 0) -> Tangent:
    """Concatenate; plain tensors have zero tangents."""
    tensors = [x for x in tensors if tuple(x.shape) != (0,)]
    dim %= tensors[0].ndim
    active = [x for x in tensors if isinstance(x, Tangent)]
    others = [d for d in range(tensors[0].ndim) if d != dim]
    low = {d: min(x.offset[d] for x in active) for d in others}
    high = {d: max(x.offset[d] + x.window[d] for x in active) for d in others}
    width = sum(x.shape[dim] for x in tensors)
    sizes = [high[d] - low[d] if d != dim else width for d in range(tensors[0].ndim)]
    out = zeros_like_layout(active[0].data_, sizes)
    corner = [low.get(d, 0) for d in range(tensors[0].ndim)]
    place = 0
    for x in tensors:
        if isinstance(x, Tangent):
            cut = [
                slice(
                    x.offset[d] - corner[d] + (place if d == dim else 0),
                    x.offset[d] - corner[d] + (place if d == dim else 0) + x.window[d],
                )
                for d in range(x.primal.ndim)
            ]
            out[(slice(None), *cut)] = x.data_
        place += x.shape[dim]
    primal = torch.cat([primal_of(engine, x) for x in tensors], dim)
    support = None
    if engine.structural and engine.replaying is None:
        support = torch.cat([_support(x) for x in tensors], dim)
    return engine.wrap(primal, out, corner, support)


def _support(x: Tensor) -> Tensor:
    if isinstance(x, Tangent):
        assert x.support is not None
        return x.support
    return torch.zeros(x.shape, dtype=torch.bool, device=x.device)


@rule(aten.stack.default)
def stack(engine: Engine, func: Any, tensors: Sequence[Tensor], dim: int = 0) -> Tangent:
    """Stack along a new dimension."""
    return torch.cat([x.unsqueeze(dim) for x in tensors], dim)  # type: ignore[return-value]
