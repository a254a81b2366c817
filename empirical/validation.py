"""The studies of ``rankfall validate``: each turns one network and its images into records.

What the paper published is here as data, beside the tolerance that counts as agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from empirical import classification, dependence, depth, factorise, lyapunov, pca
from empirical.data import Labelled
from empirical.features import collect
from empirical.images import pixel_hash
from empirical.jacobian import jacobian_profile
from empirical.models import LoadedModel
from empirical.records import Record
from empirical.subject import Subject
from theory.errors import InputError, UnsupportedError

PRESETS = {
    "demo": ("digits-resnet", "digits-mixer", "digits-resmlp", "digits-vit", "tf_efficientnet_lite0"),
    "paper": (
        "resnet18", "resnet50", "resmlp_24_224", "gmixer_24_224", "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
    ),
}  # fmt: skip
#: classification dimension on ImageNet validation (theory.md, section 7): (published, width)
PUBLISHED = {
    "resnet18": (149, 512), "resnet50": (131, 2048), "resmlp_24_224": (196, 384),
    "gmixer_24_224": (199, 384), "vit_tiny_patch16_224": (109, 192),
    "swin_tiny_patch4_window7_224": (344, 768),
}  # fmt: skip
#: relative difference that counts as agreement: other weights and another PCA move the crossing
AGREEMENT = 0.1


def subject_of(loaded: LoadedModel, image: Tensor, name: str, seed: int) -> Subject:
    """The subject of a measurement at one image."""
    return Subject(
        loaded.name, loaded.weights, pixel_hash(image), seed=seed, extra={"image_name": name}
    )


def feature_records(loaded: LoadedModel, data: Labelled, seed: int, device: str) -> list[Record]:
    """Classification dimension (both projections) and independence deficit (both sample choices).

    Raises:
        InputError: the images do not allow it.
    """
    seen = collect(loaded.model, data.images, device=device)
    base = Subject(
        loaded.name, loaded.weights, data.hash, seen.tap, len(loaded.taps) - 1, True,
        (seen.features.shape[1],), "float32", device, seed,
        {"source": data.source, "samples": len(data.labels)},
    )  # fmt: skip
    found: list[Record] = []
    for projection in classification.PROJECTIONS:
        result = classification.measure(
            seen.features, seen.weight, seen.bias, data.labels, projection=projection, seed=seed
        )
        found += result.records(base)
    logits = replace(base, shape=(seen.logits.shape[1],))
    present = torch.bincount(data.labels, minlength=seen.logits.shape[1])
    classes = (present >= 2).nonzero().flatten().tolist()
    for samples in dependence.SAMPLES:
        deficit = dependence.measure(
            seen.logits, data.labels, samples=samples, classes=classes, seed=seed
        )
        found += deficit.records(logits)
    return found


def published_records(records: Iterable[Record]) -> list[Record]:
    """Published beside measured classification dimensions, where weights and data allow."""
    found = []
    for r in records:
        if r.measurement != "classification" or r.model not in PUBLISHED or r.value is None:
            continue
        figure, width = PUBLISHED[r.model]
        apart = abs(r.value - figure) / figure
        agrees = "agrees" if apart <= AGREEMENT else "differs"
        note = f"published {figure}/{width}, measured {r.value:g}: {agrees} within {AGREEMENT:.0%}"
        found.append(replace(r, measurement="published", extra={"published": figure, "note": note}))
    return found


def pca_records(
    loaded: LoadedModel, image: Tensor, name: str, seed: int, samples: int,
    jacobian: dict[str, float], device: str, noises: Sequence[float] = (1e-1, 1e-3),
) -> list[Record]:  # fmt: skip
    """Perturbed PCA dimension beside the Jacobian's rank, for a list of noise magnitudes."""
    found = pca.measure(
        loaded.model, image, loaded.taps, noises=noises, samples=samples, seed=seed, device=device,
        jacobian=jacobian,
    )  # fmt: skip
    return list(found.records(subject_of(loaded, image, name, seed)))


def depth_records(
    loaded: LoadedModel, image: Tensor, name: str, seed: int, directions: int, device: str
) -> list[Record]:
    """Exponents by the QR method; token rank with and without skips where there are tokens."""
    subject = subject_of(loaded, image, name, seed)
    found = list(
        lyapunov.measure(
            loaded.model, image, loaded.taps, directions=min(directions, image.numel()),
            seed=seed, device=device,
        ).records(subject)
    )  # fmt: skip
    index = {tap.name: tap.index for tap in loaded.taps}
    for skips in (True, False):
        try:
            tokens = depth.token_ranks(loaded.model, image, loaded.taps, skips=skips)
        except UnsupportedError:
            break  # no tokens: the law does not apply
        for t in tokens:
            here = replace(subject, tap=t.tap, tap_index=index[t.tap])
            word = "with" if skips else "without"
            note = f"tokens {word} skips: distance from equal tokens {t.distance:.2g}"
            found.append(
                here.record(
                    "tokens", "relative(0.001)", float(t.rank), tolerance=1e-3,
                    settings={"skips": skips},
                    extra={"distance": t.distance, "stable": t.stable, "note": note},
                )
            )  # fmt: skip
    return found


