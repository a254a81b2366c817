"""Max pools select, average pools sum: both on windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from empirical.engine import Engine
from empirical.fields import ModField
from empirical.pattern import Choice, largest
from empirical.rules.boxes import scaled
from empirical.rules.conv import padded, reach
from empirical.tangents import Tangent, rule

aten = torch.ops.aten


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])


@rule(aten.max_pool2d_with_indices.default)
def max_pool(
    engine: Engine, func: Any, x: Tangent, kernel: Any, stride: Any = (), padding: Any = 0,
    dilation: Any = 1, ceil: bool = False,
) -> Any:  # fmt: skip
    """A selection of winners; in a family a random combination of each window."""
    k, p, d = _pair(kernel), _pair(padding), _pair(dilation)
    s = _pair(stride) if stride else k
    if engine.family:
        return _random_pool(engine, func, x, k, s, p, d, ceil), None
    if x.primal.ndim == 3:
        raise engine.refuse(func, "a max pool without a batch dimension")
    value, winners = engine.once(lambda: func(x.primal, k, s, p, d, ceil))
    if engine.exact and engine.replaying is None:
        engine.kinks.see(winners)
    b, c, _, w = x.primal.shape
    data, offset = x.data_, x.offset
    if x.window[:2] != (b, c):
        data, offset = x.dense(), (0, 0, 0, 0)
    ys = reach(offset[2], data.shape[3], k[0], s[0], p[0], d[0], value.shape[2])
    xs = reach(offset[3], data.shape[4], k[1], s[1], p[1], d[1], value.shape[3])
    chosen = winners[:, :, ys.start : ys.start + ys.count, xs.start : xs.start + xs.count]
    y = chosen.div(w, rounding_mode="floor") - offset[2]
    z = chosen.remainder(w) - offset[3]
    wh, ww = data.shape[3:]
    inside = (y >= 0) & (y < wh) & (z >= 0) & (z < ww)
    channel = torch.arange(b * c, device=y.device).reshape(b, c, 1, 1)
    batch, within = channel // c, channel % c
    place = ((batch * wh + y.clamp(0, wh - 1)) * ww + z.clamp(0, ww - 1)) * c + within
    flat = data.permute(0, 1, 3, 4, 2).reshape(data.shape[0], -1)
    place = place.permute(0, 2, 3, 1)
    out = flat.index_select(1, place.reshape(-1)).reshape(-1, *place.shape).permute(0, 1, 4, 2, 3)
    if not bool(inside.all()):
        out = out * inside.to(out.dtype)
    support = None
    if x.support is not None:
        support = x.support.flatten(2).gather(2, winners.flatten(2)).reshape(value.shape)
        _note_ties(engine, x, value, k, s, p, d)
        engine.kinks.choices.append(Choice(str(func), engine.where(), x.support, winners=winners))
    return engine.wrap(value, out, (0, 0, ys.start, xs.start), support), winners


def _note_ties(engine: Engine, x: Tangent, value: Tensor, k: Any, s: Any, p: Any, d: Any) -> None:
    """Distance between each window's winner and runner-up, where a tangent can reach it."""
    if d != (1, 1):
        return
    assert x.support is not None
    flat = nn.functional.pad(x.primal, (p[1], p[1], p[0], p[0]), value=float("-inf"))
    need = [(n - 1) * st + kk for n, st, kk in zip(value.shape[2:], s, k, strict=True)]
    grow = [max(0, n - f) for n, f in zip(need, flat.shape[2:], strict=True)]
    flat = nn.functional.pad(flat, (0, grow[1], 0, grow[0]), value=float("-inf"))
    patches = flat.unfold(2, k[0], s[0]).unfold(3, k[1], s[1]).flatten(4)
    reached = nn.functional.max_pool2d(
        nn.functional.pad(x.support.float(), (p[1], p[1], p[0], p[0])), k, s, 0, 1, True
    )
    reached = reached[:, :, : value.shape[2], : value.shape[3]] > 0
    top = patches[:, :, : value.shape[2], : value.shape[3]][reached].topk(2, dim=-1).values
    gap = (top[:, 0] - top[:, 1]).abs()
    engine.kinks.note(gap[torch.isfinite(gap)], largest(x.primal))


