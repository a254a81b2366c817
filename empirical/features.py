"""What the head sees and says over a set of images, and what chosen modules put out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from empirical.data import Stream
from theory.errors import InputError, UnsupportedError


@dataclass(frozen=True, eq=False)
class Features:
    """The last features [samples, n], the logits [samples, classes], and the linear head."""

    features: Tensor
    logits: Tensor
    weight: Tensor
    bias: Tensor | None
    tap: str


def head_of(model: nn.Module) -> tuple[str, nn.Linear]:
    """Path and module of the linear head.

    Raises:
        UnsupportedError: the network has none, or it is not linear.
    """
    getter = getattr(model, "get_classifier", None)
    head = getter() if callable(getter) else None
    if head is None:
        linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
        head = linears[-1] if linears else None
    if not isinstance(head, nn.Linear):
        raise UnsupportedError(
            f"the head of {type(model).__name__} is {type(head).__name__}, not linear: its "
            "classification dimension is not defined"
        )
    return next(name for name, module in model.named_modules() if module is head), head


def collect(
    model: nn.Module,
    images: Tensor | Stream,
    *,
    batch: int = 64,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """One pass over the images in the model's own precision; features and logits in float64.

    Args:
        model: in eval mode, with a linear head.
        images: preprocessed, [samples, channels, height, width].
        batch: images a pass.
        device: where to run.
        progress: called with (done, total).

    Raises:
        UnsupportedError: the head is not linear.
        InputError: no images, or logits with NaN.
    """
    if not len(images):
        raise InputError("there are no images to measure")
    name, head = head_of(model)
    seen: list[Tensor] = []
    said: list[Tensor] = []

    def note(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(inputs[0].double().cpu())
        said.append(output.double().cpu())

    handle = head.register_forward_hook(note)
    dtype, home = head.weight.dtype, head.weight.device
    try:
        model.to(device)
        with torch.no_grad():
            for start in range(0, len(images), batch):
                answer = model(images[start : start + batch].to(device=device, dtype=dtype))
                if not said or not _same(answer, said[-1]):
                    raise UnsupportedError(
                        f"the answer of {type(model).__name__} is not what its linear layer {name!r} "
                        "puts out: its head is not that layer alone, so that the features' accuracy "
                        "and the logits' dependence are not defined by it"
                    )
                if progress is not None:
                    progress(min(start + batch, len(images)), len(images))
    finally:
        handle.remove()
        model.to(home)
    features, logits = torch.cat(seen), torch.cat(said)
    if features.ndim != 2:
        raise UnsupportedError(
            f"the head {name!r} sees features of shape {tuple(features.shape)}: one vector an "
            "image is needed"
        )
    bad = int((~torch.isfinite(logits)).sum())
    if bad:
        raise InputError(f"{bad} of {logits.numel()} logits are NaN or infinite")
    bias = None if head.bias is None else head.bias.detach().double().cpu()
    return Features(features, logits, head.weight.detach().double().cpu(), bias, name)


def _same(answer: object, logits: Tensor) -> bool:
    """Whether the network's answer is what its head put out."""
    return (
        isinstance(answer, Tensor)
        and answer.shape == logits.shape
        and torch.equal(answer.double().cpu().nan_to_num(), logits.nan_to_num())
    )


def outputs(model: nn.Module, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Outputs of modules for one batch, by name, in one pass."""
    found: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_hook(
            lambda _m, _i, output, name=name: found.__setitem__(name, output.detach().clone())
        )
        for name in names
    ]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return found
