"""Products put off, so that the two layers of a perceptron become one small matrix for each token.

A perceptron widens a token from i to h channels, scales each, and narrows it to o. Its Jacobian at a
token is ``W1 diag(s) W2``: where more directions pass than the token has channels, forming it (2 i h o
FLOPs) and applying it (2 i o a direction) costs less than both layers (2 h (i + o) a direction), and
the wide tangents are never stored. So a widening product waits until something asks for its entries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from empirical.fields import Field
from empirical.waiting import WORKSPACE, Waiting

if TYPE_CHECKING:
    from empirical.engine import Engine

#: bytes of all matrices that wait for the later chunks of a module
LARGEST = 256 << 20
#: what a product of small matrices costs beside a large one of as many FLOPs
SMALL = 1.5


@dataclass(frozen=True, eq=False)
class Deferred(Waiting):
    """The block ``(rows @ weight) * slope``, not carried out.

    Attributes:
        over: the field of the entries.
        rows: [K, *lead, i].
        weight: [i, h].
        slope: broadcasts to [*lead, h]; None for ones. Both are copies: the module may change its own
            while the product waits.
    """

    over: Field
    rows: Tensor
    weight: Tensor
    slope: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """[K, *lead, h]."""
        return (*self.rows.shape[:-1], self.weight.shape[1])

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """What goes into the product."""
        return (self.rows,)

    def times(self, factor: Any) -> Tensor | Deferred:
        """The block times a tensor that broadcasts to [*lead, h]; a number is not worth waiting for."""
        if not isinstance(factor, Tensor):
            return self.over.reduce_(self.carried_out() * factor)
        factor = factor.to(self.rows.dtype, copy=self.slope is None)
        slope = factor if self.slope is None else self.over.reduce_(self.slope * factor)
        return dataclasses.replace(self, slope=slope)

    def with_lead(self, lead: Sequence[int]) -> Deferred:
        """The block with its leading dimensions reshaped."""
        slope = self.slope
        if slope is not None:
            slope = slope.expand(self.shape[1:]).reshape(*lead, self.shape[-1])
        rows = self.rows.reshape(self.rows.shape[0], *lead, self.rows.shape[-1])
        return dataclasses.replace(self, rows=rows, slope=slope)

    def carried_out(self) -> Tensor:
        """The entries: one large product."""
        flat = self.rows.flatten(0, -2)
        out = self.over.matmul(flat, self.weight).reshape(self.shape)
        return out if self.slope is None else self.over.reduce_(out.mul_(self.slope))


def worth_waiting(engine: Engine, inputs: int, outputs: int) -> bool:
    """Whether a product could pay as the first half of a perceptron."""
    return outputs > inputs and 2 * engine.directions > inputs


def narrowed(engine: Engine, block: Deferred, narrow: Tensor) -> Tensor | None:
    """``block @ narrow`` by one matrix for each token, [K, tokens, o]; None where that costs more.

    Args:
        engine: the pass, whose chunks share the matrices.
        block: with one leading dimension, the tokens.
        narrow: [h, o].
    """
    matrices = engine.once(lambda: _matrices(engine, block, narrow))
    if matrices is None:
        return None
    return block.over.matmul(block.rows.transpose(0, 1), matrices.each).transpose(0, 1)


@dataclass(frozen=True, eq=False)
class Matrices:
    """The Jacobians of a perceptron at each token, [tokens, i, o]."""

    each: Tensor


def _matrices(engine: Engine, block: Deferred, narrow: Tensor) -> Matrices | None:
    (inputs, hidden), outputs, tokens = block.weight.shape, narrow.shape[1], block.shape[1]
    if block.slope is None or not tokens:
        return None
    a_direction = SMALL * inputs * outputs - hidden * (inputs + outputs)
    if inputs * hidden * outputs + engine.directions * a_direction >= 0:
        return None
    shape = (tokens, inputs, outputs)
    size = tokens * inputs * outputs * narrow.element_size()
    held = sum(m.each.nbytes for m in engine.memo or () if isinstance(m, Matrices))
    if engine.matrices + held + size > LARGEST:
        return None
    if engine.rehearsal:  # there are no chunks: ``matrices`` is what the memo would hold
        engine.matrices += size
        return Matrices(narrow.new_zeros(1).expand(shape))
    slope = block.slope.expand(block.shape[1:])
    weight = block.weight.contiguous()
    each = narrow.new_empty(shape)
    step = max(1, min(tokens, WORKSPACE // (inputs * hidden * narrow.element_size())))
    wide = narrow.new_empty(step, inputs, hidden)  # one place for all: fresh memory is slow memory
    for start in range(0, tokens, step):
        some = slice(start, start + step)
        scaled = torch.mul(weight, slope[some, None], out=wide[: len(slope[some])])
        scaled = block.over.reduce_(scaled)
        block.over.matmul(scaled.flatten(0, 1), narrow, out=each[some].flatten(0, 1))
    return Matrices(each)
