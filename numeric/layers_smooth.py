"""Smooth units and normalisations: balls in general, exact where the square root is rational.

Jacobians are written from the definitions (theory.md, section 4); ``to_torch()`` gives torch's own
implementation for the cross-check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import flint

from numeric.layer import Layer, Shape, Vector, misfit, tensor
from numeric.layers_piecewise import Pointwise
from numeric.scalars import Field, KinkError, Matrix, Rational, Scalar
from theory.errors import InputError


@dataclass(frozen=True)
class Tanh(Pointwise):
    """The hyperbolic tangent."""

    def unit(self, v: Scalar, field: Field) -> tuple[Scalar, Scalar | None]:
        """Slope 1 - tanh^2."""
        t = field.smooth("tanh", v)
        return t, 1 - t * t

    def to_torch(self, shape: Shape) -> Any:
        """``nn.Tanh``."""
        from torch import nn

        return nn.Tanh()


@dataclass(frozen=True)
class Sigmoid(Pointwise):
    """1 / (1 + exp(-x))."""

    def unit(self, v: Scalar, field: Field) -> tuple[Scalar, Scalar | None]:
        """Slope s (1 - s)."""
        s = 1 / (1 + field.smooth("exp", -v))
        return s, s * (1 - s)

    def to_torch(self, shape: Shape) -> Any:
        """``nn.Sigmoid``."""
        from torch import nn

        return nn.Sigmoid()


@dataclass(frozen=True)
class GELU(Pointwise):
    """x Phi(x) with the Gaussian distribution function Phi (not its tanh approximation)."""

    def unit(self, v: Scalar, field: Field) -> tuple[Scalar, Scalar | None]:
        """Slope Phi(x) + x phi(x)."""
        cdf = (1 + field.smooth("erf", v / field.sqrt(field.scalar(2)))) / 2
        density = field.smooth("exp", -v * v / 2) / (2 * flint.arb.pi()).sqrt()
        return v * cdf, cdf + v * density

    def to_torch(self, shape: Shape) -> Any:
        """``nn.GELU``."""
        from torch import nn

        return nn.GELU()


class TokenWise(Layer):
    """The same map of the last axis at every token."""

    def output_shape(self, shape: Shape) -> Shape:
        """Unchanged."""
        return shape

    def token(self, x: Sequence[Scalar], field: Field) -> tuple[list[Scalar], list[Scalar]]:
        """Value, and row-major entries of the Jacobian, of one token."""
        raise NotImplementedError

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """Block-diagonal in the tokens."""
        self.output_shape(shape)
        n, k = shape[-1], tangents.ncols()
        values, entries = x.entries(), tangents.entries()
        out: list[Scalar] = []
        pushed: list[Scalar] = []
        for t in range(prod(shape[:-1])):
            value, local = self.token(values[t * n : (t + 1) * n], field)
            block = field.matrix(n, k, entries[t * n * k : (t + 1) * n * k])
            out += value
            pushed += (field.matrix(n, n, local) * block).entries()
        return field.matrix(len(out), 1, out), field.matrix(len(out), k, pushed)


def _positive(square: Scalar, what: str) -> Scalar:
    if not square > 0:
        raise KinkError(f"{what} is {square}, not certainly positive: no derivative there")
    return square


@dataclass(frozen=True)
class Norm(TokenWise):
    """Layer norm (``centre``) or RMS norm: ``gamma c / sqrt(mean(c^2) + eps) + beta``."""

    gamma: Vector
    beta: Vector | None = None
    eps: Rational = 0
    centre: bool = True

    def output_shape(self, shape: Shape) -> Shape:
        """Unchanged; the last axis has the width of gamma."""
        if not shape or shape[-1] != len(self.gamma):
            raise misfit(self, f"(..., {len(self.gamma)})", shape)
        return shape

    def token(self, x: Sequence[Scalar], field: Field) -> tuple[list[Scalar], list[Scalar]]:
        """``gamma_i / s (delta_ij - [centre]/n - c_i c_j / (n s^2))``, s^2 = mean(c^2) + eps."""
        n = len(x)
        mean = sum(x[1:], x[0]) / n if self.centre else field.scalar(0)
        c = [v - mean for v in x]
        square = _positive(
            sum((v * v for v in c[1:]), c[0] * c[0]) / n + field.scalar(self.eps),
            "variance + eps of a normalised token",
        )
        s = field.sqrt(square)
        g = [field.scalar(v) / s for v in self.gamma]
        b = self.beta or (0,) * n
        value = [g[i] * c[i] + field.scalar(b[i]) for i in range(n)]
        share = field.scalar(Fraction(1, n)) if self.centre else field.scalar(0)
        local = [
            g[i] * (int(i == j) - share - c[i] * c[j] / (square * n))
            for i in range(n)
            for j in range(n)
        ]
        return value, local

    def to_torch(self, shape: Shape) -> Any:
        """``nn.LayerNorm`` or ``nn.RMSNorm`` (RMS norm has no beta)."""
        from torch import nn

        n = len(self.gamma)
        if self.centre:
            layer: Any = nn.LayerNorm(n, eps=float(self.eps)).double()
            layer.bias.data = tensor(self.beta or (0,) * n)
        else:
            if self.beta is not None:
                raise InputError("RMS norm has no beta; leave it out")
            layer = nn.RMSNorm(n, eps=float(self.eps)).double()
        layer.weight.data = tensor(self.gamma)
        return layer


@dataclass(frozen=True)
class L2Normalise(TokenWise):
    """``x / max(norm(x), clamp)`` on the last axis (``F.normalize``)."""

    clamp: Rational = Fraction(1, 10**12)

    def token(self, x: Sequence[Scalar], field: Field) -> tuple[list[Scalar], list[Scalar]]:
        """``(I - y y^T) / norm`` beyond the clamp, ``I / clamp`` below it."""
        n = len(x)
        square = sum((v * v for v in x[1:]), x[0] * x[0])
        clamp = field.scalar(self.clamp)
        if square > clamp * clamp:
            norm = field.sqrt(square)
            y = [v / norm for v in x]
            return y, [(int(i == j) - y[i] * y[j]) / norm for i in range(n) for j in range(n)]
        if square < clamp * clamp:
            return [v / clamp for v in x], [int(i == j) / clamp for i in range(n) for j in range(n)]
        raise KinkError(
            f"the norm is on the clamp {self.clamp} of F.normalize: no derivative there"
        )

    def to_torch(self, shape: Shape) -> Any:
        """``F.normalize``."""
        from torch import nn
        from torch.nn import functional

        clamp = float(self.clamp)

        class Normalise(nn.Module):
            def forward(self, x: Any) -> Any:
                return functional.normalize(x, dim=-1, eps=clamp)

        return Normalise()


def softmax(x: Sequence[Scalar], field: Field) -> list[Scalar]:
    """Softmax of balls, shifted by the largest midpoint so that it cannot overflow."""
    shift = max((v.mid() for v in x), key=float) if field.name == "ball" else x[0]
    e = [field.smooth("exp", v - shift) for v in x]
    total = sum(e[1:], e[0])
    return [v / total for v in e]


@dataclass(frozen=True)
class Softmax(TokenWise):
    """Softmax on the last axis."""

    def token(self, x: Sequence[Scalar], field: Field) -> tuple[list[Scalar], list[Scalar]]:
        """``diag(p) - p p^T``."""
        p = softmax(x, field)
        n = len(p)
        return p, [p[i] * (int(i == j) - p[j]) for i in range(n) for j in range(n)]

    def to_torch(self, shape: Shape) -> Any:
        """``nn.Softmax``."""
        from torch import nn

        return nn.Softmax(dim=-1)
