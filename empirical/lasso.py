"""Lasso on the Gram matrix of logits: one compression of the samples, a whole path of minimisers.

The samples enter once, as the triangle R of a QR of the logits, scaled so that R^T R is their second
moment: a path costs the same for 50 samples and for 50,000. Coordinate descent is scikit-learn's
``lasso_path`` (alpha = w / (2 rows)), started from the point of the homotopy (``lars_path``), because
alone it needs thousands of sweeps where logits are correlated. The duality gap of what is returned,
computed here, says how far below it the minimum can lie.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory.errors import InputError

#: sweeps over the coordinates at most, a weight; few where the start is the minimiser already, because
#: scikit-learn's own stopping rule is lost in rounding there
_SWEEPS = 20_000
_FEW = 10
#: knots of the homotopy at most
_KNOTS = 1000


@dataclass(frozen=True, eq=False)
class Compressed:
    """Logits [n, C] as the triangle of their QR: same Gram matrix, at most C rows.

    Attributes:
        rows: [at most C, C]; ``gram`` = rows^T rows, the second moment of the (shifted) logits.
        gram: [C, C].
        mean: [C], of the shifted logits.
        offset: [C], what was subtracted: the mean in the covariance form, else 0.
        count: n.
    """

    rows: np.ndarray
    gram: np.ndarray
    mean: np.ndarray
    offset: np.ndarray
    count: int


@dataclass(frozen=True, eq=False)
class Minimiser:
    """The minimiser at one weight: theta [C] with own entry 0, its objective, and its gap.

    The true minimum lies in [objective - gap, objective].
    """

    weight: float
    theta: np.ndarray
    objective: float
    gap: float


def compress(z: np.ndarray, centre: bool) -> Compressed:
    """Compress samples of logits [n, C]; ``centre`` subtracts their mean first (CovLasso)."""
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


def largest_weight(c: Compressed, label: int) -> float:
    """The weight from which on zero is the minimiser: twice the largest |Gram entry|."""
    return 2 * float(np.abs(np.delete(c.gram[label], label)).max())


def path(
    c: Compressed, label: int, weights: Sequence[float], tolerance: float = 1e-8
) -> list[Minimiser]:
    """Minimisers for descending weights.

    Args:
        c: the samples.
        label: the logit that the others are to carry.
        weights: w, descending.
        tolerance: duality gap at which a weight is done, relative to the second moment of the logit.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import lasso_path
    except ImportError as error:
        raise InputError(
            'the independence deficit needs scikit-learn: pip install -e ".[demo]"'
        ) from error
    classes = c.rows.shape[1]
    top = largest_weight(c, label)
    inside = [w for w in weights if w < top]  # from the largest useful weight on, it is zero
    found = [
        Minimiser(w, np.zeros(classes), float(c.gram[label, label]), 0.0)
        for w in weights if w >= top
    ]  # fmt: skip
    if not inside:
        return found
    others = np.delete(np.arange(classes), label)
    x = np.asfortranarray(c.rows[:, others])
    y = np.ascontiguousarray(c.rows[:, label])
    xy = np.ascontiguousarray(c.gram[others, label])
    # few samples: sweeps over the rows cost less than sweeps over the Gram matrix, same minimiser
    gram = np.ascontiguousarray(c.gram[np.ix_(others, others)]) if len(x) * 2 > classes else None
    for w, start in zip(inside, _starts(x, y, xy, gram, inside), strict=True):
        near = duality_gap(x, y, start, w) <= tolerance * float(y @ y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an early stop is seen in the gap, which is returned
            # scikit-learn divides the squares by twice the number of rows of x
            _, coefficients, _ = lasso_path(
                x, y, alphas=[w / (2 * len(x))], precompute=False if gram is None else gram, Xy=xy,
                copy_X=False, coef_init=start, check_input=False, tol=tolerance,
                max_iter=_FEW if near else _SWEEPS,
            )  # fmt: skip
        theta = coefficients[:, 0]
        full = np.zeros(classes)
        full[others] = theta
        found.append(
            Minimiser(w, full, objective(c, label, full, w), duality_gap(x, y, theta, w))
        )  # fmt: skip
    return found


def _starts(
    x: np.ndarray, y: np.ndarray, xy: np.ndarray, gram: np.ndarray | None, weights: Sequence[float]
) -> list[np.ndarray]:
    """Where coordinate descent starts at each weight: the homotopy's point there.

    The minimiser is piecewise linear in the weight; scikit-learn's ``lars_path`` follows it from knot
    to knot. It may lose precision or stop early where logits are nearly dependent: then the start is
    only near, and coordinate descent works for longer.
    """
    from sklearn.linear_model import lars_path, lars_path_gram

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if gram is None:
            knots, _, points = lars_path(
                x, y, method="lasso", alpha_min=min(weights) / (2 * len(x)), max_iter=_KNOTS
            )
            knots = knots * len(x)
        else:
            knots, _, points = lars_path_gram(
                xy, gram, n_samples=1, method="lasso", alpha_min=min(weights) / 2, max_iter=_KNOTS
            )
    starts = []
    for w in weights:
        after = min(int(np.searchsorted(-knots, -w / 2)), len(knots) - 1)
        before = max(after - 1, 0)
        span = knots[before] - knots[after]
        share = (knots[before] - w / 2) / span if span > 0 else 0.0
        share = min(max(share, 0.0), 1.0)
        start = (1 - share) * points[:, before] + share * points[:, after]
        starts.append(start if np.isfinite(start).all() else np.zeros(len(xy)))
    return starts


def duality_gap(x: np.ndarray, y: np.ndarray, theta: np.ndarray, weight: float) -> float:
    """How far |y - x theta|^2 + weight |theta|_1 can lie above its minimum.

    The dual is |y|^2 - |y - u|^2 over |2 x^T u| <= weight; u is the residual, scaled to fit.
    """
    active = np.flatnonzero(theta)
    residual = y - x[:, active] @ theta[active]
    steepest = 2 * float(np.abs(x.T @ residual).max(initial=0.0))
    u = residual * min(1.0, weight / steepest) if steepest > 0 else residual
    primal = residual @ residual + weight * np.abs(theta).sum()
    # |y|^2 - |y - u|^2 without the cancellation of two large squares
    return max(float(primal - u @ (2 * y - u)), 0.0)


def explained(c: Compressed, label: int, theta: np.ndarray) -> float:
    """Fraction of the logit's variance over S that the combination explains."""
    a = -theta
    a[label] = 1.0
    left = float(np.sum((c.rows @ a) ** 2) - (c.mean @ a) ** 2)
    whole = float(c.gram[label, label] - c.mean[label] ** 2)
    return 1 - max(left, 0.0) / whole if whole > 0 else 1.0


def refit(c: Compressed, label: int, support: np.ndarray) -> float:
    """Explained variance of the least-squares fit on a support, with a constant."""
    own = float(c.gram[label, label] - c.mean[label] ** 2)
    if own <= 0:
        return 1.0
    if not len(support):
        return 0.0
    mean = c.mean[support]
    inner = c.gram[np.ix_(support, support)] - np.outer(mean, mean)
    cross = c.gram[support, label] - mean * c.mean[label]
    return float(cross @ np.linalg.lstsq(inner, cross, rcond=1e-12)[0] / own)


def carriers(
    c: Compressed, label: int, supports: Sequence[np.ndarray], levels: Sequence[float]
) -> dict[float, int | None]:
    """Level of explained variance -> size of the smallest support whose refit reaches it, or None."""
    fewest: dict[float, int | None] = dict.fromkeys(levels)
    for support in sorted({tuple(s.tolist()) for s in supports}, key=len):
        if all(v is not None for v in fewest.values()):
            break
        reached = refit(c, label, np.array(support, dtype=int))
        for level in levels:
            if fewest[level] is None and reached >= level:
                fewest[level] = len(support)
    return fewest
