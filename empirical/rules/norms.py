"""Batch, layer and group normalisation, and softmax.

Families keep the layers' identities (theory.md 5.5): softmax sums to 1; layer norm with eps = 0 has sum 0
and sum of squares n, and kills the ones and the radial direction; with eps > 0 it has sum 0, kills the
ones and scales at random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from empirical.engine import Engine
from empirical.fields import FloatField, ModField
from empirical.rules.arithmetic import add, mul
from empirical.rules.boxes import crop, full_along
from empirical.tangents import Tangent, rule
from empirical.waiting import Steps
from theory.errors import InputError

aten = torch.ops.aten


def _channels(t: Tensor, ndim: int) -> Tensor:
    return t.reshape(1, -1, *[1] * (ndim - 2))


@rule(
    aten.native_batch_norm.default, aten._native_batch_norm_legit_no_training.default,
    aten._native_batch_norm_legit.default, aten.cudnn_batch_norm.default,
    aten._batch_norm_no_update.default,
)  # fmt: skip
def batch_norm(
    engine: Engine, func: Any, x: Tangent, weight: Any, bias: Any, mean: Tensor, var: Tensor,
    *rest: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """Folded: scale = gamma / sqrt(var + eps), shift = beta - mean * scale, as float64 values."""
    training = rest[0] if len(rest) == 3 else False
    if training:
        raise InputError(f"batch norm in training mode at {engine.where()!r}; call model.eval()")
    scale, shift = engine.once(lambda: folded(weight, bias, mean, var, rest[-1], x.primal.ndim))
    out = add(engine, aten.add.Tensor, mul(engine, aten.mul.Tensor, x, scale), shift)
    empty = scale.new_empty(0)
    return out, empty, empty


def folded(
    weight: Any, bias: Any, mean: Tensor, var: Tensor, eps: float, ndim: int
) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm; in float64 they define the network that is measured."""
    scale = 1 / torch.sqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return _channels(scale, ndim), _channels(shift, ndim)


@rule(aten.native_layer_norm.default)
def layer_norm(
    engine: Engine, func: Any, x: Tangent, shape: Sequence[int], weight: Any, bias: Any, eps: float
) -> tuple[Any, ...]:
    """``(x - mean) / sqrt(var + eps)`` over the last dimensions, then gamma and beta."""
    out: Any = normalise(engine, func, x, len(shape), eps)
    if weight is not None:
        out = mul(engine, aten.mul.Tensor, out, weight)
    if bias is not None:
        out = add(engine, aten.add.Tensor, out, bias)
    empty = x.primal.new_empty(0)
    return out, empty, empty


def normalise(engine: Engine, func: Any, x: Tangent, count: int, eps: float) -> Tangent:
    """Layer normalisation over the last ``count`` dimensions, without gamma and beta."""
    if engine.exact:
        raise engine.refuse(
            func, "layer norm is not piecewise linear; use --field family or float64"
        )
    field, n = engine.field, x.primal.ndim
    dims = list(range(n - count, n))
    data, offset = block = full_along(x, dims)
    size = 1
    for d in dims:
        size *= x.primal.shape[d]
    lead = [d + 1 for d in dims]
    one_over = field.fraction(1, size)
    p = x.primal

    def centre() -> Tensor:
        mean = field.reduce_(field.reduce_(p.sum(dims, keepdim=True)) * one_over)
        return field.reduce_(p - mean)

    centred = engine.once(centre)
    if isinstance(field, ModField) and eps == 0:
        value, t = _on_sphere(engine, field, centred, data, offset, dims)
        return engine.wrap(value, t, offset, x.support)

    def spread() -> Tensor:
        squares = field.reduce_(field.reduce_(centred * centred).sum(dims, keepdim=True))
        if isinstance(field, ModField):
            variance = field.reduce_(squares * one_over)
            return field.function("layer norm scale", variance, engine.seed)
        return torch.rsqrt(squares * one_over + eps)

    scale = engine.once(spread)
    value = engine.once(lambda: field.reduce_(centred * scale))
    if isinstance(field, FloatField):
        # the Jacobian is symmetric, so the library's backward pass is the forward derivative
        kernel = partial(_layer_norm_vjp, count=count)
        steps = Steps.of(engine, data).then(kernel, crop(centred, block), crop(scale, block))
        t = steps.carried_out()
        return engine.wrap(value, t, offset, _whole_rows(x, count))
    value_c, scale_c = crop(value, block), crop(scale, block)
    t = field.reduce_(data - field.reduce_(field.reduce_(data.sum(lead, keepdim=True)) * one_over))
    along = field.reduce_(field.reduce_(t * value_c).sum(lead, keepdim=True))
    along = field.reduce_(along * one_over)
    t = field.reduce_(t - field.reduce_(value_c * along))
    t = field.reduce_(t * scale_c)
    return engine.wrap(value, t, offset, _whole_rows(x, count))


def _layer_norm_vjp(t: Tensor, centred: Tensor, scale: Tensor, count: int) -> Tensor:
    shape = t.shape[t.ndim - count :]
    scale = scale.contiguous()
    return aten.native_layer_norm_backward.default(  # type: ignore[no-any-return]
        t.contiguous(),
        centred,
        shape,
        torch.zeros_like(scale),
        scale,
        None,
        None,
        [True, False, False],
    )[0]


def _whole_rows(x: Tangent, count: int) -> Tensor | None:
    """A normalised row depends on all of its entries."""
    if x.support is None:
        return None
    support = x.support.flatten(x.primal.ndim - count).any(-1)
    return support.reshape(*support.shape, *[1] * count).expand(x.primal.shape)


