"""What every layer offers, and the geometry of windows.

A layer has ``output_shape(shape)``, ``push(x, tangents, shape, field)`` (the value and the
push-forward of a block of tangents; with the identity as the block that is the Jacobian) and
``to_torch(shape)`` (the same layer as a float64 ``nn.Module`` on batches). Values are flattened in
row-major order: (n,), (channels, length), (channels, height, width) or (tokens, width).
"""

from __future__ import annotations

from itertools import product
from typing import Any

from numeric.scalars import Field, Matrix, Rational
from theory.errors import InputError

Shape = tuple[int, ...]
Vector = tuple[Rational, ...]
Rows = tuple[Vector, ...]


def tensor(values: Any) -> Any:
    """A float64 torch tensor of rationals (nested tuples)."""
    import torch

    def floats(v: Any) -> Any:
        return [floats(e) for e in v] if isinstance(v, tuple | list) else float(v)

    return torch.tensor(floats(values), dtype=torch.float64)


class Layer:
    """What every layer offers; see the module's docstring."""

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output for an input of ``shape``; InputError if it does not fit."""
        raise NotImplementedError

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """Value (column) and pushed-forward tangents (one column for each direction)."""
        raise NotImplementedError

    def to_torch(self, shape: Shape) -> Any:
        """The same layer as a float64 ``torch.nn.Module`` over batches of ``shape``."""
        raise NotImplementedError


def misfit(layer: Layer, wanted: str, shape: Shape) -> InputError:
    """The error of a layer that cannot take ``shape``."""
    return InputError(f"{type(layer).__name__} takes {wanted}, but its input has shape {shape}")


def windows(spatial: Shape, kernel: Shape, stride: int, padding: int) -> list[list[int | None]]:
    """Flat input positions of every window, row-major; None stands for padding."""
    out = [(s + 2 * padding - k) // stride + 1 for s, k in zip(spatial, kernel, strict=True)]
    result: list[list[int | None]] = []
    for start in product(*(range(o) for o in out)):
        window: list[int | None] = []
        for offset in product(*(range(k) for k in kernel)):
            at = [s * stride - padding + o for s, o in zip(start, offset, strict=True)]
            inside = all(0 <= a < n for a, n in zip(at, spatial, strict=True))
            flat = 0
            for a, n in zip(at, spatial, strict=True):
                flat = flat * n + a
            window.append(flat if inside else None)
        result.append(window)
    return result


def spatial_output(layer: Layer, shape: Shape, kernel: Shape, stride: int, padding: int) -> Shape:
    """Numbers of windows along each spatial axis; InputError where none fits."""
    if len(shape) != 1 + len(kernel):
        raise misfit(layer, f"(channels, {len(kernel)} spatial axes)", shape)
    out = tuple((s + 2 * padding - k) // stride + 1 for s, k in zip(shape[1:], kernel, strict=True))
    if min(out) < 1:
        raise misfit(layer, f"at least a window of {kernel} with padding {padding}", shape)
    return out
