"""Operations without a rule, in the float field: torch.func.jvp under vmap, and the pass says so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from empirical.engine import Engine
from empirical.tangents import Tangent

#: torch's forward mode has one level for the whole process: the first chunk to leave it would take the
#: tangents of those side by side
ONE_AT_A_TIME = Lock()


def jvp(engine: Engine, func: Any, args: Any, kwargs: Any) -> Any:
    """torch.func.jvp under vmap, in a thread of its own: autograd is off inside the handler."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tangent)]
    primals = tuple(leaves[i].primal for i in places)
    count = leaves[places[0]].directions

    def call(*values: Tensor) -> Any:
        filled = list(leaves)
        for i, value in zip(places, values, strict=True):
            filled[i] = value
        a, k = pytree.tree_unflatten(filled, spec)
        return func(*a, **k)

    def run() -> tuple[Any, Any]:
        def push(*tangents: Tensor) -> Any:
            return torch.func.jvp(call, primals, tangents)[1]

        tangents = tuple(leaves[i].dense() for i in places)
        with torch.enable_grad():
            return call(*primals), torch.func.vmap(push, chunk_size=min(count, 64))(*tangents)

    with ONE_AT_A_TIME, ThreadPoolExecutor(1) as pool:
        try:
            value, data = pool.submit(run).result()
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0][:200]
            raise engine.refuse(func, f"no rule, and torch.func.jvp failed: {reason}") from error

    def wrap(p: Any, t: Any) -> Any:
        if not (isinstance(p, Tensor) and p.is_floating_point()):
            return p
        return engine.wrap(p.detach(), t.detach())

    if isinstance(value, Tensor):
        return wrap(value, data)
    return type(value)(wrap(p, t) for p, t in zip(value, data, strict=True))
