"""The official implementation's arithmetic, re-stated from its description (reference.md).

For ``--estimator official``: so that a user sees the difference. Float32 throughout, as there. The
PCA dimension's official arithmetic stands beside the streaming one in ``empirical.pca``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STEPS = 5000


def classification_dimension(
    h: Tensor, w: Tensor, b: Tensor, y: Tensor, fraction: float
) -> int | None:
    """First k < n that keeps the accuracy, one full projection of the features for each k.

    Principal axes are those of the covariance, but the features are not centred when they are
    projected; k = n is never tried.

    Args:
        h: features [samples, n]; ``w``, ``b`` the head [classes, n] and [classes]; ``y`` labels.
        w: as above.
        b: as above.
        y: as above.
        fraction: of the original accuracy.

    Returns:
        k, or None where every k < n falls short.
    """
    hits, original = classification_curve(h, w, b, y)
    kept = np.flatnonzero(hits >= fraction * original)
    return int(kept[0]) + 1 if len(kept) else None


def classification_curve(h: Tensor, w: Tensor, b: Tensor, y: Tensor) -> tuple[np.ndarray, int]:
    """Samples classified right with the leading k axes, k = 1..n-1, and without a projection."""
    h, w, b = h.float(), w.float(), b.float()
    centred = h - h.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(h))
    vectors = vectors.flip(1)
    original = int(((h @ w.T + b).argmax(1) == y).sum())
    hits = []
    for k in range(1, h.shape[1]):
        axes = vectors[:, :k]
        projected = (h @ axes) @ axes.T
        hits.append(int(((projected @ w.T + b).argmax(1) == y).sum()))
    return np.array(hits, dtype=np.int64), original


def subgradient(
    rows: np.ndarray, label: int, weight: float, *, steps: int = STEPS, seed: int = 0
) -> np.ndarray:
    """Coefficients after so many subgradient steps from a small random start, in float32.

    The description names neither rate nor start: here the rate is that of the smooth part, 1 / L,
    divided by 1 + step / 500, so that the steps converge; no entry is ever set to zero.

    Args:
        rows: [samples, classes], scaled so that rows^T rows is the second moment.
        label: the regressed logit.
        weight: of the penalty.
        steps: how many.
        seed: of the start.

    Returns:
        theta [classes], own entry 0, float64.
    """
    x = torch.from_numpy(np.ascontiguousarray(rows)).float()
    others = torch.arange(x.shape[1]) != label
    target, x = x[:, label], x[:, others]
    draw = torch.Generator().manual_seed(seed)
    theta = 0.01 * torch.randn(x.shape[1], generator=draw)
    rate = 1 / (2 * float(torch.linalg.matrix_norm(x, 2)) ** 2 + 1e-30)
    for step in range(steps):
        slope = 2 * (x.T @ (x @ theta - target)) + weight * theta.sign()
        theta -= rate / (1 + step / 500) * slope
    found = np.zeros(rows.shape[1])
    found[others.numpy()] = theta.double().numpy()
    return found
