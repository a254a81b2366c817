"""The tangent engine: a block of input directions pushed through an unmodified ``nn.Module``.

One tensor subclass holds a primal and a block of tangents; ``__torch_dispatch__`` sees the aten
operations of an ordinary forward pass and a rule table (``empirical.rules``) maps each to its
linearised operation. The same table serves both fields: over the floats the tangents are columns
of the Jacobian, over the integers mod p they are its exact residues.

A block is a box: tangents are zero outside ``offset .. offset + size`` of each dimension, so a
patch of the image touches a small window of the early maps and only the window is carried.
"""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence, ValuesView
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from empirical.fields import Field, FloatField, ModField
from empirical.pattern import Kinks
from empirical.waiting import Waiting
from theory.errors import UnsupportedError


class CrossedError(UnsupportedError):
    """Chunks side by side met in a tensor that a module keeps between calls (``self.x = ...``)."""


class TurnedError(UnsupportedError):
    """A tangent of the basis before the directions were turned met later ones (``empirical.turned``)."""


T = TypeVar("T")
Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}


def registrar(table: dict[Any, Rule]) -> Callable[..., Callable[[Rule], Rule]]:
    """The decorator that enters a function in ``table`` for each of the aten operations named."""

    def rule(*operations: Any) -> Callable[[Rule], Rule]:
        def register(function: Rule) -> Rule:
            table.update(dict.fromkeys(operations, function))
            return function

        return register

    return rule


#: registers ``f(engine, func, *args, **kwargs)`` as the rule of the aten operations
rule = registrar(RULES)


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
        return Tangent(self, primal, data, offset, support)

    def constant(self, value: Any) -> Any:
        """A stored tensor or number as an element of the tangents' field."""
        if isinstance(value, Tensor):
            return self.field.constant(value)
        return self.field.scalar(value)

    def track(self, data: Tensor) -> _Live:
        """Count the bytes of live tangents, each storage once, for as long as the result lives."""
        storage = data.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        entry = self.live.setdefault(key, [0, size])
        if entry[0] == 0:
            self.total += size
            self.peak = max(self.peak, self.total)
        entry[0] += 1
        return _Live(self, key)


class _Live:
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


