"""How timm's families join their modules: one function for each block and each family.

Keys are ``file.Class`` of timm's own classes, so that a stranger of the same name stays opaque.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from empirical.fact_reader import Block, Facts, Family, Part, Reader, everything
from empirical.leaf_facts import Seen, fit, global_pool, is_average, mixing, opaque
from theory.layers import LayerFact


def _names(path: str, *names: str) -> list[str]:
    return [f"{path}.{name}" for name in names]


def _resnet_block(
    reader: Reader, path: str, module: nn.Module, mask: Tensor, order: Sequence[str], last: str
) -> tuple[Facts, Tensor]:
    shortcut = f"{path}.downsample" if getattr(module, "downsample", None) is not None else None
    fact, mask = reader.residual(f"{path}.sum", _names(path, *order), mask, shortcut)
    more, mask = reader.module(f"{path}.{last}", mask)
    return [fact, *more], mask


def _basic(reader: Reader, path: str, module: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
    order = ("conv1", "bn1", "drop_block", "act1", "aa", "conv2", "bn2", "se")
    return _resnet_block(reader, path, module, mask, order, "act2")


def _bottleneck(reader: Reader, path: str, module: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
    first = ("conv1", "bn1", "act1", "conv2", "bn2", "drop_block")
    order = (*first, "act2", "aa", "conv3", "bn3", "se")
    return _resnet_block(reader, path, module, mask, order, "act3")


def _efficient(order: str) -> Callable[[Reader, str, nn.Module, Tensor], tuple[Facts, Tensor]]:
    def block(reader: Reader, path: str, module: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
        branch = _names(path, *order.split())
        if not getattr(module, "has_skip", False):
            return reader.chain(branch, mask)
        fact, mask = reader.residual(path, branch, mask)
        return [fact], mask

    return block


def _two_residuals(
    first: str, second: str, mixes: bool = False
) -> Callable[[Reader, str, nn.Module, Tensor], tuple[Facts, Tensor]]:
    """Two sums: x + a(x), then x + b(x): the shape of every token-mixing block."""

    def block(reader: Reader, path: str, _: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
        one, mask = reader.residual(
            f"{path}.first", _names(path, *first.split()), mask, mixes=mixes
        )
        two, mask = reader.residual(path, _names(path, *second.split()), mask)
        return [one, two], mask

    return block


def _swin_block(reader: Reader, path: str, _: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
    """Attention in (shifted, padded) windows, then an MLP; both residual."""
    one, _same = reader.residual(f"{path}.first", _names(path, "norm1"), mask)
    full = everything(mask)
    width = mask.numel()
    attention = LayerFact(f"{path}.attn", "attention", width, width)
    one = replace(one, branch=(*one.branch, attention), live=None)
    two, mask = reader.residual(path, _names(path, "norm2", "mlp"), full)
    return [one, two], mask


def _attention(reader: Reader, path: str, _: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
    seen = reader.seen[path]
    return mixing(path, "attention", seen, mask)


def _mlp(reader: Reader, path: str, _: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
    return reader.chain(_names(path, "fc1", "act", "norm", "fc2"), mask)


def _glu(reader: Reader, path: str, _: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
    """The gated MLP of gMixer: fc1, the product of its two halves (one activated), fc2."""
    found, mask = reader.module(f"{path}.fc1", mask)
    inner = reader.seen[f"{path}.fc2"].inputs
    gate = LayerFact(f"{path}.gate", "gate", mask.numel(), prod(inner))
    mask = torch.full(inner, bool(mask.any()))
    more, mask = reader.chain(_names(path, "norm", "fc2"), mask)
    return [*found, gate, *more], mask


def _patch_embed(reader: Reader, path: str, _: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
    found, mask = reader.module(f"{path}.proj", mask)
    outputs, channels = reader.seen[path].outputs, mask.shape[0]
    ends = outputs[-1] == channels and outputs != tuple(mask.shape)
    mask = mask.flatten(1).T.reshape(outputs) if ends else fit(everything(mask), outputs)
    more, mask = reader.chain(_names(path, "norm"), mask)
    return found + more, mask


def _patch_merging(reader: Reader, path: str, _: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
    norm = reader.seen[f"{path}.norm"]
    if prod(norm.inputs) != mask.numel():  # odd sizes are padded
        return opaque(path, "PatchMerging with padding", reader.seen[path], mask)
    return reader.chain(_names(path, "norm", "reduction"), mask)


def _swin_stage(reader: Reader, path: str, _: nn.Module, mask: Tensor) -> tuple[Facts, Tensor]:
    return reader.chain(_names(path, "downsample", "blocks"), mask)


def _classifier_head(
    reader: Reader, path: str, module: nn.Module, mask: Tensor
) -> tuple[Facts, Tensor]:
    pool = f"{path}.global_pool"
    axis = 0 if str(getattr(module, "input_fmt", "NCHW")).endswith("NCHW") else -1
    if is_average(reader.modules[pool]):
        found, mask = global_pool(pool, reader.seen[pool], mask, axis)
    else:
        found, mask = opaque(pool, "a pool that is no mean", reader.seen[pool], mask)
        reader.norm = None
    found += reader.centred(f"{pool} of a layer norm", mask)
    found = reader.mark(pool, found, mask)
    more, mask = reader.chain(_names(path, "drop", "fc", "flatten"), mask)
    return found + more, mask


BLOCKS: dict[str, Block] = {
    "resnet.BasicBlock": _basic,
    "resnet.Bottleneck": _bottleneck,
    "_efficientnet_blocks.ConvBnAct": _efficient("conv bn1 aa"),
    "_efficientnet_blocks.DepthwiseSeparableConv": _efficient(
        "conv_s2d bn_s2d conv_dw bn1 aa se conv_pw bn2"
    ),
    "_efficientnet_blocks.InvertedResidual": _efficient(
        "conv_s2d bn_s2d conv_pw bn1 conv_dw bn2 aa se conv_pwl bn3"
    ),
    "_efficientnet_blocks.EdgeResidual": _efficient("conv_exp bn1 aa se conv_pwl bn2"),
    "mlp_mixer.MixerBlock": _two_residuals("norm1 mlp_tokens", "norm2 mlp_channels", mixes=True),
    "vision_transformer.Block": _two_residuals("norm1 attn ls1", "norm2 mlp ls2"),
    "swin_transformer.SwinTransformerBlock": _swin_block,
    "attention.Attention": _attention,
    "mlp.Mlp": _mlp,
    "mlp.GluMlp": _glu,
    "patch_embed.PatchEmbed": _patch_embed,
    "swin_transformer.PatchMerging": _patch_merging,
    "swin_transformer.SwinTransformerStage": _swin_stage,
    "classifier.ClassifierHead": _classifier_head,
}


def _resblock(reader: Reader, path: str, module: Any, mask: Tensor) -> tuple[Facts, Tensor]:
    """ResMLP: x + ls1 * linear_tokens(norm1(x)), then x + ls2 * mlp_channels(norm2(x))."""
    found: Facts = []
    for number, branch, scale in (
        ("first", ("norm1", "linear_tokens"), module.ls1),
        ("", ("norm2", "mlp_channels"), module.ls2),
    ):
        name = f"{path}.{number}" if number else path
        fact, _ = reader.residual(name, _names(path, *branch), mask, mixes=True)
        tokens = mask.numel() // scale.numel()
        rank = tokens * int((scale.detach() != 0).sum())
        diagonal = LayerFact(
            f"{name}.scale", "diagonal", mask.numel(), mask.numel(), rank_upper=rank
        )
        found.append(replace(fact, branch=(*fact.branch, diagonal), live=None))
        mask = everything(mask)
    return found, mask


BLOCKS["mlp_mixer.ResBlock"] = _resblock


def _resnet(_: Reader, __: nn.Module) -> list[Part]:
    stages = ["layer1", "layer2", "layer3", "layer4"]
    return ["conv1", "bn1", "act1", "maxpool", *stages, "global_pool", "fc"]


def _efficientnet(_: Reader, __: nn.Module) -> list[Part]:
    return ["conv_stem", "bn1", "blocks", "conv_head", "bn2", "global_pool", "classifier"]


def _mobilenetv3(_: Reader, __: nn.Module) -> list[Part]:
    features = ["conv_stem", "bn1", "blocks", "global_pool"]
    return [*features, "conv_head", "norm_head", "act2", "flatten", "classifier"]


def _select(
    reader: Reader, name: str, outputs: tuple[int, ...]
) -> Callable[[Tensor], tuple[Facts, Tensor]]:
    """Constants beside all inputs (a class token), or some of the inputs (the class token)."""

    def part(mask: Tensor) -> tuple[Facts, Tensor]:
        out = torch.full(outputs, bool(mask.any()))
        fact = LayerFact(name, "select", mask.numel(), prod(outputs))
        token = len(outputs) == 1  # one token of many
        return [fact, *(reader.centred(f"{name} of a layer norm", out) if token else [])], out

    return part


def _mean_tokens(reader: Reader, name: str, width: int) -> Callable[[Tensor], tuple[Facts, Tensor]]:
    def part(mask: Tensor) -> tuple[Facts, Tensor]:
        seen = Seen(tuple(mask.shape), (width,))
        found, out = global_pool(name, seen, mask, axis=-1)
        return [*found, *reader.centred(f"{name} of a layer norm", out)], out

    return part


def _mixer(reader: Reader, model: Any) -> list[Part]:
    width = reader.seen["head_drop"].inputs[-1]
    mean: list[Part] = [_mean_tokens(reader, "mean over tokens", width)]
    pool = mean if model.global_pool == "avg" else []
    return ["stem", "blocks", "norm", *pool, "head_drop", "head"]


def _vit(reader: Reader, model: Any) -> list[Part]:
    tokens = reader.seen["blocks"].inputs
    width = tokens[-1]
    parts: list[Part] = ["patch_embed"]
    embedded = reader.seen["patch_embed"].outputs
    if prod(embedded) != prod(tokens):
        parts.append(_select(reader, "class token beside the patches", tokens))
    parts += ["norm_pre", "blocks", "norm"]
    if model.global_pool == "token":
        parts.append(_select(reader, "class token", (width,)))
    elif model.global_pool == "avg" and model.attn_pool is None:
        parts.append(_mean_tokens(reader, "mean over tokens", width))
    else:
        out = reader.seen["fc_norm"].inputs
        pool = f"pool {model.global_pool!r}"
        parts.append(lambda mask: opaque(pool, pool, Seen(tuple(mask.shape), out), mask))
    return [*parts, "fc_norm", "head_drop", "head"]


def _swin(_: Reader, __: nn.Module) -> list[Part]:
    return ["patch_embed", "layers", "norm", "head"]


FAMILIES: dict[str, Family] = {
    "resnet.ResNet": _resnet,
    "efficientnet.EfficientNet": _efficientnet,
    "mobilenetv3.MobileNetV3": _mobilenetv3,
    "mlp_mixer.MlpMixer": _mixer,
    "vision_transformer.VisionTransformer": _vit,
    "swin_transformer.SwinTransformer": _swin,
}
