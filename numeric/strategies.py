"""Hypothesis strategies for matrices, chains and networks of controlled rank. Public.

Everything is decoded from one block of bytes a value, which Hypothesis draws (and shrinks) as a
whole: drawing entries one by one costs about 20 times more. The byte 0 decodes to 0, so cases
shrink towards zeros, small integers and short networks.

    from numeric.strategies import matrices, chains, networks

    @given(matrices(rank=2))
    def test(A): ...

Source: theory.md sections 1 and 3 (what the statements quantify over).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import flint
from hypothesis import strategies as st

from numeric.barcode import Barcode, realise
from numeric.networks import (
    GELU,
    Attention,
    AvgPool,
    Clip,
    Concat,
    Conv,
    Flatten,
    Gate,
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
from numeric.scalars import Matrix, Rational
from theory.errors import InputError

_SMALL = (0, 1, -1, 2, -2, 3, -3)


class Bytes:
    """A cursor over drawn bytes; past the end every byte is 0, the simplest choice."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes."""
        block = self.data[self.at : self.at + n]
        self.at += n
        return block + bytes(n - len(block))

    def below(self, n: int) -> int:
        """An integer in 0..n-1."""
        return self.take(1)[0] % n

    def integers(self, n: int, span: int = 3) -> list[int]:
        """``n`` integers in -span..span, simplest first: 0, 1, -1, 2, -2, ..."""
        size = 2 * span + 1
        if span == 3:
            return [_SMALL[b % 7] for b in self.take(n)]
        return [((b % size + 1) // 2) * (1 if b % size % 2 else -1) for b in self.take(n)]

    def matrix_of_rank(self, rows: int, cols: int, rank: int) -> Matrix:
        """An integer matrix of this rank: unit lower times unit upper trapezoid, rotated."""
        if not rank:
            return flint.fmpq_mat(rows, cols)
        low, up = self.integers(rows * rank), self.integers(rank * cols)
        for i in range(rank):
            low[i * rank + i] = up[i * cols + i] = 1
            for j in range(i + 1, rank):
                low[i * rank + j] = 0
            for j in range(i):
                up[i * cols + j] = 0
        turn_rows, turn_cols = self.below(rows) * rank, self.below(cols)
        low = low[turn_rows:] + low[:turn_rows]
        if turn_cols:
            up = [
                e
                for i in range(rank)
                for e in up[i * cols + turn_cols : (i + 1) * cols] + up[i * cols :][:turn_cols]
            ]
        return flint.fmpq_mat(rows, rank, low) * flint.fmpq_mat(rank, cols, up)

    def unimodular(self, n: int) -> Matrix:
        """A square integer matrix with determinant 1 or -1."""
        low, up = self.integers(n * n, 1), self.integers(n * n, 1)
        for i in range(n):
            for j in range(n):
                if i == j:
                    low[i * n + j] = up[i * n + j] = 1
                elif j > i:
                    low[i * n + j] = 0
                else:
                    up[i * n + j] = 0
        return flint.fmpq_mat(n, n, low) * flint.fmpq_mat(n, n, up)


def decoded(size: int, decode: Callable[[Bytes], Any]) -> st.SearchStrategy[Any]:
    """A strategy that draws ``size`` bytes at once and decodes them with :class:`Bytes`."""
    return st.binary(min_size=size, max_size=size).map(lambda data: decode(Bytes(data)))


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


class Builder:
    """Decodes a network of the grammar block by block, keeping every unit off its kinks.

    Weights are integers, slopes dyadic, and the k-th bias of a path is an integer plus 3^-k: every
    pre-activation then has 3-adic valuation exactly -k, so it is no integer, as all kinks are.
    """

    def __init__(self, b: Bytes) -> None:
        self.b, self.power = b, 0

    def linear(self, outputs: int, inputs: int) -> Linear:
        """An affine layer with small integer weights."""
        flat = self.b.integers(outputs * inputs)
        rows = tuple(tuple(flat[i * inputs : (i + 1) * inputs]) for i in range(outputs))
        return Linear(rows, self.bias(outputs))

    def bias(self, n: int) -> tuple[Rational, ...]:
        """Integers plus the next power of 1/3."""
        self.power += 1
        scale = 3**self.power
        return tuple(Fraction(v * scale + 1, scale) for v in self.b.integers(n))

    def unit(self) -> Layer:
        """ReLU, LeakyReLU, ReLU6 or hardtanh."""
        kind = self.b.below(8)
        if kind < 3:
            return ReLU()
        return ReLU(Fraction(1, 4)) if kind < 6 else (Clip(0, 6), Clip(-1, 1))[kind - 6]

    def block(self, inputs: int, width: int) -> tuple[Layer, int]:
        """One block of the grammar and its output width."""
        kind = self.b.below(8)
        if kind < 4:
            return Sequential((self.linear(width, inputs), self.unit())), width
        if kind < 6:
            inner = 1 + self.b.below(max(1, inputs - 1))
            branch = (self.linear(inner, inputs), self.unit(), self.linear(inputs, inner))
            return Residual(Sequential(branch)), inputs
        if kind == 6:
            half = max(1, width // 2)
            a = Sequential((self.linear(half, inputs), self.unit()))
            c = Sequential((self.linear(width - half or 1, inputs), self.unit()))
            return Concat((a, c)), half + (width - half or 1)
        a = Sequential((self.linear(width, inputs), self.unit()))
        middle = self.power
        gate = Sequential((self.linear(width, inputs),))
        self.power += middle  # a product adds the valuations of its factors
        return Gate(a, gate), width


def network_from_bytes(
    b: Bytes, depth: tuple[int, int], width: tuple[int, int]
) -> tuple[Network, tuple[int, ...]]:
    """The pair (network, input) that the bytes stand for; ranges as in :func:`networks`."""
    (d0, d1), (w0, w1) = depth, width
    n = w0 + b.below(w1 - w0 + 1)
    x = tuple(b.integers(n, 5))
    builder, layers, inputs = Builder(b), [], n
    for _ in range(d0 + b.below(d1 - d0 + 1)):
        layer, inputs = builder.block(inputs, w0 + b.below(w1 - w0 + 1))
        layers.append(layer)
    return Network((n,), tuple(layers)), x


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
        x = tuple(
            v + Fraction(pow(3, 7 * i + 5, _FAR), _FAR) for i, v in enumerate(b.integers(n, 5))
        )
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
