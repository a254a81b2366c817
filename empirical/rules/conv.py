"""Convolutions on windows: im2col and GEMM in float64, channels-last in float32.

A depthwise convolution in float64 is a sum of shifted multiples. Data lie as [N, h, w, C] in
memory whatever their logical order, so a window of non-zeros is one padded copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from empirical.engine import Engine
from empirical.fields import Field, FloatField
from empirical.rules.operands import primal_of
from empirical.tangents import Tangent, rule
from empirical.waiting import WORKSPACE

aten = torch.ops.aten


@dataclass(frozen=True)
class Reach:
    """One dimension of a convolution or pool restricted to a window of its input.

    Attributes:
        start: first output position the window reaches; ``count`` how many.
        first: the input position (may be negative) that output ``start`` reads first.
        length: how many input positions the reached outputs read.
    """

    start: int
    count: int
    first: int
    length: int


def reach(
    offset: int, size: int, kernel: int, stride: int, padding: int, dilation: int, outputs: int
) -> Reach:
    """Which outputs read the input positions ``offset .. offset + size``."""
    span = (kernel - 1) * dilation
    low = max(0, -((span - offset - padding) // stride))
    high = min(outputs - 1, (offset + size - 1 + padding) // stride)
    count = max(0, high - low + 1)
    return Reach(low, count, low * stride - padding, (count - 1) * stride + span + 1)


def padded(data: Tensor, ys: Reach, xs: Reach, oy: int, ox: int) -> Tensor:
    """[N, C, h, w] laid out as contiguous [N, length, length, C], zeros outside the window."""
    n, c, h, w = data.shape
    out = torch.zeros(n, ys.length, xs.length, c, dtype=data.dtype, device=data.device)
    y0, x0 = oy - ys.first, ox - xs.first
    ya, yb = max(0, y0), min(ys.length, y0 + h)
    xa, xb = max(0, x0), min(xs.length, x0 + w)
    out[:, ya:yb, xa:xb] = data[:, :, ya - y0 : yb - y0, xa - x0 : xb - x0].permute(0, 2, 3, 1)
    return out


@rule(aten.convolution.default)
def convolution(
    engine: Engine, func: Any, x: Tensor, weight: Tensor, bias: Tensor | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int,
) -> Any:  # fmt: skip
    """A 2-d convolution with constant weights."""
    if not isinstance(x, Tangent) or isinstance(weight, Tangent):
        raise engine.refuse(func, "a convolution whose weights depend on the input")
    if transposed or x.primal.ndim not in (3, 4):
        raise engine.refuse(func, "transposed and 3-d convolutions")
    if x.primal.ndim == 3:
        out = aten.convolution.default(
            x.unsqueeze(2), weight.unsqueeze(2), bias, [1, *stride], [0, *padding],
            [1, *dilation], False, [0, *output_padding], groups,
        )  # fmt: skip
        return out.squeeze(2)
    field = engine.field
    w = engine.once(lambda: prepare(field, weight, groups))
    args = (stride, padding, dilation, groups)
    b, c, height, width = x.primal.shape
    kernel = weight.shape[2:]
    outs = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip((height, width), padding, dilation, kernel, stride, strict=True)
    ]
    data, offset = x.data_, x.offset
    if x.window[:2] != (b, c):
        data, offset = x.dense(), (0, 0, 0, 0)
    k = data.shape[0]
    flat = data.reshape(k * b, c, *data.shape[3:]) if b == 1 else data.flatten(0, 1)
    out4, oy, ox = convolve(field, flat, w, *args, (height, width), outs, offset[2:])
    out5 = out4.unflatten(0, (k, b))  # type: ignore[no-untyped-call]

    def value() -> Tensor:
        if not engine.family:
            return func(x.primal, weight, bias, *args[:3], False, output_padding, groups)  # type: ignore[no-any-return]
        full, _, _ = convolve(field, x.primal, w, *args, (height, width), outs, (0, 0))
        total = full if bias is None else full + primal_of(engine, bias).reshape(1, -1, 1, 1)
        return field.reduce_(total).contiguous()

    primal = engine.once(value)
    support = None
    if x.support is not None:
        mask = (weight != 0).to(torch.float32)
        support = nn.functional.conv2d(x.support.to(torch.float32), mask, None, *args) > 0
    return engine.wrap(primal, out5, (0, 0, oy, ox), support)


@dataclass(frozen=True)
class Kernel:
    """Weights of a convolution, ready for one of the ways to compute it.

    Attributes:
        weight: [O, C / groups, kh, kw] in the field.
        matrix: [groups, kh * kw * C / groups, O / groups], None in float32 and for depthwise.
        depthwise: each output channel reads one input channel.
    """

    weight: Tensor
    matrix: Tensor | None
    depthwise: bool


def prepare(field: Field, weight: Tensor, groups: int) -> Kernel:
    """The weights in the field, laid out for :func:`convolve`."""
    w = field.constant(weight)
    depthwise = groups > 1 and w.shape[1] == 1
    if native(field):
        return Kernel(w.contiguous(memory_format=torch.channels_last), None, depthwise)
    return Kernel(w, None if depthwise else _matrix(w, groups), depthwise)


def native(field: Field) -> bool:
    """Whether torch's own convolution is the fast one: in float32 alone."""
    return isinstance(field, FloatField) and field.dtype == torch.float32


