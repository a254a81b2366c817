"""Properties of the limit rows (N) and the refuted rows (R): convergence with a stated error.

A limit is tested on seeded samples with a tolerance that is at least four standard errors of the
estimate (each stated beside its constant), so that a false variant, which is off by far more, must
fail. Refuted rows replay the catalogue's counterexamples and vary them. Constants come from
``theory.constants``; sources stand in the catalogue.
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

from numeric.cases import Outcome, Property
from numeric.networks import BALL, Attention, Layer, Network, Residual, Sequential
from numeric.scalars import EXACT, Matrix
from numeric.spectral_properties import relative_rank, sigma
from numeric.strategies import Bytes, decoded
from theory.catalogue import Entry
from theory.constants import collapse_counterexamples, gaussian_exponents, iid_limit
from theory.constants import token_collapse as token_constants

#: stated error of the exponents. Per layer, log R_kk has standard deviation at most
#: sqrt(psi'(1/2)) / 2 = 1.11, so 80,000 independent layers give a standard error of 0.004.
EXPONENT_ERROR = 0.02
_CHAINS, _LAYERS = 80, 1000

Array = NDArray[np.float64]


def _tag(entry: Entry, variant: int | None) -> str:
    return entry.id if variant is None else f"{entry.id}#false{variant + 1}"


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
    return Property(_tag(entry, variant), cases, check, False, most=3)


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
    return Property(_tag(entry, variant), cases, check, False, most=8)


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


def _replay(layers: tuple[tuple[tuple[str, ...], ...], ...], eps: float) -> list[int]:
    """Relative rank after each layer, the products formed exactly."""
    ranks, product = [], None
    for rows in layers:
        entries = [Fraction(e) for row in rows for e in row]
        matrix = EXACT.matrix(len(rows), len(rows[0]), entries)
        product = matrix if product is None else matrix * product
        ranks.append(relative_rank(sigma(product), eps)[1])
    return ranks


def _catalogue_replays(entry: Entry) -> list[dict[str, Any]]:
    """Counterexamples of the row whose replay does not give the recorded ranks."""
    wrong = []
    for example in entry.counterexamples:
        inside = example.notion.partition("(")[2].rstrip(")")
        ranks = _replay(example.layers, float(Fraction(inside)))
        if tuple(ranks) != example.values:
            wrong.append({"notion": example.notion, "ranks": ranks, "recorded": example.values})
    return wrong


def eps_monotone(entry: Entry, variant: int | None) -> Property:
    """diag(t, 1) then diag(1, t) has relative(eps) 1, then 2, for t < eps: the claim is false.

    False variant: the claim itself, on the same chains.
    """
    wrong = _catalogue_replays(entry)

    def decode(b: Bytes) -> tuple[Fraction, Fraction, int]:
        e, copies = 1 + b.below(20), 1 + b.below(3)
        return Fraction(1, 2**e), Fraction(2) ** (4 - e - b.below(12)), copies

    def check(case: Any) -> Outcome:
        eps, t, copies = case
        first, second = _diagonal([t, 1] * copies), _diagonal([1, t] * copies)
        ranks = [relative_rank(sigma(m), float(eps))[1] for m in (first, second * first)]
        shown = {"eps": str(eps), "t": str(t), "copies": copies, "ranks": ranks, "replays": wrong}
        if variant is not None:
            return Outcome(ranks[1] <= ranks[0], None, shown)
        low, high = min(t, 1 / t), Fraction(1)
        before = copies * (2 if low >= eps * high else 1)
        return Outcome(not wrong and ranks == [before, 2 * copies], None, shown)

    return Property(_tag(entry, variant), decoded(4, decode), check, False)


def _diagonal(values: list[Any]) -> Matrix:
    n = len(values)
    return EXACT.matrix(n, n, [values[i] if i == j else 0 for i in range(n) for j in range(n)])


def collapse_is_universal(entry: Entry, variant: int | None) -> Property:
    """Three families that do not collapse, each with its predicted growth of the gap.

    Orthogonal: products of rational rotations and reflections stay exactly orthogonal. Diagonal:
    E gap = (2/sqrt pi) sqrt L within 2 % (40,000 chains: standard error 0.4 %). Residual
    I + G/sqrt(2L): E cosh(gap) = e within 6 % (40,000 chains, standard error about 1 %, and the
    limit is approached as 1/L) and E norm_F^2 / n = (1 + 1/L)^L within 2 %. False variant: the
    relative rank falls with depth, of Gaussian layers (where it is true) and of orthogonal ones.
    """
    wrong = _catalogue_replays(entry)
    constants = {name: float(v) for name, v in collapse_counterexamples().items()}

    def check(case: Any) -> Outcome:
        family, depth, seed = case
        rng = np.random.default_rng(seed)
        shown: dict[str, Any] = {"family": family, "L": depth, "seed": seed, "replays": wrong}
        if family == "orthogonal":
            product = _diagonal([1, 1])
            for _ in range(depth):
                p, q = int(rng.integers(1, 9)), int(rng.integers(1, 9))
                c, s, h = p * p - q * q, 2 * p * q, p * p + q * q  # a Pythagorean rotation
                step = [Fraction(v, h) for v in (c, -s, s, c)]
                product = EXACT.matrix(2, 2, step) * product
            ranks = [2, relative_rank(sigma(product), 0.5)[1]]
            shown["ranks"] = ranks
            if variant is not None:
                return Outcome(ranks[1] < ranks[0], None, shown)
            gram = product.transpose() * product
            return Outcome(not wrong and gram == _diagonal([1, 1]) and ranks[1] == 2, None, shown)
        if family == "gaussian":  # only the false variant draws it: here the claim is true
            rank = self_product(family, 2, seed, depth, np.zeros(2))
            return Outcome(rank < 2, None, shown | {"ranks": [2, rank]})
        chains = 40_000
        if family == "diagonal":
            logs = np.zeros((chains, 2))
            for _ in range(depth):
                logs += rng.standard_normal((chains, 2))
            gap = float(np.abs(logs[:, 0] - logs[:, 1]).mean())
            expected = constants["diagonal"] * depth**0.5
            shown |= {"gap": gap, "expected": expected}
            return Outcome(not wrong and abs(gap / expected - 1) <= 0.02, None, shown)
        product = np.broadcast_to(np.eye(2), (chains, 2, 2))
        for _ in range(depth):
            step = np.eye(2) + rng.standard_normal((chains, 2, 2)) / (2 * depth) ** 0.5
            product = step @ product
        square = (product**2).sum((1, 2))
        determinant = np.abs(np.linalg.det(product))
        cosh, norm = float((square / (2 * determinant)).mean()), float(square.mean() / 2)
        expected_norm = (1 + 1 / depth) ** depth
        shown |= {"E cosh gap": cosh, "expected": constants["residual"], "E norm^2/n": norm}
        good = abs(cosh / constants["residual"] - 1) <= 0.06
        return Outcome(not wrong and good and abs(norm / expected_norm - 1) <= 0.02, None, shown)

    if variant is not None:
        cases: Any = [("orthogonal", depth, s) for depth in (4, 12) for s in (1, 2)]
        cases += [("gaussian", depth, s) for depth in (200, 400) for s in (1, 2)]
    else:
        cases = [("orthogonal", depth, s) for depth in (4, 12, 40) for s in (1, 2)]
        cases += [("diagonal", depth, 1) for depth in (16, 64)]
        cases += [("residual", depth, 1) for depth in (64, 128)]
    return Property(_tag(entry, variant), st.sampled_from(cases), check, False, most=len(cases))


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

    return Property(_tag(entry, variant), decoded(48, decode), check, True, most=200)
