"""Small networks trained on scikit-learn's digits: real training, real data, no download.

timm's own classes in small configurations: a ResNet, an MLP-Mixer, a ResMLP (MlpMixer with
ResBlock: affine instead of layer norm) with ReLU, and a Vision Transformer. The ResNet and the
ResMLP are piecewise linear, so that exact rank applies to them. Each is trained once, with a
fixed seed, and kept in the user's cache with a checksum; a damaged file is trained again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from empirical.threads import threads
from theory.errors import InputError

MEAN, STD = 0.5, 0.5  # dyadic, so that a preprocessed pixel is exact
SEED = 0
EPOCHS = 60
TEST = 540  # held-out samples of 1797
#: changes whenever a configuration or the training recipe changes, so that old caches are not read
RECIPE = "1"


@dataclass(frozen=True)
class Data:
    """Digits as preprocessed float32 tensors: images [N, 1, 8, 8], labels [N]."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained digits network, its held-out accuracy and whether it came from the cache."""

    name: str
    model: nn.Module
    accuracy: float
    cached: bool


def _resnet() -> nn.Module:
    from timm.models.resnet import BasicBlock, ResNet

    model: nn.Module = ResNet(
        BasicBlock, (1, 1, 1, 1), num_classes=10, in_chans=1, channels=(16, 24, 32, 48),
        zero_init_last=False,
    )  # fmt: skip
    # 8x8 pixels: a 3x3 stem without stride or pool, as is usual for small images
    model.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def _mixer() -> nn.Module:
    from timm.models.mlp_mixer import MlpMixer

    model: nn.Module = MlpMixer(
        num_classes=10, img_size=8, in_chans=1, patch_size=2, num_blocks=4, embed_dim=32
    )
    return model


def _resmlp() -> nn.Module:
    from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock

    model: nn.Module = MlpMixer(
        num_classes=10, img_size=8, in_chans=1, patch_size=2, num_blocks=4, embed_dim=32,
        mlp_ratio=4, block_layer=partial(ResBlock, init_values=0.1), norm_layer=Affine,
        act_layer=nn.ReLU,
    )  # fmt: skip
    return model


def _vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    model: nn.Module = VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=10, embed_dim=32, depth=4, num_heads=4,
        mlp_ratio=2,
    )  # fmt: skip
    return model


_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "digits-resnet": _resnet,
    "digits-mixer": _mixer,
    "digits-resmlp": _resmlp,
    "digits-vit": _vit,
}
NAMES = tuple(_BUILDERS)


@lru_cache(maxsize=1)
def digits_data() -> Data:
    """Scikit-learn's 1797 digits, a fixed stratified split, pixels in [-1, 1].

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise InputError(
            'the digits need scikit-learn; install the demo extra: pip install -e ".[demo]"'
        ) from error
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x, y, test_size=TEST, random_state=SEED, stratify=y)
    train_x, test_x = (
        (torch.tensor(p, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16 - MEAN) / STD
        for p in parts[:2]
    )
    train_y, test_y = (torch.tensor(p, dtype=torch.long) for p in parts[2:])
    return Data(train_x, train_y, test_x, test_y)


def build(name: str, seed: int = SEED) -> nn.Module:
    """An untrained digits network, weights drawn from ``seed``.

    Raises:
        InputError: no digits network has this name.
    """
    if name not in _BUILDERS:
        raise InputError(f"no digits network is called {name!r}; there are {', '.join(NAMES)}")
    from timm.layers import set_fused_attn

    set_fused_attn(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _BUILDERS[name]().eval()


def digits_model(name: str, progress: Callable[[int, int], None] | None = None) -> Trained:
    """A trained digits network, from the cache or trained now.

    Args:
        name: ``digits-resnet``, ``digits-mixer``, ``digits-resmlp`` or ``digits-vit``.
        progress: called with (epochs done, epochs in all) while training.

    Raises:
        InputError: no digits network has this name.
    """
    path = cache_dir() / f"{name}-{RECIPE}.safetensors"
    model = build(name)
    accuracy = _read_cache(model, path)
    if accuracy is not None:
        return Trained(name, model, accuracy, cached=True)
    model = build(name)  # a damaged file may have filled part of the first one
    with threads(1):  # as fast where the cores are free, twenty times as fast where they are not
        train(model, progress)
    accuracy = evaluate(model)
    try:
        _write_cache(model, path, accuracy)
    except OSError as error:
        warnings.warn(f"cannot keep {name} in {path.parent} ({error}); it is trained each time",
                      stacklevel=2)  # fmt: skip
    return Trained(name, model, accuracy, cached=False)


def train(model: nn.Module, progress: Callable[[int, int], None] | None = None) -> None:
    """Train in place: AdamW, one-cycle rate, seeded."""
    data = digits_data()
    generator = torch.Generator().manual_seed(SEED)
    batch = 64
    chunks = (len(data.train_x) + batch - 1) // batch
    steps = EPOCHS * chunks
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    model.train()
    for epoch in range(EPOCHS):
        for index in torch.randperm(len(data.train_x), generator=generator).chunk(chunks):
            loss = nn.functional.cross_entropy(model(data.train_x[index]), data.train_y[index])
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
        if progress is not None:
            progress(epoch + 1, EPOCHS)
    model.eval()


def evaluate(model: nn.Module) -> float:
    """Accuracy on the held-out digits, in [0, 1]."""
    data = digits_data()
    with torch.no_grad():
        return float((model.eval()(data.test_x).argmax(1) == data.test_y).double().mean())


def cache_dir() -> Path:
    """The user's cache directory for this project: XDG, or macOS's own place."""
    if override := os.environ.get("RANKFALL_CACHE"):
        return Path(override)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "rankfall"
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "rankfall"


def _checksum(state: dict[str, Tensor], accuracy: str) -> str:
    digest = hashlib.sha256(accuracy.encode())
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_cache(model: nn.Module, path: Path) -> float | None:
    """Load ``path`` into ``model``; its accuracy, or None where the file is absent or damaged."""
    from safetensors import safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if meta.get("sha256") != _checksum(state, meta.get("accuracy", "")):
            raise ValueError("the checksum does not match")
        model.load_state_dict(state)
        return float(json.loads(meta["accuracy"]))
    except Exception as error:  # any damage means: train again
        warnings.warn(f"the cached {path.name} is damaged ({error}); training again", stacklevel=3)
        return None


def _write_cache(model: nn.Module, path: Path, accuracy: float) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    text = json.dumps(accuracy)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(state, temporary, {"sha256": _checksum(state, text), "accuracy": text})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
