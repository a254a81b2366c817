"""The tangent engine: a block of input directions pushed through an unmodified ``nn.Module``.

One tensor subclass holds a primal and a block of tangents; ``__torch_dispatch__`` sees the aten
operations of an ordinary forward pass and a rule table (``empirical.rules``) maps each to its
linearised operation. The same table serves both fields: over the floats the tangents are columns
of the Jacobian, over the integers mod p they are its exact residues.

A block is a box: tangents are zero outside ``offset .. offset + size`` of each dimension, so a
patch of the image touches a small window of the early maps and only the window is carried.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence, ValuesView
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from empirical.engine import Engine, Live, TurnedError
from empirical.fields import FloatField
from empirical.waiting import Waiting

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
    live: list[Live]
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
            self.engine.mixed.add(self.engine.where())
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


def empty_in_layout(data: Tensor, count: int) -> Tensor:
    """Room for ``count`` tangents; the window's dimensions lie in memory in the order of ``data``'s."""
    order = memory_order(data)
    flat = data.new_empty([count, *(data.shape[d] for d in order)])
    return flat.permute(0, *(1 + order.index(d) for d in range(1, data.ndim)))


def as_rows(data: Tensor) -> Tensor:
    """Tangents [K, *window] as [K, rows] in whatever order needs no copy (order is no matter)."""
    return data.permute(0, *memory_order(data)).reshape(data.shape[0], -1)
