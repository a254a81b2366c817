"""Independence deficit: how few other logits carry a class's logit (theory.md, section 7).

For class c over samples S: min over theta of (1/|S|) sum (z_c - sum_j theta_j z_j)^2 + w |theta|_1,
by coordinate descent on the Gram matrix (scikit-learn, alpha = w / 2). The samples enter once, as
the triangle R of a QR of the logits: R^T R is their Gram matrix, so a path costs the same for 50
samples and for 50,000. ``covariance=True`` is the covariance form (CovLasso): the same with centred
logits. Dependencies that the rank of the head or of the features forces are counted apart.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from empirical.records import Record
from empirical.subject import Subject
from theory.errors import InputError

LEVELS = (0.90, 0.95, 0.99)
SAMPLES = ("own", "all")


@dataclass(frozen=True, eq=False)
class ClassDependence:
    """One class's logit as a combination of others.

    Attributes:
        label: the class.
        path: (w, non-zeros, objective, explained variance) for each w, descending.
        objective, support, coefficients: at the default w; coefficients [classes], own entry 0.
        zeros: exact zeros among the other classes at the default w.
        carriers: explained-variance level -> fewest classes on the path whose least-squares refit
            reaches it, or None.
        accuracy_class, accuracy: on held-out samples, of the class and overall, after its logit
            is replaced by the combination; ``*_original`` before.
    """

    label: int
    path: tuple[tuple[float, int, float, float], ...]
    objective: float
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
        settings = {"w": self.weight, "samples": self.samples, "covariance": self.covariance}
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
                "carriers": carried,
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
    seed: int = 0,
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
        seed: seed of the split.

    Raises:
        InputError: shapes do not fit, NaN, one class only, or a class without samples.
    """
    started = time.perf_counter()
    z, y = _check(logits, labels)
    if samples not in SAMPLES:
        raise InputError(f"samples is 'own' or 'all', got {samples!r}")
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
            "classes); give more images or choose classes that have some"
        )
    shared = _compress(z, covariance) if samples == "all" else None
    judge = _Replacement(zt, yt)
    found = []
    for c in chosen:
        pressed = shared or _compress(z[y == c], covariance)
        found.append(_one(c, pressed, weight, points, smallest, tolerance, judge))
    return Dependence(tuple(found), weight, samples, covariance, time.perf_counter() - started)


@dataclass(frozen=True, eq=False)
class Compressed:
    """Logits [n, C] as the triangle of their QR: same Gram matrix, at most C rows."""

    rows: np.ndarray
    gram: np.ndarray
    mean: np.ndarray
    offset: np.ndarray
    count: int


def _compress(z: np.ndarray, centre: bool) -> Compressed:
    mean = z.mean(0)
    offset = mean if centre else np.zeros_like(mean)
    shifted = z - offset
    rows = np.linalg.qr(shifted, mode="r") if len(z) > z.shape[1] else shifted
    # scaled by 1/sqrt(n): the Gram matrix is the second moment, whatever the number of samples
    rows = rows / np.sqrt(len(z))
    return Compressed(rows, rows.T @ rows, mean - offset, offset, len(z))


def objective(c: Compressed, label: int, theta: np.ndarray, weight: float) -> float:
    """(1/|S|) sum of squared residuals + w |theta|_1, the own entry of ``theta`` being 0."""
    residual = c.rows[:, label] - c.rows @ theta
    return float(residual @ residual + weight * np.abs(theta).sum())


def _one(
    label: int, c: Compressed, weight: float, points: int, smallest: float, tolerance: float,
    judge: _Replacement,
) -> ClassDependence:  # fmt: skip
    others = np.delete(np.arange(c.rows.shape[1]), label)
    xy = c.gram[others, label]
    top = 2 * float(np.abs(xy).max())
    weights = {weight}
    if points and top > 0:
        weights |= set((top * np.geomspace(1, smallest, points)).tolist())
    ordered = sorted(weights, reverse=True)
    thetas = lasso_path(c, label, ordered, tolerance)
    path, supports = [], []
    theta = thetas[ordered.index(weight)]
    for w, t in zip(ordered, thetas, strict=True):
        supports.append(np.flatnonzero(t))
        path.append((w, len(supports[-1]), objective(c, label, t, w), _explained(c, label, t)))
    carriers: dict[float, int | None] = dict.fromkeys(LEVELS)
    for support in sorted({tuple(s.tolist()) for s in supports}, key=len):
        if all(v is not None for v in carriers.values()):
            break
        ev = refit(c, label, np.array(support, dtype=int))
        for level in LEVELS:
            if carriers[level] is None and ev >= level:
                carriers[level] = len(support)
    support = tuple(np.flatnonzero(theta).tolist())
    shift = float(c.offset[label] - c.offset @ theta)
    accuracy_class, accuracy = judge.accuracy(label, theta, shift)
    before_class, before = judge.accuracy(label, None, 0.0)
    return ClassDependence(
        label, tuple(path), objective(c, label, theta, weight), support, theta,
        len(others) - len(support), carriers, accuracy_class, accuracy, before_class, before,
    )  # fmt: skip


