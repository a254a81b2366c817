"""Properties of the limit rows (N): convergence with a stated error.

A limit is tested on seeded samples with a tolerance that is at least four standard errors of the
estimate (each stated beside its constant), so that a false variant, which is off by far more, must
fail. Constants come from ``theory.constants``; sources stand in the catalogue.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import flint
import mpmath
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from numeric.cases import Outcome, Property, tag
from numeric.decoding import Bytes, decoded
from numeric.networks import BALL, Attention, Layer, Network, Residual, Sequential
from numeric.spectral_properties import relative_rank
from theory.catalogue import Entry
from theory.constants import gaussian_exponents, iid_limit
from theory.constants import token_collapse as token_constants

#: stated error of the exponents. Per layer, log R_kk has standard deviation at most
#: sqrt(psi'(1/2)) / 2 = 1.11, so 80,000 independent layers give a standard error of 0.004.
EXPONENT_ERROR = 0.02
_CHAINS, _LAYERS = 80, 1000

Array = NDArray[np.float64]


def qr_exponents(layers: Array, start: Array | None = None) -> Array:
    """Lyapunov exponents by the QR method, products never formed.

    Args:
        layers: shape (L, chains, n, n), applied in order in every chain.
        start: orthonormal frames (chains, n, n), or None for the identity.

    Returns:
        The n exponents, mean over layers and chains.
    """
    depth, chains, n, _ = layers.shape
    frame = np.broadcast_to(np.eye(n), (chains, n, n)) if start is None else start
    total = np.zeros(n)
    for layer in layers:
        frame, upper = np.linalg.qr(layer @ frame)
        total += np.log(np.abs(np.diagonal(upper, axis1=1, axis2=2))).mean(0)
    result: Array = total / depth
    return result


def _gaussian(n: int, seed: int, depth: int = _LAYERS, chains: int = _CHAINS) -> Array:
    return np.random.default_rng(seed).standard_normal((depth, chains, n, n))


def gaussian_limit(entry: Entry, variant: int | None) -> Property:
    """Exponents of square Gaussian layers for n = 4, 8, 16 within 0.02 of the digamma formula."""

    def predicted(n: int) -> list[float]:
        if variant is None:
            return [float(v) for v in gaussian_exponents(n)]
        top = mpmath.digamma(mpmath.mpf(n) / 2)
        # the last one is minus infinity and left out
        return [float((mpmath.digamma(mpmath.mpf(n - k) / 2) - top) / 2) for k in range(1, n)]

    def check(case: Any) -> Outcome:
        n, seed = case
        exponents = qr_exponents(_gaussian(n, seed))
        measured = exponents - exponents[0]
        expected = np.array(predicted(n))
        error = float(np.abs(measured[: len(expected)] - expected).max())
        shown = {"n": n, "seed": seed, "error": error, "allowed": EXPONENT_ERROR}
        return Outcome(error <= EXPONENT_ERROR, None, shown)

    cases = st.sampled_from([(n, s) for n in (4, 8, 16) for s in (1,)])
    return Property(tag(entry.id, variant), cases, check, False, most=3)


def iid(entry: Entry, variant: int | None) -> Property:
    """(1/L) log sigma_k converges for Gaussian and diagonal layers, and the rank then collapses.

    Where the limits differ, relative(1e-3) must be 1 at every depth beyond log(1000)/gap plus four
    standard deviations. False variant: the limits always differ (orthogonal layers are drawn too).
    """

    def check(case: Any) -> Outcome:
        family, n, seed = case
        rng = np.random.default_rng(seed)
        if family == "gaussian":
            limits = np.array([float(v) for v in iid_limit(n)])
            measured = qr_exponents(_gaussian(n, seed))
        elif family == "diagonal":  # entries exp(N(m_k, 1)): exponents are the means
            limits = -0.5 * np.arange(n)
            logs = rng.standard_normal((_CHAINS * _LAYERS, n)) + limits
            measured = logs.mean(0)
        else:
            limits = np.zeros(n)
            frames = np.linalg.qr(rng.standard_normal((200, 1, n, n)))[0]
            measured = qr_exponents(frames)
        error = float(np.abs(measured - limits).max())
        differ = bool(np.diff(measured).max() < -EXPONENT_ERROR)
        collapsed = True
        if family != "orthogonal":
            gap = float(limits[0] - limits[1])
            # log(sigma_1 / sigma_2) after L layers: mean gap L, deviation at most sqrt(2 * 1.3 L)
            depth = int(np.ceil((np.log(1000) / gap + (4 * 1.7 / gap) ** 2) * 1.5))
            one = self_product(family, n, seed + 1, depth, limits)
            collapsed = one == 1
        shown = {"family": family, "n": n, "seed": seed, "error": error, "limits differ": differ}
        if variant is not None:
            return Outcome(differ, None, shown)
        holds = error <= EXPONENT_ERROR and collapsed and differ == (family != "orthogonal")
        return Outcome(holds, None, shown | {"relative rank 1 at depth": collapsed})

    families = [("gaussian", 2), ("gaussian", 4), ("diagonal", 3), ("orthogonal", 3)]
    cases = st.sampled_from([(f, n, s) for f, n in families for s in (1, 2)])
    return Property(tag(entry.id, variant), cases, check, False, most=8)


def self_product(family: str, n: int, seed: int, depth: int, limits: Array) -> int:
    """relative(1e-3) of a product of ``depth`` layers, rescaled at each step."""
    rng = np.random.default_rng(seed)
    product = np.eye(n)
    for _ in range(depth):
        if family == "gaussian":
            layer = rng.standard_normal((n, n))
        else:
            layer = np.diag(np.exp(rng.standard_normal(n) + limits))
        product = layer @ product
        product /= np.abs(product).max()
    values: Array = np.linalg.svd(product, compute_uv=False).astype(np.float64)
    return relative_rank(values, 1e-3)[1]


def _residual_size(values: list[Any], tokens: int, width: int) -> Any:
    """Largest distance of a token from the mean token, as a ball."""
    size = flint.arb(0)
    for c in range(width):
        column = [values[t * width + c] for t in range(tokens)]
        mean = sum(column[1:], column[0]) / tokens
        for v in column:
            size = size.max(abs(v - mean))
    return size


def token_collapse(entry: Entry, variant: int | None) -> Property:
    """Distance from rank 1 after a layer <= C * (distance before)^3, in balls of 4,000 bits.

    C = 64 (max weight)^4 covers the weights drawn here; generic weights are tight (the exponent
    log r'/log r is within 0.35 of 3, and within 0.1 one layer on), weights whose scores vanish are
    strict. False variant: the same with skip connections, which keep the distance.
    """
    exponent = float(token_constants()["exponent"])

    def decode(b: Bytes) -> Any:
        tokens, width = 2 + b.below(2), 1 + b.below(2)
        layers = []
        for _ in range(2):
            blocks = []
            for _ in range(4):
                flat = [Fraction(v, 2) for v in b.integers(width * width)]
                blocks.append(tuple(tuple(flat[i * width :][:width]) for i in range(width)))
            layers.append(tuple(blocks))
        start = [Fraction(v, 4) for v in b.integers(width)]
        noise = [Fraction(v, 2**40) for v in b.integers(tokens * width)]
        if b.below(4) == 3:  # equal tokens: the distance is 0 and stays 0
            noise = [Fraction(0)] * len(noise)
        x = [start[i % width] + e for i, e in enumerate(noise)]
        return tokens, width, tuple(layers), tuple(x)

    def check(case: Any) -> Outcome:
        tokens, width, layers, x = case
        before = flint.ctx.prec
        try:
            flint.ctx.prec = 4000
            modules: list[Layer] = [Attention(*blocks) for blocks in layers]
            if variant is not None:
                modules = [Residual(Sequential((m,))) for m in modules]
            taps = Network((tokens, width), tuple(modules)).taps(
                x, BALL, BALL.matrix(tokens * width, 1, [0] * (tokens * width))
            )
            sizes = [_residual_size(v.entries(), tokens, width) for v, _ in taps]
            shown = {
                "tokens": tokens,
                "weights": [[[str(e) for r in w for e in r] for w in blocks] for blocks in layers],
                "x": [str(v) for v in x],
                "distance": [s.str(5, radius=False) for s in sizes],
            }
            holds, tight = True, True
            for k, (r, s) in enumerate(pairwise(sizes)):
                holds = holds and bool(s <= 64 * 81 * r**3 + flint.arb(2) ** -3900)
                if r > flint.arb(2) ** -3000 and s > flint.arb(2) ** -3000:
                    rate = float(s.log() / r.log())
                    tight = tight and abs(rate - exponent) <= (0.35, 0.1)[k]
                else:
                    tight = False
        finally:
            flint.ctx.prec = before
        return Outcome(holds, 0.0 if tight else 1.0, shown)

    return Property(tag(entry.id, variant), decoded(48, decode), check, True, most=200)
