"""Layer facts of single torch modules: what their stored weights and recorded pattern prove.

A mask goes along: which entries of the current tensor can depend on the chosen directions at all,
by activation pattern and receptive field (never because a tangent happens to be zero). Rank rules
are theory.md, section 4; everything without a rule is an opaque layer that says so.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame, LayerNorm, LayerScale
from timm.models.mlp_mixer import Affine
from torch import Tensor, nn

from theory.layers import LayerFact

Shape = tuple[int, ...]

#: modules that are the identity in eval mode
IDENTITIES = ("Identity", "Dropout", "Dropout2d", "DropPath", "Flatten", "DropBlock2d")
_SMOOTH = (nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ELU, nn.Mish)
_KINKED = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.Hardswish, nn.Hardsigmoid)


@dataclass(frozen=True)
class Seen:
    """What the hooks saw of one call of a module, without the batch dimension.

    Attributes:
        inputs: shape of the first input.
        outputs: shape of the output.
        slope: for kinked activations on an image, 1 where the slope is certainly not zero, 0 at a
            kink, -1 where the slope is certainly zero.
        winners: for a max pool on an image, the number of distinct winners.
    """

    inputs: Shape
    outputs: Shape
    slope: Tensor | None = None
    winners: int | None = None


def trusted(module: nn.Module) -> bool:
    """Whether the class is torch's or timm's own, so that its forward is the one known here."""
    return type(module).__module__.partition(".")[0] in ("torch", "timm")


def slope_sign(module: nn.Module, x: Tensor) -> Tensor | None:
    """1 where a kinked activation has a non-zero slope, 0 at its kinks, -1 where it is flat."""
    if isinstance(module, nn.ReLU6):
        inside = torch.minimum(x, 6.0 - x)
    elif isinstance(module, nn.ReLU):
        inside = x
    elif isinstance(module, nn.Hardsigmoid):
        inside = torch.minimum(x + 3.0, 3.0 - x)
    elif isinstance(module, nn.Hardswish):  # slope (2x + 3)/6 inside, 0 at -3/2
        inside = torch.where(x == -1.5, torch.zeros_like(x), x + 3.0)
    elif isinstance(module, nn.Hardtanh):
        inside = torch.minimum(x - module.min_val, module.max_val - x)
    else:
        return None
    return torch.sign(inside).to(torch.int8)


def fit(mask: Tensor, shape: Shape) -> Tensor:
    """The mask in this shape; everything may be live when entries were reordered on the way."""
    if tuple(mask.shape) == shape:
        return mask
    return torch.full(shape, bool(mask.any()))


def leaf(name: str, module: nn.Module, seen: Seen, mask: Tensor) -> tuple[list[LayerFact], Tensor]:
    """Facts of one module and the mask after it.

    Args:
        name: the module's path.
        module: a module without a known inner structure.
        seen: shapes and pattern of its call.
        mask: which of its inputs can depend on the directions.
    """
    mask = fit(mask, seen.inputs)
    if not trusted(module):
        return opaque(name, type(module).__name__, seen, mask)
    if type(module).__name__ in IDENTITIES:
        out = mask.reshape(seen.outputs) if mask.numel() == prod(seen.outputs) else mask
        return [], out
    layer: Any = module
    kind = type(layer)  # subclasses may compute something else (weight standardisation, 2d norms)
    if kind in (nn.BatchNorm2d, BatchNormAct2d) and layer.running_mean is not None:
        return _batch_norm(name, layer, seen, mask)
    if kind in (nn.Conv2d, Conv2dSame):
        return _convolution(name, layer, seen, mask)
    if kind is nn.Linear:
        return _linear(name, layer, seen, mask)
    if kind in _KINKED:
        return _kinked(name, layer, seen, mask)
    if kind in _SMOOTH:
        return [_fact(name, "activation", seen, mask)], mask
    if kind in (nn.LayerNorm, LayerNorm) and len(layer.normalized_shape) == 1:
        return _layer_norm(name, layer, seen, mask)
    if isinstance(layer, Affine | LayerScale):
        gamma = layer.alpha if isinstance(layer, Affine) else layer.gamma
        alive = (gamma.detach().flatten() != 0).expand(seen.outputs)
        return _scaled(name, alive, seen, mask)
    if kind is nn.MaxPool2d:
        out = fit(layer(mask[None].double())[0] > 0, seen.outputs)
        return [_fact(name, "max-pool", seen, out, upper=seen.winners)], out
    if kind is nn.AvgPool2d:
        return _average_pool(name, layer, seen, mask)
    if is_average(module) and "NHWC" not in str(getattr(layer, "input_fmt", "")):
        return global_pool(name, seen, mask)
    return opaque(name, type(module).__name__, seen, mask)


def opaque(name: str, what: str, seen: Seen, mask: Tensor) -> tuple[list[LayerFact], Tensor]:
    """A layer of which only the widths are known."""
    out = torch.full(seen.outputs, bool(mask.any()))
    note = f"{what} has no rank rule: bounded by its widths only"
    return [_fact(name, "opaque", seen, out, note=note)], out


def mixing(name: str, kind: str, seen: Seen, mask: Tensor) -> tuple[list[LayerFact], Tensor]:
    """A layer whose outputs may all depend on any input (attention)."""
    out = torch.full(seen.outputs, bool(mask.any()))
    return [_fact(name, kind, seen, out)], out


def global_pool(
    name: str, seen: Seen, mask: Tensor, axis: int = 0
) -> tuple[list[LayerFact], Tensor]:
    """Mean over all positions; ``axis`` is the channels' place in the input's shape."""
    channels = seen.inputs[axis]
    live = mask.movedim(axis, 0).reshape(channels, -1).any(1)
    if prod(seen.outputs) != channels:
        return opaque(name, "a pool that keeps positions", seen, mask)
    out = live.reshape(seen.outputs)
    return [_fact(name, "global-pool", seen, out, upper=channels, lower=channels)], out


def is_average(module: nn.Module) -> bool:
    """Whether a pool takes the mean over all positions."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return module.output_size in (1, (1, 1))
    return type(module).__name__ == "SelectAdaptivePool2d" and str(
        getattr(module, "pool_type", "")
    ) in ("avg", "fast", "fastavg")


