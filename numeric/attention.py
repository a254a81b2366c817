"""Softmax self-attention with one or several heads, over balls.

The push-forward is the product rule written out for ``softmax(Q K^T / sqrt(d)) V`` head by head:
the value path and the path through the softmax, whose sum theory.md section 4 bounds by
subadditivity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numeric.layer import Layer, Rows, Shape, misfit, tensor
from numeric.layers_exact import Linear
from numeric.layers_smooth import softmax
from numeric.scalars import Field, Matrix, Scalar


@dataclass(frozen=True)
class Attention(Layer):
    """Self-attention on (tokens, width); weights are (width, width), applied as ``x W^T``."""

    query: Rows
    key: Rows
    value: Rows
    output: Rows
    heads: int = 1

    def output_shape(self, shape: Shape) -> Shape:
        """Unchanged."""
        width = len(self.query)
        if len(shape) != 2 or shape[1] != width or width % self.heads:
            raise misfit(
                self, f"(tokens, {width}) with {self.heads} heads dividing the width", shape
            )
        return shape

    def push(
        self, x: Matrix, tangents: Matrix, shape: Shape, field: Field
    ) -> tuple[Matrix, Matrix]:
        """Value and pushed tangents of the whole layer."""
        tokens, width = self.output_shape(shape)
        size, k = width // self.heads, tangents.ncols()
        scale = 1 / field.sqrt(field.scalar(size))
        parts = [
            Linear(w).push(x, tangents, shape, field) for w in (self.query, self.key, self.value)
        ]
        (q, k_, v) = (p[0].entries() for p in parts)
        (dq, dk, dv) = (_rows(p[1], field) for p in parts)
        mixed: list[Scalar] = [None] * (tokens * width)
        pushed: list[Matrix] = [None] * (tokens * width)
        for t in range(tokens):
            for head in range(self.heads):
                columns = range(head * size, (head + 1) * size)
                scores, slopes = [], []
                for s in range(tokens):
                    pairs = [(t * width + c, s * width + c) for c in columns]
                    scores.append(_sum([q[a] * k_[b] for a, b in pairs]) * scale)
                    slopes.append(_sum([dq[a] * k_[b] + dk[b] * q[a] for a, b in pairs]) * scale)
                p = softmax(scores, field)
                mean = _sum([slopes[s] * p[s] for s in range(tokens)])
                dp = [(slopes[s] - mean) * p[s] for s in range(tokens)]
                for c in columns:
                    at = [s * width + c for s in range(tokens)]
                    mixed[t * width + c] = _sum([p[s] * v[at[s]] for s in range(tokens)])
                    pushed[t * width + c] = _sum(
                        [dv[at[s]] * p[s] + dp[s] * v[at[s]] for s in range(tokens)]
                    )
        block = field.matrix(tokens * width, k, [e for row in pushed for e in row.entries()])
        out = field.matrix(tokens * width, 1, mixed)
        return Linear(self.output).push(out, block, shape, field)

    def to_torch(self, shape: Shape) -> Any:
        """A module of plain torch operations (no fused attention)."""
        import torch
        from torch import nn

        heads, weights = self.heads, (self.query, self.key, self.value, self.output)

        class Module(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.w = nn.ParameterList([nn.Parameter(tensor(w)) for w in weights])

            def forward(self, x: Any) -> Any:
                b, t, d = x.shape
                q, k, v = (
                    (x @ w.T).reshape(b, t, heads, d // heads).transpose(1, 2)
                    for w in list(self.w)[:3]
                )
                p = torch.softmax(q @ k.transpose(-1, -2) / (d // heads) ** 0.5, -1)
                return (p @ v).transpose(1, 2).reshape(b, t, d) @ self.w[3].T

        return Module()


def _rows(matrix: Matrix, field: Field) -> list[Matrix]:
    entries, k = matrix.entries(), matrix.ncols()
    return [field.matrix(1, k, entries[i * k : (i + 1) * k]) for i in range(matrix.nrows())]


def _sum(items: list[Any]) -> Any:
    total = items[0]
    for item in items[1:]:
        total = total + item
    return total
