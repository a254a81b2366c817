"""Boxes of non-zeros: cropping constants to them, broadcasting, uniting, and densifying them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from empirical.engine import Engine
from empirical.tangents import Tangent, zeros_like_layout
from empirical.waiting import Waiting

#: data and offset of a box; what waits is handed on by what knows it
Block = tuple[Any, tuple[int, ...]]


def crop(constant: Tensor, block: Block) -> Tensor:
    """The part of a tensor, broadcastable against the whole shape, that meets the box."""
    data, offset = block
    n = len(offset)
    constant = constant.reshape((1,) * (n - constant.ndim) + tuple(constant.shape))
    cut = tuple(
        slice(None) if constant.shape[d] == 1 else slice(offset[d], offset[d] + data.shape[d + 1])
        for d in range(n)
    )
    return constant[cut]


def broadcast(x: Tangent, shape: Sequence[int]) -> Block:
    """The block of ``x`` as a block of a tensor of the broadcast ``shape``."""
    if tuple(x.primal.shape) == tuple(shape):
        return x.held, x.offset
    extra = len(shape) - x.primal.ndim
    data = x.data_
    if extra:
        data = data.reshape(data.shape[0], *(1,) * extra, *data.shape[1:])
    offset = (0,) * extra + x.offset
    own = (1,) * extra + tuple(x.primal.shape)
    if own == tuple(shape):
        return data, offset
    sizes = [
        shape[d] if own[d] == 1 and shape[d] != 1 and data.shape[d + 1] else data.shape[d + 1]
        for d in range(len(shape))
    ]
    return data.expand(data.shape[0], *sizes), offset


def scaled(engine: Engine, block: Block, constant: Any) -> Block:
    """The block times a field constant (a number, or a tensor of the whole shape)."""
    data, offset = block
    factor = crop(constant, block) if isinstance(constant, Tensor) else constant
    if isinstance(data, Waiting):
        return data.times(factor), offset
    return engine.field.reduce_(data * factor), offset


def unite(engine: Engine, first: Block, second: Block, alpha: Any = 1) -> Block:
    """``first + alpha * second`` on the smallest box that holds both."""
    (a, oa), (b, ob) = ((entries(data), offset) for data, offset in (first, second))
    if a.shape == b.shape and oa == ob:
        return engine.field.reduce_(torch.add(a, b, alpha=alpha)), oa
    if a.numel() == 0 or b.numel() == 0:
        data, offset = (b * alpha, ob) if a.numel() == 0 else (a, oa)
        return data, offset
    low = tuple(map(min, oa, ob))
    high = [max(oa[d] + a.shape[d + 1], ob[d] + b.shape[d + 1]) for d in range(len(oa))]
    sizes = [h - l for h, l in zip(high, low, strict=True)]
    if list(a.shape[1:]) == sizes:
        out = a.clone()
    else:
        out = zeros_like_layout(a, sizes)
        out[inside(a, oa, low)] = a
    out[inside(b, ob, low)].add_(b, alpha=alpha)
    return engine.field.reduce_(out), low


def entries(data: Tensor | Waiting) -> Tensor:
    """The data of a block, what waits carried out."""
    return data.carried_out() if isinstance(data, Waiting) else data


def inside(data: Tensor, offset: Sequence[int], corner: Sequence[int]) -> tuple[slice, ...]:
    """Where a block lies in a larger box that starts at ``corner``."""
    return (
        slice(None),
        *(slice(o - c, o - c + n) for o, c, n in zip(offset, corner, data.shape[1:], strict=True)),
    )


def full_along(x: Tangent, dims: Sequence[int]) -> Block:
    """The block of ``x``, widened so that it is the whole tensor along ``dims``."""
    shape = x.primal.shape
    dims = [d % len(shape) for d in dims]
    if all(x.window[d] == shape[d] for d in dims):
        return x.data_, x.offset
    sizes = [shape[d] if d in dims else x.window[d] for d in range(len(shape))]
    corner = [0 if d in dims else x.offset[d] for d in range(len(shape))]
    out = zeros_like_layout(x.data_, sizes)
    out[inside(x.data_, x.offset, corner)] = x.data_
    return out, tuple(corner)