def _fact(
    name: str,
    kind: str,
    seen: Seen,
    mask: Tensor,
    *,
    upper: int | None = None,
    lower: int | None = None,
    copies: int = 1,
    eps: bool = True,
    note: str = "",
) -> LayerFact:
    """A fact whose live count is the mask's."""
    inputs, outputs, live = prod(seen.inputs), prod(seen.outputs), int(mask.sum())
    return LayerFact(
        name,
        kind,
        inputs,
        outputs,
        rank_upper=None if upper is None else min(upper, inputs, outputs),
        rank_lower=lower,
        live=live if live < outputs else None,
        copies=copies,
        eps=eps,
        note=note,
    )


def _scaled(name: str, alive: Tensor, seen: Seen, mask: Tensor) -> tuple[list[LayerFact], Tensor]:
    """A diagonal layer: ``alive`` says where the diagonal is not zero."""
    rank = int(alive.sum())
    out = mask & alive
    return [_fact(name, "diagonal", seen, out, upper=rank, lower=rank)], out


def _batch_norm(
    name: str, module: nn.BatchNorm2d, seen: Seen, mask: Tensor
) -> tuple[list[LayerFact], Tensor]:
    gamma = torch.ones(seen.inputs[0]) if module.weight is None else module.weight.detach()
    return _scaled(name, (gamma != 0)[:, None, None].expand(seen.inputs), seen, mask)


def _convolution(
    name: str, module: nn.Conv2d, seen: Seen, mask: Tensor
) -> tuple[list[LayerFact], Tensor]:
    """Rank at most inputs read and outputs written, group by group."""
    pattern = copy.deepcopy(module).double()
    with torch.no_grad():
        pattern.weight.copy_((module.weight != 0).double())
        if pattern.bias is not None:
            pattern.bias.zero_()
        out = pattern(mask[None].double())[0] > 0.5
    area_in, area_out = prod(seen.inputs[1:]), prod(seen.outputs[1:])
    read = min(area_in, area_out * prod(module.kernel_size))
    written = (module.weight.detach().flatten(1) != 0).any(1)
    groups = module.groups
    each_in = seen.inputs[0] // groups
    each_out = written.reshape(groups, -1).sum(1)
    upper = sum(min(each_in * read, int(count) * area_out) for count in each_out)
    return [_fact(name, "convolution", seen, out, upper=upper)], out


def _linear(
    name: str, module: nn.Linear, seen: Seen, mask: Tensor
) -> tuple[list[LayerFact], Tensor]:
    copies = prod(seen.inputs) // module.in_features
    nonzero = module.weight.detach() != 0
    rank = min(int(nonzero.any(1).sum()), int(nonzero.any(0).sum()))
    out = (mask.double() @ nonzero.double().T) > 0.5
    return [_fact(name, "linear", seen, out, upper=copies * rank)], out


def _average_pool(
    name: str, module: nn.AvgPool2d, seen: Seen, mask: Tensor
) -> tuple[list[LayerFact], Tensor]:
    """Channel by channel a Kronecker product of two sums along a line, up to non-zero scales.

    So its rank is channels times the two lines' ranks (catalogue row kronecker): 3x3, stride 1,
    padding 1 on 14 x 14 has 13 * 13, not 14 * 14.
    """
    from numeric.exact import rank

    out = fit(module(mask[None].double())[0] > 0, seen.outputs)
    total = seen.inputs[0]
    for axis in (0, 1):
        size, places = seen.inputs[1 + axis], seen.outputs[1 + axis]
        window, stride, padding = (
            value if isinstance(value, int) else value[axis]
            for value in (module.kernel_size, module.stride, module.padding)
        )
        starts = [place * stride - padding for place in range(places)]
        total *= rank([[int(s <= i < s + window) for i in range(size)] for s in starts])
    return [_fact(name, "average-pool", seen, out, upper=total, lower=total)], out


def _kinked(
    name: str, module: nn.Module, seen: Seen, mask: Tensor
) -> tuple[list[LayerFact], Tensor]:
    if isinstance(module, nn.LeakyReLU) and module.negative_slope != 0:
        full = prod(seen.inputs)
        return [_fact(name, "activation", seen, mask, upper=full, lower=full)], mask
    if seen.slope is None:
        return [_fact(name, "activation", seen, mask)], mask
    possible, certain = int((seen.slope >= 0).sum()), int((seen.slope > 0).sum())
    out = mask & (seen.slope >= 0)
    return [_fact(name, "activation", seen, out, upper=possible, lower=certain)], out


def _layer_norm(
    name: str, module: nn.LayerNorm, seen: Seen, mask: Tensor
) -> tuple[list[LayerFact], Tensor]:
    width = module.normalized_shape[0]
    copies = prod(seen.inputs) // width
    alive = torch.ones(width, dtype=torch.bool)
    if module.weight is not None:
        alive = module.weight.detach() != 0
    out = mask.any(-1, keepdim=True) & alive
    upper = copies * int(alive.sum())
    fact = _fact(name, "layer-norm", seen, out, upper=upper, copies=copies, eps=module.eps > 0)
    return [fact], out
