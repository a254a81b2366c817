"""Dependencies among the logits that rank forces (theory.md, row logit-dependence)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from empirical.factorise import stored_rank


@dataclass(frozen=True, eq=False)
class Forced:
    """What the head's exact rank and the features' span force.

    Attributes:
        head: number of independent lambda with lambda^T W = 0: C - rank W.
        span: at least C - r affine ones, r the affine dimension of the features (None: no features).
        basis: [head, C], orthonormal; ``residual`` the largest entry of basis @ W.
        constants: [head], what each combination of logits equals on every input: basis @ bias.
    """

    head: int
    span: int | None
    basis: np.ndarray
    residual: float
    constants: np.ndarray


def forced(
    head_weight: Tensor | np.ndarray,
    features: Tensor | np.ndarray | None = None,
    bias: Tensor | np.ndarray | None = None,
) -> Forced:
    """Count the dependencies that the head's exact rank and the features' span force.

    Args:
        head_weight: W, [classes, n], the stored numbers taken as exact.
        features: [samples, n], to count those that their span forces; rank by float64 SVD.
        bias: [classes]; 0 by default.
    """
    w = np.asarray(head_weight, dtype=np.float64)
    exact, _ = stored_rank(torch.from_numpy(w), limit=w.size)  # certified, whatever the size
    basis = np.linalg.svd(w)[0][:, exact:].T
    span = None
    if features is not None:
        h = np.asarray(features, dtype=np.float64)
        values = np.linalg.svd(h - h.mean(0), compute_uv=False)
        cut = max(h.shape) * np.finfo(float).eps * (values[0] if len(values) else 0)
        span = max(0, len(w) - int((values > cut).sum()))
    residual = float(np.abs(basis @ w).max()) if basis.size else 0.0
    b = np.zeros(len(w)) if bias is None else np.asarray(bias, dtype=np.float64)
    return Forced(len(w) - exact, span, basis, residual, basis @ b)
