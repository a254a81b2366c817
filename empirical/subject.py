"""What was measured: the part of a record that does not depend on the measurement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from empirical.images import pixel_hash
from empirical.machine import versions
from empirical.records import Record

if TYPE_CHECKING:
    from empirical.data import Labelled
    from empirical.features import Features
    from empirical.models import LoadedModel


@dataclass(frozen=True)
class Subject:
    """A network, its weights, its data and the place in it.

    Attributes:
        model: model name; ``weights`` and ``data`` are content hashes.
        tap: where; ``tap_index`` its place in forward order.
        shape: shape of one sample there.
        dtype: precision of the forward pass.
        device: where it ran.
        seed: seed of everything random.
        extra: goes into every record (``image_name``, ``kind``, ``control``, ...).
    """

    model: str = "-"
    weights: str = "-"
    data: str = "-"
    tap: str = "-"
    tap_index: int = 0
    separator: bool = True
    shape: tuple[int, ...] = ()
    dtype: str = "float64"
    device: str = "cpu"
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def record(
        self,
        measurement: str,
        notion: str,
        value: float | None,
        *,
        low: float | None = None,
        high: float | None = None,
        tolerance: float | None = None,
        directions: int = 0,
        known: str = "measured",
        seconds: float = 0.0,
        settings: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Record:
        """One number about this subject; its interval is the number itself unless given."""
        return Record(
            measurement=measurement, model=self.model, weights=self.weights, image=self.data,
            tap=self.tap, tap_index=self.tap_index, separator=self.separator, shape=self.shape,
            directions=directions, notion=notion, tolerance=tolerance, value=value,
            low=value if low is None else low, high=value if high is None else high, known=known,
            dtype=self.dtype, device=self.device, seconds=round(seconds, 3), seed=self.seed,
            settings=settings or {}, versions={"torch": torch.__version__, **versions("numpy")},
            extra=self.extra | (extra or {}),
        )  # fmt: skip


def at_image(
    loaded: LoadedModel, image: Tensor, name: str, seed: int, device: str = "cpu"
) -> Subject:
    """A network at one image, which records call ``name``."""
    return Subject(
        loaded.name, loaded.weights, pixel_hash(image), device=device, seed=seed,
        extra={"image_name": name},
    )  # fmt: skip


def at_features(
    loaded: LoadedModel, data: Labelled, seen: Features, seed: int, device: str, **extra: Any
) -> Subject:
    """A network's last features over a set of images."""
    return Subject(
        loaded.name, loaded.weights, data.hash, seen.tap, len(loaded.taps) - 1, True,
        (seen.features.shape[1],), "float32", device, seed,
        {"source": data.source, "samples": len(data.labels), **extra},
    )  # fmt: skip