def _random_pool(
    engine: Engine, func: Any, x: Tangent, k: Any, s: Any, p: Any, d: Any, ceil: bool
) -> Tangent:
    """One random weight for every (output, place in its window); primal and tangents alike."""
    field = engine.field
    assert isinstance(field, ModField)
    shape = nn.functional.max_pool2d(torch.zeros_like(x.primal), k, s, p, d, ceil).shape
    engine.layer += 1
    generator = torch.Generator().manual_seed(engine.seed * 1000 + engine.layer)
    weights = torch.randint(
        -(field.prime // 2), field.prime // 2, (k[0] * k[1], *shape), generator=generator
    ).to(x.primal)
    extra = [
        max(0, (n - 1) * st + dd * (kk - 1) + 1 - full - 2 * pp)
        for n, st, dd, kk, full, pp in zip(shape[2:], s, d, k, x.primal.shape[2:], p, strict=True)
    ]

    def combine(t: Tensor) -> Tensor:
        t = nn.functional.pad(t, (p[1], p[1] + extra[1], p[0], p[0] + extra[0]))
        total = torch.zeros(*t.shape[:-2], *shape[2:], dtype=t.dtype, device=t.device)
        for i in range(k[0]):
            for j in range(k[1]):
                piece = t[
                    ..., i * d[0] : i * d[0] + (shape[2] - 1) * s[0] + 1 : s[0],
                    j * d[1] : j * d[1] + (shape[3] - 1) * s[1] + 1 : s[1],
                ]  # fmt: skip
                total += field.reduce_(piece * weights[i * k[1] + j])
        return field.reduce_(total)

    support = None
    if x.support is not None:
        support = nn.functional.max_pool2d(x.support.float(), k, s, p, d, ceil) > 0
    return engine.wrap(combine(x.primal), combine(x.dense()), None, support)


@rule(aten.avg_pool2d.default)
def avg_pool(
    engine: Engine, func: Any, x: Tangent, kernel: Any, stride: Any = (), padding: Any = 0,
    ceil: bool = False, include_pad: bool = True, divisor: int | None = None,
) -> Tangent:  # fmt: skip
    """Sums of shifted copies times the exact fraction of each window."""
    k, p = _pair(kernel), _pair(padding)
    s = _pair(stride) if stride else k
    value = func(x.primal.contiguous(), k, s, p, ceil, include_pad, divisor)
    b, c, h, w = x.primal.shape
    sizes = divisors(h, w, k, s, p, ceil, include_pad, divisor).to(x.primal.device)
    field = engine.field
    factor = field.inverse(sizes) if isinstance(field, ModField) else (1 / sizes).to(field.dtype)
    data, offset = x.data_, x.offset
    if x.window[:2] != (b, c):
        data, offset = x.dense(), (0, 0, 0, 0)
    out, corner = _sums(engine, data, offset, k, s, p, value.shape)
    out, corner = scaled(engine, (out, corner), factor)
    primal = value
    if engine.family:
        sums, _ = _sums(engine, x.primal[None], (0, 0, 0, 0), k, s, p, value.shape)
        primal = field.reduce_(sums[0] * factor)
    support = None
    if x.support is not None:
        support = (
            nn.functional.max_pool2d(
                nn.functional.pad(x.support.float(), (p[1], p[1], p[0], p[0])), k, s, 0, 1, True
            )[:, :, : value.shape[2], : value.shape[3]]
            > 0
        )
    return engine.wrap(primal, out, corner, support)


def divisors(
    h: int, w: int, k: Any, s: Any, p: Any, ceil: bool, include_pad: bool, divisor: int | None
) -> Tensor:
    """What an average pool divides each window's sum by, [1, 1, rows, columns], from ones."""
    ones = torch.ones(1, 1, h, w, dtype=torch.float64)
    inside = nn.functional.avg_pool2d(ones, k, s, p, ceil, include_pad, divisor)
    counts = nn.functional.avg_pool2d(ones, k, s, p, ceil, True, 1)
    return (counts / inside).round()


def _sums(
    engine: Engine, data: Tensor, offset: Sequence[int], k: Any, s: Any, p: Any, shape: Any
) -> tuple[Tensor, tuple[int, ...]]:
    """Window sums of [K, b, c, h, w] placed at ``offset``."""
    ys = reach(offset[2], data.shape[3], k[0], s[0], p[0], 1, shape[2])
    xs = reach(offset[3], data.shape[4], k[1], s[1], p[1], 1, shape[3])
    buffer = padded(data.flatten(0, 1), ys, xs, offset[2], offset[3])
    total = torch.zeros(
        buffer.shape[0], ys.count, xs.count, buffer.shape[3], dtype=data.dtype, device=data.device
    )
    for i in range(k[0]):
        for j in range(k[1]):
            total += buffer[
                :,
                i : i + (ys.count - 1) * s[0] + 1 : s[0],
                j : j + (xs.count - 1) * s[1] + 1 : s[1],
            ]
    out = engine.field.reduce_(total).permute(0, 3, 1, 2).unflatten(0, data.shape[:2])  # type: ignore[no-untyped-call]
    return out, (0, 0, ys.start, xs.start)


@rule(aten._adaptive_avg_pool2d.default)
def adaptive_avg_pool(engine: Engine, func: Any, x: Tangent, size: Sequence[int]) -> Any:
    """Means of means over the rows and columns of each cell."""
    if tuple(x.primal.shape[-2:]) == tuple(size):
        return x.clone()
    return means_of_cells(x, size)


def means_of_cells(x: Any, size: Sequence[int]) -> Any:
    """Adaptive average pooling as operations that every kind of tensor here has a rule for."""
    out = x
    for dim, count in ((-2, size[0]), (-1, size[1])):
        n = out.shape[dim]
        cells = [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]
        out = torch.stack([aten.slice.Tensor(out, dim, a, b).mean(dim) for a, b in cells], dim)
    return out
