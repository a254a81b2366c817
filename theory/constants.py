"""The constants that the catalogue's N rows predict, to 30 digits (mpmath).

Sources: Newman 1986 (Lyapunov exponents of Gaussian products), Dong, Cordonnier and Loukas 2021
(token collapse); the rest is elementary and derived in docs/catalogue.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath

from theory.errors import InputError

DIGITS = 30


def _text(value: Any, digits: int) -> str:
    return str(mpmath.nstr(value, digits, strip_zeros=False))


def gaussian_exponents(n: int, digits: int = DIGITS) -> tuple[str, ...]:
    """Limits of (1/L) log(sigma_k / sigma_1) for L square Gaussian layers, k = 1..n.

    They are (psi((n-k+1)/2) - psi(n/2)) / 2 and do not depend on the entries' variance.

    Args:
        n: width of every layer, at least 1.
        digits: decimal digits of the answer.

    Returns:
        Decimal text for each k, exactly 0 first, then decreasing.

    Raises:
        InputError: ``n`` is below 1.
    """
    if n < 1:
        raise InputError(f"gaussian_exponents needs a width of at least 1, got {n}")
    with mpmath.workdps(digits + 10):
        top = mpmath.digamma(mpmath.mpf(n) / 2)
        return tuple(
            _text((mpmath.digamma(mpmath.mpf(n - k + 1) / 2) - top) / 2, digits)
            for k in range(1, n + 1)
        )


def iid_limit(n: int, variance: float = 1.0, digits: int = DIGITS) -> tuple[str, ...]:
    """Limits of (1/L) log sigma_k for n x n layers with i.i.d. N(0, variance) entries, k = 1..n.

    They are (log 2 + log variance + psi((n-k+1)/2)) / 2 (Newman 1986).

    Raises:
        InputError: ``n`` is below 1 or the variance is not positive.
    """
    if n < 1 or not variance > 0:
        raise InputError(f"iid_limit needs n >= 1 and variance > 0, got {n} and {variance}")
    with mpmath.workdps(digits + 10):
        base = mpmath.log(2) + mpmath.log(mpmath.mpf(variance))
        return tuple(
            _text((base + mpmath.digamma(mpmath.mpf(n - k + 1) / 2)) / 2, digits)
            for k in range(1, n + 1)
        )


def collapse_counterexamples(digits: int = DIGITS) -> dict[str, str]:
    """Predicted growth of the gap log(sigma_1 / sigma_n) where the rank does not collapse.

    Returns:
        ``orthogonal``: the gap of orthogonal layers at every depth, 0.
        ``diagonal``: c in E gap = c sqrt(L), for width 2 and independent diagonal entries
        exp(N(0, 1)): the gap is |N(0, 2L)|, so c = 2/sqrt(pi).
        ``residual``: E cosh(gap) for the limit L -> infinity of L layers I + G/sqrt(2L), width 2,
        G standard Gaussian: the gap is the radius of Brownian motion on the hyperbolic plane at
        time 1, whose generator (d^2 + coth u d)/2 has cosh as eigenfunction with value 1, so e.
        ``residual_norm``: E norm_F(J)^2 / n for any width n in the same limit, (1 + 1/L)^L -> e.
    """
    with mpmath.workdps(digits + 10):
        return {
            "orthogonal": _text(mpmath.mpf(0), digits),
            "diagonal": _text(2 / mpmath.sqrt(mpmath.pi), digits),
            "residual": _text(mpmath.e, digits),
            "residual_norm": _text(mpmath.e, digits),
        }


def pca_limit(slope: float, curvature: float, eps: float, digits: int = DIGITS) -> str:
    """Var(f(eps z)) / eps^2 for f(t) = slope t + curvature t^2 / 2 and z standard normal.

    It is slope^2 + eps^2 curvature^2 / 2: the limit J J^T plus an error of order eps^2.

    Raises:
        InputError: ``eps`` is negative.
    """
    if eps < 0:
        raise InputError(f"pca_limit needs eps >= 0, got {eps}")
    with mpmath.workdps(digits + 10):
        a, b, e = mpmath.mpf(slope), mpmath.mpf(curvature), mpmath.mpf(eps)
        return _text(a**2 + e**2 * b**2 / 2, digits)


def token_collapse(digits: int = DIGITS) -> dict[str, str]:
    """Exponents of the distance from rank 1 in self-attention without skips (Dong et al. 2021).

    Returns:
        ``exponent``: the distance after a layer is at most a constant times this power of the
        distance before, 3; ``log_log_rate``: so log(-log distance) grows by log 3 a layer.
    """
    with mpmath.workdps(digits + 10):
        return {
            "exponent": _text(mpmath.mpf(3), digits),
            "log_log_rate": _text(mpmath.log(3), digits),
        }


#: catalogue id of each N row -> the function that computes its constants
CONSTANTS: dict[str, Callable[..., object]] = {
    "gaussian-exponents": gaussian_exponents,
    "iid-limit": iid_limit,
    "collapse-is-universal": collapse_counterexamples,
    "pca-limit": pca_limit,
    "token-collapse": token_collapse,
}
