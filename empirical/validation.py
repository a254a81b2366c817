"""The studies of ``rankfall validate``: each turns one network and its images into records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from empirical import classification, dependence, depth, lyapunov, pca
from empirical.chain_bounds import dependence_row
from empirical.data import Labelled
from empirical.features import collect
from empirical.jacobian import jacobian_profile
from empirical.models import LoadedModel
from empirical.published import published_records as published_records
from empirical.records import Record
from empirical.subject import Subject, at_features, at_image
from theory.errors import InputError, UnsupportedError

PRESETS = {
    "demo": ("digits-resnet", "digits-mixer", "digits-resmlp", "digits-vit", "tf_efficientnet_lite0"),
    "paper": (
        "resnet18", "resnet50", "resmlp_24_224", "gmixer_24_224", "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
    ),
}  # fmt: skip


def feature_records(loaded: LoadedModel, data: Labelled, seed: int, device: str) -> list[Record]:
    """Classification dimension (both projections) and independence deficit (both sample choices).

    Raises:
        InputError: the images do not allow it.
    """
    seen = collect(loaded.model, data.images, device=device)
    base = at_features(loaded, data, seen, seed, device, classes=seen.logits.shape[1])
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
    row = dependence_row(seen.weight, seen.features, seen.logits)
    return [*found, row.record(logits)]


def pca_records(
    loaded: LoadedModel, image: Tensor, name: str, seed: int, samples: int,
    jacobian: dict[str, float], device: str, noises: Sequence[float] = (1e-1, 1e-3),
) -> list[Record]:  # fmt: skip
    """Perturbed PCA dimension beside the Jacobian's rank, for a list of noise magnitudes."""
    found = pca.measure(
        loaded.model, image, loaded.taps, noises=noises, samples=samples, seed=seed, device=device,
        jacobian=jacobian,
    )  # fmt: skip
    return list(found.records(at_image(loaded, image, name, seed)))


def depth_records(
    loaded: LoadedModel, image: Tensor, name: str, seed: int, directions: int, device: str
) -> list[Record]:
    """Exponents by the QR method; token rank with and without skips where there are tokens."""
    subject = at_image(loaded, image, name, seed)
    found: list[Record] = []
    try:
        exponents = lyapunov.measure(
            loaded.model, image, loaded.taps, directions=min(directions, image.numel()),
            seed=seed, device=device,
        )  # fmt: skip
        found += exponents.records(subject)
    except UnsupportedError as error:
        found.append(scope(subject, "exponential-collapse", str(error)))
    index = {tap.name: tap.index for tap in loaded.taps}
    for skips in (True, False):
        try:
            tokens = depth.token_ranks(loaded.model, image, loaded.taps, skips=skips)
        except UnsupportedError as error:
            found.append(scope(subject, "token-collapse", str(error)))
            break  # the law does not apply
        for t in tokens:
            here = replace(subject, tap=t.tap, tap_index=index[t.tap])
            word = "with" if skips else "without"
            note = f"tokens {word} skips: distance from equal tokens {t.distance:.2g}"
            found.append(
                here.record(
                    "tokens", "relative(0.001)", float(t.rank), tolerance=1e-3,
                    settings={"skips": skips},
                    extra={
                        "distance": t.distance, "stable": t.stable, "attention": t.attention,
                        "note": note,
                    },
                )
            )  # fmt: skip
        if not all(t.attention for t in tokens):
            why = "its tokens are mixed by linear layers: the law is about attention"
            found.append(scope(subject, "token-collapse", why))
    return found


def scope(subject: Subject, claim: str, why: str) -> Record:
    """The record that says why a claim does not apply to a network."""
    return subject.record(
        "scope", "exact", None, settings={"claim": claim}, extra={"why": why, "note": why}
    )


def jacobian_study(
    loaded: LoadedModel, images: Sequence[tuple[str, Tensor]], seed: int, patch: int, device: str
) -> list[Record]:
    """The patch's place and size, the background and the image, at the last taps (float64)."""
    last = [tap for tap in loaded.taps if tap.kind in ("pooled", "logits")]
    side = images[0][1].shape[-1]
    small = max(1, patch // 2)
    # at 112, 112 of 224 a patch of at most 16 lies inside one token of a patch-16 Transformer,
    # where the centred patch straddles four
    corner = (min(side // 2, side - patch),) * 2
    # one thing at a time is varied, from the centred patch in the first image
    first = images[0]
    cases = [
        (None, patch, "image", *first), (None, patch, "zero", *first),
        ((0, 0), patch, "image", *first), (corner, patch, "image", *first),
        (None, small, "image", *first), *((None, patch, "image", *other) for other in images[1:]),
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
                varied = {
                    "image_name": name, "size": size, "background": background,
                    "place": "centre" if place is None else f"{place[0]}, {place[1]}",
                }  # fmt: skip
                extra = r.extra | varied | {"note": note}
                found.append(replace(r, measurement="patch", extra=extra))
    return found


def preset(name: str) -> tuple[str, ...]:
    """The networks of a preset.

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
