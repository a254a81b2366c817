"""The parts of the QR method: one block's triangle, the product's spectrum, the Gaussian law.

Source: Benettin et al. 1980 for the method; theory.md, gaussian-exponents, for the law.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import polygamma, psi
from torch import Tensor

from numeric.products import product_spectrum
from theory.errors import InputError

#: relative error to which the SVD of the product has to know a singular value to be asked
SHARP = 1e-6


def gaussian_prediction(widths: Sequence[int], directions: int) -> tuple[np.ndarray, np.ndarray]:
    """Exponents of Gaussian layers with these output widths: mean and standard deviation.

    A Gaussian layer with m outputs takes an orthonormal basis to a Gaussian matrix, whose QR has
    diagonal entries chi_m, chi_{m-1}, ... (independent): E log chi_d = psi(d/2)/2 + log(2)/2 and
    Var log chi_d = psi'(d/2)/4. With all widths equal to the number of directions this is the
    catalogue's gaussian-exponents. The QR sums stand for the log singular values, from which they
    differ by a bounded amount, that is by O(1/L) an exponent.

    Args:
        widths: outputs of each layer, each at least ``directions``.
        directions: number k of exponents.

    Raises:
        InputError: a layer is narrower than the directions.
    """
    if not widths or min(widths) < directions:
        raise InputError(f"{directions} directions do not pass widths {list(widths)}")
    free = np.array(widths)[:, None] - np.arange(directions)[None]
    mean = (psi(free / 2) - psi(free[:, :1] / 2)).sum(0) / 2 / len(widths)
    # gains of one layer are independent, so that the variances of direction k and 1 add
    spread = polygamma(1, free / 2).sum(0) / 4
    variance = (spread + spread[0]) / len(widths) ** 2
    variance[0] = 0.0
    return mean, np.sqrt(variance)


def split(pushed: Tensor) -> tuple[Tensor, Tensor, float, float]:
    """Q and R of the part of a block's J Q above its own rounding floor; its norm, the floor.

    The floor is max(shape) * 2^-52 times the largest singular value, the backward error of the QR
    and of the block's own float64 products. R has one row for each direction that is kept.
    """
    u, values, _ = torch.linalg.svd(pushed, full_matrices=False)
    norm = float(values[0])
    floor = max(pushed.shape) * 2.0**-52 * norm
    kept = int((values > floor).sum())
    if kept == pushed.shape[1]:
        q, r = torch.linalg.qr(pushed)
        return q, r, norm, floor
    u = u[:, :kept]
    q, r = torch.linalg.qr(u.T @ pushed)
    return u @ q, r, norm, floor


def log_spectrum(
    triangles: Sequence[np.ndarray], sweeps: int, tolerance: float
) -> tuple[np.ndarray, float]:
    """Descending log singular values of a product of triangles, and how far they may be off.

    What stands clear of the rounding of the whole product is read off its SVD; below that only the
    QR iteration sees anything, and it parts near-equal values slowly: 60 sweeps leave errors of
    0.03 where two values differ by a percent.
    """
    whole = np.eye(triangles[0].shape[1])
    scale, error = 0.0, 0.0
    for r in triangles:
        norm = float(np.linalg.norm(r, 2))
        whole = (r / norm) @ whole
        error += max(r.shape) * 2.0**-52  # relative to the product of the norms, which is 1
        top = float(np.abs(whole).max())
        whole, error, scale = whole / top, error / top, scale + np.log(norm) + np.log(top)
    values = np.linalg.svd(whole, compute_uv=False)
    clear = values > error / SHARP
    if clear.all():
        return np.log(values) + scale, error / float(values[-1])
    found = product_spectrum(triangles, sweeps=sweeps, tolerance=tolerance)
    logs = found.logs.copy()
    logs[clear] = np.log(values[clear]) + scale
    return np.minimum.accumulate(logs), max(found.change, SHARP)
