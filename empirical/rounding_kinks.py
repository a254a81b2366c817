"""Clipping and pools in fixed point: where a unit stands, and whether the bound decides its side.

Each is 1-Lipschitz in the maximum norm, so the bound passes through as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from empirical.fixed_point import (
    Fixed,
    add,
    divide,
    negative,
    scale,
)
from empirical.rounding import Rounded, Session, rule
from empirical.rules.pool import _pair

aten = torch.ops.aten


def clip(session: Session, x: Fixed, low: Any, high: Any) -> Fixed:
    """``min(max(x, low), high)``: 1-Lipschitz; the sides are those of the kinks."""
    gaps = session.scalar(x)
    for end, sign in ((low, 1), (high, -1)):
        if end is None:
            continue
        inside = gaps[float(end)] * sign > 0
        if end == 0:
            x = _masked(x, inside)
        else:
            constant = session.constant(end, inside)
            x = x.where(inside, _expanded(constant, inside))
    return x


def _masked(x: Fixed, mask: Tensor) -> Fixed:
    factor = mask.to(torch.float64)
    return x.each(lambda d: d * factor)


def _expanded(x: Fixed, like: Tensor) -> Fixed:
    return x.each(lambda d: d.expand(like.shape))


@rule(aten.relu.default)
def relu(session: Session, func: Any, x: Rounded) -> Fixed:
    """Side of 0."""
    return clip(session, x.fixed, 0.0, None)


@rule(aten.hardtanh.default, aten.relu6.default, aten.clamp.default, aten.clamp_min.default)
def hardtanh(session: Session, func: Any, x: Rounded, *ends: Any) -> Fixed:
    """Sides of both ends."""
    usual = {aten.hardtanh.default: (-1.0, 1.0), aten.relu6.default: (0.0, 6.0)}
    defaults: tuple[Any, ...] = usual.get(func, (None, None))
    low, high = (*ends, *defaults[len(ends) :])
    return clip(session, x.fixed, low, high)


@rule(aten.clamp_max.default)
def clamp_max(session: Session, func: Any, x: Rounded, high: Any) -> Fixed:
    """Side of the upper end."""
    return clip(session, x.fixed, None, high)


@rule(aten.hardsigmoid.default)
def hardsigmoid(session: Session, func: Any, x: Rounded) -> Fixed:
    """``(min(max(x, -3), 3) + 3) / 6``."""
    shifted = add(
        clip(session, x.fixed, -3.0, 3.0), session.constant(3.0, x.fixed.digits[0]), session.bottom
    )
    return divide(shifted, torch.tensor(6.0, dtype=torch.float64), session.bottom)


@rule(aten.leaky_relu.default)
def leaky_relu(session: Session, func: Any, x: Rounded, slope: float = 0.01) -> Fixed:
    """Side of 0; the stored slope below it."""
    above = session.scalar(x.fixed)[0.0] > 0
    return x.fixed.where(
        above, scale(x.fixed, torch.tensor(slope, dtype=torch.float64), session.bottom)
    )


@rule(aten.abs.default)
def absolute(session: Session, func: Any, x: Rounded) -> Fixed:
    """Side of 0."""
    below = session.scalar(x.fixed)[0.0] < 0
    sign = torch.where(below, -1.0, 1.0).to(torch.float64)
    return x.fixed.each(lambda d: d * sign)


@rule(aten.max_pool2d_with_indices.default)
def max_pool(
    session: Session, func: Any, x: Rounded, kernel: Any, stride: Any = (), padding: Any = 0,
    dilation: Any = 1, ceil: bool = False,
) -> tuple[Any, None]:  # fmt: skip
    """The recorded winner against every other place of its window.

    Which place wins matters where the winner or the other can carry a tangent (theory.md 5.1).
    """
    k, p, d = _pair(kernel), _pair(padding), _pair(dilation)
    s = _pair(stride) if stride else k
    choice = session.choice(x.shape)
    assert choice.winners is not None
    h, w = x.shape[2:]
    won = choice.winners.flatten(2)
    shape = choice.winners.shape
    live = choice.support.flatten(2)
    winner = _gathered(x.fixed, won)
    winner_live = live.gather(2, won)
    out, doubt = winner, torch.zeros_like(winner_live)
    wrong, units = torch.zeros_like(winner_live), 0
    rows = torch.arange(shape[2], device=won.device) * s[0] - p[0]
    columns = torch.arange(shape[3], device=won.device) * s[1] - p[1]
    for i in range(k[0]):
        for j in range(k[1]):
            y, z = (rows + i * d[0])[:, None], (columns + j * d[1])[None, :]
            inside = ((y >= 0) & (y < h) & (z >= 0) & (z < w)).flatten()
            place = (y.clamp(0, h - 1) * w + z.clamp(0, w - 1)).flatten().expand_as(won)
            other = _gathered(x.fixed, place)
            lead = add(winner, negative(other), session.bottom)
            valid = inside.expand_as(won) & (place != won)
            matters = valid & (winner_live | live.gather(2, place))
            gap = lead.approximate()
            ahead, near = session.decide(gap[matters], 2 * x.fixed.error)
            units += int(matters.sum())
            doubt[matters] |= near
            wrong[matters] |= ~ahead & ~near
            better = add(other, negative(out), session.bottom).approximate() > 0
            out = other.where(better & valid, out)
    session.settle(units, int(doubt.sum()), int((wrong & ~doubt).sum()))
    return out.each(lambda t: t.reshape(shape)), None


def _gathered(x: Fixed, place: Tensor) -> Fixed:
    return x.each(lambda t: t.flatten(2).gather(2, place))
