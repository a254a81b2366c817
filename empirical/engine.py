"""What one pass of the tangent engine knows: its field, its mode, and what it has seen.

Tangents (``empirical.tangents``) carry a reference to it, rules take it first: it turns stored numbers into
field elements, counts live tangents, remembers what later chunks of directions take from the first one, and
words the refusals.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch import Tensor

from empirical.fields import Field, ModField
from empirical.pattern import Kinks
from empirical.waiting import Waiting
from theory.errors import UnsupportedError

if TYPE_CHECKING:
    from empirical.tangents import Tangent

T = TypeVar("T")


class CrossedError(UnsupportedError):
    """Chunks side by side met in a tensor that a module keeps between calls (``self.x = ...``)."""


class TurnedError(UnsupportedError):
    """A tangent of the basis before the directions were turned met later ones (``empirical.turned``)."""


@dataclass
class Engine:
    """What one pass knows: the field of its tangents, what the primal is, and what it has seen.

    Attributes:
        field: field of the tangents.
        family: the primal is a residue too and non-linear operations are random (theory.md 5.5).
        seed: seed of the random functions of a family draw.
        structural: propagate which units can be non-zero at all (for upper bounds and kinks).
        path: module path of the operation being run, for messages.
        fallbacks: operations that went through torch.func.jvp.
        operations: number of aten operations seen.
        layer: how many random layers a family draw has met.
        peak: largest number of bytes of live tangents.
        memo: what the first chunk of a module computed once for all of them; None outside chunks.
        replaying: the next place of ``memo`` to read, None while it is being filled.
        thread: the one thread of a later chunk, None for the engine itself.
        directions: how many there are in all chunks and blocks.
        chunk: how many of them the later chunks of a module have at most, 0 outside chunks.
        rehearsal: only the costs of the pass are wanted, its values are not.
        matrices: of a rehearsal, bytes of the tokens' matrices of the module under way.
        turns: how often the directions have been turned to another basis.
        mixed: modules that used a tangent of the basis before; a model may catch the error.
    """

    field: Field
    family: bool = False
    seed: int = 0
    structural: bool = False
    path: list[str] = dataclasses.field(default_factory=list)
    kinks: Kinks = dataclasses.field(default_factory=Kinks)
    fallbacks: set[str] = dataclasses.field(default_factory=set)
    operations: int = 0
    layer: int = 0
    peak: int = 0
    live: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    total: int = 0
    memo: list[Any] | None = None
    replaying: int | None = None
    thread: int | None = None
    directions: int = 0
    chunk: int = 0
    rehearsal: bool = False
    matrices: int = 0
    turns: int = 0
    mixed: set[str] = dataclasses.field(default_factory=set)

    def once(self, compute: Callable[[], T]) -> T:
        """A value that does not depend on the directions: later chunks take the first one's."""
        if self.memo is None:
            return compute()
        if self.replaying is None:
            value = compute()
            self.memo.append(value)
            return value
        if self.replaying == len(self.memo):
            raise self.refuse(
                "the forward pass", "a chunk of directions does more than the first one did: it "
                "is not a function of its input alone",
            )  # fmt: skip
        self.replaying += 1
        return cast(T, self.memo[self.replaying - 1])

    def replica(self, layer: int, path: Sequence[str]) -> Engine:
        """This thread's engine of a later chunk: it reads the memo and counts its own tangents only."""
        alive = {key: list(entry) for key, entry in self.live.items()}
        return dataclasses.replace(
            self, layer=layer, path=list(path), replaying=0, live=alive, total=0, peak=0,
            thread=threading.get_ident(),
        )  # fmt: skip

    def check_thread(self) -> None:
        """Refuse a tangent of another thread's chunk.

        Raises:
            CrossedError: the module keeps a tensor between calls.
        """
        if self.thread is not None and self.thread != threading.get_ident():
            raise CrossedError(f"module {self.where()!r} keeps a tensor between calls")

    def finish_replay(self) -> None:
        """Refuse a later chunk that did less than the first one."""
        if self.memo is not None and self.replaying != len(self.memo):
            raise self.refuse(
                "the forward pass", f"a chunk of directions used {self.replaying} of the "
                f"{len(self.memo)} values that the first one computed: it is not a "
                "function of its input alone",
            )  # fmt: skip

    @property
    def exact(self) -> bool:
        """Tangents mod p of the recorded pattern; the primal is a float64 pass."""
        return isinstance(self.field, ModField) and not self.family

    def where(self) -> str:
        """The module path, for messages."""
        return self.path[-1] if self.path else "the model's own forward"

    def refuse(self, func: Any, why: str) -> UnsupportedError:
        """The error that names the operation, the module, and what to do."""
        return UnsupportedError(f"{func} in module {self.where()!r}: {why}")

    def wrap(
        self,
        primal: Tensor,
        data: Tensor | Waiting | None,
        offset: Sequence[int] | None = None,
        support: Tensor | None = None,
    ) -> Tangent:
        """A new tangent tensor; ``data`` is [K, *window], ``support`` boolean [*shape]."""
        from empirical.tangents import Tangent  # which knows its engine

        return Tangent(self, primal, data, offset, support)

    def constant(self, value: Any) -> Any:
        """A stored tensor or number as an element of the tangents' field."""
        if isinstance(value, Tensor):
            return self.field.constant(value)
        return self.field.scalar(value)

    def track(self, data: Tensor) -> Live:
        """Count the bytes of live tangents, each storage once, for as long as the result lives."""
        storage = data.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        entry = self.live.setdefault(key, [0, size])
        if entry[0] == 0:
            self.total += size
            self.peak = max(self.peak, self.total)
        entry[0] += 1
        return Live(self, key)


class Live:
    """Held by a tangent tensor: its storage counts until the last holder is gone."""

    __slots__ = ("engine", "key")

    def __init__(self, engine: Engine, key: int) -> None:
        self.engine, self.key = engine, key

    def __del__(self) -> None:
        entry = self.engine.live[self.key]
        entry[0] -= 1
        if entry[0] == 0:
            self.engine.total -= entry[1]
            del self.engine.live[self.key]
