"""Scalar functions, entry by entry.

A scalar function is its value and its slope. In the exact field only piecewise-linear functions
have a rule; in a family draw every scalar function is a fixed random function of the residue, its
slope another one (theory.md 5.5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from empirical.engine import Engine
from empirical.fields import ModField
from empirical.pattern import Choice, largest
from empirical.rules.arithmetic import recorded
from empirical.rules.boxes import crop, scaled
from empirical.rules.operands import ones_support, primal_of, support_of
from empirical.tangents import Tangent, rule
from empirical.waiting import Waiting

aten = torch.ops.aten


Slope = Callable[..., Tensor]


def _smooth(name: str) -> Slope:
    backward = getattr(aten, name + "_backward").default
    return lambda x, y, *args, **kw: backward(torch.ones_like(x), x, *args, **kw)


#: scalar operation -> slope from (input, output, *arguments)
SLOPES: dict[Any, Slope] = {
    aten.gelu.default: _smooth("gelu"),
    aten.silu.default: _smooth("silu"),
    aten.hardswish.default: _smooth("hardswish"),
    aten.mish.default: _smooth("mish"),
    aten.sigmoid.default: lambda x, y: y * (1 - y),
    aten.tanh.default: lambda x, y: 1 - y * y,
    aten.hardsigmoid.default: lambda x, y: ((x > -3) & (x < 3)).to(x.dtype) / 6,
    aten.exp.default: lambda x, y: y,
    aten.log.default: lambda x, y: 1 / x,
    aten.sqrt.default: lambda x, y: 0.5 / y,
    aten.rsqrt.default: lambda x, y: -0.5 * y * y * y,
    aten.erf.default: lambda x, y: torch.exp(-x * x) * (2 / torch.pi**0.5),
    aten.sin.default: lambda x, y: x.cos(),
    aten.cos.default: lambda x, y: -x.sin(),
    aten.softplus.default: lambda x, y, beta=1, threshold=20: torch.where(
        x * beta > threshold, torch.ones_like(x), torch.sigmoid(x * beta)
    ),
    aten.elu.default: lambda x, y, alpha=1, scale=1, input_scale=1: torch.where(
        x > 0, scale * torch.ones_like(x), alpha * scale * input_scale * torch.exp(x * input_scale)
    ),
}
for _operation in SLOPES:

    @rule(_operation)
    def smooth(engine: Engine, func: Any, x: Tangent, *args: Any, **kwargs: Any) -> Tangent:
        """A smooth scalar function."""
        if engine.family:
            if func in (aten.sqrt.default, aten.rsqrt.default):
                return root(engine, func, x)
            return random_function(engine, func, x)
        if engine.exact:
            raise engine.refuse(
                func, "a smooth function has no exact slope; use --field family or float64"
            )
        value = engine.once(lambda: func(x.primal, *args, **kwargs))
        slope = engine.once(lambda: SLOPES[func](x.primal, value, *args, **kwargs))
        data, offset = scaled(engine, (x.held, x.offset), slope)
        return engine.wrap(value, data, offset, x.support)


def random_function(engine: Engine, func: Any, x: Tangent) -> Tangent:
    """A family's free scalar function: fixed random value and slope of the residue."""
    field = engine.field
    assert isinstance(field, ModField)
    value = engine.once(lambda: field.function(f"{func} value", x.primal, engine.seed))
    slope = engine.once(lambda: field.function(f"{func} slope", x.primal, engine.seed))
    data, offset = scaled(engine, (x.held, x.offset), slope)
    return engine.wrap(value, data, offset, x.support)


def root(engine: Engine, func: Any, x: Tangent) -> Tangent:
    """A family's square root or its reciprocal: homogeneous, as every member's is.

    ``d sqrt(v) = sqrt(v) / (2 v) dv`` and ``d rsqrt(v) = -rsqrt(v) / (2 v) dv``: so an RMS norm with
    eps = 0 and an L2 normalisation lose the radial direction, and their sums of squares are constant (n
    and 1, times a fixed non-square where v is none).
    """
    field = engine.field
    assert isinstance(field, ModField)
    value = field.root(x.primal, engine.seed)
    sign = field.fraction(1, 2)
    if func is aten.rsqrt.default:
        value, sign = field.inverse(value), -sign
    slope = field.reduce_(field.reduce_(value * sign) * field.inverse(x.primal))
    data, offset = scaled(engine, (x.held, x.offset), slope)
    return engine.wrap(value, data, offset, x.support)


