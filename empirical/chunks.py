"""Directions in chunks that stay in the cache, module by module.

Between two taps nothing needs all directions at once, and tangents are large: one attention map of
768 directions has 360 MB, and every elementwise operation on it waits for the memory. So a module
without a tap inside runs several times, each time with a few directions whose tangents stay in the
cache; its output is gathered, and the taps see all directions together as before. What does not
depend on the directions (primal values, prepared weights) is computed by the first chunk only
(``Engine.once``); the chunks after it run side by side, a thread each, so that one works while
another finds its way through Python, and nothing waits at the end of every small operation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from empirical.engine import CrossedError, Engine
from empirical.fields import FloatField
from empirical.tangents import Tangent, empty_in_layout
from empirical.threads import forward_pass, threads

#: bytes of live tangents of a chunk: they, and what an operation reads beside them, stay in cache
CACHE = 32 << 20
#: chunks side by side at most: more would queue for Python's lock
WORKERS = 4
#: a GPU wants large products; its cache is no guide
CACHE_GPU = 1 << 30
#: fewer directions a chunk cost more in calls and repeated views than the cache gives
FEWEST = 4
#: a module of fewer operations gains nothing: its output is written out in any case
OPERATIONS = 3


def at_a_time() -> int:
    """How many chunks the CPU works on side by side."""
    return min(WORKERS, torch.get_num_threads())


@dataclass
class Costs:
    """What a pass with few directions found out.

    Attributes:
        inside: peak bytes a direction of the tangents that live only inside a module, by its path.
        between: peak bytes a direction of what lives outside, inputs and outputs included.
        matrices: bytes of the tokens' matrices that wait for later chunks (``empirical.deferred``).
    """

    inside: dict[str, int] = field(default_factory=dict)
    between: int = 0
    matrices: int = 0

    def chunks(self, directions: int, device: torch.device) -> dict[str, int]:
        """How many directions each module takes at a time."""
        cache = CACHE_GPU if device.type == "cuda" else CACHE
        return {
            name: min(directions, max(FEWEST, cache // max(1, inside)))
            for name, inside in self.inside.items()
        }

    def bytes(self, directions: int, device: torch.device) -> int:
        """Peak bytes of live tangents of a pass with so many directions."""
        chunks = self.chunks(directions, device)
        workers = 1 if device.type == "cuda" else at_a_time()
        inside = max(
            (min(directions, workers * chunks[name]) * each for name, each in self.inside.items()),
            default=0,
        )
        return directions * self.between + inside + self.matrices


@contextmanager
def in_chunks(
    model: nn.Module,
    engine: Engine,
    taps: Sequence[str],
    chunks: Mapping[str, int] | None,
    costs: Costs | None,
) -> Iterator[None]:
    """Within it, the largest modules without a tap inside run in ``chunks``, or are measured."""
    replaced: list[nn.Module] = []
    workers = at_a_time()
    pool = ThreadPoolExecutor(workers) if chunks and workers > 1 else None
    try:
        for name, module in _largest(model, taps) if chunks or costs is not None else ():
            forward = module.forward
            if costs is not None:
                module.forward = _measured(engine, name, forward, costs)
            elif size := (chunks or {}).get(name):
                module.forward = _chunked(engine, forward, size, pool)
            else:
                continue
            replaced.append(module)
        yield
    finally:
        for module in replaced:
            del module.forward
        if pool is not None:
            pool.shutdown()


def _largest(model: nn.Module, taps: Sequence[str]) -> list[tuple[str, nn.Module]]:
    """The modules that have no tap strictly inside while the module around them has one."""
    found: list[tuple[str, nn.Module]] = []

    def visit(name: str, module: nn.Module) -> None:
        inner = [t for t in taps if t != name and t.startswith(f"{name}." if name else "")]
        if not inner:
            if "forward" not in vars(module):  # a forward set by hand is the user's
                found.append((name, module))
            return
        for child, below in module.named_children():
            visit(f"{name}.{child}" if name else child, below)

    visit("", model)
    return list({id(m): (n, m) for n, m in found}.values())


def _measured(
    engine: Engine, name: str, forward: Callable[..., Any], costs: Costs
) -> Callable[..., Any]:
    """``forward`` that notes its cost a direction."""

    def run(*args: Any, **kwargs: Any) -> Any:
        active = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tangent)]
        before, highest, operations = engine.total, engine.peak, engine.operations
        engine.matrices = 0
        costs.between = max(costs.between, before)
        engine.peak = before
        out = forward(*args, **kwargs)
        inside = engine.peak - before
        engine.peak = max(highest, engine.peak)
        costs.between = max(costs.between, engine.total)
        costs.matrices = max(costs.matrices, engine.matrices)
        if active and engine.operations - operations >= OPERATIONS:
            costs.inside[name] = max(costs.inside.get(name, 0), inside)
        else:
            costs.between = max(costs.between, before + inside)
        return out

    return run


def _chunked(
    engine: Engine, forward: Callable[..., Any], size: int, pool: ThreadPoolExecutor | None
) -> Callable[..., Any]:
    """``forward`` run on ``size`` directions at a time, its outputs gathered."""

    def run(*args: Any, **kwargs: Any) -> Any:
        leaves, spec = pytree.tree_flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tangent)]
        count = leaves[places[0]].directions if places else 0
        if count <= size:
            return forward(*args, **kwargs)

        workers = at_a_time() if pool is not None and leaves[places[0]].device.type == "cpu" else 1
        first, *others = _equal(count, size, workers)

        def chunk(own: Engine, some: range) -> tuple[list[Any], Any, dict[int, Tangent]]:
            parts = {i: _part(own, leaves[i], some) for i in places}
            a, k = pytree.tree_unflatten([parts.get(i, x) for i, x in enumerate(leaves)], spec)
            outputs, shape = pytree.tree_flatten(forward(*a, **k))
            return outputs, shape, parts

        def gather(outputs: Sequence[Any], some: range) -> None:
            for target, x in zip(whole, outputs, strict=True):
                if isinstance(x, Tangent):
                    target.data_[some.start : some.stop] = x.data_

        for i in places:
            leaves[i].check_basis()
            leaves[i].carry_out()  # what it remembers is not the chunks' memo
        layer, path = engine.layer, list(engine.path)
        engine.memo, engine.chunk = [], size
        try:
            outputs, shape, parts = chunk(engine, first)
            changed = [i for i in places if parts[i].primal is not leaves[i].primal]
            outputs += [parts[i] for i in changed]
            whole = [_whole(x, count) for x in outputs]
            _join_views(outputs, whole, leaves, parts)
            gather(outputs, first)

            def rest(some: range) -> int:
                own = engine.replica(layer, path)
                with forward_pass(isinstance(engine.field, FloatField)):
                    outputs, _, parts = chunk(own, some)
                    for x in outputs:
                        if isinstance(x, Tangent):
                            x.engine.check_thread()
                    outputs += [parts[i] for i in changed]
                    for x in outputs:
                        if isinstance(x, Tangent):
                            x.carry_out()  # what still waits reads the memo too
                own.finish_replay()
                gather(outputs, some)
                return own.peak

            peak = None
            if pool is not None and workers > 1:
                with suppress(CrossedError), threads(torch.get_num_threads() // workers):
                    running = [pool.submit(rest, some) for some in others]
                    wait(running)  # none may still write when the chunks run again
                    peak = workers * max(one.result() for one in running)
            if peak is None:  # one after another
                peak = max(map(rest, others))
            engine.peak = max(engine.peak, engine.total + peak)
        finally:
            engine.memo, engine.chunk = None, 0
        for i, x in zip(changed, whole[len(whole) - len(changed) :], strict=True):
            leaves[i].assign(x, "a module in chunks")
        same = {id(parts[i]): leaves[i] for i in places}
        done = [same.get(id(x), w) for x, w in zip(outputs, whole, strict=True)]
        return pytree.tree_unflatten(done[: len(done) - len(changed)], shape)

    return run


def _equal(count: int, size: int, workers: int) -> list[range]:
    """A small chunk, which one thread computes while the others wait, and equal ones for all threads."""
    first = min(size, FEWEST)
    rest = count - first
    chunks = -(-rest // size)
    step = -(-rest // (-(-chunks // workers) * workers))
    return [range(first), *(range(a, min(a + step, count)) for a in range(first, count, step))]


def _part(engine: Engine, x: Tangent, some: range) -> Tangent:
    """An input with the directions of one chunk; structure is the first chunk's business."""
    data = x.data_[some.start : some.stop]
    return engine.wrap(x.primal, data, x.offset, None if some.start else x.support)


def _whole(x: Any, count: int) -> Any:
    """A tangent tensor like the first chunk's ``x`` with room for all directions."""
    if not isinstance(x, Tangent):
        return x
    return x.engine.wrap(x.primal, empty_in_layout(x.data_, count), x.offset, x.support)


def _join_views(
    outputs: Sequence[Any], whole: Sequence[Any], leaves: Sequence[Any], parts: dict[int, Tangent]
) -> None:
    """An output that is a view of an input stays one in the eyes of in-place operations."""
    for x, gathered in zip(outputs, whole, strict=True):
        for i, part in parts.items():
            if isinstance(x, Tangent) and x is not part and x.group is part.group:
                leaves[i].group.append(weakref.ref(gathered))
                gathered.group = leaves[i].group
