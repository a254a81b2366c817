"""From an unmodified `nn.Module` to layer facts, through forward hooks (no tracing).

The hooks give shapes and, on an image, the activation pattern. How the layers are joined comes
from a table of timm's families; a module without an entry becomes an opaque layer bounded by its
widths, and its note says so. A model without an entry is bounded at each tap from the input alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from empirical.fact_families import BLOCKS, FAMILIES
from empirical.fact_reader import Facts, Reader
from empirical.leaf_facts import Seen, slope_sign
from empirical.pattern import Choice
from empirical.taps import default_names
from theory.errors import InputError


def facts(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    image: Tensor | None = None,
    live: Tensor | None = None,
    taps: Sequence[str] | None = None,
    choices: Sequence[Choice] = (),
) -> Facts:
    """Layer facts of a model at one input, for ``theory.audit.audit``.

    Args:
        model: in eval mode.
        input_shape: (channels, height, width) of one sample.
        image: the input itself, of that shape; without it nothing is known of activations.
        live: boolean, of that shape: the pixels that vary; all of them when ``None``.
        taps: module paths to report; the default taps when ``None``.
        choices: the pattern that another pass at this image recorded; it replaces the one seen here,
            so that both passes speak of the same pattern.

    Raises:
        InputError: the shapes do not fit, the model is in training mode, or a tap is no module.
    """
    shape = tuple(int(n) for n in input_shape)
    for what, value in (("image", image), ("live", live)):
        if value is not None and tuple(value.shape) != shape:
            raise InputError(f"{what} has shape {tuple(value.shape)}, the model's input is {shape}")
    if any(m.training for m in model.modules()):
        raise InputError("the model is in training mode; call model.eval() before the audit")
    runner = copy.deepcopy(model).double().cpu()
    names = _default_names(runner, shape) if taps is None else list(taps)
    modules = dict(runner.named_modules())
    for name in names:
        if name not in modules:
            raise InputError(f"the model has no module {name!r} to tap")
    times = Counter(choice.path for choice in choices)
    recorded = {c.path: c for c in choices if times[c.path] == 1}
    seen = _record(runner, shape, image, recorded)
    mask = torch.ones(shape, dtype=torch.bool) if live is None else live.bool().cpu()
    return Reader(modules, seen, frozenset(names), BLOCKS, FAMILIES).model(runner, mask, names)


def _default_names(model: nn.Module, shape: tuple[int, ...]) -> list[str]:
    """The default taps; none where no blocks are recognised (the output alone is bounded then)."""
    try:
        return [name for name, _ in default_names(model, shape)]
    except InputError:
        return []


def _record(
    runner: nn.Module, shape: tuple[int, ...], image: Tensor | None, recorded: Mapping[str, Choice]
) -> dict[str, Seen]:
    """One forward pass in float64; modules called more than once or oddly are left out."""
    x = torch.zeros(shape) if image is None else image.detach().cpu()
    seen: dict[str, Seen] = {}
    before: dict[str, tuple[tuple[int, ...], Tensor | None, int | None]] = {}
    calls: dict[str, int] = {}

    def enter(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            if not inputs or not isinstance(inputs[0], Tensor):
                return
            value = inputs[0]
            slope = winners = None
            if image is not None:
                slope = slope_sign(module, value[0])
                choice = recorded.get(name)
                if slope is not None and choice is not None and choice.slopes is not None:
                    used = torch.where(choice.slopes != 0, 1, -1).to(slope)
                    slope = torch.where(choice.support.to(slope.device), used, slope)[0]
                if isinstance(module, nn.MaxPool2d):
                    winners = _distinct(
                        _winners(module, value)
                        if choice is None or choice.winners is None
                        else choice.winners
                    )
            before[name] = (tuple(value.shape[1:]), slope, winners)

        return hook

    def leave(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if name in before and isinstance(output, Tensor):
                inputs, slope, winners = before.pop(name)
                seen[name] = Seen(inputs, tuple(output.shape[1:]), slope, winners)

        return hook

    handles = []
    for name, module in runner.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave(name)))
    try:
        with torch.no_grad():
            runner(x[None].double())
    finally:
        for handle in handles:
            handle.remove()
    # of a module that ran several times only the shapes of its last call are known
    return {n: s if calls[n] == 1 else Seen(s.inputs, s.outputs) for n, s in seen.items()}


def _distinct(winners: Tensor) -> int:
    return sum(int(channel.unique().numel()) for channel in winners[0])


def _winners(module: nn.MaxPool2d, value: Tensor) -> Tensor:
    _, where = nn.functional.max_pool2d(
        value,
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.ceil_mode,
        return_indices=True,
    )
    return where
