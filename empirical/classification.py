"""Classification dimension: how many principal components of the features the head needs.

PCA of the last features; the leading k components go through the network's own head; the smallest
k that keeps a fraction rho of the accuracy (theory.md, section 7). The logits of all k come from
rank-one updates (``empirical.incremental``), never from a projection of their own. Accuracy is not
monotone in k: the whole curve is computed. ``estimator="official"`` runs the official loop instead.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical import official
from empirical.incremental import correct_by_rank
from empirical.records import Record
from empirical.subject import Subject
from empirical.threads import threads
from theory.errors import InputError

PROJECTIONS = ("centred", "uncentred", "official")
ESTIMATORS = ("incremental", "official")


@dataclass(frozen=True, eq=False)
class Classification:
    """The accuracy curve and what is read off it.

    Attributes:
        projection: ``centred`` (mean + P (h - mean)), ``uncentred`` (P h, P from the second
            moment) or ``official`` (P h, P from the covariance).
        curve: accuracy with the leading k components, k = 1..n at index k - 1.
        accuracy: of the unchanged network.
        fraction: rho.
        first: smallest k with accuracy at least rho times the original.
        last: smallest k from which on it stays there.
        answered: False where the official loop, which never tries k = n, finds no k; ``first`` is
            n then, and the record has no value.
        low, high: bootstrap interval of ``first`` over images.
        spectrum: descending eigenvalues of the covariance (or second moment).
        seconds: wall time.
    """

    projection: str
    curve: np.ndarray
    accuracy: float
    fraction: float
    first: int
    last: int
    low: int
    high: int
    spectrum: np.ndarray
    seconds: float
    estimator: str = "incremental"
    answered: bool = True

    def records(self, subject: Subject) -> tuple[Record, ...]:
        """First crossing with its bootstrap interval; the curve and last crossing beside it."""
        extra: dict[str, Any] = {
            "last": self.last,
            "accuracy_original": self.accuracy,
            "curve": [round(float(a), 6) for a in self.curve],
            "note": f"{self.first} of {len(self.spectrum)} components ({self.projection}), "
            f"bootstrap [{self.low}, {self.high}], last crossing {self.last}",
        }
        settings = {"projection": self.projection}
        if self.estimator != "incremental":
            settings["estimator"] = self.estimator
        if not self.answered:
            extra |= {"last": None, "note": f"no k below {len(self.spectrum)} keeps the accuracy"}
        record = subject.record(
            "classification", f"classification({self.fraction:g})",
            float(self.first) if self.answered else None,
            low=float(self.low) if self.answered else None,
            high=float(self.high) if self.answered else None, tolerance=self.fraction,
            directions=len(self.spectrum), seconds=self.seconds, settings=settings, extra=extra,
        )  # fmt: skip
        return (record,)


def measure(
    features: Tensor | np.ndarray,
    head_weight: Tensor | np.ndarray,
    head_bias: Tensor | np.ndarray | None,
    labels: Tensor | np.ndarray,
    *,
    fraction: float = 0.95,
    projection: str = "centred",
    estimator: str = "incremental",
    bootstrap: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> Classification:
    """Measure the classification dimension of features under a linear head.

    Args:
        features: [samples, n], what the head sees.
        head_weight: [classes, n].
        head_bias: [classes], or None.
        labels: [samples], class indices.
        fraction: rho in (0, 1].
        projection: one of ``PROJECTIONS``.
        estimator: ``incremental``, or ``official`` for the official loop: float32, one projection
            for each k < n, its own projection, no interval.
        bootstrap: resamples of the images for the interval; 0 for none.
        confidence: of the interval.
        seed: seed of the bootstrap.

    Raises:
        InputError: shapes do not fit, NaN, constant features, labels without a class, or the
            network gets nothing right.
    """
    started = time.perf_counter()
    if projection not in PROJECTIONS:
        raise InputError(f"projection {projection!r} is none of {', '.join(PROJECTIONS)}")
    if not 0 < fraction <= 1:
        raise InputError(f"a fraction of the accuracy lies in (0, 1], got {fraction}")
    if estimator not in ESTIMATORS:
        raise InputError(f"no estimator is called {estimator!r}; there are {', '.join(ESTIMATORS)}")
    h, w, b, y = check(features, head_weight, head_bias, labels)
    if estimator == "official":
        return _official(h, w, b, y, fraction, started)
    mean = h.mean(0)
    centred = h - mean
    base = centred if projection != "uncentred" else h
    moment = base.T @ base / len(h)
    with threads(1):
        values, vectors = torch.linalg.eigh(moment)
    vectors = vectors.flip(1)
    if projection == "centred":
        scores, offset = centred @ vectors, w @ mean + b
    else:
        scores, offset = h @ vectors, b
    correct = correct_by_rank(scores, w @ vectors, offset, y)
    original = correct[:, -1]  # all components together are the features themselves
    if not bool(original.any()):
        raise InputError(f"none of {len(h)} samples is classified right: no accuracy to keep")
    hits = correct.sum(0).numpy()
    first, last = crossings(hits, int(original.sum()), fraction)
    low, high = _interval(correct, original, fraction, bootstrap, confidence, seed, first)
    return Classification(
        projection, hits / len(h), float(original.double().mean()), fraction, first, last, low,
        high, values.flip(0).clamp_min(0).numpy(), time.perf_counter() - started,
    )  # fmt: skip


def _official(
    h: Tensor, w: Tensor, b: Tensor, y: Tensor, fraction: float, started: float
) -> Classification:
    """The official loop's curve and answer."""
    hits, original = official.classification_curve(h, w, b, y)
    kept = hits >= fraction * original
    n, found = h.shape[1], bool(kept.any())
    first, last = crossings(hits, original, fraction) if found else (n, n)
    values = torch.linalg.eigvalsh(torch.cov(h.T, correction=0).float()).flip(0).clamp_min(0)
    return Classification(
        "official", hits / len(h), original / len(h), fraction, first, last, first, first,
        values.double().numpy(), time.perf_counter() - started, "official", found,
    )  # fmt: skip


