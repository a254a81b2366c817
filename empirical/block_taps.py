"""Taps of a network whose modules are not named as timm names them.

They are what separates the input from the output among the repeated modules: whether it does is shown
by exchanging outputs (``empirical.taps.separators``), not taken from a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from empirical.taps import Tap, default_taps, forward_order, separators
from theory.errors import InputError


def taps_of(model: nn.Module, input_size: tuple[int, int, int]) -> tuple[Tap, ...]:
    """Default taps where the names are timm's, otherwise the separating repeated blocks.

    A block is one of a list, or of several siblings of its class, with at least two parametrised
    layers (one, in a plain chain) whose output separates the input from the network's output, and that
    holds no other such block.

    Raises:
        InputError: no such block is found.
    """
    try:
        return default_taps(model, input_size)
    except InputError as error:
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        order = forward_order(model, torch.zeros(1, *input_size, dtype=dtype))
        found = _blocks(model, order, input_size)
        if not found:
            raise InputError(
                f"{error}; and no repeated module of {type(model).__name__} separates its input "
                "from its output"
            ) from error
        return found


def _blocks(
    model: nn.Module, order: list[tuple[str, tuple[int, ...]]], input_size: tuple[int, int, int]
) -> tuple[Tap, ...]:
    modules = dict(model.named_modules())
    shapes = dict(order)
    names = list(dict.fromkeys(name for name, _ in order))
    repeated = [n for n in names if _repeated(modules, n)]
    # blocks have at least two layers; where there are none, the layers of a plain chain are taken
    candidates = [n for n in repeated if _leaves(modules[n]) >= 2] or [
        n for n in repeated if _leaves(modules[n])
    ]
    through = separators(model, candidates, input_size)
    inner = [n for n in candidates if n in through and not _inside(n, through)]
    # a block with branches shows by what it holds; one of its class without a skip, whose layers
    # separate too, is the same kind of block
    branching = {
        type(modules[n]) for n in inner
        if not isinstance(modules[n], nn.Sequential)
        and any(m.startswith(n + ".") and m not in through for m in candidates)
    }  # fmt: skip
    whole = [n for n in through if type(modules[n]) in branching]
    blocks = [
        n for n in candidates
        if n in through
        and not any(n.startswith(w + ".") for w in whole)
        and (n in whole or n in inner)
        and not _inside(n, whole)
    ]  # fmt: skip
    linears = [n for n in names if isinstance(modules[n], nn.Linear)]
    head = linears[-1] if linears else None
    blocks = [n for n in blocks if n != head]
    if branching:  # what comes before the first real block is the stem
        start = next((i for i, n in enumerate(blocks) if type(modules[n]) in branching), 0)
        blocks = blocks[start:]
    if not blocks:
        return ()
    first = next(i for i, n in enumerate(names) if n == blocks[0] or n.startswith(blocks[0] + "."))
    # all that ends before the first block begins, or after the last one ends, may separate
    ends = names[:first][-1:]
    after = names[names.index(blocks[-1]) + 1 :]
    width = modules[head].in_features if head else None
    pooled = [
        n for n in after[: after.index(head)] if width == torch.Size(shapes[n]).numel()
    ] if head in after else []  # fmt: skip
    kinds = [(n, "stem") for n in ends] + [(n, "block") for n in blocks]
    kinds += [(n, "pooled") for n in pooled[-1:]] + ([(head, "logits")] if head else [])
    true = separators(model, [n for n, _ in kinds], input_size)
    kinds = [(n, kind) for n, kind in kinds if n in true or kind != "block"]
    return tuple(Tap(n, i, n in true, kind) for i, (n, kind) in enumerate(kinds))


def _inside(name: str, others: Iterable[str]) -> bool:
    """Whether it holds one of the others."""
    return any(m.startswith(name + ".") for m in others)


def _repeated(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Whether it is one of a list, or has a sibling of its class."""
    parent = modules[name.rpartition(".")[0]]
    if isinstance(parent, nn.Sequential | nn.ModuleList):
        return True
    if isinstance(modules[name], nn.Sequential):  # a part of the network, not one of several
        return False
    return sum(type(m) is type(modules[name]) for m in parent.children()) >= 2


def _leaves(module: nn.Module) -> int:
    """How many of its modules hold parameters of their own."""
    return sum(any(True for _ in m.parameters(recurse=False)) for m in module.modules())
