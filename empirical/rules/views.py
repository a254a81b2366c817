"""Views, shapes and indexing: linear operations that move entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from empirical.engine import Engine
from empirical.rules.boxes import Block, broadcast, full_along
from empirical.rules.operands import ones_support
from empirical.rules.reshape import reshaped
from empirical.tangents import Tangent, rule

aten = torch.ops.aten


def moved(engine: Engine, x: Tangent, move: Callable[[Tensor], Tensor], block: Block) -> Tangent:
    """A tangent whose primal and support went through ``move`` and whose block is given."""
    support = move(x.support) if x.support is not None else None
    return engine.wrap(move(x.primal), block[0], block[1], support)


@rule(aten.view.default, aten._unsafe_view.default, aten.reshape.default)
def view(engine: Engine, func: Any, x: Tangent, shape: Sequence[int]) -> Tangent:
    """Reshape, the window with it (``empirical.rules.reshape``)."""
    primal = x.primal.reshape(shape)
    support = x.support.reshape(shape) if x.support is not None else None
    if x.primal.shape == primal.shape:
        return engine.wrap(primal, x.held, x.offset, support)
    data, offset = reshaped((x.held, x.offset), x.primal.shape, primal.shape)
    return engine.wrap(primal, data, offset, support)


@rule(aten.permute.default)
def permute(engine: Engine, func: Any, x: Tangent, dims: Sequence[int]) -> Tangent:
    """Permute dimensions, window and all."""
    dims = [d % x.primal.ndim for d in dims]
    data = x.data_.permute(0, *[d + 1 for d in dims])
    return moved(engine, x, lambda t: t.permute(dims), (data, tuple(x.offset[d] for d in dims)))


@rule(aten.transpose.int)
def transpose(engine: Engine, func: Any, x: Tangent, a: int, b: int) -> Tangent:
    """Swap two dimensions."""
    dims = list(range(x.primal.ndim))
    dims[a], dims[b] = dims[b], dims[a]
    return permute(engine, func, x, dims)  # type: ignore[no-any-return]


@rule(aten.t.default)
def t(engine: Engine, func: Any, x: Tangent) -> Tangent:
    """Transpose a matrix."""
    return permute(engine, func, x, list(range(x.primal.ndim))[::-1])  # type: ignore[no-any-return]


@rule(aten.unsqueeze.default)
def unsqueeze(engine: Engine, func: Any, x: Tangent, dim: int) -> Tangent:
    """Insert a dimension of size 1."""
    dim %= x.primal.ndim + 1
    offset = (*x.offset[:dim], 0, *x.offset[dim:])
    return moved(engine, x, lambda p: p.unsqueeze(dim), (x.data_.unsqueeze(dim + 1), offset))


@rule(aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default)
def squeeze(engine: Engine, func: Any, x: Tangent, dims: Any = None) -> Tangent:
    """Drop dimensions of size 1."""
    wanted = range(x.primal.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    drop = {d % x.primal.ndim for d in wanted if x.primal.shape[d] == 1}
    shape = [n for d, n in enumerate(x.primal.shape) if d not in drop]
    return view(engine, func, x, shape)  # type: ignore[no-any-return]


@rule(aten.expand.default)
def expand(engine: Engine, func: Any, x: Tangent, shape: Sequence[int], **_: Any) -> Tangent:
    """Expand: entries are shared, tangents too."""
    primal = x.primal.expand(shape)
    support = x.support.expand(shape) if x.support is not None else None
    return engine.wrap(primal, *broadcast(x, tuple(primal.shape)), support)


@rule(
    aten.clone.default, aten.detach.default, aten.alias.default, aten.lift_fresh.default,
    aten._to_copy.default, aten.contiguous.default,
)  # fmt: skip
def same(engine: Engine, func: Any, x: Tangent, **kwargs: Any) -> Tangent:
    """The same values; a cast between float types keeps the engine's precision."""
    dtype = kwargs.get("dtype")
    if dtype is not None and not dtype.is_floating_point:
        raise engine.refuse(func, f"a cast to {dtype} has no derivative")
    layout = kwargs.get("memory_format")
    primal = x.primal.clone(memory_format=layout) if layout is not None else x.primal.clone()
    return engine.wrap(primal, x.data_, x.offset, x.support)


