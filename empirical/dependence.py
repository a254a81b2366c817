"""Independence deficit: how few other logits carry a class's logit (theory.md, section 7).

For class c over samples S: min over theta of (1/|S|) sum (z_c - sum_j theta_j z_j)^2 + w |theta|_1,
by coordinate descent on the Gram matrix (``empirical.lasso``), for a whole path of weights.
``covariance=True`` is the covariance form (CovLasso): the same with centred logits. Dependencies
that the rank of the head or of the features forces are counted apart (``empirical.forced``);
``estimator="official"`` takes the default point from the official optimiser instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from empirical import official
from empirical.lasso import (
    Compressed,
    Minimiser,
    carriers,
    compress,
    explained,
    largest_weight,
    objective,
    path,
)
from empirical.records import Record
from empirical.replacement import Replacement, split
from empirical.subject import Subject
from theory.errors import InputError

LEVELS = (0.90, 0.95, 0.99)
SAMPLES = ("own", "all")
ESTIMATORS = ("lasso", "official")


@dataclass(frozen=True, eq=False)
class ClassDependence:
    """One class's logit as a combination of others.

    Attributes:
        label: the class.
        path: (w, non-zeros, objective, explained variance) for each w, descending.
        objective, support, coefficients: at the default w; coefficients [classes], own entry 0.
        gap: the minimum is at most so far below the objective (infinite: not known).
        zeros: exact zeros among the other classes at the default w.
        carriers: explained-variance level -> fewest classes on the path whose least-squares refit
            reaches it, or None.
        accuracy_class, accuracy: on held-out samples, of the class and overall, after its logit
            is replaced by the combination; ``*_original`` before.
    """

    label: int
    path: tuple[tuple[float, int, float, float], ...]
    objective: float
    gap: float
    support: tuple[int, ...]
    coefficients: np.ndarray
    zeros: int
    carriers: dict[float, int | None]
    accuracy_class: float
    accuracy: float
    accuracy_class_original: float
    accuracy_original: float


@dataclass(frozen=True, eq=False)
class Dependence:
    """All classes measured, and the settings that they share."""

    classes: tuple[ClassDependence, ...]
    weight: float
    samples: str
    covariance: bool
    seconds: float
    estimator: str = "lasso"
    notes: tuple[str, ...] = field(default=())

    @property
    def sparsest(self) -> ClassDependence:
        """The class whose logit the fewest others carry with its own accuracy kept."""
        kept = [
            c for c in self.classes
            if c.support and c.accuracy_class >= 0.95 * c.accuracy_class_original
        ]  # fmt: skip
        return min(kept or self.classes, key=lambda c: (len(c.support), -c.accuracy_class))

    def records(self, subject: Subject) -> tuple[Record, ...]:
        """The sparsest class with its accuracies, and a summary over classes."""
        best = self.sparsest
        settings: dict[str, Any] = {
            "w": self.weight, "samples": self.samples, "covariance": self.covariance,
        }  # fmt: skip
        if self.estimator != "lasso":
            settings["estimator"] = self.estimator
        counts = np.array([len(c.support) for c in self.classes], dtype=float)
        carried = {
            f"{level:g}": _quartiles([c.carriers[level] for c in self.classes]) for level in LEVELS
        }
        sparse = subject.record(
            "dependence", "feature-span", float(len(best.support)), tolerance=self.weight,
            directions=len(self.classes), seconds=self.seconds, settings=settings,
            extra={
                "class": best.label, "support": list(best.support),
                "coefficients": [float(best.coefficients[j]) for j in best.support],
                "accuracy": best.accuracy_class,
                "accuracy_original": best.accuracy_class_original,
                "accuracy_overall": best.accuracy,
                "accuracy_overall_original": best.accuracy_original,
                "objective": best.objective, "exact_zeros": best.zeros,
                "duality_gap": best.gap if np.isfinite(best.gap) else None,
                "note": f"class {best.label} from classes {list(best.support)}, w = "
                f"{self.weight:g}, {self.samples} samples: its accuracy "
                f"{best.accuracy_class:.1%}, was {best.accuracy_class_original:.1%}",
            },
        )  # fmt: skip
        summary = subject.record(
            "dependence", "feature-span", float(np.median(counts)), tolerance=self.weight,
            low=float(counts.min()), high=float(counts.max()), directions=len(self.classes),
            seconds=self.seconds, settings=settings | {"over": "classes"},
            extra={
                "carriers": carried, "notes": list(self.notes),
                "each": [
                    {
                        "class": c.label, "support": len(c.support), "objective": c.objective,
                        "carriers": {f"{k:g}": v for k, v in c.carriers.items()},
                        "accuracy_class": c.accuracy_class,
                        "accuracy_class_original": c.accuracy_class_original,
                        "accuracy_overall": c.accuracy,
                    }
                    for c in self.classes
                ],
                "note": f"median over {len(counts)} classes at w = {self.weight:g}, "
                f"{self.samples} samples; classes for 90/95/99 % of the variance: "
                + ", ".join(f"{v[1]:g}" if v else "-" for v in carried.values()),
            },
        )  # fmt: skip
        return sparse, summary


def measure(
    logits: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    held_out: tuple[Any, Any] | None = None,
    weight: float = 20.0,
    samples: str = "own",
    covariance: bool = False,
    classes: Sequence[int] | None = None,
    points: int = 20,
    smallest: float = 1e-3,
    tolerance: float = 1e-8,
    estimator: str = "lasso",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Dependence:
    """Measure the independence deficit of every class.

    Args:
        logits: [samples, classes].
        labels: [samples].
        held_out: (logits, labels) for the accuracies; by default a seeded stratified half of the
            samples, which then takes no part in the fit.
        weight: w of the default point (the paper's 20).
        samples: ``own`` fits class c on its own samples, ``all`` on all of them.
        covariance: the covariance form: logits centred over S.
        classes: which classes; all by default.
        points: weights on the path below the largest useful one (0: the default point alone).
        smallest: last weight of the path as a fraction of the largest useful one.
        tolerance: of coordinate descent's duality gap, relative.
        estimator: ``lasso``, or ``official`` for the official optimiser at the default point.
        seed: seed of the split (and of the official optimiser's start).
        progress: called with (done, total) classes.

    Raises:
        InputError: shapes do not fit, NaN, one class only, or a class without samples.
    """
    started = time.perf_counter()
    z, y = _check(logits, labels)
    if samples not in SAMPLES:
        raise InputError(f"samples is 'own' or 'all', got {samples!r}")
    if estimator not in ESTIMATORS:
        raise InputError(f"no estimator is called {estimator!r}; there are {', '.join(ESTIMATORS)}")
    if not weight > 0:
        raise InputError(f"the weight of the penalty is positive, got {weight}")
    chosen = list(range(z.shape[1])) if classes is None else [int(c) for c in classes]
    if held_out is None:
        fit, test = split(y, seed)
        zt, yt = z[test], y[test]
        z, y = z[fit], y[fit]
    else:
        zt, yt = _check(*held_out)
    missing = [c for c in chosen if not (y == c).any() or not (yt == c).any()]
    if missing:
        raise InputError(
            f"class {missing[0]} has no samples to fit or to test on ({len(missing)} such "
            "classes); give more images, or choose classes that have some (--classes present)"
        )
    shared = compress(z, covariance) if samples == "all" else None
    judge = Replacement(zt, yt)
    found = []
    for done, c in enumerate(chosen, 1):
        pressed = shared or compress(z[y == c], covariance)
        found.append(
            _one(c, pressed, weight, points, smallest, tolerance, judge, estimator, seed)
        )  # fmt: skip
        if progress is not None:
            progress(done, len(chosen))
    loose = [c for c in found if tolerance < 1e-4 < c.gap / max(c.objective, 1e-300) < np.inf]
    notes = (f"{len(loose)} classes stopped at a duality gap above 1e-4",) if loose else ()
    return Dependence(
        tuple(found), weight, samples, covariance, time.perf_counter() - started, estimator, notes
    )


def _one(
    label: int, c: Compressed, weight: float, points: int, smallest: float, tolerance: float,
    judge: Replacement, estimator: str, seed: int,
) -> ClassDependence:  # fmt: skip
    """One class: the path, the default point, and the accuracies with its logit replaced."""
    top = largest_weight(c, label)
    weights = {weight}
    if points and top > 0:
        weights |= set((top * np.geomspace(1, smallest, points)).tolist())
    ordered = sorted(weights, reverse=True)
    minimisers = path(c, label, ordered, tolerance)
    best = minimisers[ordered.index(weight)]
    if estimator == "official":
        theta = official.subgradient(c.rows, label, weight, seed=seed)
        best = Minimiser(weight, theta, objective(c, label, theta, weight), np.inf)
    supports = [np.flatnonzero(m.theta) for m in minimisers]
    support = tuple(np.flatnonzero(best.theta).tolist())
    shift = float(c.offset[label] - c.offset @ best.theta)
    accuracy_class, accuracy = judge.accuracy(label, best.theta, shift)
    before_class, before = judge.accuracy(label, None, 0.0)
    return ClassDependence(
        label,
        tuple(
            (m.weight, len(s), m.objective, explained(c, label, m.theta))
            for m, s in zip(minimisers, supports, strict=True)
        ),
        best.objective, best.gap, support, best.theta, c.rows.shape[1] - 1 - len(support),
        carriers(c, label, supports, LEVELS), accuracy_class, accuracy, before_class, before,
    )  # fmt: skip


def _quartiles(values: Sequence[int | None]) -> list[float]:
    """Quartiles of those that exist."""
    there = [v for v in values if v is not None]
    return [float(q) for q in np.percentile(there, [25, 50, 75])] if there else []


def _check(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if z.ndim != 2 or y.shape != (len(z),) or z.shape[1] < 2:
        raise InputError(
            f"logits of shape {z.shape} and labels of shape {y.shape}: "
            "logits are [samples, at least 2 classes], labels [samples]"
        )
    bad = int((~np.isfinite(z)).sum())
    if bad:
        raise InputError(f"{bad} of {z.size} logits are NaN or infinite")
    if len(y) and (y.min() < 0 or y.max() >= z.shape[1]):
        raise InputError(f"labels run from {y.min()} to {y.max()}, there are {z.shape[1]} logits")
    return z, y
