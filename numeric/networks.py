"""Small networks with certain Jacobians: exact over the rationals, or arb balls.

A :class:`Network` is a tuple of layers with an input shape; ``forward`` and ``jacobian`` run over
either field of :mod:`numeric.scalars`, ``elements`` gives the chain of layer Jacobians J_k,
``taps`` the pairs (F_k(x), J_{0->k}) of theory.md section 1, ``to_torch()`` the same network in
float64.

Example:
    >>> net = Network((2,), (Linear(((1, 0), (0, 1))), ReLU()))
    >>> net.jacobian((1, -1)).tolist()
    [[1, 0], [0, 0]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from numeric.attention import Attention
from numeric.layer import Layer, Shape
from numeric.layers_exact import AvgPool, BatchNorm, Conv, Flatten, GlobalPool, Linear, PatchEmbed
from numeric.layers_piecewise import Clip, MaxPool, ReLU
from numeric.layers_smooth import GELU, L2Normalise, Norm, Sigmoid, Softmax, Tanh
from numeric.scalars import BALL, EXACT, Field, Matrix, Rational
from theory.errors import InputError

__all__ = [
    "BALL",
    "EXACT",
    "GELU",
    "Attention",
    "AvgPool",
    "BatchNorm",
    "Clip",
    "Concat",
    "Conv",
    "Flatten",
    "Gate",
    "GlobalPool",
    "L2Normalise",
    "Layer",
    "Linear",
    "MaxPool",
    "Network",
    "Norm",
    "PatchEmbed",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
]


@dataclass(frozen=True)
class Sequential(Layer):
    """Layers one after the other; without any it is the identity."""

    layers: tuple[Layer, ...] = ()

    def output_shape(self, shape: Shape) -> Shape:
        """The last layer's."""
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """The chain rule."""
        for layer in self.layers:
            x, tangents = layer.push(x, tangents, shape, field)
            shape = layer.output_shape(shape)
        return x, tangents

    def to_torch(self, shape: Shape) -> Any:
        """``nn.Sequential``."""
        from torch import nn

        modules = []
        for layer in self.layers:
            modules.append(layer.to_torch(shape))
            shape = layer.output_shape(shape)
        return nn.Sequential(*modules)


