"""Blocks of tangents whose entries wait until something asks for them.

A chain of operations with a wide middle (the scores of attention: for each direction a number for every
pair of tokens) need never store the middle for all directions: ``Steps`` remembers the chain and runs it
a few directions at a time, where its result is used, so that the middle stays in the cache.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from empirical.tangents import Engine

#: bytes of what one operation reads at a time: as large as the last-level cache can bear
WORKSPACE = 24 << 20
#: bytes of the widest middle of a chain: half of what a core's own cache is sure to hold
MIDDLE = 512 << 10


class Waiting:
    """A block [K, *window] that is not carried out yet."""

    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Number of dimensions, the directions' included."""
        return len(self.shape)

    @property
    @abstractmethod
    def kept(self) -> tuple[Tensor, ...]:
        """The tangents that it keeps alive."""

    @abstractmethod
    def carried_out(self) -> Tensor:
        """The entries."""

    @abstractmethod
    def times(self, factor: Any) -> Tensor | Waiting:
        """The block times a number, or a tensor that broadcasts to its window."""

    @abstractmethod
    def with_lead(self, lead: Sequence[int]) -> Waiting:
        """The block with all dimensions but the last reshaped."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One operation of a chain.

    Attributes:
        kernel: ``kernel(block, *along, *constants)``, each with a leading dimension of directions.
        window: the block's other dimensions, as the kernel wants them.
        along: further tangents that it takes.
        constants: what it takes that is the same for every direction, to be repeated for each.
    """

    kernel: Callable[..., Tensor]
    window: tuple[int, ...]
    along: tuple[Tensor, ...] = ()
    constants: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class Steps(Waiting):
    """Operations one after another, carried out a few directions at a time.

    Attributes:
        engine: the pass, whose chunks share the repeated constants.
        first: the tangents that the first stage takes.
        shape: of the result.
        stages: the operations.
        widest: entries a direction of the largest result of a stage.
    """

    engine: Engine
    first: Tensor
    shape: tuple[int, ...]
    stages: tuple[Stage, ...] = ()
    widest: int = 0

    @classmethod
    def of(cls, engine: Engine, held: Tensor | Waiting) -> Steps:
        """The chain that ends with ``held``."""
        if isinstance(held, Steps):
            return held
        data = held.carried_out() if isinstance(held, Waiting) else held
        return cls(engine, data, tuple(data.shape), (), math.prod(data.shape[1:]))

    def then(
        self, kernel: Callable[..., Tensor], *constants: Tensor, along: tuple[Tensor, ...] = (),
        window: Sequence[int] | None = None,
    ) -> Steps:  # fmt: skip
        """The chain with one stage more, whose result has ``window`` (its own by default)."""
        shape = self.shape if window is None else (self.shape[0], *window)
        return dataclasses.replace(
            self, shape=shape, widest=max(self.widest, math.prod(shape[1:])),
            stages=(*self.stages, Stage(kernel, self.shape[1:], along, constants)),
        )  # fmt: skip

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """The tangents of all stages."""
        return (self.first, *(t for stage in self.stages for t in stage.along))

    def times(self, factor: Any) -> Steps:
        """One stage more; the factor is a copy, the module may change its own."""
        reduce_ = self.engine.field.reduce_
        if not isinstance(factor, Tensor):
            return self.then(lambda t: reduce_(t * factor))
        own = factor.to(self.first.dtype, copy=True)
        return self.then(lambda t, c: reduce_(t * c), own)

    def with_lead(self, lead: Sequence[int]) -> Steps:
        """The same stages; the next one, or the result, has the other shape."""
        return dataclasses.replace(self, shape=(self.shape[0], *lead, self.shape[-1]))

    def carried_out(self) -> Tensor:
        """The entries; constants are repeated once for all chunks."""
        k = self.shape[0]
        # a GPU wants large products; its cache is no guide
        small = len(self.stages) > 1 and not self.first.is_cuda
        largest = MIDDLE if small else WORKSPACE
        few = largest // max(1, self.widest * self.first.element_size())
        few = max(1, min(self.engine.chunk or k, few))
        # as many as in the first chunk, whose constants these are
        few, repeated = self.engine.once(
            lambda: (
                few,
                [[c.expand(few, *c.shape).contiguous() for c in s.constants] for s in self.stages],
            )
        )
        out: Tensor | None = None
        for start in range(0, k, few):
            count = min(few, k - start)
            t = self.first[start : start + few]
            for stage, constants in zip(self.stages, repeated, strict=True):
                along = (x[start : start + few] for x in stage.along)
                block = t.reshape(count, *stage.window)
                t = stage.kernel(block, *along, *(c[:count] for c in constants))
            if count == k:
                return t.reshape(self.shape)
            if out is None:
                out = t.new_empty(k, *t.shape[1:])
            out[start : start + few] = t
        return self.first.new_zeros(self.shape) if out is None else out.reshape(self.shape)
