"""Linear operators over the rationals: dense, convolution, pools, patches, batch norm.

Each gives its matrix M and offset b at an input shape; the layer is ``x -> M x + b`` and its Jacobian
M, whose rank is the operator's own (theory.md, section 4: often less than min(inputs, outputs)).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from numeric.layer import Layer, Rows, Shape, Vector, misfit, spatial_output, tensor, windows
from numeric.scalars import Field, Matrix, Rational


class Operator(Layer):
    """A layer ``x -> M x + b``; subclasses give ``M`` and ``b`` for an input shape."""

    def affine(self, shape: Shape, field: Field) -> tuple[list[Any], list[Any] | None]:
        """Row-major entries of M, and b or None."""
        raise NotImplementedError

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """``M x + b`` and ``M T``."""
        rows = prod(self.output_shape(shape))
        entries, bias = self.affine(shape, field)
        operator = field.matrix(rows, prod(shape), entries)
        value = operator * x
        return value if bias is None else value + field.matrix(rows, 1, bias), operator * tangents


@dataclass(frozen=True)
class Linear(Operator):
    """``W x + b`` on the last axis; ``weight`` is (outputs, inputs)."""

    weight: Rows
    bias: Vector | None = None

    def output_shape(self, shape: Shape) -> Shape:
        """(..., inputs) -> (..., outputs)."""
        if not shape or shape[-1] != len(self.weight[0]):
            raise misfit(self, f"(..., {len(self.weight[0])})", shape)
        return (*shape[:-1], len(self.weight))

    def affine(self, shape: Shape, field: Field) -> tuple[list[Any], list[Any] | None]:
        """Block-diagonal in the tokens."""
        tokens, n = prod(shape[:-1]), shape[-1]
        if tokens == 1:
            entries = [w for row in self.weight for w in row]
        else:
            entries = [
                e
                for t in range(tokens)
                for row in self.weight
                for e in [0] * (t * n) + list(row) + [0] * ((tokens - 1 - t) * n)
            ]
        return entries, None if self.bias is None else list(self.bias) * tokens

    def to_torch(self, shape: Shape) -> Any:
        """``nn.Linear``."""
        from torch import nn

        layer = nn.Linear(len(self.weight[0]), len(self.weight), bias=self.bias is not None)
        layer = layer.double()
        layer.weight.data = tensor(self.weight)
        if self.bias is not None:
            layer.bias.data = tensor(self.bias)
        return layer


@dataclass(frozen=True)
class Conv(Operator):
    """Convolution in one or two dimensions.

    ``weight`` is (outputs, (inputs / groups) * kernel positions), each row flattened in row-major
    order.
    """

    weight: Rows
    kernel: Shape
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: Vector | None = None

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, *spatial) -> (outputs, *spatial')."""
        out = spatial_output(self, shape, self.kernel, self.stride, self.padding)
        inputs = len(self.weight[0]) // prod(self.kernel) * self.groups
        if shape[0] != inputs or len(self.weight) % self.groups:
            raise misfit(self, f"{inputs} channels", shape)
        return (len(self.weight), *out)

    def affine(self, shape: Shape, field: Field) -> tuple[list[Any], list[Any] | None]:
        """The convolution operator at this size, dense."""
        size, area = prod(shape[1:]), prod(self.kernel)
        fields = windows(shape[1:], self.kernel, self.stride, self.padding)
        each, per = len(self.weight) // self.groups, shape[0] // self.groups
        entries: list[Any] = []
        for o, kernel in enumerate(self.weight):
            first = (o // each) * per
            for window in fields:
                row: list[Any] = [0] * prod(shape)
                for c in range(per):
                    for k, at in enumerate(window):
                        if at is not None:
                            row[(first + c) * size + at] = kernel[c * area + k]
                entries += row
        bias = None if self.bias is None else [b for b in self.bias for _ in fields]
        return entries, bias

    def to_torch(self, shape: Shape) -> Any:
        """``nn.Conv1d`` or ``nn.Conv2d``."""
        from torch import nn

        kind = nn.Conv1d if len(self.kernel) == 1 else nn.Conv2d
        options: dict[str, Any] = {
            "stride": self.stride,
            "padding": self.padding,
            "groups": self.groups,
            "bias": self.bias is not None,
        }
        layer = kind(shape[0], len(self.weight), self.kernel, **options).double()  # type: ignore[arg-type]
        layer.weight.data = tensor(self.weight).reshape(layer.weight.shape)
        if self.bias is not None and layer.bias is not None:
            layer.bias.data = tensor(self.bias)
        return layer


@dataclass(frozen=True)
class AvgPool(Operator):
    """Average pool; padding counts as zeros."""

    kernel: Shape
    stride: int = 1
    padding: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, *spatial) -> (channels, *spatial')."""
        return (shape[0], *spatial_output(self, shape, self.kernel, self.stride, self.padding))

    def affine(self, shape: Shape, field: Field) -> tuple[list[Any], list[Any] | None]:
        """1/window at each position of the window."""
        size, share = prod(shape[1:]), field.scalar(1) / prod(self.kernel)
        entries: list[Any] = []
        for c in range(shape[0]):
            for window in windows(shape[1:], self.kernel, self.stride, self.padding):
                row: list[Any] = [0] * prod(shape)
                for at in window:
                    if at is not None:
                        row[c * size + at] = share
                entries += row
        return entries, None

    def to_torch(self, shape: Shape) -> Any:
        """``nn.AvgPool1d`` or ``nn.AvgPool2d``."""
        from torch import nn

        if len(self.kernel) == 1:
            return nn.AvgPool1d(self.kernel[0], self.stride, self.padding)
        return nn.AvgPool2d((self.kernel[0], self.kernel[1]), self.stride, self.padding)


@dataclass(frozen=True)
class GlobalPool(Operator):
    """Mean over positions: (channels, *spatial) -> (channels,); with ``tokens`` (T, D) -> (D,)."""

    tokens: bool = False

    def output_shape(self, shape: Shape) -> Shape:
        """The kept axis."""
        if len(shape) < 2 or (self.tokens and len(shape) != 2):
            raise misfit(self, "(tokens, width) or (channels, *spatial)", shape)
        return (shape[1],) if self.tokens else (shape[0],)

    def affine(self, shape: Shape, field: Field) -> tuple[list[Any], list[Any] | None]:
        """1/positions where the kept index agrees."""
        total, kept = prod(shape), self.output_shape(shape)[0]
        share, block = field.scalar(kept) / total, total // kept
        keeps = [i % kept if self.tokens else i // block for i in range(total)]
        return [share if keep == k else 0 for k in range(kept) for keep in keeps], None

    def to_torch(self, shape: Shape) -> Any:
        """A mean."""
        from torch import nn

        tokens = self.tokens

        class Mean(nn.Module):
            def forward(self, x: Any) -> Any:
                return x.mean(1) if tokens else x.flatten(2).mean(2)

        return Mean()


@dataclass(frozen=True)
class PatchEmbed(Operator):
    """Non-overlapping patches to tokens: (channels, H, W) -> (H/p * W/p, width).

    ``weight`` is (width, channels * p * p).
    """

    weight: Rows
    patch: int
    bias: Vector | None = None

    def _conv(self) -> Conv:
        return Conv(self.weight, (self.patch, self.patch), self.patch, 0, 1, self.bias)

    def output_shape(self, shape: Shape) -> Shape:
        """(tokens, width)."""
        width, *spatial = self._conv().output_shape(shape)
        return (prod(spatial), width)

    def affine(self, shape: Shape, field: Field) -> tuple[list[Any], list[Any] | None]:
        """The strided convolution, its outputs ordered by token."""
        entries, bias = self._conv().affine(shape, field)
        (tokens, width), n = self.output_shape(shape), prod(shape)
        order = [c * tokens + t for t in range(tokens) for c in range(width)]
        rows = [e for r in order for e in entries[r * n : (r + 1) * n]]
        return rows, None if bias is None else [bias[r] for r in order]

    def to_torch(self, shape: Shape) -> Any:
        """A strided ``nn.Conv2d``, flattened to tokens."""
        from torch import nn

        class Tokens(nn.Module):
            def forward(self, x: Any) -> Any:
                return x.flatten(2).transpose(1, 2)

        return nn.Sequential(self._conv().to_torch(shape), Tokens())


@dataclass(frozen=True)
class Flatten(Operator):
    """Any shape to (n,)."""

    def output_shape(self, shape: Shape) -> Shape:
        """(n,)."""
        return (prod(shape),)

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """Values are stored flat already."""
        return x, tangents

    def to_torch(self, shape: Shape) -> Any:
        """``nn.Flatten``."""
        from torch import nn

        return nn.Flatten()


@dataclass(frozen=True)
class BatchNorm(Operator):
    """Batch norm in eval mode over axis 0: ``gamma (x - mean) / sqrt(var + eps) + beta``.

    Rational exactly when ``var + eps`` is the square of a rational.
    """

    gamma: Vector
    beta: Vector
    mean: Vector
    var: Vector
    eps: Rational

    def output_shape(self, shape: Shape) -> Shape:
        """Unchanged."""
        if not shape or shape[0] != len(self.gamma):
            raise misfit(self, f"{len(self.gamma)} channels", shape)
        return shape

    def affine(self, shape: Shape, field: Field) -> tuple[list[Any], list[Any] | None]:
        """A diagonal matrix and the folded bias."""
        total, block = prod(shape), prod(shape[1:])
        scale = [
            field.scalar(g) / field.sqrt(field.scalar(v + self.eps))
            for g, v in zip(self.gamma, self.var, strict=True)
        ]
        shift = [
            field.scalar(b) - field.scalar(m) * s
            for b, m, s in zip(self.beta, self.mean, scale, strict=True)
        ]
        entries: list[Any] = [0] * (total * total)
        for i in range(total):
            entries[i * total + i] = scale[i // block]
        return entries, [shift[i // block] for i in range(total)]

    def to_torch(self, shape: Shape) -> Any:
        """``nn.BatchNorm1d`` or ``2d`` in eval mode."""
        from torch import nn

        kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
        layer = kind(shape[0], eps=float(self.eps)).double().eval()
        layer.weight.data, layer.bias.data = tensor(self.gamma), tensor(self.beta)
        layer.running_mean, layer.running_var = tensor(self.mean), tensor(self.var)
        return layer