def _join(name: str, combine: Any, parts: Sequence[Any]) -> Any:
    """A torch module that runs the parts on one input and combines their outputs."""
    from torch import nn

    class Join(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(parts)

        def forward(self, x: Any) -> Any:
            return combine([part(x) for part in self.parts])

    Join.__name__ = name
    return Join()


@dataclass(frozen=True)
class Residual(Layer):
    """``shortcut(x) + branch(x)``; the identity shortcut makes it a residual block of theory.md."""

    branch: Sequential
    shortcut: Sequential = Sequential()

    def output_shape(self, shape: Shape) -> Shape:
        """Both paths must agree."""
        a, b = self.shortcut.output_shape(shape), self.branch.output_shape(shape)
        if a != b:
            raise InputError(f"a residual adds a shortcut of shape {a} to a branch of shape {b}")
        return a

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """(S + G) T."""
        a, da = self.shortcut.push(x, tangents, shape, field)
        b, db = self.branch.push(x, tangents, shape, field)
        return a + b, da + db

    def to_torch(self, shape: Shape) -> Any:
        """A sum of two modules."""
        parts = [self.shortcut.to_torch(shape), self.branch.to_torch(shape)]
        return _join("Residual", lambda y: y[0] + y[1], parts)


@dataclass(frozen=True)
class Gate(Layer):
    """``a(x) * b(x)`` unit by unit."""

    a: Sequential
    b: Sequential

    def output_shape(self, shape: Shape) -> Shape:
        """Both paths must agree."""
        a, b = self.a.output_shape(shape), self.b.output_shape(shape)
        if a != b:
            raise InputError(f"a gate multiplies shapes {a} and {b}; they must agree")
        return a

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """diag(b) A T + diag(a) B T."""
        a, da = self.a.push(x, tangents, shape, field)
        b, db = self.b.push(x, tangents, shape, field)
        n, k = a.nrows(), tangents.ncols()
        u, v, du, dv = a.entries(), b.entries(), da.entries(), db.entries()
        rows = [v[i] * du[i * k + j] + u[i] * dv[i * k + j] for i in range(n) for j in range(k)]
        return field.matrix(n, 1, [p * q for p, q in zip(u, v, strict=True)]), field.matrix(
            n, k, rows
        )

    def to_torch(self, shape: Shape) -> Any:
        """A product of two modules."""
        return _join(
            "Gate", lambda y: y[0] * y[1], [self.a.to_torch(shape), self.b.to_torch(shape)]
        )


@dataclass(frozen=True)
class Concat(Layer):
    """Branches stacked along axis 0 (units or channels): the Jacobian is [A; B; ...]."""

    branches: tuple[Sequential, ...]

    def output_shape(self, shape: Shape) -> Shape:
        """Axis 0 adds up, the others agree."""
        shapes = [b.output_shape(shape) for b in self.branches]
        if len({s[1:] for s in shapes}) != 1:
            raise InputError(f"concatenated branches must agree but for axis 0, got {shapes}")
        return (sum(s[0] for s in shapes), *shapes[0][1:])

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """Row-wise concatenation."""
        parts = [b.push(x, tangents, shape, field) for b in self.branches]
        value = [e for y, _ in parts for e in y.entries()]
        rows = [e for _, t in parts for e in t.entries()]
        n = len(value)
        return field.matrix(n, 1, value), field.matrix(n, tangents.ncols(), rows)

    def to_torch(self, shape: Shape) -> Any:
        """``torch.cat`` along the channels."""
        import torch

        return _join(
            "Concat", lambda y: torch.cat(y, 1), [b.to_torch(shape) for b in self.branches]
        )


@dataclass(frozen=True)
class Network:
    """Layers with an input shape; shapes are checked when it is built.

    Raises:
        InputError: a layer does not fit the shape that reaches it (its position and both shapes).
    """

    input_shape: Shape
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        shape = self.input_shape
        for k, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except InputError as error:
                raise InputError(f"layer {k + 1} of {len(self.layers)}: {error}") from error

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the input and after every layer."""
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        return tuple(shapes)

    def _input(self, x: Sequence[Rational | float], field: Field) -> Matrix:
        n = prod(self.input_shape)
        if len(x) != n:
            raise InputError(
                f"the input has {len(x)} entries, the network takes {self.input_shape}"
            )
        return field.matrix(n, 1, x)

    def taps(
        self, x: Sequence[Rational | float], field: Field = EXACT, directions: Matrix | None = None
    ) -> list[tuple[Matrix, Matrix]]:
        """The pairs (F_k(x), J_{0->k} P) for k = 0..L; P = ``directions`` or the identity.

        Args:
            x: input, flattened row-major.
            field: EXACT or BALL.
            directions: matrix (inputs, k) of the field, or None for all.

        Raises:
            KinkError: the network has no derivative at x (or the balls are too wide to tell).
            UnsupportedError: a layer leaves the rationals and the field is exact.
        """
        value = self._input(x, field)
        tangents = field.identity(value.nrows()) if directions is None else directions
        shape, result = self.input_shape, [(value, tangents)]
        for layer in self.layers:
            value, tangents = layer.push(value, tangents, shape, field)
            shape = layer.output_shape(shape)
            result.append((value, tangents))
        return result

    def forward(self, x: Sequence[Rational | float], field: Field = EXACT) -> Matrix:
        """F_L(x) as a column; kinks do no harm."""
        zero = field.matrix(prod(self.input_shape), 1, [0] * prod(self.input_shape))
        return self.taps(x, field, zero)[-1][0]

    def jacobian(self, x: Sequence[Rational | float], field: Field = EXACT) -> Matrix:
        """J_{0->L}(x), outputs by inputs."""
        return self.taps(x, field)[-1][1]

    def elements(self, x: Sequence[Rational | float], field: Field = EXACT) -> list[Matrix]:
        """The layer Jacobians J_1, ..., J_L along the path of x."""
        value, shape, result = self._input(x, field), self.input_shape, []
        for layer in self.layers:
            value, jacobian = layer.push(value, field.identity(value.nrows()), shape, field)
            shape = layer.output_shape(shape)
            result.append(jacobian)
        return result

    def to_torch(self) -> Any:
        """The same network as an ``nn.Module`` in float64, eval mode, on batches."""
        return Sequential(self.layers).to_torch(self.input_shape).double().eval()
