"""The linear operations of a network in fixed point, each with its share of the bound.

Linear operations with stored coefficients multiply the bound by their largest row sum of absolute
values; an average pool is 1-Lipschitz in the maximum norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from empirical.fixed_point import (
    BASE,
    LONGEST,
    Fixed,
    Linear,
    Sum,
    add,
    apply,
    divide,
    negative,
    scale,
    trimmed,
)
from empirical.rounding import Rounded, Session, rule
from empirical.rules.norms import folded
from empirical.rules.pool import _pair, divisors, means_of_cells

aten = torch.ops.aten


@rule(
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.permute.default,
    aten.transpose.int, aten.t.default, aten.unsqueeze.default, aten.squeeze.dim,
    aten.squeeze.dims, aten.squeeze.default, aten.expand.default, aten.clone.default,
    aten.detach.default, aten.alias.default, aten.contiguous.default, aten.slice.Tensor,
    aten.select.int, aten.flip.default, aten.roll.default, aten.index_select.default,
    aten.repeat.default, aten.reflection_pad2d.default, aten.replication_pad2d.default,
    aten.upsample_nearest2d.default, aten.lift_fresh.default,
)  # fmt: skip
def moved(session: Session, func: Any, x: Rounded, *args: Any, **kwargs: Any) -> Fixed:
    """Entries moved, repeated or left out."""
    views = (aten.view.default, aten._unsafe_view.default)
    if func in views:
        return x.fixed.each(lambda d: d.reshape(*args))
    return x.fixed.each(lambda d: func(d, *args, **kwargs))


@rule(
    aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int,
    aten.unsafe_split.Tensor,
)  # fmt: skip
def pieces(session: Session, func: Any, x: Rounded, *args: Any) -> list[Fixed]:
    """Pieces along a dimension."""
    parts = [func(d, *args) for d in x.fixed.digits]
    return [Fixed(p, x.fixed.low, x.fixed.error) for p in zip(*parts, strict=True)]


@rule(aten._to_copy.default)
def cast(session: Session, func: Any, x: Rounded, **kwargs: Any) -> Fixed:
    """A cast between float types: the digits stay, as the engine's primal does."""
    if not kwargs.get("dtype", torch.float64).is_floating_point:
        raise session.refuse(func, "a cast to integers")
    return x.fixed


@rule(aten.cat.default)
def cat(session: Session, func: Any, tensors: Sequence[Tensor], dim: int = 0) -> Fixed:
    """Concatenate: digits of the same place side by side."""
    tensors = [t for t in tensors if tuple(t.shape) != (0,)]
    like = tensors[0]
    parts = [t.fixed if isinstance(t, Rounded) else session.constant(t, like) for t in tensors]
    places = range(min(p.low for p in parts), max(p.low + len(p.digits) for p in parts))
    digits = {}
    for k in places:
        row = [
            p.digits[k - p.low] if 0 <= k - p.low < len(p.digits) else torch.zeros_like(p.digits[0])
            for p in parts
        ]
        digits[k] = torch.cat(row, dim)
    return trimmed(digits, digits[places[0]], max(p.error for p in parts))


@rule(aten.stack.default)
def stack(session: Session, func: Any, tensors: Sequence[Tensor], dim: int = 0) -> Any:
    """Stack along a new dimension."""
    return torch.cat([t.unsqueeze(dim) for t in tensors], dim)


@rule(aten.constant_pad_nd.default)
def pad(session: Session, func: Any, x: Rounded, pads: Sequence[int], value: float = 0) -> Fixed:
    """Pad with zeros."""
    if value != 0:
        raise session.refuse(func, f"padding with {value}")
    return x.fixed.each(lambda d: func(d, pads, 0))


