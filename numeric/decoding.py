"""From drawn bytes to matrices and networks: the grammar that the strategies share.

Hypothesis draws (and shrinks) one block of bytes a value; drawing entries one by one costs about ten
times more. The byte 0 decodes to 0, so cases shrink towards zeros, small integers and short networks.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
from hypothesis import strategies as st

from numeric.networks import (
    Clip,
    Concat,
    Gate,
    Layer,
    Linear,
    Network,
    ReLU,
    Residual,
    Sequential,
)
from numeric.scalars import Matrix, Rational

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
