"""Hypothesis strategies for matrices, chains and networks of controlled rank. Public.

Everything is decoded from one block of bytes a value, which Hypothesis draws (and shrinks) as a
whole: see :mod:`numeric.decoding`. Cases shrink towards zeros, small integers and short networks.

    from numeric.strategies import matrices, chains, networks

    @given(matrices(rank=2))
    def test(A): ...

Source: theory.md sections 1 and 3 (what the statements quantify over).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

from hypothesis import strategies as st

from numeric.barcode import Barcode, realise
from numeric.decoding import Builder, Bytes, decoded, network_from_bytes
from numeric.networks import (
    GELU,
    Attention,
    AvgPool,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Network,
    Norm,
    ReLU,
    Residual,
    Sequential,
    Softmax,
    Tanh,
)
from numeric.scalars import EXACT, Field, KinkError, Matrix, Rational
from theory.errors import InputError


def _sizes(value: int | tuple[int, int], what: str) -> tuple[int, int]:
    low, high = (value, value) if isinstance(value, int) else value
    if not 0 <= low <= high:
        raise InputError(f"{what} must be a size or a range low <= high, got {value}")
    return low, high


def matrices(
    rows: int | tuple[int, int] = (1, 5),
    cols: int | tuple[int, int] = (1, 5),
    rank: int | None = None,
) -> st.SearchStrategy[Matrix]:
    """Integer matrices (``fmpq_mat``) of prescribed size and rank.

    Args:
        rows: a size, or a range (low, high).
        cols: likewise.
        rank: the exact rank; None draws one uniformly from 0..min(rows, cols).

    Raises:
        InputError: the rank does not fit the smallest size, or a range is empty.
    """
    (r0, r1), (c0, c1) = _sizes(rows, "rows"), _sizes(cols, "cols")
    if rank is not None and not 0 <= rank <= min(r0, c0):
        raise InputError(f"rank {rank} does not fit matrices as small as {r0} x {c0}")

    def decode(b: Bytes) -> Matrix:
        m, n = r0 + b.below(r1 - r0 + 1), c0 + b.below(c1 - c0 + 1)
        r = b.below(min(m, n) + 1) if rank is None else rank
        return b.matrix_of_rank(m, n, r)

    top = min(r1, c1) if rank is None else rank
    return decoded(5 + top * (r1 + c1), decode)


def barcodes(depth: int | tuple[int, int] = (1, 4), most: int = 2) -> st.SearchStrategy[Barcode]:
    """Barcodes of chains of ``depth`` maps with each interval at most ``most`` times."""
    low, high = _sizes(depth, "depth")

    def decode(b: Bytes) -> Barcode:
        d = low + b.below(high - low + 1)
        intervals = [(i, j) for i in range(d + 1) for j in range(i, d + 1)]
        counts = [max(0, c % (most + 3) - 2) for c in b.take(len(intervals))]
        bars = tuple((i, j, m) for (i, j), m in zip(intervals, counts, strict=True) if m)
        return Barcode(d, bars or ((0, d, 1),))

    return decoded(1 + (high + 1) * (high + 2) // 2, decode)


def chains(
    barcode: Barcode | None = None, depth: int | tuple[int, int] = (1, 4)
) -> st.SearchStrategy[tuple[Barcode, list[Matrix]]]:
    """Chains with a prescribed barcode (or a drawn one): pairs (barcode, maps).

    The 0/1 realisation is hidden behind a unimodular change of basis at every space, so that no map
    looks like its normal form; it shrinks to the 0/1 realisation.
    """

    def conjugate(code: Barcode) -> st.SearchStrategy[tuple[Barcode, list[Matrix]]]:
        widths = code.dimensions

        def decode(b: Bytes) -> tuple[Barcode, list[Matrix]]:
            bases = [b.unimodular(d) for d in widths]
            maps = [
                bases[k + 1] * m * bases[k].inv() if widths[k] and widths[k + 1] else m
                for k, m in enumerate(realise(code))
            ]
            return code, maps

        return decoded(2 * sum(d * d for d in widths), decode)

    return (barcodes(depth) if barcode is None else st.just(barcode)).flatmap(conjugate)


def networks(
    depth: int | tuple[int, int] = (1, 4), width: int | tuple[int, int] = (1, 6)
) -> st.SearchStrategy[tuple[Network, tuple[int, ...]]]:
    """Rational networks of a small grammar with an integer input off every kink.

    Blocks: linear + unit (ReLU, LeakyReLU, ReLU6, hardtanh), residual with a narrow branch, two
    concatenated branches, a gate. Yields pairs (network, x); every Jacobian is exact.

    Args:
        depth: number of blocks, or a range.
        width: width of input and blocks, or a range.
    """
    (d0, d1), (w0, w1) = _sizes(depth, "depth"), _sizes(width, "width")
    if w0 < 1:
        raise InputError(f"width must be at least 1, got {width}")

    def decode(b: Bytes) -> tuple[Network, tuple[int, ...]]:
        return network_from_bytes(b, (d0, d1), (w0, w1))

    return decoded(2 + w1 + d1 * (8 + 2 * w1 * (w1 + 1)), decode)


#: a prime: inputs n_i + 3^(7i + 5) / _FAR keep max pools off ties, since no small combination of
#: those residues is 0 mod _FAR (a chance of 1e-9 a pair), and gaps stay far above float64 rounding
_FAR = 10**9 + 7


def _generic(values: Sequence[int], times: int = 1) -> tuple[Fraction, ...]:
    """The integers moved off every small hyperplane (see ``_FAR``)."""
    return tuple(v + Fraction(pow(3, 7 * i + 4 + times, _FAR), _FAR) for i, v in enumerate(values))


def inputs(
    network: Network, span: int = 5, field: Field = EXACT
) -> st.SearchStrategy[tuple[Rational, ...]]:
    """Inputs of a given network off the kinks that matter there.

    Small integers where they will do; otherwise moved by a generic fraction below 1.

    Args:
        network: any network of :mod:`numeric.networks`.
        span: the integers are in -span..span.
        field: BALL for networks with layers that leave the rationals.
    """
    size = prod(network.input_shape)

    def decode(b: Bytes) -> tuple[Rational, ...] | None:
        values = b.integers(size, span)
        moved = (_generic(values, k) for k in (1, 2, 3))
        candidates: tuple[tuple[Rational, ...], ...] = (tuple(values), *moved)
        for candidate in candidates:
            try:
                network.jacobian(candidate, field)
            except KinkError:
                continue
            return candidate
        return None

    return decoded(size, decode).filter(lambda x: x is not None)


def conv_networks(flat: bool = True) -> st.SearchStrategy[tuple[Network, tuple[Fraction, ...]]]:
    """Rational convolutional networks in one or two dimensions, with pools, off kinks and ties.

    Convolution, unit, max or average pool, convolution; with ``flat`` also a linear head.
    """

    def decode(b: Bytes) -> tuple[Network, tuple[Fraction, ...]]:
        two = bool(b.below(2))
        channels, shape = 1 + b.below(2), ((4, 4) if two else (6,))
        kernel = (2, 2) if two else (3,)
        area = 4 if two else 3
        builder = Builder(b)
        hidden = 1 + b.below(3)

        def conv(outputs: int, inputs: int, stride: int, padding: int) -> Conv:
            values = b.integers(outputs * inputs * area)
            step = inputs * area
            rows = tuple(tuple(values[i * step : (i + 1) * step]) for i in range(outputs))
            return Conv(rows, kernel, stride, padding, 1, builder.bias(outputs))

        pool: Layer = (MaxPool if b.below(2) else AvgPool)((2,) * len(shape), 1)
        first = (conv(hidden, channels, 1 + b.below(2), 1), builder.unit(), pool)
        layers: tuple[Layer, ...] = (*first, conv(2, hidden, 1, 1), ReLU())
        if flat:
            layers = (*layers, Flatten())
        network = Network((channels, *shape), layers)
        n = channels * (16 if two else 6)
        if flat:
            layers = (*layers, builder.linear(3, network.shapes[-1][0]))
        x = _generic(b.integers(n, 5))
        return Network((channels, *shape), layers), x

    return decoded(700, decode)


def smooth_networks() -> st.SearchStrategy[tuple[Network, tuple[int, ...]]]:
    """Token networks for the ball field: norms with eps, attention, GELU, tanh, softmax.

    Values are of order 1 (weights are quarters), so that balls stay narrow.
    """

    def quarter(values: Sequence[int], cols: int) -> tuple[tuple[Fraction, ...], ...]:
        f = [Fraction(v, 4) for v in values]
        return tuple(tuple(f[i : i + cols]) for i in range(0, len(f), cols))

    def decode(b: Bytes) -> tuple[Network, tuple[int, ...]]:
        tokens, heads = 1 + b.below(3), 1 + b.below(2)
        width = 2 * (1 + b.below(2))

        def linear(outputs: int, inputs: int) -> Linear:
            bias = tuple(Fraction(v, 4) for v in b.integers(outputs))
            return Linear(quarter(b.integers(outputs * inputs), inputs), bias)

        q, k, v, o = (quarter(b.integers(width * width), width) for _ in range(4))
        gamma = tuple(Fraction(v + 4, 4) for v in b.integers(width))
        norm = Norm(gamma, None, Fraction(1, 8), bool(b.below(2)))
        mlp = Sequential((linear(width, width), Tanh() if b.below(2) else GELU()))
        attention = Sequential((norm, Attention(q, k, v, o, heads)))
        layers = (Residual(attention), Residual(mlp), Softmax())
        return Network((tokens, width), layers), tuple(b.integers(tokens * width))

    return decoded(160, decode)
