"""The Jacobian profile of a network: rank at every tap, under every notion, from one pass.

Directions are the pixels of a square patch (768 for 16x16x3). Float fields give spectra; the exact
field gives a proved lower bound at each separator tap and an upper bound from its structure;
families give the largest rank the architecture allows (theory.md, sections 2 and 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from empirical.checkpoints import weights_hash
from empirical.directions import Request
from empirical.images import pixel_hash
from empirical.machine import device_of
from empirical.passes import Run
from empirical.profile import Profile
from empirical.taps import Tap, default_taps, named_taps
from theory.errors import InputError

FIELDS = ("float32", "float64", "exact", "family", "architecture", "sandwich")


def jacobian_profile(
    model: nn.Module,
    image: Tensor,
    *,
    field: str = "float64",
    patch: int | None = 16,
    at: tuple[int, int] | None = None,
    background: str = "image",
    taps: Sequence[str] | Sequence[Tap] | None = None,
    eps: Sequence[float] = (1e-3, 1.1920929e-07),
    primes: int = 3,
    seed: int = 0,
    memory: int | None = None,
    device: str = "cpu",
    name: str | None = None,
    weights: str | None = None,
    image_name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Profile:
    """Measure the Jacobian of ``model`` at ``image`` along the pixels of a patch, tap by tap.

    Args:
        model: any module in eval mode; it is not modified.
        image: preprocessed, [channels, height, width].
        field: ``float32``, ``float64``, ``exact``, ``family`` (smooth slopes free, weights
            stored), ``architecture`` (weights free too) or ``sandwich`` (all that apply).
        patch: side of the square of pixels whose directions are pushed; None for all pixels.
        at: (row, column) of the patch's corner; centred by default.
        background: ``image`` keeps the pixels around the patch, ``zero`` blanks them.
        taps: module paths or taps; the stem, every block, pooled features and logits by default.
        eps: tolerances of the relative ranks.
        primes: number of random primes (exact) or draws (families), the maximum reported.
        seed: seed of primes and draws.
        memory: bytes that tangents may use; directions are pushed in blocks that fit.
        device: ``cpu`` or ``cuda``.
        name: how records call the model.
        weights: how records call its weights; their hash by default.
        image_name: how records call the image; its hash by default.
        progress: called with a line of text as each tap is done.

    Returns:
        The profile: records, spectra by tap, peak bytes of tangents, seconds.

    Raises:
        InputError: the model trains, has half-precision weights, the patch does not fit, or there
            is no such device.
        UnsupportedError: an operation has no rule over the field.
    """
    if field not in FIELDS:
        raise InputError(f"no field is called {field!r}; the fields are {', '.join(FIELDS)}")
    _check_model(model)
    image = torch.as_tensor(image)
    request = request_of(image, patch, at, background)
    chosen = _taps(model, taps, image)
    run = Run(
        model=model, image=_background(image, request), request=request, taps=chosen,
        eps=tuple(eps), primes=primes, seed=seed, memory=memory, device=device_of(device),
        name=name or type(model).__name__, weights=weights or weights_hash(model.state_dict()),
        picture=image_name or pixel_hash(image.detach().cpu()), progress=progress,
    )  # fmt: skip
    return run.sandwich() if field == "sandwich" else run.measure(field)


def request_of(
    image: Tensor, patch: int | None, at: tuple[int, int] | None, background: str
) -> Request:
    """Where the patch lies in an image [channels, height, width], and how many pixels vary.

    Raises:
        InputError: the image is none, or the patch does not fit.
    """
    if image.ndim != 3:
        raise InputError(f"an image is [channels, height, width], got shape {tuple(image.shape)}")
    if background not in ("image", "zero"):
        raise InputError(f"the background is 'image' or 'zero', got {background!r}")
    if not bool(torch.isfinite(image).all()):
        raise InputError("the image has pixels that are NaN or infinite")
    channels, height, width = image.shape
    if patch is None:
        return Request(None, (0, 0), image.numel(), background)
    if not 0 < patch <= min(height, width):
        raise InputError(f"a {patch}x{patch} patch does not fit in an image of {height}x{width}")
    corner = at if at is not None else ((height - patch) // 2, (width - patch) // 2)
    if not (0 <= corner[0] <= height - patch and 0 <= corner[1] <= width - patch):
        raise InputError(
            f"a {patch}x{patch} patch at row {corner[0]}, column {corner[1]} leaves the image "
            f"of {height}x{width}; the last place is {height - patch}, {width - patch}"
        )
    return Request(patch, (int(corner[0]), int(corner[1])), channels * patch * patch, background)


def _background(image: Tensor, request: Request) -> Tensor:
    image = image.detach().to(torch.float64).cpu()
    if request.background == "image" or request.patch is None:
        return image
    (y, x), p = request.corner, request.patch
    blank = torch.zeros_like(image)
    blank[:, y : y + p, x : x + p] = image[:, y : y + p, x : x + p]
    return blank


def _taps(
    model: nn.Module, taps: Sequence[str] | Sequence[Tap] | None, image: Tensor
) -> tuple[Tap, ...]:
    if taps is None:
        return default_taps(model, tuple(image.shape))
    given = list(taps)
    if all(isinstance(tap, Tap) for tap in given):
        return tuple(given)  # type: ignore[arg-type]
    return named_taps(model, [str(tap) for tap in given], tuple(image.shape))


def _check_model(model: nn.Module) -> None:
    """Refuse what would make the numbers wrong."""
    for path, module in model.named_modules():
        if module.training and isinstance(
            module, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
        ):
            raise InputError(
                f"{type(module).__name__} {path!r} is in training mode: its output is not a "
                "function of one image; call model.eval()"
            )
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"weights {key!r} are {tensor.dtype}; call model.float(), which is exact"
            )
