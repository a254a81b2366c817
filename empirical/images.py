"""Images: five photographs that scikit-image and scikit-learn ship, files, folders; preprocessing.

Only photographs inside the wheels are offered, nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from theory.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from empirical.models import LoadedModel

#: name -> (package, file inside it)
EMBEDDED = {
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "chelsea": ("skimage", "data/chelsea.png"),
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")


@dataclass(frozen=True, eq=False)
class Photograph:
    """An RGB image, where it came from, and the hash of its pixels (16 hexadecimal digits)."""

    name: str
    image: Image.Image
    hash: str


def embedded(name: str | None = None) -> dict[str, Photograph]:
    """The embedded photograph ``name``, or all five, by name.

    Raises:
        InputError: no photograph has this name, or the package that ships it is not installed.
    """
    if name is not None and name not in EMBEDDED:
        raise InputError(
            f"no embedded photograph is called {name!r}; there are {', '.join(EMBEDDED)}"
        )
    found = {}
    for key in EMBEDDED if name is None else (name,):
        package, inside = EMBEDDED[key]
        try:
            root = Path(import_module(package).__path__[0])
        except ImportError as error:
            raise InputError(
                f"the photograph {key!r} ships with {package}, which is not installed: "
                'pip install -e ".[demo]"'
            ) from error
        photograph = load_image(root / inside)
        found[key] = Photograph(key, photograph.image, photograph.hash)
    return found


def load_image(path: str | Path) -> Photograph:
    """Read one image file as RGB.

    Raises:
        InputError: the file is missing, is no image, is cut off, or has pixels that are not finite.
    """
    from PIL import Image

    path = Path(path)
    try:
        with Image.open(path) as file:
            file.load()
            if file.mode in ("F", "I;16", "I"):
                image = _from_wide(np.asarray(file, dtype=np.float64), path)
            else:
                image = file.convert("RGB")
    except FileNotFoundError as error:
        raise InputError(f"no image at {path}") from error
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        raise InputError(
            f"cannot read the image {path} ({type(error).__name__}: {error}); is it damaged?"
        ) from error
    return Photograph(path.name, image, pixel_hash(np.asarray(image)))


def _from_wide(pixels: np.ndarray, path: Path) -> Image.Image:
    """A grey image with wide or float pixels, scaled to 8 bits."""
    from PIL import Image

    if not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).sum())
        raise InputError(f"the image {path} has {bad} pixels that are NaN or infinite")
    low, high = float(pixels.min()), float(pixels.max())
    scaled = (pixels - low) * (255.0 / (high - low)) if high > low else pixels * 0
    return Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")


def preprocess(image: Photograph | Image.Image, loaded: LoadedModel) -> Tensor:
    """The network's own preprocessing: resize, centre crop, normalise.

    Args:
        image: a photograph.
        loaded: the network; its size, mean, std and timm's crop and interpolation are used.

    Returns:
        float64 tensor [channels, height, width] of the float32 values that timm would feed.
    """
    from timm.data import create_transform, resolve_model_data_config

    picture = image.image if isinstance(image, Photograph) else image
    channels, height, width = loaded.input_size
    if channels == 1:
        small = picture.convert("L").resize((width, height))
        grey = torch.tensor(np.asarray(small), dtype=torch.float64)[None] / 255
        return (grey - loaded.mean[0]) / loaded.std[0]
    config = resolve_model_data_config(loaded.model)
    transform = create_transform(**config, is_training=False)
    tensor: Tensor = transform(picture.convert("RGB"))
    return tensor.double()


def pixel_hash(pixels: np.ndarray | Tensor) -> str:
    """Hash of shape, type and bytes of an image; 16 hexadecimal digits."""
    array = np.ascontiguousarray(pixels.numpy() if isinstance(pixels, Tensor) else pixels)
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()[:16]
