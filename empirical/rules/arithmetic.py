"""Sums, products and quotients, of tensors that depend on the input and of constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from empirical.engine import Engine
from empirical.fields import FloatField
from empirical.rules.boxes import broadcast, entries, scaled, unite
from empirical.rules.operands import ones_support, primal_of, support_of
from empirical.tangents import Tangent, rule

aten = torch.ops.aten


@rule(aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar)
def add(engine: Engine, func: Any, a: Any, b: Any, alpha: Any = 1) -> Tangent:
    """``a + alpha b`` and ``a - alpha b``."""
    sign = -1 if func in (aten.sub.Tensor, aten.sub.Scalar) else 1
    if engine.family and alpha not in (1, -1):
        return add(engine, func, a, b * alpha)  # type: ignore[no-any-return]
    factor = sign * alpha

    def value() -> Tensor:
        pa, pb = primal_of(engine, a), primal_of(engine, b)
        if engine.family:
            return engine.field.reduce_(pa + factor * pb)
        return torch.add(pa, pb, alpha=factor) if isinstance(pa, Tensor) else pa + factor * pb

    primal = engine.once(value)
    shape = tuple(primal.shape)
    if isinstance(a, Tangent) and isinstance(b, Tangent):
        data, offset = unite(engine, broadcast(a, shape), broadcast(b, shape), factor)
    elif isinstance(a, Tangent):
        data, offset = broadcast(a, shape)
    else:
        data, offset = broadcast(b, shape)
        if factor != 1:
            data = engine.field.reduce_(entries(data) * factor)
    return engine.wrap(
        primal, data, offset, ones_support(support_of(a, shape), support_of(b, shape))
    )


@rule(aten.rsub.Scalar, aten.rsub.Tensor)
def rsub(engine: Engine, func: Any, a: Any, b: Any, alpha: Any = 1) -> Any:
    """``b - alpha a``."""
    return b + (a * -alpha)


@rule(aten.neg.default)
def neg(engine: Engine, func: Any, x: Tangent) -> Tangent:
    """``-x``."""
    return engine.wrap(-x.primal, -x.data_, x.offset, x.support)


@rule(aten.mul.Tensor, aten.mul.Scalar)
def mul(engine: Engine, func: Any, a: Any, b: Any) -> Tangent:
    """Product: by a constant a diagonal map, of two active tensors the product rule.

    In the exact field the product rule is exact at the recorded float64 factors, which are dyadic.
    """
    pa, pb = engine.once(lambda: (primal_of(engine, a), primal_of(engine, b)))
    primal = engine.once(lambda: engine.field.reduce_(pa * pb) if engine.family else pa * pb)
    shape = tuple(primal.shape)
    if isinstance(a, Tangent) and isinstance(b, Tangent):
        if engine.exact:
            pa, pb = recorded(engine, func, pa), recorded(engine, func, pb)
        first = scaled(engine, broadcast(a, shape), pb)
        data, offset = unite(engine, first, scaled(engine, broadcast(b, shape), pa))
        return engine.wrap(
            primal, data, offset, ones_support(support_of(a, shape), support_of(b, shape))
        )
    x, c = (a, b) if isinstance(a, Tangent) else (b, a)
    factor = engine.once(lambda: engine.constant(c))
    data, offset = scaled(engine, broadcast(x, shape), factor)
    support = support_of(x, shape)
    if support is not None:
        support = support & (c != 0)
    return engine.wrap(primal, data, offset, support)


def recorded(engine: Engine, func: Any, primal: Tensor) -> Tensor:
    """The residues of a recorded float64 primal: an element Jacobian is taken exactly there.

    That point is not the exact network's own value, so the product of element Jacobians is what the
    rank is proved of (theory.md, section 2); all passes must record the same point.
    """
    if engine.replaying is None:
        engine.kinks.see(primal)
        engine.kinks.points.add(str(func))
    return engine.field.constant(primal)


@rule(aten.addcmul.default)
def addcmul(engine: Engine, func: Any, x: Any, a: Any, b: Any, value: Any = 1) -> Any:
    """``x + value * a * b``."""
    return x + (a * b if value == 1 else a * b * value)


@rule(aten.div.Tensor, aten.div.Scalar)
def div(engine: Engine, func: Any, a: Any, b: Any) -> Any:
    """Quotient: exact by a constant, ``a * (1 / b)`` otherwise."""
    if isinstance(b, Tangent):
        return a * torch.reciprocal(b)
    field = engine.field
    if isinstance(field, FloatField):
        primal = func(a.primal, b)
        block = broadcast(a, tuple(primal.shape))
        inverse = 1 / b.to(field.dtype) if isinstance(b, Tensor) else 1 / b
        data, offset = scaled(engine, block, inverse)
        return engine.wrap(primal, data, offset, support_of(a, tuple(primal.shape)))
    if isinstance(b, Tensor):
        factor: Any = field.inverse(field.constant(b))
    else:
        numerator, denominator = float(b).as_integer_ratio()
        factor = field.fraction(denominator, numerator)
    residue = a.primal * factor
    primal = field.reduce_(residue) if engine.family else func(a.primal, b)
    data, offset = scaled(engine, broadcast(a, tuple(primal.shape)), factor)
    return engine.wrap(primal, data, offset, support_of(a, tuple(primal.shape)))
