"""Piecewise-linear units and max pools: exact slopes once each kink's side is known.

A kink is an error only where it matters (theory.md, section 5.1): the unit's tangent is not 0, or the
tied units' tangents differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from numeric.layer import Layer, Shape, spatial_output, windows
from numeric.scalars import Field, KinkError, Matrix, Rational, Scalar, is_zero


class Pointwise(Layer):
    """The same scalar function at every unit."""

    def output_shape(self, shape: Shape) -> Shape:
        """Unchanged."""
        return shape

    def unit(self, v: Scalar, field: Field) -> tuple[Scalar, Scalar | None]:
        """Value and slope; slope None on a kink (or when a ball straddles one)."""
        raise NotImplementedError

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """Scale each row by its unit's slope; a kink is harmless where the row is 0."""
        values: list[Scalar] = []
        out: list[Scalar] = []
        entries, k = tangents.entries(), tangents.ncols()
        for i, v in enumerate(x.entries()):
            row = entries[i * k : (i + 1) * k]
            value, slope = self.unit(v, field)
            values.append(value)
            if slope is None:
                if not is_zero(row):
                    raise KinkError(
                        f"unit {i} of {type(self).__name__} is on its kink at {v}: the network "
                        "has no derivative there; move the input or the bias"
                    )
                out += row
            elif slope == 1:
                out += row
            else:
                out += [slope * t for t in row]
        return field.matrix(x.nrows(), 1, values), field.matrix(x.nrows(), k, out)


def pieces(v: Scalar, kinks: Sequence[Rational]) -> int | None:
    """How many kinks lie certainly below ``v``; None if that is undecided or v is on one."""
    below = 0
    for kink in kinks:
        if v > kink:
            below += 1
        elif not v < kink:
            return None
    return below


@dataclass(frozen=True)
class ReLU(Pointwise):
    """max(x, 0), or with ``slope`` LeakyReLU."""

    slope: Rational = 0

    def unit(self, v: Scalar, field: Field) -> tuple[Scalar, Scalar | None]:
        """The side of 0."""
        piece = pieces(v, (0,))
        if piece is None:
            return v * 0 if v == 0 else v.max(v * field.scalar(self.slope)), None
        if piece == 1:
            return v, 1
        slope = field.scalar(self.slope)
        return v * slope, slope

    def to_torch(self, shape: Shape) -> Any:
        """``nn.ReLU`` or ``nn.LeakyReLU``."""
        from torch import nn

        return nn.LeakyReLU(float(self.slope)) if self.slope else nn.ReLU()


@dataclass(frozen=True)
class Clip(Pointwise):
    """min(max(x, low), high): ReLU6 is ``Clip(0, 6)``, hardtanh ``Clip(-1, 1)``."""

    low: Rational = 0
    high: Rational = 6

    def unit(self, v: Scalar, field: Field) -> tuple[Scalar, Scalar | None]:
        """The piece that v is on."""
        low, high = field.scalar(self.low), field.scalar(self.high)
        piece = pieces(v, (self.low, self.high))
        if piece is None:
            return (v.max(low).min(high) if field.name == "ball" else v), None
        return (low, v, high)[piece], (0, 1, 0)[piece]

    def to_torch(self, shape: Shape) -> Any:
        """``nn.Hardtanh``."""
        from torch import nn

        return nn.Hardtanh(float(self.low), float(self.high))


@dataclass(frozen=True)
class MaxPool(Layer):
    """Max pool without padding: a selection of the winners."""

    kernel: Shape
    stride: int = 1

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, *spatial) -> (channels, *spatial')."""
        return (shape[0], *spatial_output(self, shape, self.kernel, self.stride, 0))

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """Select the winners' rows; a tie is harmless where the tied rows agree."""
        size, k = prod(shape[1:]), tangents.ncols()
        values, entries = x.entries(), tangents.entries()
        chosen: list[int] = []
        for c in range(shape[0]):
            for window in windows(shape[1:], self.kernel, self.stride, 0):
                units = [c * size + at for at in window if at is not None]
                best = units[0]
                for u in units[1:]:
                    if values[u] > values[best]:
                        best = u
                row = entries[best * k : (best + 1) * k]
                for u in units:
                    agree = values[u] == values[best] and row == entries[u * k : (u + 1) * k]
                    if u != best and not values[u] < values[best] and not agree:
                        raise KinkError(
                            f"units {best} and {u} tie at {values[best]} in a max pool and their "
                            "tangents differ; move the input"
                        )
                chosen.append(best)
        picked = [t for u in chosen for t in entries[u * k : (u + 1) * k]]
        n = len(chosen)
        return field.matrix(n, 1, [values[u] for u in chosen]), field.matrix(n, k, picked)

    def to_torch(self, shape: Shape) -> Any:
        """``nn.MaxPool1d`` or ``nn.MaxPool2d``."""
        from torch import nn

        if len(self.kernel) == 1:
            return nn.MaxPool1d(self.kernel[0], self.stride)
        return nn.MaxPool2d((self.kernel[0], self.kernel[1]), self.stride)