def crossings(hits: np.ndarray, original: int, fraction: float) -> tuple[int, int]:
    """(first k that keeps the fraction, first k from which on it is kept); n where none does."""
    kept = hits >= fraction * original - 1e-9
    n = len(hits)
    first = int(kept.argmax()) + 1 if kept.any() else n
    lost = np.flatnonzero(~kept)
    last = min(n, int(lost[-1]) + 2) if len(lost) else 1
    return first, last


def _interval(
    correct: Tensor, original: Tensor, fraction: float, resamples: int, confidence: float,
    seed: int, first: int,
) -> tuple[int, int]:  # fmt: skip
    """Percentile interval of the first crossing when images are drawn again."""
    if not resamples:
        return first, first
    rng = np.random.default_rng(seed)
    count = len(correct)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    # counts stay below 2^24, so float32 sums are exact
    weights = torch.from_numpy(draws).float()
    hits = weights @ correct.float()
    wanted = (weights @ original.float())[:, None] * fraction - 1e-3
    kept = (hits >= wanted).numpy()
    found = np.where(kept.any(1), kept.argmax(1) + 1, kept.shape[1])
    tail = 50 * (1 - confidence)
    low, high = np.percentile(found, [tail, 100 - tail], method="closest_observation")
    return min(int(low), first), max(int(high), first)


def check(
    features: Any, head_weight: Any, head_bias: Any, labels: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four arguments as float64 (and int64) tensors that fit together.

    Raises:
        InputError: shapes do not fit, NaN, constant features, or labels without a class.
    """
    h = torch.as_tensor(features).double().cpu()
    w = torch.as_tensor(head_weight).double().cpu()
    if h.ndim != 2 or w.ndim != 2 or h.shape[1] != w.shape[1]:
        raise InputError(
            f"features of shape {tuple(h.shape)} do not fit a head of shape {tuple(w.shape)}; "
            "features are [samples, n], a linear head is [classes, n]"
        )
    b = torch.zeros(len(w)) if head_bias is None else torch.as_tensor(head_bias)
    b, y = b.double().cpu(), torch.as_tensor(labels).long().cpu()
    if b.shape != (len(w),) or y.shape != (len(h),):
        raise InputError(
            f"bias {tuple(b.shape)} and labels {tuple(y.shape)} do not fit "
            f"{len(w)} classes and {len(h)} samples"
        )
    for what, tensor in (("features", h), ("head weights", w), ("head bias", b)):
        if bool(torch.isfinite(tensor.sum())):  # then every entry is
            continue
        if bad := int((~torch.isfinite(tensor)).sum()):
            raise InputError(f"{bad} of {tensor.numel()} {what} are NaN or infinite")
    if len(h) < 2 or (bool((h[-1] == h[0]).all()) and bool((h == h[0]).all())):
        raise InputError(f"the features of {len(h)} samples are constant: they have no components")
    if int(y.min()) < 0 or int(y.max()) >= len(w):
        raise InputError(
            f"labels run from {int(y.min())} to {int(y.max())}, the head has {len(w)} classes"
        )
    return h, w, b, y
