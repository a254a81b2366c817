"""Matrix products and sums over dimensions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from empirical.deferred import Deferred, narrowed, worth_waiting
from empirical.engine import Engine
from empirical.rules.arithmetic import add
from empirical.rules.boxes import Block, scaled, unite
from empirical.rules.operands import primal_of
from empirical.tangents import Tangent, rule
from empirical.waiting import Steps

aten = torch.ops.aten


@rule(aten.mm.default, aten.bmm.default)
def matmul(engine: Engine, func: Any, a: Tensor, b: Tensor) -> Tangent:
    """``a @ b``: constant times active is one large product, active times active the product rule."""
    pa = primal_of(engine, a)
    pb = primal_of(engine, b)
    primal = engine.once(lambda: engine.field.matmul(pa, pb) if engine.family else func(pa, pb))
    if isinstance(a, Tangent) and isinstance(b, Tangent) and engine.exact:
        raise engine.refuse(
            func,
            "a product of two values that depend on the input (attention) is not piecewise "
            "linear; use --field family or float64",
        )
    product = flat if func is aten.mm.default else batched
    if not isinstance(a, Tangent):
        assert isinstance(b, Tangent)
        data, offset = product(engine, b, _constant(engine, a), False)
    elif not isinstance(b, Tangent):
        data, offset = product(engine, a, _constant(engine, b), True)
    else:
        data, offset = product(engine, a, pb, True)
        if isinstance(data, Steps) and data.shape[1:] == primal.shape and b.is_full:
            data = data.then(partial(_added, engine), pa, along=(b.data_,), batch=True)
        else:
            data, offset = unite(engine, (data, offset), product(engine, b, pa, False))
        return engine.wrap(primal, data, offset, _support(a, b))
    if isinstance(data, Steps):
        data = data.carried_out()
    return engine.wrap(primal, data, offset, _support(a, b))


def _constant(engine: Engine, value: Tensor) -> Tensor:
    return engine.once(lambda: engine.field.constant(value))


def flat(engine: Engine, x: Tangent, other: Tensor, left: bool) -> Block:
    """Tangents of ``x @ other`` (``left``) or ``other @ x`` for matrices: one large product."""
    (o0, o1), (n0, n1), k = x.offset, x.window, x.directions
    if left:
        kept = other[o1 : o1 + n1]
        if isinstance(x.held, Deferred):
            out = narrowed(engine, x.held, kept)
            if out is not None:
                return out, (o0, 0)
        if worth_waiting(engine, *kept.shape):
            return Deferred(engine.field, x.data_, kept), (o0, 0)
        return Deferred(engine.field, x.data_, kept).carried_out(), (o0, 0)
    side_by_side = x.data_.permute(1, 0, 2).reshape(n0, k * n1)
    out = engine.field.matmul(other[:, o0 : o0 + n0], side_by_side)
    return out.reshape(-1, k, n1).permute(1, 0, 2), (0, o1)


def batched(engine: Engine, x: Tangent, other: Tensor, left: bool) -> Block:
    """The same for batches of matrices: directions join the batch, the constant is repeated."""
    (o, o0, o1), (n, n0, n1) = x.offset, x.window
    other = other[o : o + n]
    other = other[:, o1 : o1 + n1] if left else other[:, :, o0 : o0 + n0]

    window = (n, n0, other.shape[2]) if left else (n, other.shape[1], n1)
    times = engine.field.matmul
    product = times if left else lambda t, wide, out=None: times(wide, t, out=out)
    steps = Steps.of(engine, x.held).then(product, other, window=window, batch=True)
    return steps, (o, o0, 0) if left else (o, 0, o1)


def _added(engine: Engine, first: Tensor, t: Tensor, wide: Tensor) -> Tensor:
    """The other term of a product rule, ``wide @ t``, summed in the first."""
    return engine.field.matmul(wide, t, first)


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
    out: Any = matmul(engine, inner, a, b)
    if kwargs.get("alpha", 1) != 1:
        out = out * kwargs["alpha"]
    beta = kwargs.get("beta", 1)
    return add(engine, aten.add.Tensor, out, bias if beta == 1 else bias * beta)


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
