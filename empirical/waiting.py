"""Blocks of tangents whose entries wait until something asks for them.

A chain of operations with a wide middle (the scores of attention: for each direction a number for every
pair of tokens) need never store the middle for all directions: ``Steps`` remembers the chain and runs it
a few directions at a time, where its result is used, so that the middle stays in the cache.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from empirical.engine import Engine

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


#: what a kernel takes that is the same for all directions: the block's shape, and constants
Fixed = tuple[tuple[int, ...], tuple[Tensor, ...]]
#: what it takes in one step: the block's shape, other arguments, and where the result goes
Call = tuple[tuple[int, ...], tuple[Tensor, ...], dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Stage:
    """One operation of a chain.

    Attributes:
        kernel: ``kernel(block, *along, *constants)``; the result is a new tensor, ``out``, or the
            block itself. All have a leading dimension of directions, in a batch joined with the next.
        window: the block's other dimensions, as the kernel wants them.
        along: further tangents that it takes.
        constants: what it takes that is the same for every direction, to be repeated for each.
        batch: whether the kernel takes batches of matrices, one for each direction and each entry of
            the window's first dimension.
        result: its result's other dimensions where the kernel takes ``out=``; None where it does not.
    """

    kernel: Callable[..., Tensor]
    window: tuple[int, ...]
    along: tuple[Tensor, ...] = ()
    constants: tuple[Tensor, ...] = ()
    batch: bool = False
    result: tuple[int, ...] | None = None

    def joined(self, block: Tensor) -> Tensor:
        """A block as the kernel takes it."""
        return block.flatten(0, 1) if self.batch else block

    def fixed(self, count: int) -> Fixed:
        """What the kernel takes for so many directions, whichever they are."""
        lead = (count * self.window[0], *self.window[1:]) if self.batch else (count, *self.window)
        wide = (c.expand(count, *c.shape).contiguous() for c in self.constants)
        return lead, tuple(self.joined(c) for c in wide)

    def calls(self, k: int, few: int, fixed: Fixed, out: Tensor | None) -> Iterator[Call]:
        """What the kernel takes, step by step.

        Args:
            k: number of directions.
            few: of them, in a step; the last may have less.
            fixed: what it takes for a few.
            out: where all results go; None: one after the other to one place, which stays warm.
        """
        shape, constants = fixed
        steps = [min(few, k - start) for start in range(0, k, few)]
        split = zip(*(pieces(x, few) for x in self.along), strict=True)
        along: Iterable[tuple[Tensor, ...]] = split if self.along else repeat(())
        places: Iterable[Tensor | None] = repeat(None)
        if self.result is not None and out is not None:
            places = pieces(out.view(out.shape[0], *self.result), few)
        elif self.result is not None:
            warm = self.constants[0].new_empty(min(few, k), *self.result)
            places = (warm[:count] for count in steps)
        for count, some, to in zip(steps, along, places, strict=False):
            if count < few:  # parts of what is fixed: the module may have changed its own since
                shape = (shape[0] // few * count, *shape[1:])
                constants = tuple(c[: len(c) // few * count] for c in constants)
            others = (*map(self.joined, some), *constants)
            yield shape, others, {} if to is None else {"out": self.joined(to)}


def pieces(block: Tensor, few: int) -> Sequence[Tensor]:
    """The block, a few directions at a time."""
    return block.split(few)  # type: ignore[no-untyped-call,no-any-return]


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
        window: Sequence[int] | None = None, batch: bool = False,
    ) -> Steps:  # fmt: skip
        """The chain with one stage more, whose result has ``window`` (its own by default).

        A kernel that changes the window takes ``out=``.
        """
        result = None if window is None else tuple(window)
        shape = self.shape if result is None else (self.shape[0], *result)
        return dataclasses.replace(
            self, shape=shape, widest=max(self.widest, math.prod(shape[1:])),
            stages=(*self.stages, Stage(kernel, self.shape[1:], along, constants, batch, result)),
        )  # fmt: skip

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """The tangents of all stages."""
        return (self.first, *(t for stage in self.stages for t in stage.along))

    def times(self, factor: Any) -> Steps:
        """One stage more; the factor is a copy, the module may change its own."""
        reduce_ = self.engine.field.reduce_
        # what a stage returns is nobody else's
        multiply = Tensor.mul_ if self.stages else Tensor.mul
        if not isinstance(factor, Tensor):
            return self.then(lambda t: reduce_(multiply(t, factor)))
        own = factor.to(self.first.dtype, copy=True)
        return self.then(lambda t, c: reduce_(multiply(t, c)), own)

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
        few, fixed = self.engine.once(lambda: (few, [s.fixed(few) for s in self.stages]))
        out = self.first.new_empty(self.shape) if few < k else None
        last = max((i for i, s in enumerate(self.stages) if s.result is not None), default=0)
        # there are thousands of steps: Python's part of each is done before, where it can be
        kernels = [stage.kernel for stage in self.stages]
        calls = [
            stage.calls(k, few, own, out if i == last else None)
            for i, (stage, own) in enumerate(zip(self.stages, fixed, strict=True))
        ]
        t: Tensor
        rows: Iterable[Tensor | None] = repeat(None) if out is None else pieces(out, few)
        for t, into, *each in zip(pieces(self.first, few), rows, *calls, strict=False):
            for kernel, (shape, others, place) in zip(kernels, each, strict=True):
                t = kernel(t if t.shape == shape else t.reshape(shape), *others, **place)
            if into is None:
                return t.reshape(self.shape)
            if t.data_ptr() != into.data_ptr():  # not every chain ends with what takes a place
                into.copy_(t.view(into.shape))
        return self.first.new_zeros(self.shape) if out is None else out