def loss_records(
    loaded: LoadedModel, image: Tensor, name: str, seed: int, records: Sequence[Record]
) -> list[Record]:
    """Rank lost in each block beside its residual-loss bound; ``extra.broken`` if contradicted."""
    bounds = depth.branch_bounds(loaded.model, image, loaded.taps)
    subject = subject_of(loaded, image, name, seed)
    index = {tap.name: tap.index for tap in loaded.taps}
    found = []
    for loss in depth.losses(records, bounds):
        here = replace(subject, tap=loss.after, tap_index=index.get(loss.after, 0))
        limit = "no bound" if loss.bound is None else f"at most {loss.bound:g} proved"
        found.append(
            here.record(
                "loss", "exact", loss.lost, high=loss.bound, settings={"from": loss.before},
                extra={"broken": loss.broken, "note": f"lost after {loss.before}: {limit}"},
            )
        )  # fmt: skip
    return found


def jacobian_study(
    loaded: LoadedModel, images: Sequence[tuple[str, Tensor]], seed: int, patch: int, device: str
) -> list[Record]:
    """The patch's place and size, the background and the image, at the last taps (float64)."""
    last = [tap for tap in loaded.taps if tap.kind in ("pooled", "logits")]
    side = images[0][1].shape[-1]
    small = max(1, patch // 2)
    cases = [
        (place, size, background, name, image)
        for name, image in images
        for place, size, background in (
            (None, patch, "image"), (None, patch, "zero"), ((0, 0), patch, "image"),
            (((side - patch) // 2 + 1,) * 2, patch, "image"), (None, small, "image"),
        )
    ]  # fmt: skip
    found = []
    for place, size, background, name, image in cases:
        profile = jacobian_profile(
            loaded.model, image, patch=size, at=place, background=background, taps=last,
            eps=(1e-3,), seed=seed, name=loaded.name, weights=loaded.weights, device=device,
        )  # fmt: skip
        for r in profile.records:
            if r.notion == "relative(0.001)":
                where = "centre" if place is None else f"corner {place[0]},{place[1]}"
                note = f"{size}x{size} at {where}, background {background}, {name}"
                found.append(replace(r, measurement="patch", extra=r.extra | {"note": note}))
    return found


def ablation_records(
    loaded: LoadedModel, image: Tensor, seed: int, patch: int | None, device: str,
    records: Sequence[Record],
) -> list[Record]:  # fmt: skip
    """Float32, float64 and exact ranks side by side, one record a tap."""
    eps = 2.0**-23
    profiles = {
        field: jacobian_profile(
            loaded.model, image, field=field, patch=patch, taps=loaded.taps, eps=(eps,),
            seed=seed, name=loaded.name, weights=loaded.weights, device=device,
        )
        for field in ("float32", "float64")
    }  # fmt: skip
    exact = {r.tap: r for r in records if r.notion == "exact" and r.known.startswith("proved")}
    found = []
    for r in profiles["float32"].records:
        if not r.notion.startswith("relative"):
            continue
        doubled = profiles["float64"].value(r.tap, r.notion)
        true = exact.get(r.tap)
        told = "not available" if true is None else f"{true.value:g}"
        note = (
            f"float32 {r.value:g}, float64 {doubled:g} (both relative to float32 eps), exact {told}"
        )
        extra = {"float64": doubled, "exact": None if true is None else true.value, "note": note}
        found.append(replace(r, measurement="ablation", extra=extra))
    return found


def factor_records(
    loaded: LoadedModel, data: Labelled, seed: int, progress: Callable[[int, int], None]
) -> tuple[list[Record], str]:
    """One record a layer, and the table as CSV."""
    table = factorise.measure(loaded.model, data.images, data.labels, progress=progress)
    subject = Subject(loaded.name, loaded.weights, data.hash, dtype="float32", seed=seed)
    found = []
    for index, layer in enumerate(table):
        here = replace(
            subject, tap=layer.name, tap_index=index, separator=False,
            shape=(layer.rows, layer.columns),
        )  # fmt: skip
        note = (
            f"exact {layer.exact}, input rank {layer.input_rank}, kept rank {layer.kept_rank}, "
            f"{layer.saved} parameters saved at accuracy {layer.accuracy:.1%}"
        )
        found.append(
            here.record(
                "factorise", "exact", float(layer.exact),
                known="proved" if layer.proved else "probable",
                extra={"kept_rank": layer.kept_rank, "saved": layer.saved, "note": note},
            )
        )  # fmt: skip
    return found, factorise.to_csv(table)


@dataclass(frozen=True)
class Spread:
    """A number over images: never its mean alone."""

    model: str
    tap: str
    notion: str
    images: int
    median: float
    quartiles: tuple[float, float]
    extremes: tuple[float, float]


def spreads(records: Iterable[Record]) -> tuple[Spread, ...]:
    """Jacobian ranks of each tap and notion over images, as distributions."""
    groups: dict[tuple[str, str, str], dict[str, float]] = {}
    for r in records:
        if r.measurement == "jacobian" and r.value is not None and r.notion != "structural":
            groups.setdefault((r.model, r.tap, r.notion), {})[r.image] = r.value
    found = []
    for (model, tap, notion), values in groups.items():
        if len(values) < 2:
            continue
        low, first, middle, third, high = np.percentile(list(values.values()), [0, 25, 50, 75, 100])
        found.append(
            Spread(model, tap, notion, len(values), float(middle), (float(first), float(third)),
                   (float(low), float(high)))
        )  # fmt: skip
    return tuple(found)


def preset(name: str) -> tuple[str, ...]:
    """The networks of a preset.

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