@rule(aten.convolution.default)
def convolution(
    session: Session, func: Any, x: Rounded, weight: Tensor, bias: Tensor | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int,
) -> Fixed:  # fmt: skip
    """im2col of a digit, then one exact product with each digit of the weights."""
    if not isinstance(x, Rounded) or transposed or x.ndim != 4 or isinstance(weight, Rounded):
        raise session.refuse(func, "only 2-d convolutions with stored weights")
    o, inner, kh, kw = weight.shape
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(x.shape[2:], padding, dilation, (kh, kw), stride, strict=True)
    ]

    geometry = tuple(dilation), tuple(padding), tuple(stride)

    plain = (kh, kw, *dilation, *padding, *stride) == (1, 1, 1, 1, 0, 0, 1, 1)

    def prepare(digit: Tensor) -> Tensor:
        columns = digit if plain else nn.functional.unfold(digit, (kh, kw), *geometry)
        return columns.reshape(len(digit) * groups, inner * kh * kw, -1)

    def multiply(held: Tensor | None, columns: Tensor, w: Tensor, part: int) -> Tensor:
        rows = w.reshape(groups, o // groups, -1)
        if len(columns) != groups:
            rows = rows.repeat(len(columns) // groups, 1, 1)
        return _product(held, rows, columns, part)

    length = inner * kh * kw
    linear = Linear(
        prepare, multiply, lambda a: float(a.flatten(1).sum(1).max()), -(-length // LONGEST)
    )
    out = apply(x.fixed, weight, session.bottom, linear)
    out = out.each(lambda d: d.reshape(len(x), o, *sizes))
    if bias is None:
        return out
    return add(out, session.constant(bias.reshape(1, -1, 1, 1), bias), session.bottom)


def _product(held: Tensor | None, a: Tensor, b: Tensor, part: int) -> Tensor:
    """``held + a @ b`` over one part of the inner sum, short enough for float64 to be exact."""
    inner = slice(part * LONGEST, (part + 1) * LONGEST)
    a, b = a[..., inner], b[..., inner, :]
    if held is None:
        return a @ b
    return held.baddbmm_(a, b) if held.ndim == 3 else held.addmm_(a, b)


@rule(aten.mm.default, aten.bmm.default)
def matmul(session: Session, func: Any, a: Tensor, b: Tensor) -> Fixed:
    """A product with one stored factor."""
    if isinstance(a, Rounded) and isinstance(b, Rounded):
        raise session.refuse(func, "a product of two values that depend on the input")
    parts = -(-a.shape[-1] // LONGEST)
    if isinstance(a, Rounded):
        right = Linear(
            lambda d: d, lambda held, d, w, part: _product(held, d, w, part),
            lambda w: float(w.sum(-2).max()), parts,
        )  # fmt: skip
        return apply(a.fixed, b, session.bottom, right)
    assert isinstance(b, Rounded)
    left = Linear(
        lambda d: d, lambda held, d, w, part: _product(held, w, d, part),
        lambda w: float(w.sum(-1).max()), parts,
    )  # fmt: skip
    return apply(b.fixed, a, session.bottom, left)


@rule(aten.addmm.default, aten.baddbmm.default)
def addmm(session: Session, func: Any, bias: Tensor, a: Tensor, b: Tensor, **scales: Any) -> Any:
    """``bias + a @ b``."""
    if any(value != 1 for value in scales.values()):
        raise session.refuse(func, "alpha or beta other than 1")
    return bias + (aten.mm.default if func is aten.addmm.default else aten.bmm.default)(a, b)


@rule(aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar)
def plus(session: Session, func: Any, a: Any, b: Any, alpha: Any = 1) -> Fixed:
    """``a + alpha b`` and ``a - alpha b``."""
    if alpha not in (1, -1):
        raise session.refuse(func, f"alpha = {alpha}")
    like = a if isinstance(a, Tensor) else b
    x, y = (t.fixed if isinstance(t, Rounded) else session.constant(t, like) for t in (a, b))
    minus = (func in (aten.sub.Tensor, aten.sub.Scalar)) != (alpha == -1)
    return add(x, negative(y) if minus else y, session.bottom)


@rule(aten.rsub.Scalar, aten.rsub.Tensor)
def rsub(session: Session, func: Any, a: Any, b: Any, alpha: Any = 1) -> Fixed:
    """``b - alpha a``."""
    return plus(session, aten.sub.Tensor, b, a, alpha)  # type: ignore[no-any-return]


@rule(aten.neg.default)
def neg(session: Session, func: Any, x: Rounded) -> Fixed:
    """``-x``."""
    return negative(x.fixed)


@rule(aten.mul.Tensor, aten.mul.Scalar)
def times(session: Session, func: Any, a: Any, b: Any) -> Fixed:
    """A product with a stored tensor or number."""
    if isinstance(a, Rounded) and isinstance(b, Rounded):
        raise session.refuse(func, "a product of two values that depend on the input")
    x, factor = (a, b) if isinstance(a, Rounded) else (b, a)
    return scale(x.fixed, torch.as_tensor(factor, dtype=torch.float64), session.bottom)


@rule(aten.div.Tensor, aten.div.Scalar)
def over(session: Session, func: Any, a: Any, b: Any) -> Fixed:
    """A quotient by a stored number: the fraction that it is."""
    if not isinstance(a, Rounded) or isinstance(b, Rounded) or (
        isinstance(b, Tensor) and b.numel() != 1
    ):  # fmt: skip
        raise session.refuse(func, "only quotients by one stored number")
    numerator, denominator = float(b).as_integer_ratio()
    if not 0 < abs(numerator) < 2**31:
        raise session.refuse(func, f"a quotient by {float(b)!r}")
    factor = denominator if numerator > 0 else -denominator
    x = scale(a.fixed, torch.tensor(float(factor), dtype=torch.float64), session.bottom)
    return divide(x, torch.tensor(float(abs(numerator)), dtype=torch.float64), session.bottom)


@rule(
    aten.native_batch_norm.default, aten._native_batch_norm_legit_no_training.default,
    aten.cudnn_batch_norm.default, aten._batch_norm_no_update.default,
)  # fmt: skip
def batch_norm(
    session: Session, func: Any, x: Rounded, weight: Any, bias: Any, mean: Tensor, var: Tensor,
    *rest: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """The float64 scale and shift that the engine differentiates, stored numbers like any other."""
    factor, shift = folded(weight, bias, mean, var, rest[-1], x.ndim)
    out = scale(x.fixed, factor, session.bottom)
    empty = mean.new_empty(0)
    return add(out, session.constant(shift, shift), session.bottom), empty, empty


@rule(aten.sum.dim_IntList, aten.mean.dim, aten.sum.default, aten.mean.default)
def reduction(
    session: Session, func: Any, x: Rounded, dims: Any = None, keepdim: bool = False, **_: Any
) -> Fixed:
    """Sum or mean over dimensions; the mean is the exact fraction of the sum."""
    chosen = range(x.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    drop = sorted({d % x.ndim for d in chosen}) or list(range(x.ndim))
    count = 1
    for d in drop:
        count *= x.shape[d]
    total = Sum()
    for k, digit in enumerate(x.fixed.digits):
        total.add(x.fixed.low + k, digit.sum(drop, keepdim=keepdim), count * BASE / 2, own=True)
    out = total.finish(session.bottom, x.fixed.error * count)
    if func in (aten.sum.dim_IntList, aten.sum.default):
        return out
    return divide(out, torch.tensor(float(count), dtype=torch.float64), session.bottom)


@rule(aten.avg_pool2d.default)
def avg_pool(
    session: Session, func: Any, x: Rounded, kernel: Any, stride: Any = (), padding: Any = 0,
    ceil: bool = False, include_pad: bool = True, divisor: int | None = None,
) -> Fixed:  # fmt: skip
    """Window sums of digits are integers; each is divided by its window's size."""
    k, p = _pair(kernel), _pair(padding)
    s = _pair(stride) if stride else k
    total = Sum()
    for place, digit in enumerate(x.fixed.digits):
        sums = nn.functional.avg_pool2d(digit, k, s, p, ceil, True, 1)
        total.add(x.fixed.low + place, sums, k[0] * k[1] * BASE / 2, own=True)
    sizes = divisors(x.shape[2], x.shape[3], k, s, p, ceil, include_pad, divisor)
    out = total.finish(session.bottom, x.fixed.error * k[0] * k[1])
    return divide(out, sizes, session.bottom)


@rule(aten._adaptive_avg_pool2d.default)
def adaptive_avg_pool(session: Session, func: Any, x: Rounded, size: Sequence[int]) -> Any:
    """Means of means over the rows and columns of each cell."""
    return means_of_cells(x, size)


@rule(
    aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default,
    aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.new_empty.default,
    aten.full_like.default,
)  # fmt: skip
def factory(session: Session, func: Any, x: Rounded, *args: Any, **kwargs: Any) -> Tensor:
    """New plain tensors shaped like x."""
    return func(x.fixed.digits[0], *args, **kwargs)  # type: ignore[no-any-return]
