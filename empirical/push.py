"""One pass: a block of directions through an unmodified model, every tap's tangents handed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from empirical.chunks import Costs, in_chunks
from empirical.engine import Engine
from empirical.fields import FloatField
from empirical.tangents import Tangent
from empirical.threads import forward_pass
from theory.errors import InputError


def push(
    model: nn.Module,
    primal: Tensor,
    data: Tensor,
    engine: Engine,
    taps: Sequence[str],
    on_tap: Callable[[str, Tangent], None],
    offset: Sequence[int] | None = None,
    *,
    chunks: Mapping[str, int] | None = None,
    costs: Costs | None = None,
) -> None:
    """Push a block of directions through ``model`` and hand over every tap's tangents as it comes.

    Args:
        model: in eval mode, in the dtype of ``primal``.
        primal: the image, [1, channels, height, width].
        data: the directions, [K, 1, channels, h, w], placed at ``offset`` in the image.
        engine: field and mode; collects kinks, fallbacks and the peak.
        taps: module paths, each called once.
        on_tap: called with (path, tangent tensor) when the module has run.
        offset: place of the directions' window in [1, channels, height, width].
        chunks: directions that a module takes at a time, by its path (``empirical.chunks``).
        costs: filled with the bytes of each module that could run in chunks.

    Raises:
        InputError: a tap does not return one tensor, or was never reached.
        UnsupportedError: an operation has no rule.
    """
    import empirical.rules  # noqa: F401  (fills the table)

    engine.directions = max(engine.directions, data.shape[0])
    support = None
    if engine.structural:
        support = torch.zeros(primal.shape, dtype=torch.bool, device=primal.device)
        corner = offset or (0,) * primal.ndim
        cut = tuple(slice(o, o + n) for o, n in zip(corner, data.shape[1:], strict=True))
        support[cut] = True
    seen: set[str] = set()
    wanted = set(taps)
    handles = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: engine.path.append(name)

    def leave(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            engine.path.pop()
            if name in wanted:
                seen.add(name)
                on_tap(name, _as_tangent(engine, name, output, data))

        return hook

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name or "the model")))
        handles.append(module.register_forward_hook(leave(name)))
    try:
        with (
            forward_pass(isinstance(engine.field, FloatField)),
            math_attention(),
            in_chunks(model, engine, taps, chunks, costs),
        ):
            model(engine.wrap(primal, data, offset, support))
    finally:
        engine.path.clear()
        for handle in handles:
            handle.remove()
    if missing := wanted - seen:
        raise InputError(f"taps that the forward pass never reached: {', '.join(sorted(missing))}")


@contextmanager
def math_attention() -> Iterator[None]:
    """Attention as products and a softmax: its fused kernels have no forward derivative."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _as_tangent(engine: Engine, name: str, output: Any, data: Tensor) -> Tangent:
    """The one tensor a tap returns; a tensor that does not depend on the input has zero rows."""
    tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
    active = [t for t in tensors if isinstance(t, Tangent)]
    if len(tensors) != 1:
        raise InputError(
            f"tap {name!r} returns {len(tensors)} tensors ({type(output).__name__}); "
            "a tap returns one: name the module inside it whose output is meant"
        )
    if active:
        return active[0]
    plain = tensors[0]
    empty = data.new_zeros((data.shape[0], *[0] * plain.ndim))
    support = torch.zeros(plain.shape, dtype=torch.bool) if engine.structural else None
    return engine.wrap(plain, empty, None, support)