def _on_sphere(
    engine: Engine, field: ModField, c: Tensor, data: Tensor, offset: tuple[int, ...],
    dims: list[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A family's layer norm with eps = 0: a rational map of centred values onto sum 0, squares n.

    ``y = q - 2 (q . c) / (c . c) c`` reflects a fixed random point q that has both identities, so y has
    them too; it does not change when c is scaled, so the radial direction is lost as in the layer.
    """
    lead = [d + 1 for d in dims]
    sizes = [c.shape[d] for d in dims]
    q = _point(field, sizes, engine.seed).to(c.device)
    one_over = field.fraction(1, q.numel())

    def dot(a: Tensor, b: Tensor, over: list[int]) -> Tensor:
        return field.reduce_(field.reduce_(a * b).sum(over, keepdim=True))

    w = field.inverse(dot(c, c, dims))
    share = field.reduce_(dot(q, c, dims) * w)  # (q . c) / (c . c)
    value = field.reduce_(q - field.reduce_(2 * field.reduce_(share * c)))
    c, w, share = (crop(part, (data, offset)) for part in (c, w, share))
    t = field.reduce_(data - field.reduce_(field.reduce_(data.sum(lead, keepdim=True)) * one_over))
    # d(share) = (q . t) w - 2 share (c . t) w
    moved = field.reduce_(dot(t, q, lead) - field.reduce_(2 * share * dot(t, c, lead)))
    moved = field.reduce_(moved * w)
    return value, field.reduce_(-2 * (field.reduce_(moved * c) + field.reduce_(share * t)))


def _point(field: ModField, sizes: Sequence[int], seed: int) -> Tensor:
    """A random point mod p of the given sizes with sum 0 and sum of squares n."""
    p, n = field.prime, math.prod(sizes)
    generator = torch.Generator().manual_seed(seed)
    while True:
        q = torch.randint(0, p, tuple(sizes), generator=generator)
        q = (q - int(q.sum()) * pow(n, -1, p)).remainder(p)
        squares = int((q * q % p).sum()) % p
        # a scale with scale^2 * squares = n exists for half of all draws
        if squares and pow(ratio := n * pow(squares, -1, p) % p, (p - 1) // 2, p) == 1:
            scale = int(field.root(torch.tensor([float(ratio)]), seed)) % p
            return field.reduce_((q * scale % p).double())


@rule(aten.native_group_norm.default)
def group_norm(
    engine: Engine, func: Any, x: Tangent, weight: Any, bias: Any, n: int, c: int, hw: int,
    groups: int, eps: float,
) -> tuple[Any, ...]:  # fmt: skip
    """Layer normalisation over each group of channels."""
    shape = tuple(x.shape)
    grouped: Any = x.reshape(n, groups, -1)
    out: Any = normalise(engine, func, grouped, 1, eps).reshape(shape)
    if weight is not None:
        out = out * _channels(weight, len(shape))
    if bias is not None:
        out = out + _channels(bias, len(shape))
    empty = x.primal.new_empty(0)
    return out, empty, empty


@rule(aten._softmax.default, aten._safe_softmax.default)
def softmax(engine: Engine, func: Any, x: Tangent, dim: int, *rest: Any, **kwargs: Any) -> Tangent:
    """``p * (t - sum(p * t))``; in a family p is random with sum 1, a function of its inputs."""
    if engine.exact:
        raise engine.refuse(func, "softmax is not piecewise linear; use --field family or float64")
    field = engine.field
    dim %= x.primal.ndim
    if isinstance(field, ModField):
        raw = field.function("softmax", x.primal, engine.seed)
        total = field.reduce_(raw.sum(dim, keepdim=True))
        p = field.reduce_(raw * field.inverse(total))
    else:
        p = engine.once(lambda: func(x.primal, dim, *rest, **kwargs))
    waits = isinstance(x.held, Steps) and x.window[dim] == x.primal.shape[dim]

    def kernel(t: Tensor, p: Tensor) -> Tensor:
        if isinstance(field, FloatField):  # symmetric, as layer norm
            t = t.contiguous()
            own = t if waits else torch.empty_like(t)  # in a chain t is the result of a product
            backward = aten._softmax_backward_data.out
            return backward(t, p, dim + 1, t.dtype, grad_input=own)  # type: ignore[no-any-return]
        weighted = field.reduce_(t * p)
        total = field.reduce_(weighted.sum(dim + 1, keepdim=True))
        return field.reduce_(weighted - field.reduce_(p * total))

    block = (x.held, x.offset) if waits else full_along(x, [dim])
    steps = Steps.of(engine, block[0]).then(kernel, crop(p, block))
    t, offset = steps if waits else steps.carried_out(), block[1]
    support = x.support
    if support is not None:
        support = support.any(dim, keepdim=True).expand(x.primal.shape)
    return engine.wrap(p, t, offset, support)


@rule(aten.var_mean.correction, aten.var.correction)
def var_mean(
    engine: Engine, func: Any, x: Tangent, dims: Any = None, *, correction: Any = None,
    keepdim: bool = False,
) -> Any:  # fmt: skip
    """Variance (and mean) as sums of squares."""
    chosen = list(range(x.primal.ndim)) if dims is None else dims
    size = 1
    for d in chosen:
        size *= x.primal.shape[d]
    mean: Any = x.mean(chosen, keepdim=True)
    centred: Any = x - mean
    over = size - (1 if correction is None else correction)
    variance = (centred * centred).sum(chosen, keepdim=keepdim) / over
    if func is aten.var.correction:
        return variance
    return variance, mean if keepdim else mean.squeeze(chosen)
