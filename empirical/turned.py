"""Directions turned so that a Jacobian's columns are nearly orthogonal: a QR at the price of one product.

The spectrum of J does not depend on which orthonormal directions are pushed. In the basis V of its own
right singular vectors the columns of J V are orthogonal, and behind the next blocks they stay nearly so:
residual blocks bend little (columns scaled to unit length have condition 1.5 behind one block of ViT-Tiny,
4 behind twelve, where J itself has 2e3). With ``J V = Y D``, columns of Y of unit length, Cholesky's QR
of Y costs half of Householder's operations, all in large products. Its R is right in every column's own
scale, so each singular value of R has a relative error of O(u / lambda_min(Y^T Y)), small ones too, by the
perturbation theory of Demmel and Veselic (1992, "Jacobi's method is more accurate than QR"). That is what
J^T J in the given directions lacks: its error is u sigma_1^2 in every eigenvalue. Nothing is gained or
claimed for the rounding of the pass itself, the product with V included, which is absolute. Where the
columns of Y are not nearly orthogonal Householder's QR is taken (``empirical.spectrum``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from empirical.spectrum import STRIP, without_zeros
from empirical.tangents import Tangent, as_rows, empty_in_layout
from empirical.threads import shares, side_by_side

#: columns of one product: those above the diagonal are left out
COLUMNS = 192
#: fewer rows a direction gain nothing: the triangle's own work is that of a QR
FEWEST = 16
#: 1 / lambda_min(Y^T Y) that is accepted; the error bound of a spectrum grows with it
GROWTH = 32.0


@dataclass(frozen=True, eq=False)
class Factor:
    """R of a QR of J, and how much of its relative error a singular value has at most.

    Attributes:
        R: [directions, directions], upper triangular, in J's precision.
        growth: 1 / lambda_min of the scaled columns' Gram matrix, 0 for Householder's QR.
    """

    R: Tensor
    growth: float = 0.0


def cholesky(rows: Tensor) -> Factor | None:
    """R of J by Cholesky's QR; None where the columns of J are not nearly orthogonal.

    Args:
        rows: J transposed, [directions, rows], float32 or float64.
    """
    gram = _gram(rows)
    squares = gram.diagonal()
    number = torch.finfo(rows.dtype)
    least = rows.shape[1] * number.tiny / number.eps
    # refused: entries whose squares underflow, a direction without effect, an infinite entry
    if not bool(((squares > least) & squares.isfinite()).all()):
        return None
    lengths = squares.sqrt()
    scaled = gram / lengths / lengths[:, None]
    smallest = float(torch.linalg.eigvalsh(scaled)[0])
    if smallest * GROWTH < 1:
        return None
    lower = torch.linalg.cholesky(scaled)
    return Factor((lengths[:, None] * lower).T.to(rows.dtype), 1 / smallest)


def _gram(rows: Tensor) -> Tensor:
    """``rows @ rows.T``, each strip in the precision of ``rows``, their sum in float64."""
    return sum(side_by_side(_share, shares(rows, STRIP)), start=torch.zeros(()))


def _share(rows: Tensor) -> Tensor:
    k = rows.shape[0]
    total = torch.zeros(k, k, dtype=torch.float64)
    product = rows.new_empty(k, k)
    for strip in torch.split(rows, STRIP, 1):
        strip, _ = without_zeros(strip)
        for start in range(0, k, COLUMNS):
            some = slice(start, start + COLUMNS)
            upto = slice(min(k, start + COLUMNS))
            torch.mm(strip[some], strip[upto].T, out=product[some, upto])
        total += product.cpu()
    return total.tril() + total.tril(-1).T


def turn(x: Tangent, R: Tensor) -> None:
    """Let the pass go on from ``x`` in the basis of the right singular vectors of its Jacobian.

    Tangents made before are of the old basis: using one raises ``TurnedError`` (``empirical.tangents``).

    Args:
        x: tangents that all later ones come from.
        R: of a QR of their Jacobian, [min(rows, directions), directions].
    """
    data = x.data_
    vectors = torch.linalg.svd(R.to(torch.float64)).Vh.to(data)
    turned = empty_in_layout(data, len(data))
    torch.mm(vectors, as_rows(data), out=as_rows(turned))
    x.engine.turns += 1
    x.engine.operations += 1
    x.become(x.primal, turned, x.offset, x.support)