class Tangent(Tensor):
    """A primal, and K tangents that are zero outside a box.

    ``data_`` is [K, *window]; ``offset`` places the window in the primal's shape; ``support`` marks
    the units whose tangents can be non-zero, where the engine propagates structure. ``held`` is the
    data, or operations that are carried out when ``data_`` is asked for (``empirical.waiting``).
    """

    engine: Engine
    primal: Tensor
    held: Tensor | Waiting
    offset: tuple[int, ...]
    support: Tensor | None
    group: list[weakref.ref[Tangent]]
    live: list[_Live]
    turns: int

    @staticmethod
    def __new__(
        cls,
        engine: Engine,
        primal: Tensor,
        data: Tensor | Waiting | None,
        offset: Sequence[int] | None,
        support: Tensor | None,
    ) -> Tangent:
        """A wrapper with the primal's shape and strides."""
        wrapper: Tangent = Tensor._make_wrapper_subclass(
            cls,
            primal.shape,
            strides=primal.stride(),
            dtype=primal.dtype,
            device=primal.device,
            requires_grad=False,
        )
        return wrapper

    def __init__(
        self,
        engine: Engine,
        primal: Tensor,
        data: Tensor | Waiting | None,
        offset: Sequence[int] | None,
        support: Tensor | None,
    ) -> None:
        assert data is not None
        self.engine = engine
        self.group = [weakref.ref(self)]
        self.become(primal, data, offset, support)

    def become(
        self, primal: Tensor, data: Tensor | Waiting, offset: Sequence[int] | None,
        support: Tensor | None,
    ) -> None:  # fmt: skip
        """Hold these, in the engine's present basis."""
        self.primal, self.held, self.support = primal, data, support
        self.turns = self.engine.turns
        self.offset = tuple(offset) if offset is not None else (0,) * primal.ndim
        assert data.ndim == primal.ndim + 1, (data.shape, primal.shape)
        kept = (data,) if isinstance(data, Tensor) else data.kept
        self.live = [self.engine.track(tensor) for tensor in kept]

    @property
    def data_(self) -> Tensor:
        """The tangents, [K, *window]."""
        return self.carry_out()

    def carry_out(self) -> Tensor:
        """Do what waits, once; the tangents."""
        if isinstance(self.held, Waiting):
            self.held = self.held.carried_out()
            self.live = [self.engine.track(self.held)]
        return self.held

    def check_views(self, func: Any) -> None:
        """Refuse an in-place operation that live views would have to see.

        Raises:
            UnsupportedError: another tensor shares this one's memory in the unmodified model.
        """
        alive = [r for r in self.group if (t := r()) is not None and t is not self]
        if alive:
            raise self.engine.refuse(
                func, f"an in-place operation on a tensor with {len(alive)} live views"
            )

    def check_basis(self) -> None:
        """Refuse a tangent of the directions before they were turned.

        Raises:
            TurnedError: the path of this tangent goes around the tap where they were.
        """
        if self.turns != self.engine.turns:
            raise TurnedError(f"module {self.engine.where()!r} uses what goes around a tap")

    def assign(self, out: Tangent, func: Any) -> None:
        """Become ``out``, as an in-place operation ``func`` makes it.

        Raises:
            UnsupportedError: the shape changed, or live views would have to see it.
        """
        self.check_views(func)
        if tuple(out.shape) != tuple(self.shape):
            raise self.engine.refuse(func, "an in-place operation changed the shape")
        self.become(out.primal, out.held, out.offset, out.support)

    @property
    def directions(self) -> int:
        """K, the number of tangents."""
        return self.held.shape[0]

    @property
    def window(self) -> tuple[int, ...]:
        """Sizes of the box outside which the tangents are zero."""
        return tuple(self.held.shape[1:])

    @property
    def is_full(self) -> bool:
        """Whether the box is the whole tensor."""
        return self.window == tuple(self.primal.shape)

    def dense(self) -> Tensor:
        """The tangents as [K, *shape], zeros filled in."""
        if self.is_full:
            return self.data_
        out = zeros_like_layout(self.data_, self.primal.shape)
        out[self.box(1)] = self.data_
        return out

    def box(self, lead: int = 0) -> tuple[slice, ...]:
        """The box as slices, after ``lead`` full ones."""
        cut = [slice(o, o + n) for o, n in zip(self.offset, self.window, strict=True)]
        return (*[slice(None)] * lead, *cut)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Tangent({tuple(self.primal.shape)}, {self.directions} x {self.window})"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the rule of ``func``; in-place operations run the functional rule and assign."""
        kwargs = kwargs or {}
        engine = _engine(args, kwargs)
        engine.check_thread()
        if engine.turns:
            _check_basis((args, kwargs.values()))
        if engine.replaying is None:
            engine.operations += 1
        function = RULES.get(func)
        if function is not None:
            out = function(engine, func, *args, **kwargs)
            if _returns_view(func) and isinstance(args[0], Tangent):
                for item in out if isinstance(out, (list, tuple)) else (out,):
                    if isinstance(item, Tangent) and item is not args[0]:
                        args[0].group.append(weakref.ref(item))
                        item.group = args[0].group
            return out
        if func._schema.is_mutable:
            return _in_place(engine, func, args, kwargs)
        if isinstance(engine.field, FloatField):
            from empirical.fallback import jvp

            engine.fallbacks.add(str(func))
            return jvp(engine, func, args, kwargs)
        raise engine.refuse(
            func, f"no rule over the field {engine.field.name}; measure it with --field float64"
        )


def _engine(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Engine:
    for a in args:  # the usual place, found without flattening
        if isinstance(a, Tangent):
            return a.engine
    return next(a for a in pytree.tree_leaves((args, kwargs)) if isinstance(a, Tangent)).engine


def _check_basis(operands: Iterable[Any]) -> None:
    """Refuse tangents of another basis; thousands of calls a pass: pytree would be felt."""
    for one in operands:
        if isinstance(one, Tangent):
            one.check_basis()
        elif isinstance(one, (tuple, list, ValuesView)):
            _check_basis(one)


@cache
def _returns_view(func: Any) -> bool:
    returns = func._schema.returns
    info = returns[0].alias_info if returns else None
    return info is not None and not info.is_write


def _in_place(engine: Engine, func: Any, args: Any, kwargs: Any) -> Any:
    """``x.op_(...)``: the functional rule, then assignment; refused where a view is alive."""
    packet = func._overloadpacket.__name__
    target = args[0]
    functional = getattr(torch.ops.aten, packet.rstrip("_"), None)
    overload = getattr(functional, func._overloadname, None)
    function = RULES.get(overload)
    if not packet.endswith("_") or function is None or not isinstance(target, Tangent):
        raise engine.refuse(func, "no rule for this in-place operation")
    target.check_views(func)
    target.assign(function(engine, overload, *args, **kwargs), func)
    return target


def zeros_like_layout(data: Tensor, sizes: Sequence[int]) -> Tensor:
    """Zeros of [K, *sizes] whose dimensions lie in memory in the order of ``data``'s."""
    shape = (data.shape[0], *sizes)
    order = memory_order(data, 0)
    flat = torch.zeros([shape[d] for d in order], dtype=data.dtype, device=data.device)
    return flat.permute([order.index(d) for d in range(data.ndim)])


def memory_order(data: Tensor, first: int = 1) -> list[int]:
    """The dimensions of ``data`` from ``first`` on, in the order in which they lie in memory."""
    strides = data.stride()
    return sorted(range(first, data.ndim), key=lambda d: (-strides[d], d))
