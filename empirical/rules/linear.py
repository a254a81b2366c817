"""Matrix products and sums over dimensions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from empirical.rules.boxes import scaled, unite
from empirical.rules.views import constant_primal
from empirical.tangents import Engine, Tangent, rule

aten = torch.ops.aten


@rule(aten.mm.default, aten.bmm.default)
def matmul(engine: Engine, func: Any, a: Tensor, b: Tensor) -> Tangent:
    """``a @ b``: constant times active is one large product, active times active the product rule."""
    pa = a.primal if isinstance(a, Tangent) else constant_primal(engine, a)
    pb = b.primal if isinstance(b, Tangent) else constant_primal(engine, b)
    primal = engine.once(lambda: engine.field.matmul(pa, pb) if engine.family else func(pa, pb))
    if isinstance(a, Tangent) and isinstance(b, Tangent) and engine.exact:
        raise engine.refuse(
            func,
            "a product of two values that depend on the input (attention) is not piecewise "
            "linear; use --field family or float64",
        )
    data: Tensor | None = None
    if isinstance(a, Tangent):
        data = left_active(engine, a, pb if isinstance(b, Tangent) else _constant(engine, b))
    if isinstance(b, Tangent):
        other = pa if isinstance(a, Tangent) else _constant(engine, a)
        second = right_active(engine, other, b)
        zero = (0,) * primal.ndim
        data = second if data is None else unite(engine, (data, zero), (second, zero))[0]
    return engine.wrap(primal, data, None, _support(a, b))


def _constant(engine: Engine, value: Tensor) -> Tensor:
    return engine.once(lambda: engine.field.constant(value))


def left_active(engine: Engine, a: Tangent, b: Tensor) -> Tensor:
    """Tangents of ``a @ b`` for a constant b: [K, n, c] times [c, m], or batched."""
    return left_product(engine, a.dense(), b)


def left_product(engine: Engine, data: Tensor, b: Tensor) -> Tensor:
    """``data @ b`` for data [K, n, c] or [K, batch, n, c] as one product, or one an element."""
    k = data.shape[0]
    if data.ndim == 3:
        n, c = data.shape[1:]
        return engine.field.matmul(data.reshape(k * n, c), b).reshape(k, n, b.shape[1])
    batch, n, c = data.shape[1:]
    flat = data.transpose(0, 1).reshape(batch, k * n, c)
    return engine.field.matmul(flat, b).reshape(batch, k, n, b.shape[2]).transpose(0, 1)


def right_active(engine: Engine, a: Tensor, b: Tangent) -> Tensor:
    """Tangents of ``a @ b`` for a constant a: one product with the directions side by side."""
    data = b.dense()
    k = data.shape[0]
    if data.ndim == 4 and data.stride(-2) == 1 < data.stride(-1):
        # a transposed view (keys in attention): (b^T a^T)^T reads it in the order of its memory
        turned = left_product(engine, data.transpose(2, 3), a.transpose(1, 2))
        return turned.transpose(2, 3)
    if data.ndim == 3:
        c, m = data.shape[1:]
        flat = data.permute(1, 0, 2).reshape(c, k * m)
        return engine.field.matmul(a, flat).reshape(a.shape[0], k, m).permute(1, 0, 2)
    batch, c, m = data.shape[1:]
    flat = data.permute(1, 2, 0, 3).reshape(batch, c, k * m)
    return engine.field.matmul(a, flat).reshape(batch, a.shape[1], k, m).permute(2, 0, 1, 3)


def _support(a: Tensor, b: Tensor) -> Tensor | None:
    total: Tensor | None = None
    for x, y, left in ((a, b, True), (b, a, False)):
        if not isinstance(x, Tangent) or x.support is None:
            continue
        other = y.primal if isinstance(y, Tangent) else y
        mask = torch.ones_like(other) if isinstance(y, Tangent) else (other != 0)
        s, m = x.support.to(torch.float32), mask.to(torch.float32)
        reach = (s @ m if left else m @ s) > 0
        total = reach if total is None else total | reach
    return total


@rule(aten.addmm.default, aten.baddbmm.default)
def addmm(engine: Engine, func: Any, bias: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> Any:
    """``beta * bias + alpha * a @ b``."""
    inner = aten.mm.default if func is aten.addmm.default else aten.bmm.default
    out: Any = inner(a, b)
    if kwargs.get("alpha", 1) != 1:
        out = out * kwargs["alpha"]
    beta = kwargs.get("beta", 1)
    return out + (bias if beta == 1 else bias * beta)


@rule(aten.sum.dim_IntList, aten.mean.dim, aten.sum.default, aten.mean.default)
def reduction(
    engine: Engine, func: Any, x: Tangent, dims: Any = None, keepdim: bool = False, **_: Any
) -> Tangent:
    """Sum or mean over dimensions; the window makes it a short sum."""
    n = x.primal.ndim
    chosen = range(n) if dims is None else [dims] if isinstance(dims, int) else dims
    drop = sorted({d % n for d in chosen}) or list(range(n))
    mean = func in (aten.mean.dim, aten.mean.default)
    count = 1
    for d in drop:
        count *= x.primal.shape[d]
    field = engine.field
    data = field.reduce_(x.data_.sum([d + 1 for d in drop], keepdim=keepdim))
    if keepdim:
        offset = tuple(0 if d in drop else o for d, o in enumerate(x.offset))
    else:
        offset = tuple(o for d, o in enumerate(x.offset) if d not in drop)
    factor = field.fraction(1, count) if mean else 1
    if mean:
        data = scaled(engine, (data, offset), factor)[0]
    if engine.family:
        primal = field.reduce_(x.primal.sum(drop, keepdim=keepdim))
        primal = field.reduce_(primal * factor)
    else:
        primal = x.primal.mean(drop, keepdim) if mean else x.primal.sum(drop, keepdim)
    support = x.support
    for d in reversed(drop):
        support = support.any(d, keepdim=keepdim) if support is not None else None
    return engine.wrap(primal, data, offset, support)


@rule(aten.linalg_vector_norm.default)
def vector_norm(
    engine: Engine, func: Any, x: Tangent, order: float = 2, dims: Any = None,
    keepdim: bool = False, **_: Any,
) -> Any:  # fmt: skip
    """The 2-norm as the root of a sum of squares."""
    if order != 2:
        raise engine.refuse(func, f"a norm of order {order}")
    chosen = list(range(x.primal.ndim)) if dims is None else list(dims)
    return (x * x).sum(chosen, keepdim).sqrt()