@rule(aten.slice.Tensor)
def slice_(
    engine: Engine, func: Any, x: Tangent, dim: int = 0, start: Any = None, end: Any = None,
    step: int = 1,
) -> Tangent:  # fmt: skip
    """A slice along one dimension: what it keeps of the window."""
    dim %= x.primal.ndim
    kept = range(x.primal.shape[dim])[start:end:step]
    o, n = x.offset[dim], x.window[dim]
    first = max(0, -((kept.start - o) // step))
    last = min(len(kept), -((kept.start - o - n) // step))
    if first < last:
        place = kept[first] - o
        data = func(x.data_, dim + 1, place, place + (last - first - 1) * step + 1, step)
        block = (data, (*x.offset[:dim], first, *x.offset[dim + 1 :]))
    else:
        data, offset = full_along(x, [dim])
        block = (func(data, dim + 1, start, end, step), offset)
    return moved(engine, x, lambda p: func(p, dim, start, end, step), block)


@rule(aten.select.int)
def select(engine: Engine, func: Any, x: Tangent, dim: int, index: int) -> Tangent:
    """One entry along a dimension."""
    dim %= x.primal.ndim
    data, offset = full_along(x, [dim])
    block = (data.select(dim + 1, index), offset[:dim] + offset[dim + 1 :])
    return moved(engine, x, lambda p: p.select(dim, index), block)


@rule(
    aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int,
    aten.split_with_sizes_copy.default, aten.unsafe_split.Tensor,
)  # fmt: skip
def split(engine: Engine, func: Any, x: Tangent, *args: Any) -> list[Tangent]:
    """Pieces along a dimension."""
    unbind = func is aten.unbind.int
    sizes = () if unbind else args[:1]
    rest = args if unbind else args[1:]
    dim = (rest[0] if rest else 0) % x.primal.ndim
    data, offset = full_along(x, [dim])
    if unbind:
        offset = offset[:dim] + offset[dim + 1 :]
    pieces = func(data, *sizes, dim + 1)
    primals = func(x.primal, *sizes, dim)
    supports = func(x.support, *sizes, dim) if x.support is not None else [None] * len(primals)
    return [engine.wrap(p, d, offset, s) for p, d, s in zip(primals, pieces, supports, strict=True)]


@rule(aten.constant_pad_nd.default)
def pad(engine: Engine, func: Any, x: Tangent, pads: Sequence[int], value: float = 0) -> Tangent:
    """Pad with a constant: the window moves; negative pads crop."""
    n = x.primal.ndim
    before, after = [0] * n, [0] * n
    for i in range(len(pads) // 2):
        before[n - 1 - i], after[n - 1 - i] = pads[2 * i], pads[2 * i + 1]
    fill = engine.field.scalar(value) if engine.family else value
    primal = func(x.primal, pads, fill)
    support = func(x.support, pads, False) if x.support is not None else None
    if min(pads) < 0:
        data = func(x.dense(), pads, 0)
        return engine.wrap(primal, data, None, support)
    offset = [o + b for o, b in zip(x.offset, before, strict=True)]
    return engine.wrap(primal, x.data_, offset, support)


@rule(aten.roll.default)
def roll(engine: Engine, func: Any, x: Tangent, shifts: Sequence[int], dims: Any = ()) -> Tangent:
    """Cyclic shift along dimensions: the window moves, and is widened only where it would wrap."""
    dims = [d % x.primal.ndim for d in dims]
    places = list(x.offset)
    for d, shift in zip(dims, shifts, strict=True):
        places[d] = (places[d] + shift) % x.primal.shape[d]
    wraps = [
        (d, s) for d, s in zip(dims, shifts, strict=True)
        if places[d] + x.window[d] > x.primal.shape[d]
    ]  # fmt: skip
    data, offset = full_along(x, [d for d, _ in wraps])
    if wraps:
        data = data.roll([s for _, s in wraps], [d + 1 for d, _ in wraps])
    for d, _ in wraps:
        places[d] = offset[d]
    block = (data, tuple(places))
    return moved(engine, x, lambda p: p.roll(shifts, dims), block)


@rule(aten.flip.default)
def flip(engine: Engine, func: Any, x: Tangent, dims: Sequence[int]) -> Tangent:
    """Reverse dimensions."""
    dims = [d % x.primal.ndim for d in dims]
    data, offset = full_along(x, dims)
    block = (data.flip([d + 1 for d in dims]), offset)
    return moved(engine, x, lambda p: p.flip(dims), block)


@rule(aten.index_select.default)
def index_select(engine: Engine, func: Any, x: Tangent, dim: int, index: Tensor) -> Tangent:
    """Entries along a dimension by index."""
    dim %= x.primal.ndim
    data, offset = full_along(x, [dim])
    block = (data.index_select(dim + 1, index), offset)
    return moved(engine, x, lambda p: p.index_select(dim, index), block)


@rule(
    aten.reflection_pad2d.default, aten.replication_pad2d.default, aten.upsample_nearest2d.default
)  # fmt: skip
def regrid(engine: Engine, func: Any, x: Tangent, *args: Any) -> Any:
    """Each output row and column copies one of the input's: which one, the operation tells."""
    n = x.primal.ndim
    for dim in (n - 2, n - 1):
        places = torch.arange(x.primal.shape[dim], dtype=torch.float64)
        grid = places[:, None] if dim == n - 2 else places[None, :]
        index = func(grid.expand(1, 1, *x.primal.shape[-2:]).contiguous(), *args)[0, 0].long()
        column = index[:, 0] if dim == n - 2 else index[0]
        if dim == n - 2:
            rows = column
    device = x.primal.device
    return x.index_select(n - 2, rows.to(device)).index_select(n - 1, column.to(device))


@rule(aten.index.Tensor)
def index(engine: Engine, func: Any, x: Tensor, indices: Sequence[Any]) -> Tangent:
    """Advanced indexing by constant indices."""
    if not isinstance(x, Tangent) or any(isinstance(i, Tangent) for i in indices):
        raise engine.refuse(func, "an index that depends on the input has no derivative")
    data = func(x.dense(), [None, *indices])
    shape = tuple(func(x.primal, indices).shape)
    if tuple(data.shape[1:]) != shape:  # separated indices bring their dimensions to the front
        raise engine.refuse(func, "advanced indexing with separated indices")
    return moved(engine, x, lambda p: func(p, indices), (data, (0,) * len(shape)))


@rule(aten.repeat.default)
def repeat(engine: Engine, func: Any, x: Tangent, repeats: Sequence[int]) -> Tangent:
    """Tile."""
    extra = len(repeats) - x.primal.ndim
    data = x.dense().reshape(x.directions, *(1,) * extra, *x.primal.shape).repeat(1, *repeats)
    return moved(engine, x, lambda p: p.repeat(repeats), (data, (0,) * len(repeats)))


@rule(aten.as_strided.default)
def as_strided(
    engine: Engine, func: Any, x: Tangent, size: Sequence[int], stride: Sequence[int], off: Any = None
) -> Tangent:  # fmt: skip
    """Only where strides differ in dimensions of size 1 (ConvNeXt's pooling does this)."""
    own = [s for n, s in zip(x.primal.shape, x.primal.stride(), strict=True) if n > 1]
    new = [s for n, s in zip(size, stride, strict=True) if n > 1]
    if tuple(size) == tuple(x.primal.shape) and own == new and not off:
        return engine.wrap(x.primal, x.data_, x.offset, x.support)
    raise engine.refuse(func, "as_strided that re-reads memory in another order")


@rule(
    aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default,
    aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default,
    aten.full_like.default, aten.rand_like.default, aten.randn_like.default,
)  # fmt: skip
def factory(engine: Engine, func: Any, x: Tangent, *args: Any, **kwargs: Any) -> Tensor:
    """New plain tensors shaped like x."""
    return func(x.primal, *args, **kwargs)  # type: ignore[no-any-return]


def union(*xs: Tensor) -> Tensor | None:
    """Union of the supports of the tangents among ``xs``."""
    return ones_support(*[x.support for x in xs if isinstance(x, Tangent)])
