"""Networks from a user's own callable: torchvision, Hugging Face, or any function of no arguments.

``package.module:callable`` or ``file.py:callable`` is imported and called: this runs the user's own
code, and only because the user named it. What comes back is an ``nn.Module`` from images to logits; one
that answers with a mapping with ``logits`` (Hugging Face's ``ModelOutput``) is wrapped so that it
answers with that tensor.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from theory.errors import InputError

#: preprocessing where the module does not say: ImageNet's, as torchvision's and most timm weights
INPUT_SIZE = (3, 224, 224)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LogitsOnly(nn.Module):
    """A network whose answer is the ``logits`` of the wrapped one's.

    Attributes:
        network: the wrapped module.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # Hugging Face: the images' keyword, usually pixel_values
        self.keyword = str(getattr(network, "main_input_name", "") or "")

    def forward(self, x: Tensor) -> Tensor:
        """Logits [samples, classes] of images [samples, channels, height, width]."""
        answer = self.network(**{self.keyword: x}) if self.keyword else self.network(x)
        logits: Tensor = answer["logits"] if isinstance(answer, Mapping) else answer.logits
        return logits


def is_callable(name: str) -> bool:
    """Whether a MODEL argument names a callable: ``package.module:callable``, ``file.py:callable``."""
    place, colon, attribute = name.rpartition(":")
    if not colon or not attribute.replace(".", "").isidentifier():
        return False
    return place.endswith(".py") or all(part.isidentifier() for part in place.split("."))


def build(name: str) -> nn.Module:
    """Import and call what ``name`` names.

    Args:
        name: ``package.module:callable`` (the working directory is searched too) or
            ``file.py:callable``; the callable takes no arguments and returns an ``nn.Module``.

    Raises:
        InputError: it cannot be imported, is not callable, fails, or returns something else.
    """
    place, _, attribute = name.rpartition(":")
    module = _imported(place, name)
    function: Any = module
    for part in attribute.split("."):
        if not hasattr(function, part):
            near = ", ".join(n for n in dir(function) if not n.startswith("_"))[:200]
            raise InputError(f"{place} has no {attribute!r}; it has {near}")
        function = getattr(function, part)
    if not callable(function) or isinstance(function, nn.Module):
        raise InputError(
            f"{name} is a {type(function).__name__}, not a function: name one that takes no "
            "arguments and returns the network"
        )
    try:
        model = function()
    except Exception as error:  # the user's own code may raise anything
        raise InputError(
            f"{name}() failed ({type(error).__name__}: {error}); it is called without arguments "
            "and must return the network"
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{name}() returned a {type(model).__name__}, not an nn.Module")
    return model


def _imported(place: str, name: str) -> Any:
    try:
        if place.endswith(".py"):
            path = Path(place)
            if not path.is_file():
                raise InputError(f"no file at {place}, which {name} names")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None  # a .py file always has a loader
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        here = str(Path.cwd())
        added = here not in sys.path  # a console script does not search the working directory
        if added:
            sys.path.insert(0, here)
        try:
            return importlib.import_module(place)
        finally:
            if added:
                sys.path.remove(here)
    except InputError:
        raise
    except Exception as error:  # importing runs the user's code
        raise InputError(
            f"cannot import {place} for {name} ({type(error).__name__}: {error}); is it installed, "
            "or in the working directory?"
        ) from error


def adapt(model: nn.Module, name: str) -> tuple[nn.Module, dict[str, Any], tuple[str, ...]]:
    """Make a module one from images to a tensor of logits, with a known preprocessing.

    Args:
        model: as the callable returned it.
        name: how errors call it.

    Returns:
        The module in eval mode (wrapped where it answers with a mapping), its preprocessing as
        timm's ``pretrained_cfg`` (also set on it, so that timm's transforms see it), and notes
        about what had to be assumed.

    Raises:
        InputError: it cannot run on such an image, or its answer is no [samples, classes] tensor.
    """
    config, notes = _config(model)
    model.eval()
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    image = torch.zeros(2, *config["input_size"], dtype=dtype)
    keyword = getattr(model, "main_input_name", None)
    try:
        with torch.no_grad():
            answer = model(**{keyword: image}) if isinstance(keyword, str) else model(image)
    except Exception as error:  # any operation of the network may refuse the size
        raise InputError(
            f"{name} cannot run on images of shape {config['input_size']} "
            f"({type(error).__name__}: {str(error)[:160]}); set pretrained_cfg = "
            '{"input_size": (channels, height, width), "mean": ..., "std": ...} on the network'
        ) from error
    if not isinstance(answer, Tensor):
        mapping = isinstance(answer, Mapping)
        holds = answer.get("logits") if mapping else getattr(answer, "logits", None)
        if not isinstance(holds, Tensor):
            raise InputError(
                f"{name} answers with a {type(answer).__name__} without logits; return a network "
                "whose forward gives the logits as a tensor, or a mapping with 'logits'"
            )
        model, answer = LogitsOnly(model).eval(), holds
        notes += ("its answer's logits are taken",)
    if answer.ndim != 2 or len(answer) != 2:
        raise InputError(
            f"{name} answers 2 images with a tensor of shape {tuple(answer.shape)}; logits are "
            "[samples, classes]"
        )
    model.pretrained_cfg = config  # type: ignore[assignment]
    return model, config, notes


def _config(model: nn.Module) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Preprocessing that the module states (timm's way, Hugging Face's), or ImageNet's."""
    stated = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if stated is not None and not isinstance(stated, Mapping):
        stated = stated.to_dict()
    config: dict[str, Any] = dict(stated or {})
    notes = []
    if "input_size" not in config:
        own = getattr(model, "config", None)
        side, channels = getattr(own, "image_size", None), getattr(own, "num_channels", 3)
        if side is not None:
            height, width = (side, side) if isinstance(side, int) else tuple(side)[-2:]
            config["input_size"] = (int(channels), int(height), int(width))
        else:
            config["input_size"] = INPUT_SIZE
            notes.append(f"input size {INPUT_SIZE} assumed")
    if "mean" not in config or "std" not in config:
        channels = config["input_size"][0]
        mean, std = (MEAN, STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
        config |= {"mean": mean, "std": std}
        notes.append(
            f"mean {mean} and std {std} assumed; pretrained_cfg on the network says others"
        )
    if type(model).__module__.startswith("torchvision."):
        config.setdefault("interpolation", "bilinear")
    config.setdefault("crop_pct", 0.875)
    return config, tuple(notes)


def class_names(model: nn.Module) -> tuple[str, ...] | None:
    """Names of the logits that a Hugging Face configuration holds, or None."""
    inner = model.network if isinstance(model, LogitsOnly) else model
    named = getattr(getattr(inner, "config", None), "id2label", None)
    if not isinstance(named, Mapping) or not named:
        return None
    names = tuple(str(named[i]) for i in sorted(named))
    return None if all(n == f"LABEL_{i}" for i, n in enumerate(names)) else names


def redraw(model: nn.Module, seed: int) -> None:
    """Give a network untrained weights, in place: its control of the same architecture.

    Modules that can reset themselves do, under ``seed``; a tensor that belongs to no such module
    keeps its entries in a random order.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in model.modules():
            reset: Callable[[], None] | None = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                for tensor in module.parameters(recurse=False):
                    shuffled = tensor.flatten()[torch.randperm(tensor.numel())]
                    tensor.copy_(shuffled.view_as(tensor))
