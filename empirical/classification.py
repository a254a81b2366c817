"""Classification dimension: how many principal components of the features the head needs.

PCA of the last features; the leading k components go through the network's own head; the smallest
k that keeps a fraction rho of the accuracy (theory.md, section 7). The logits of all k come from
rank-one updates, never from a projection of their own. Within a block of updates a class whose
logit provably stays below another's (Cauchy-Schwarz on the block) is left out, so that the work
shrinks with the spectrum. Accuracy is not monotone in k: the whole curve is computed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical.records import Record
from empirical.subject import Subject
from theory.errors import InputError

PROJECTIONS = ("centred", "uncentred", "official")
#: most entries of a temporary [samples, candidates, block]
_ENTRIES = 1 << 18
#: logits of one tile of samples
_TILE = 1 << 17


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

    def records(self, subject: Subject) -> tuple[Record, ...]:
        """First crossing with its bootstrap interval; the curve and last crossing beside it."""
        extra: dict[str, Any] = {
            "last": self.last,
            "accuracy_original": self.accuracy,
            "curve": [round(float(a), 6) for a in self.curve],
            "note": f"{self.first} of {len(self.curve)} components ({self.projection}), "
            f"bootstrap [{self.low}, {self.high}], last crossing {self.last}",
        }
        record = subject.record(
            "classification", f"classification({self.fraction:g})", float(self.first),
            low=float(self.low), high=float(self.high), tolerance=self.fraction,
            directions=len(self.curve), seconds=self.seconds,
            settings={"projection": self.projection}, extra=extra,
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
    h, w, b, y = check(features, head_weight, head_bias, labels)
    mean = h.mean(0)
    centred = h - mean
    base = centred if projection != "uncentred" else h
    values, vectors = torch.linalg.eigh(base.T @ base / len(h))
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


def correct_by_rank(scores: Tensor, head: Tensor, offset: Tensor, labels: Tensor) -> Tensor:
    """Whether each sample is right with the leading k components, for every k.

    Args:
        scores: [samples, n], coordinates on the principal axes.
        head: [classes, n], the head in the same axes.
        offset: [classes], logits without any component.
        labels: [samples].

    Returns:
        Boolean [samples, n]; column k - 1 belongs to k components.
    """
    count, n = scores.shape
    correct = torch.zeros(count, n, dtype=torch.bool)
    rows = max(16, _TILE // len(head))
    for top in range(0, count, rows):
        part = slice(top, top + rows)
        _tile(scores[part], head, offset, labels[part], correct[part])
    return correct


def _tile(scores: Tensor, head: Tensor, offset: Tensor, labels: Tensor, correct: Tensor) -> None:
    """Fill the rows of ``correct`` of some samples, few enough that their logits stay in cache."""
    count, n = scores.shape
    logits = offset.expand(count, -1).clone()
    start = 0
    while start < n:
        # the first axes carry most of the logits: no class can be left out there
        stop = min(n, start + _size(start))
        t, u = scores[:, start:stop], head[:, start:stop]
        if stop - start == 1:
            logits.addmm_(t, u.T)
            correct[:, start] = logits.argmax(1) == labels
        else:
            _block(logits, t, u, labels, correct[:, start:stop])
            logits.addmm_(t, u.T)
        start = stop


def _size(start: int) -> int:
    """Length of the block that begins at ``start``; late components move the logits little."""
    return (
        1 if start < 16 else 4 if start < 64 else 16 if start < 128 else 32 if start < 384 else 64
    )


def _block(logits: Tensor, t: Tensor, u: Tensor, labels: Tensor, out: Tensor) -> None:
    """Fill ``out`` [samples, block] from the logits before the block and its updates."""
    # |sum_i t_i u_ci| <= |t| |u_c| for every prefix; the slack covers rounding
    reach = torch.outer(t.norm(dim=1), u.norm(dim=1)).mul_(1 + 1e-9)
    floor = (logits - reach).amax(1)
    mask = reach.add_(logits) >= floor[:, None] - 1e-12 * floor.abs()[:, None]
    rows, classes = mask.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(mask))
    starts = torch.cumsum(counts, 0) - counts
    single = counts == 1
    out[single] = (classes[starts[single]] == labels[single])[:, None]
    order = (~single).nonzero().flatten()
    order = order[counts[order].argsort()]
    position = 0
    while position < len(order):
        step, width = 1, 1
        while position + step <= len(order):  # chunks of like width that fit the memory
            width = int(counts[order[position + step - 1]])
            if step * width * t.shape[1] > _ENTRIES and step > 1:
                break
            step *= 2
        chunk = order[position : position + step]
        width = int(counts[chunk[-1]])
        inside = torch.arange(width).expand(len(chunk), -1)
        # short rows repeat their last candidate, which changes no maximum
        inside = torch.minimum(inside, counts[chunk][:, None] - 1)
        candidates = classes[starts[chunk][:, None] + inside]
        moves = (u[candidates] * t[chunk][:, None, :]).cumsum_(2)
        moves += logits[chunk[:, None], candidates][:, :, None]
        best = candidates.gather(1, moves.argmax(1))
        out[chunk] = best == labels[chunk][:, None]
        position += len(chunk)


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
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise InputError(f"{bad} of {tensor.numel()} {what} are NaN or infinite")
    if len(h) < 2 or not bool((h != h[0]).any()):
        raise InputError(f"the features of {len(h)} samples are constant: they have no components")
    if int(y.min()) < 0 or int(y.max()) >= len(w):
        raise InputError(
            f"labels run from {int(y.min())} to {int(y.max())}, the head has {len(w)} classes"
        )
    return h, w, b, y
