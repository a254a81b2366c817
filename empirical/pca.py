"""Perturbed PCA dimension: rank of the covariance of F_k(x + eps z) over Gaussian z, tap by tap.

One pass a noise magnitude serves all taps. Each tap's deviations from F_k(x) (not the features
themselves: their mean would cost the digits that the covariance needs) are accumulated in float64,
whole where the tap is small, through a random sparse projection where it is large. The estimate
saturates at n - 1 and counts curvature and kinks (theory.md, pca-limit): beside it stand the bound
and, where given, the Jacobian's rank. ``official`` re-states the published arithmetic: float32
covariance in the n x n form, singular values at least n * eps32 times the largest.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from empirical.features import outputs
from empirical.records import Record
from empirical.subject import Subject
from empirical.taps import Tap
from theory.errors import InputError

ESTIMATORS = ("streaming", "official")
#: taps wider than this are projected to so many coordinates
SKETCH = 1024


@dataclass(frozen=True, eq=False)
class TapDimension:
    """The covariance spectrum of one tap at one noise magnitude.

    Attributes:
        tap: the tap; ``shape`` of its output.
        noise: standard deviation of the perturbation.
        deviations: descending standard deviations along the principal axes.
        rank: how many exceed ``resolution`` times the largest.
        bound: the largest rank the estimate can have: min(n - 1, width, sketch).
        sketch: coordinates kept, or None where the covariance is whole.
        jacobian: rank of the Jacobian there, or None.
    """

    tap: Tap
    shape: tuple[int, ...]
    noise: float
    deviations: np.ndarray
    rank: int
    bound: int
    sketch: int | None
    resolution: float
    jacobian: float | None

    def relative(self, eps: float) -> int:
        """Count the standard deviations that are at least eps times the largest."""
        top = self.deviations[0] if len(self.deviations) else 0.0
        return int(((self.deviations > 0) & (self.deviations >= eps * top)).sum())


@dataclass(frozen=True, eq=False)
class PCADimension:
    """All taps at all noise magnitudes."""

    taps: tuple[TapDimension, ...]
    samples: int
    estimator: str
    seconds: float
    patch: int | None = None

    def records(self, subject: Subject) -> tuple[Record, ...]:
        """One record a (tap, noise)."""
        from dataclasses import replace

        found = []
        for t in self.taps:
            here = replace(
                subject, tap=t.tap.name, tap_index=t.tap.index, separator=t.tap.separator,
                shape=t.shape,
            )  # fmt: skip
            saturated = t.rank >= t.bound
            bias = None if t.jacobian is None else t.rank - t.jacobian
            note = f"noise {t.noise:g}, {self.estimator}, at most {t.bound}"
            note += " (saturated)" if saturated else ""
            if bias is not None:
                note += f"; Jacobian rank {t.jacobian:g}, bias {bias:+g}"
            found.append(
                here.record(
                    "pca", f"pca({t.noise:g}, {self.samples})", float(t.rank),
                    tolerance=t.resolution, directions=self.samples, seconds=self.seconds,
                    settings={
                        "noise": t.noise, "samples": self.samples, "estimator": self.estimator,
                        "sketch": t.sketch,
                    } | ({} if self.patch is None else {"patch": self.patch}),
                    extra={
                        "bound": t.bound, "saturated": saturated, "bias": bias,
                        "jacobian_rank": t.jacobian,
                        "relative(0.001)": t.relative(1e-3), "kind": t.tap.kind, "note": note,
                    },
                )
            )  # fmt: skip
        return tuple(found)


def measure(
    model: nn.Module,
    image: Tensor,
    taps: Sequence[Tap],
    *,
    noises: Sequence[float] = (1e-3,),
    samples: int = 5000,
    estimator: str = "streaming",
    sketch: int = SKETCH,
    batch: int = 64,
    seed: int = 0,
    device: str = "cpu",
    jacobian: Mapping[str, float | np.ndarray] | None = None,
    patch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PCADimension:
    """Measure the perturbed PCA dimension at every tap.

    Args:
        model: in eval mode; not modified.
        image: preprocessed, [channels, height, width].
        taps: where.
        noises: standard deviations of the perturbation, each its own pass over the same z.
        samples: n.
        estimator: ``streaming`` or ``official``.
        sketch: coordinates kept of wider taps.
        batch: samples a pass.
        seed: seed of z and of the projections.
        device: where to run.
        jacobian: tap -> singular values of the Jacobian along the perturbed pixels (or its rank),
            to show the bias against it, at the same relative resolution.
        patch: perturb the central square of so many pixels only; the whole image by default.
        progress: called with (done, total) passes.

    Raises:
        InputError: fewer than 2 samples, a noise that is not positive, or NaN at a tap.
    """
    started = time.perf_counter()
    if samples < 2 or any(not e > 0 for e in noises) or not noises:
        raise InputError(
            f"pca needs at least 2 samples and positive noise, got {samples}, {noises}"
        )
    if estimator not in ESTIMATORS:
        raise InputError(f"no estimator is called {estimator!r}; there are {', '.join(ESTIMATORS)}")
    dtype = torch.float32 if estimator == "official" else torch.float64
    net = copy.deepcopy(model).to(device=device, dtype=dtype).eval()
    x = image.to(device=device, dtype=dtype)
    inside = torch.from_numpy(window(tuple(image.shape), patch)).to(x)
    names = [tap.name for tap in taps]
    centre = outputs(net, x[None], names)
    found = []
    total, done = len(noises) * -(-samples // batch), 0
    for noise in noises:
        generator = torch.Generator().manual_seed(seed)
        sums = {
            tap.name: _Covariance(centre[tap.name].numel(), sketch, seed, estimator, samples)
            for tap in taps
        }
        for start in range(0, samples, batch):
            size = min(batch, samples - start)
            z = torch.randn(size, *image.shape, generator=generator, dtype=torch.float64)
            seen = outputs(net, x + noise * inside * z.to(x), names)
            for name in names:
                sums[name].add((seen[name] - centre[name]).flatten(1), seen[name].flatten(1))
            done += 1
            if progress is not None:
                progress(done, total)
        for tap in taps:
            own = sums[tap.name]
            if not bool(torch.isfinite(centre[tap.name]).all()) or not own.finite():
                raise InputError(f"the features at {tap.name} are NaN or infinite")
            deviations, rank, resolution = own.finish()
            width = centre[tap.name].numel()
            bound = min(samples - 1, width, own.kept)
            found.append(
                TapDimension(
                    tap, tuple(centre[tap.name].shape[1:]), noise, deviations, min(rank, bound),
                    bound, own.kept if own.kept < width else None, resolution,
                    _rank_there((jacobian or {}).get(tap.name), resolution),
                )
            )  # fmt: skip
    return PCADimension(tuple(found), samples, estimator, time.perf_counter() - started, patch)


def window(shape: Sequence[int], patch: int | None) -> np.ndarray:
    """1 where the image is perturbed: the central patch, or everywhere; [channels, height, width].

    Raises:
        InputError: the patch does not fit.
    """
    inside = np.ones(tuple(shape))
    if patch is None:
        return inside
    if not 0 < patch <= min(shape[1:]):
        raise InputError(f"a {patch}x{patch} patch does not fit in an image of {tuple(shape[1:])}")
    inside[:] = 0
    top, left = ((side - patch) // 2 for side in shape[1:])
    inside[:, top : top + patch, left : left + patch] = 1
    return inside


def _rank_there(jacobian: float | np.ndarray | None, resolution: float) -> float | None:
    """Rank of the Jacobian: given, or its singular values above the resolution of the PCA."""
    if jacobian is None or isinstance(jacobian, (int, float)):
        return jacobian
    values = np.asarray(jacobian, dtype=float)
    top = values.max(initial=0.0)
    return float(((values > 0) & (values >= resolution * top)).sum())


class _Covariance:
    """Covariance of one tap, gathered batch by batch."""

    def __init__(self, width: int, sketch: int, seed: int, estimator: str, samples: int) -> None:
        self.samples = samples
        self.official = estimator == "official"
        self.kept = width if self.official else min(width, sketch)
        self.features: list[Tensor] = []
        self.bucket: Tensor | None = None
        self.sign = torch.ones(1, dtype=torch.float64)
        if self.kept < width:
            # each coordinate goes to one bucket with a random sign: rank is kept almost surely
            # below the number of buckets, lengths on average
            generator = torch.Generator().manual_seed(seed)
            self.bucket = torch.randint(0, self.kept, (width,), generator=generator)
            self.sign = torch.randint(0, 2, (width,), generator=generator).double() * 2 - 1
        self.total: Tensor | None = None
        self.second: Tensor | None = None

    def add(self, deviation: Tensor, feature: Tensor) -> None:
        """One batch [samples, width]."""
        if self.official:
            self.features.append(feature.cpu())
            return
        d = deviation.double()  # accumulated where it is: a wide tap is not moved off its device
        if self.bucket is not None:
            self.bucket, self.sign = self.bucket.to(d.device), self.sign.to(d.device)
            d = d.new_zeros(len(d), self.kept).index_add_(1, self.bucket, d * self.sign)
        self.total = d.sum(0) if self.total is None else self.total.add_(d.sum(0))
        self.second = d.T @ d if self.second is None else self.second.addmm_(d.T, d)

    def finite(self) -> bool:
        """Whether all that was added is finite."""
        parts = self.features if self.official else [self.second]
        return all(part is not None and bool(torch.isfinite(part).all()) for part in parts)

    def finish(self) -> tuple[np.ndarray, int, float]:
        """Descending standard deviations, rank, and the relative cut on them."""
        n = self.samples
        if self.official:
            x = torch.cat(self.features).float()
            x = x - x.mean(0)
            values = torch.linalg.svdvals(x @ x.T / n).double().numpy()
            cut = n * float(np.finfo(np.float32).eps)
        else:
            assert self.second is not None  # at least one batch was added
            assert self.total is not None
            mean = self.total.cpu() / n
            covariance = self.second.cpu() / n - torch.outer(mean, mean)
            values = torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0).numpy()
            cut = max(n, self.kept) * float(np.finfo(np.float64).eps)
        top = float(values[0]) if len(values) else 0.0
        rank = int(((values > 0) & (values >= cut * top)).sum())
        return np.sqrt(values), rank, float(np.sqrt(cut))