def convolve(
    field: Field, data: Tensor, kernel: Kernel, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int, full: Sequence[int], outs: Sequence[int],
    offset: Sequence[int],
) -> tuple[Tensor, int, int]:  # fmt: skip
    """Convolve windows [N, C, h, w] placed at ``offset``; returns the outputs' window and place."""
    n, c, h, width = data.shape
    w = kernel.weight
    o, _, kh, kw = w.shape
    if h == 0 or width == 0:
        return data.new_zeros(n, o, 0, 0), 0, 0
    ys = reach(offset[0], h, kh, stride[0], padding[0], dilation[0], outs[0])
    xs = reach(offset[1], width, kw, stride[1], padding[1], dilation[1], outs[1])
    if not (ys.count and xs.count):
        return data.new_zeros(n, o, 0, 0), 0, 0
    if kh == kw == 1 and tuple(stride) == (1, 1) and tuple(padding) == (0, 0) and groups == 1:
        out = _pointwise(field, data, w)
        return out.permute(0, 3, 1, 2), offset[0], offset[1]
    per = data.element_size() * (
        ys.length * xs.length * c if kernel.matrix is None else ys.count * xs.count * c * kh * kw
    )
    step = max(1, WORKSPACE // per)
    if native(field) and step >= n:
        out = _native(data, w, stride, dilation, groups, ys, xs, offset)
        return out, ys.start, xs.start
    out = torch.empty(n, ys.count, xs.count, o, dtype=data.dtype, device=data.device)
    for a in range(0, n, step):
        target = out[a : a + step]
        if native(field):
            image = _native(data[a : a + step], w, stride, dilation, groups, ys, xs, offset)
            target.permute(0, 3, 1, 2).copy_(image)
            continue
        buffer = padded(data[a : a + step], ys, xs, offset[0], offset[1])
        if kernel.matrix is None:
            _shifted(field, buffer, w, stride, dilation, target)
        else:
            _gemm(field, buffer, kernel.matrix, (kh, kw), stride, dilation, groups, target)
    return out.permute(0, 3, 1, 2), ys.start, xs.start


def _pointwise(field: Field, data: Tensor, w: Tensor) -> Tensor:
    """A 1x1 convolution of [N, C, h, w] is one product; returns [N, h, w, O]."""
    n, c, h, width = data.shape
    o = w.shape[0]
    out = torch.empty(n, h, width, o, dtype=data.dtype, device=data.device)
    rows = data.permute(0, 2, 3, 1).reshape(-1, c)
    matrix = w.reshape(o, c).t().contiguous()
    step = max(1, WORKSPACE // (data.element_size() * max(c, o)))
    flat = out.view(-1, o)
    for a in range(0, rows.shape[0], step):
        field.matmul(rows[a : a + step], matrix, out=flat[a : a + step])
    return out


def _native(
    data: Tensor, w: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int,
    ys: Reach, xs: Reach, offset: Sequence[int],
) -> Tensor:  # fmt: skip
    """The library's convolution, channels last. Its own padding saves the padded copy where it serves."""
    before = [offset[0] - ys.first, offset[1] - xs.first]
    after = [ys.length - before[0] - data.shape[2], xs.length - before[1] - data.shape[3]]
    # with as much padding after as before every output that is wanted is there, and maybe more
    if min(before) >= 0 and all(a <= b for a, b in zip(after, before, strict=True)):
        image = data.contiguous(memory_format=torch.channels_last)
        out = nn.functional.conv2d(
            image, w, None, tuple(stride), tuple(before), tuple(dilation), groups
        )
        return out[:, :, : ys.count, : xs.count]
    image = padded(data, ys, xs, offset[0], offset[1]).permute(0, 3, 1, 2)
    return nn.functional.conv2d(image, w, None, tuple(stride), 0, tuple(dilation), groups)


def _matrix(w: Tensor, groups: int) -> Tensor:
    """Weights [O, C/g, kh, kw] as [g, kh * kw * C/g, O/g]."""
    o = w.shape[0]
    per_group = w.reshape(groups, o // groups, *w.shape[1:]).permute(0, 3, 4, 2, 1)
    return per_group.reshape(groups, -1, o // groups).contiguous()


def _gemm(
    field: Field, buffer: Tensor, kernel: Tensor, size: tuple[int, int], stride: Sequence[int],
    dilation: Sequence[int], groups: int, out: Tensor,
) -> None:  # fmt: skip
    """im2col of [n, H, W, C] as one strided copy, then one product a group."""
    n, _, width, c = buffer.shape
    _, oh, ow, o = out.shape
    kh, kw = size
    row = width * c
    view = buffer.as_strided(
        (n, oh, ow, kh, kw, c),
        (buffer.stride(0), stride[0] * row, stride[1] * c, dilation[0] * row, dilation[1] * c, 1),
    )
    if groups == 1:
        rows = view.reshape(n * oh * ow, kh * kw * c)
        field.matmul(rows, kernel[0], out=out.view(n * oh * ow, o))
        return
    split = view.unflatten(-1, (groups, c // groups)).permute(5, 0, 1, 2, 3, 4, 6)  # type: ignore[no-untyped-call]
    rows = split.reshape(groups, n * oh * ow, -1)
    product = field.matmul(rows, kernel)
    out.view(n * oh * ow, groups, -1).copy_(product.permute(1, 0, 2))


def _shifted(
    field: Field, buffer: Tensor, w: Tensor, stride: Sequence[int], dilation: Sequence[int],
    out: Tensor,
) -> None:  # fmt: skip
    """Depthwise: a sum of shifted multiples; each output channel reads one input channel."""
    _, oh, ow, o = out.shape
    c = buffer.shape[-1]
    if o != c:
        buffer = buffer.repeat_interleave(o // c, dim=-1)
    kh, kw = w.shape[2:]
    out.zero_()
    for dy in range(kh):
        for dx in range(kw):
            y0, x0 = dy * dilation[0], dx * dilation[1]
            piece = buffer[
                :, y0 : y0 + (oh - 1) * stride[0] + 1 : stride[0],
                x0 : x0 + (ow - 1) * stride[1] + 1 : stride[1],
            ]  # fmt: skip
            out.addcmul_(piece, w[:, 0, dy, dx].contiguous())
    field.reduce_(out)