#: a lower clamp of at most so much guards a division against 0, as in ``F.normalize``
GUARD = 1e-5


def piecewise(
    engine: Engine,
    func: Any,
    x: Tangent,
    args: tuple[Any, ...],
    kinks: tuple[float, ...],
    slope: Callable[[Tensor], Tensor],
    residues: Callable[[Tensor], Tensor] | None = None,
) -> Tangent:
    """A scalar function with exact slopes between kinks, which are noted.

    Args:
        engine: the pass.
        func: the operation.
        x: its input.
        args: its further arguments.
        kinks: where the slope changes, ascending.
        slope: the slopes as floats.
        residues: from those slopes to field elements, where the floats are rounded.
    """
    if engine.family:
        return random_function(engine, func, x)
    value = engine.once(lambda: func(x.primal, *args))
    slopes = engine.once(lambda: slope(x.primal))
    support = x.support
    if engine.exact and engine.replaying is None:
        engine.kinks.see(slopes)
    if support is not None:
        mattering = x.primal[support]
        scale = largest(x.primal)
        for kink in kinks:
            engine.kinks.note((mattering - kink).abs(), scale)
        engine.kinks.choices.append(
            Choice(str(func), engine.where(), support, kinks, slope, slopes)
        )
        support = support & (slopes != 0)
    if engine.once(lambda: bool(((slopes == 0) | (slopes == 1)).all())):
        factor = crop(slopes, (x.held, x.offset))
        if isinstance(x.held, Waiting):
            return engine.wrap(value, x.held.times(factor), x.offset, support)
        return engine.wrap(value, x.data_ * factor, x.offset, support)
    factor = engine.once(lambda: engine.constant(slopes) if residues is None else residues(slopes))
    data, offset = scaled(engine, (x.held, x.offset), factor)
    return engine.wrap(value, data, offset, support)


@rule(aten.hardsigmoid.default)
def hardsigmoid(engine: Engine, func: Any, x: Tangent) -> Any:
    """Slope 1/6 between -3 and 3."""
    if not engine.exact:
        return smooth(engine, func, x)
    sixth = engine.field.fraction(1, 6)
    return piecewise(
        engine, func, x, (), (-3.0, 3.0), lambda p: SLOPES[func](p, None),
        lambda slopes: (slopes != 0).to(engine.field.dtype) * sixth,
    )  # fmt: skip


@rule(aten.hardswish.default)
def hardswish(engine: Engine, func: Any, x: Tangent) -> Any:
    """Slope ``(2x + 3) / 6`` between -3 and 3: exact at the recorded float64 x (theory.md, section 4)."""
    if not engine.exact:
        return smooth(engine, func, x)
    field = engine.field
    point = recorded(engine, func, x.primal)
    inside = (x.primal > -3) & (x.primal < 3)
    middle = field.reduce_((2 * point + 3) * field.fraction(1, 6))

    def slope(p: Tensor) -> Tensor:
        return torch.where(p <= -3, 0.0, torch.where(p >= 3, 1.0, (2 * p + 3) / 6))

    return piecewise(
        engine, func, x, (), (-3.0, 3.0), slope,
        lambda slopes: torch.where(inside, middle, slopes),
    )  # fmt: skip


@rule(aten.relu.default)
def relu(engine: Engine, func: Any, x: Tangent) -> Tangent:
    """Slope 0 or 1."""
    return piecewise(engine, func, x, (), (0.0,), lambda p: (p > 0).to(p.dtype))


@rule(aten.relu6.default)
def relu6(engine: Engine, func: Any, x: Tangent) -> Any:
    """Slope 1 between 0 and 6."""
    return hardtanh(engine, aten.hardtanh.default, x, 0.0, 6.0)


@rule(aten.hardtanh.default)
def hardtanh(
    engine: Engine, func: Any, x: Tangent, low: float = -1.0, high: float = 1.0
) -> Tangent:
    """Slope 1 between ``low`` and ``high``."""
    return piecewise(
        engine, func, x, (low, high), (low, high), lambda p: ((p > low) & (p < high)).to(p.dtype)
    )