def lasso_path(
    c: Compressed, label: int, weights: Sequence[float], tolerance: float = 1e-8
) -> list[np.ndarray]:
    """Minimisers for descending weights, each started from the one before; [C] each, own entry 0.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import Lasso
    except ImportError as error:
        raise InputError(
            'the independence deficit needs scikit-learn: pip install -e ".[demo]"'
        ) from error
    others = np.delete(np.arange(c.rows.shape[1]), label)
    x, target = np.asfortranarray(c.rows[:, others]), c.rows[:, label]
    gram = np.ascontiguousarray(c.gram[np.ix_(others, others)])
    top = 2 * float(np.abs(c.gram[others, label]).max())
    # scikit-learn divides the squares by twice the number of rows of x
    model = Lasso(
        alpha=1.0, fit_intercept=False, precompute=gram, warm_start=True, max_iter=20_000,
        tol=tolerance,
    )  # fmt: skip
    found = []
    for w in weights:
        theta = np.zeros(c.rows.shape[1])
        if w < top:  # from the largest useful weight on, zero is the minimiser
            model.alpha = w / (2 * len(x))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the duality gap is judged by the objective
                model.fit(x, target, check_input=False)
            theta[others] = model.coef_
        found.append(theta)
    return found


def _explained(c: Compressed, label: int, theta: np.ndarray) -> float:
    """Fraction of the logit's variance over S that the combination explains."""
    a = -theta
    a[label] = 1.0
    left = float(np.sum((c.rows @ a) ** 2) - (c.mean @ a) ** 2)
    whole = float(c.gram[label, label] - c.mean[label] ** 2)
    return 1 - max(left, 0.0) / whole if whole > 0 else 1.0


def refit(c: Compressed, label: int, support: np.ndarray) -> float:
    """Explained variance of the least-squares fit on a support, with a constant."""
    moments = c.gram - np.outer(c.mean, c.mean)
    whole = moments[label, label]
    if whole <= 0:
        return 1.0
    if not len(support):
        return 0.0
    inner, cross = moments[np.ix_(support, support)], moments[support, label]
    return float(cross @ np.linalg.lstsq(inner, cross, rcond=1e-12)[0] / whole)


class _Replacement:
    """Accuracy on held-out samples when one logit is replaced; one pass over them for each."""

    def __init__(self, z: np.ndarray, y: np.ndarray) -> None:
        self.z, self.y = z, y
        self.top = z.argmax(1)
        rows = np.arange(len(z))
        self.best = z[rows, self.top]
        rest = z.copy()
        rest[rows, self.top] = -np.inf
        self.second = rest.argmax(1)
        self.next = rest[rows, self.second]

    def accuracy(self, label: int, theta: np.ndarray | None, shift: float) -> tuple[float, float]:
        """(accuracy of the class, overall accuracy)."""
        winner = self.top
        if theta is not None:
            support = np.flatnonzero(theta)
            new = self.z[:, support] @ theta[support] + shift
            rival = np.where(self.top == label, self.second, self.top)
            height = np.where(self.top == label, self.next, self.best)
            ahead = (new > height) | ((new == height) & (label < rival))
            winner = np.where(ahead, label, rival)
        right = winner == self.y
        return float(right[self.y == label].mean()), float(right.mean())


def split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two stratified halves; a class with one sample is in both."""
    rng = np.random.default_rng(seed)
    first, second = [], []
    for c in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == c))
        half = len(own) // 2
        first.append(own[half:])
        second.append(own[:half] if half else own)
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


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


@dataclass(frozen=True, eq=False)
class Forced:
    """Dependencies among the logits that rank forces (theory.md, row logit-dependence).

    Attributes:
        head: number of independent lambda with lambda^T W = 0: C - rank W.
        span: at least C - r affine ones, r the affine dimension of the features (None: no features).
        basis: [head, C], orthonormal; ``residual`` the largest entry of basis @ W.
    """

    head: int
    span: int | None
    basis: np.ndarray
    residual: float


def forced(head_weight: Tensor | np.ndarray, features: Tensor | np.ndarray | None = None) -> Forced:
    """Count the dependencies that the head's exact rank and the features' span force."""
    from fractions import Fraction

    from numeric.exact import rank

    w = np.asarray(head_weight, dtype=np.float64)
    exact = rank([[Fraction(float(v)) for v in row] for row in w])
    basis = np.linalg.svd(w)[0][:, exact:].T
    span = None
    if features is not None:
        h = np.asarray(features, dtype=np.float64)
        values = np.linalg.svd(h - h.mean(0), compute_uv=False)
        cut = max(h.shape) * np.finfo(float).eps * (values[0] if len(values) else 0)
        span = max(0, len(w) - int((values > cut).sum()))
    residual = float(np.abs(basis @ w).max()) if basis.size else 0.0
    return Forced(len(w) - exact, span, basis, residual)
