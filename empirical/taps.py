"""Taps: the places in a network where a Jacobian is read, by module name, through forward hooks.

The default taps are those of the paper: the stem after its max pool, every residual or transformer
block, the pooled features and the logits. Whether a tap separates the input from the output is not
taken from its name: one forward pass with outputs exchanged between samples shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from theory.errors import InputError

#: module paths of whole blocks in timm's families; a path is a block if it is the longest match
_BLOCK = re.compile(
    r"(layer\d+\.\d+|s\d+\.b\d+|(blocks|stages)\.\d+(\.(blocks\.)?\d+)?|layers\.\d+\.blocks\.\d+|layers\.\d+)$"
)
#: modules that end a stem, best first
_STEMS = ("maxpool", "patch_embed", "stem", "bn1", "conv_stem", "stem_conv")


@dataclass(frozen=True)
class Tap:
    """A module whose output is read.

    Attributes:
        name: the module's path in ``model.named_modules()``.
        index: place in forward order, from 0.
        separator: whether the whole output depends on the input through this tap only
            (the output of a block, not a tensor inside a branch; theory.md, section 1).
        kind: ``stem``, ``block``, ``pooled``, ``logits`` or ``other``.
    """

    name: str
    index: int
    separator: bool
    kind: str


def default_taps(model: nn.Module, input_size: Sequence[int] | None = None) -> tuple[Tap, ...]:
    """The paper's taps of a model, and which of them are shown to be separators.

    Args:
        model: a module in eval mode.
        input_size: (channels, height, width); timm models know their own.

    Raises:
        InputError: the input size is unknown, or no blocks are recognised.
    """
    input_size = _input_size(model, input_size)
    found = default_names(model, input_size)
    through = separators(model, [name for name, _ in found], input_size)
    return tuple(Tap(n, index, n in through, kind) for index, (n, kind) in enumerate(found))


def _input_size(model: nn.Module, input_size: Sequence[int] | None) -> Sequence[int]:
    if input_size is None:
        config = getattr(model, "pretrained_cfg", None) or {}
        input_size = config.get("input_size")
        if input_size is None:
            raise InputError("the model does not know its input size; give (channels, h, w)")
    return input_size


def default_names(model: nn.Module, input_size: Sequence[int]) -> list[tuple[str, str]]:
    """(path, kind) of the paper's taps, by one forward pass with hooks; nothing about separation.

    Raises:
        InputError: no blocks are recognised.
    """
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    order = forward_order(model, torch.zeros(1, *input_size, dtype=dtype))
    names = [name for name, _ in order]
    shapes = dict(order)
    matches = [name for name in names if _BLOCK.match(name)]
    blocks = [n for n in matches if not any(m.startswith(n + ".") for m in matches)]
    if not blocks:
        raise InputError(
            f"no residual or transformer blocks recognised in {type(model).__name__}; "
            f"name the taps: its modules are {', '.join(names[:12])}, ..."
        )
    found: list[tuple[str, str]] = []
    before = names[: names.index(blocks[0])]
    stem = next((s for s in _STEMS if s in before), None)
    if stem is not None:
        found.append((stem, "stem"))
    found += [(name, "block") for name in blocks]
    head = _classifier_name(model)
    if head in shapes:
        features = getattr(model.get_submodule(head), "in_features", None)
        between = names[names.index(blocks[-1]) + 1 : names.index(head)]
        pooled = [n for n in between if features and shapes[n] == (features,)]
        if pooled:
            found.append((min(pooled, key=lambda n: n.count(".")), "pooled"))
        found.append((head, "logits"))
    return found


#: taps tested in one batch: 131 of ConvMixer would take 15 GB
TOGETHER = 16


def separators(model: nn.Module, names: Sequence[str], input_size: Sequence[int]) -> set[str]:
    """The taps that all later ones, and the output, depend on the input through.

    Sample 0 and sample k + 1 of one batch are different noise; at tap k sample k + 1 is given the
    output of sample 0. If all that comes later agrees with sample 0, the tap separates the input from
    the output (at these inputs; a branch around the tap would carry the other noise).

    Args:
        model: in eval mode, so that samples of a batch do not mix.
        names: module paths in forward order.
        input_size: (channels, height, width).
    """
    found: set[str] = set()
    for start in range(0, len(names), TOGETHER):
        found |= _separators(model, names, names[start : start + TOGETHER], input_size)
    return found


def _separators(
    model: nn.Module, names: Sequence[str], tried: Sequence[str], input_size: Sequence[int]
) -> set[str]:
    """Those of ``tried`` that separate; all ``names`` are looked at."""
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(len(tried) + 1, *input_size, generator=draw).to(dtype)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    rows = {name: k + 1 for k, name in enumerate(tried)}
    agrees = dict.fromkeys(tried, True)
    seen: list[str] = []

    def compare(output: Tensor) -> None:
        for name in seen:
            # the same arithmetic on equal inputs: rounding differs by a few ulps at most, while a
            # branch around the tap differs by as much as two noise images do
            scale = float(output[0].abs().max())
            apart = float((output[rows[name]] - output[0]).abs().max())
            agrees[name] &= apart <= 1e-4 * scale

    def hook(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def exchange(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor) or len(output) != len(x):
                agrees[name] = False  # samples are folded into other dimensions: nothing is shown
                return output
            compare(output)
            if name not in rows:
                return output
            seen.append(name)
            output = output.clone()
            output[rows[name]] = output[0]
            return output

        return exchange

    last = hooked_pass(model, x.to(device), {name: hook(name) for name in names})
    if isinstance(last, Tensor) and len(last) == len(x):
        compare(last)
    return {name for name in tried if agrees[name] and name in seen}


def named_taps(
    model: nn.Module, names: Sequence[str], input_size: Sequence[int] | None = None
) -> tuple[Tap, ...]:
    """Taps by module path; default taps keep their kind, any other is ``not a separator``.

    A model without recognised blocks has no default taps.

    Raises:
        InputError: a name is no module of the model.
    """
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules:
            raise InputError(f"the model has no module {name!r}")
    try:
        known = {tap.name: tap for tap in default_taps(model, input_size)}
    except InputError:
        known = {}
    taps = []
    for index, name in enumerate(names):
        tap = known.get(name) or Tap(name, index, False, "other")
        taps.append(replace(tap, index=index))
    return tuple(taps)


def forward_order(model: nn.Module, x: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """(path, output shape without batch) of every module that returns one tensor, as they end."""
    order: list[tuple[str, tuple[int, ...]]] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                order.append((name, tuple(output.shape[1:])))

        return note

    hooked_pass(model, x, {n: hook(n) for n, _ in model.named_modules() if n})
    return order


def hooked_pass(
    model: nn.Module, x: Tensor, hooks: Mapping[str, Callable[[nn.Module, Any, Any], Any]]
) -> Any:
    """The model's output, without gradients, while ``hooks`` (module path -> forward hook) are on."""
    handles = [model.get_submodule(n).register_forward_hook(h) for n, h in hooks.items()]
    try:
        with torch.no_grad():
            return model(x)
    finally:
        for handle in handles:
            handle.remove()


def _classifier_name(model: nn.Module) -> str | None:
    """Path of the module that makes the logits, as timm names it, else the last Linear."""
    getter = getattr(model, "get_classifier", None)
    head = getter() if callable(getter) else None
    linears = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    if isinstance(head, nn.Module):
        return next((n for n, m in model.named_modules() if m is head), None)
    return linears[-1][0] if linears else None