@rule(aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default)
def clamp(engine: Engine, func: Any, x: Tangent, low: Any = None, high: Any = None) -> Tangent:
    """Slope 1 where not clamped, the ends included as autodiff has it.

    A family speaks of inputs above the guard of a norm (below it L2 normalisation is linear).
    """
    if engine.family and func is aten.clamp_min.default and 0 < low <= GUARD:
        return engine.wrap(x.primal, x.data_, x.offset, x.support)
    args: tuple[Any, ...] = (low, high) if func is aten.clamp.default else (low,)
    if func is aten.clamp_max.default:
        low, high = None, low

    def slope(p: Tensor) -> Tensor:
        keep = torch.ones_like(p, dtype=torch.bool)
        if low is not None:
            keep &= p >= low
        if high is not None:
            keep &= p <= high
        return keep.to(p.dtype)

    return piecewise(engine, func, x, args, tuple(k for k in (low, high) if k is not None), slope)


@rule(aten.leaky_relu.default)
def leaky_relu(engine: Engine, func: Any, x: Tangent, slope: float = 0.01) -> Tangent:
    """Slope 1 or ``slope``."""
    return piecewise(
        engine, func, x, (slope,), (0.0,),
        lambda p: torch.where(p > 0, torch.ones_like(p), torch.full_like(p, slope)),
    )  # fmt: skip


@rule(aten.abs.default)
def absolute(engine: Engine, func: Any, x: Tangent) -> Tangent:
    """Slope -1 or 1."""
    return piecewise(engine, func, x, (), (0.0,), torch.sign)


@rule(aten.pow.Tensor_Scalar)
def power(engine: Engine, func: Any, x: Tangent, exponent: float) -> Any:
    """Integer powers are products; others are smooth functions."""
    if exponent == 2:
        return x * x
    if engine.family:
        return random_function(engine, f"{func} {exponent}", x)
    if engine.exact:
        raise engine.refuse(func, "a power is not piecewise linear; use --field family")
    slope = exponent * x.primal ** (exponent - 1)
    data, offset = scaled(engine, (x.held, x.offset), slope)
    return engine.wrap(func(x.primal, exponent), data, offset, x.support)


@rule(aten.reciprocal.default)
def reciprocal(engine: Engine, func: Any, x: Tangent) -> Tangent:
    """``1 / x``, exact in both fields of a family."""
    field = engine.field
    if engine.exact:
        raise engine.refuse(func, "a reciprocal is not piecewise linear; use --field family")
    value = field.inverse(x.primal) if isinstance(field, ModField) else 1 / x.primal
    slope = field.reduce_(-value * value)
    data, offset = scaled(engine, (x.held, x.offset), slope)
    return engine.wrap(value, data, offset, x.support)


@rule(
    aten.isnan.default, aten.isinf.default, aten.isfinite.default, aten.argmax.default,
    aten._local_scalar_dense.default,
)  # fmt: skip
def decision(engine: Engine, func: Any, *args: Any, **kwargs: Any) -> Any:
    """A decision taken on primal values: constant in the neighbourhood of the point."""
    if engine.family:
        raise engine.refuse(func, "a family has no order: a comparison of residues means nothing")
    return func(*(primal_of(engine, a) for a in args), **kwargs)


@rule(
    aten.gt.Scalar, aten.ge.Scalar, aten.lt.Scalar, aten.le.Scalar, aten.eq.Scalar, aten.ne.Scalar,
    aten.gt.Tensor, aten.ge.Tensor, aten.lt.Tensor, aten.le.Tensor,
)  # fmt: skip
def comparison(engine: Engine, func: Any, a: Any, b: Any) -> Any:
    """A decision for each entry, whose kinks are the places where both sides are equal."""
    out = decision(engine, func, a, b)
    if engine.exact and engine.replaying is None:
        engine.kinks.see(out)
    support = ones_support(*(support_of(x, out.shape) for x in (a, b)))
    if support is not None:
        x, y = (torch.as_tensor(primal_of(engine, s), dtype=torch.float64) for s in (a, b))
        distance = (x.to(out.device) - y.to(out.device)).abs()
        engine.kinks.note(distance[support], largest(distance))
    return out
