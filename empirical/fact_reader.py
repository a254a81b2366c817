"""Walk a known model in forward order and join its modules' facts: chains, residuals, taps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from empirical.leaf_facts import Seen, fit, leaf, opaque, trusted
from theory.errors import InputError
from theory.layers import LayerFact

Facts = list[LayerFact]
#: a module's path, or a function from the mask to facts and the mask after them
Part = str | Callable[[Tensor], tuple[Facts, Tensor]]
#: facts of one block from (reader, path, module, mask)
Block = Callable[["Reader", str, Any, Tensor], tuple[Facts, Tensor]]
#: the parts of a whole model in forward order
Family = Callable[["Reader", Any], list[Part]]


def everything(mask: Tensor) -> Tensor:
    """The mask with everything live, unless nothing is."""
    return torch.full_like(mask, bool(mask.any()))


def _key(module: nn.Module) -> str:
    """``file.Class`` of torch's and timm's own classes; nothing for anybody else's."""
    kind = type(module)
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}" if trusted(module) else ""


class Reader:
    """Walks a model in forward order; every method returns facts and the mask after them."""

    def __init__(
        self,
        modules: dict[str, nn.Module],
        seen: dict[str, Seen],
        taps: frozenset[str],
        blocks: Mapping[str, Block],
        families: Mapping[str, Family],
    ) -> None:
        self.modules, self.seen, self.taps = modules, seen, taps
        self.blocks, self.families = blocks, families
        self.norm: nn.LayerNorm | None = None  # the layer norm whose output this is, if any

    def model(self, model: nn.Module, mask: Tensor, names: Sequence[str]) -> Facts:
        """Facts of a whole model: known family, plain sequence, or opaque taps."""
        family = self.families.get(_key(model))
        if family is None and type(model) is not nn.Sequential:
            return self._unknown(type(model).__name__, mask, names)
        found: Facts = []
        children: list[Part] = [n for n, _ in model.named_children()]
        if family is not None:
            children = family(self, model)
        for part in children:
            more, mask = part(mask) if callable(part) else self.module(part, mask)
            found += more
        return found

    def _unknown(self, what: str, mask: Tensor, names: Sequence[str]) -> Facts:
        result: Facts = []
        for name in names or [""]:
            if name not in self.seen:
                continue
            outputs = self.seen[name].outputs
            more, _ = opaque(name, what, Seen(tuple(mask.shape), outputs), mask)
            result += [
                replace(fact, name=name or "output", tap=True, from_input=True) for fact in more
            ]
        return result

    def module(self, path: str, mask: Tensor) -> tuple[Facts, Tensor]:
        """Facts of one module, with a mark after it when it is a tap."""
        module = self.modules[path]
        if path not in self.seen:
            if type(module).__name__ in ("Identity",):
                return [], mask
            raise InputError(f"module {path!r} did not run in the forward pass: cannot audit it")
        seen = self.seen[path]
        mask = fit(mask, seen.inputs)
        block = self.blocks.get(_key(module))
        if block is not None:
            found, mask = block(self, path, module, mask)
        elif type(module) is nn.Sequential:
            found, mask = self.chain([f"{path}.{n}" for n, _ in module.named_children()], mask)
        else:
            found, mask = leaf(path, module, seen, mask)
            if found:
                self.norm = module if found[-1].kind == "layer-norm" else None  # type: ignore
            if isinstance(module, BatchNormAct2d):
                more, mask = self.module(f"{path}.act", mask)
                found += more
        return self.mark(path, found, mask), mask

    def mark(self, path: str, found: Facts, mask: Tensor) -> Facts:
        """Report after ``found``: its last fact when it bears the name, else an identity."""
        if path not in self.taps:
            return found
        if found and found[-1].name == path:
            return [*found[:-1], replace(found[-1], tap=True)]
        width = mask.numel()
        return [*found, LayerFact(path, "select", width, width, tap=True)]

    def centred(self, name: str, mask: Tensor) -> Facts:
        """One token, or the mean of tokens, of a layer norm: a direction is missing.

        With centred z and y = gamma z + beta, sum (y - beta) / gamma = 0; a zero gamma takes its own
        direction instead. So a projection of that rank acts as the identity here.
        """
        if self.norm is None:
            return []
        width = mask.numel()
        gamma = self.norm.weight
        zeros = 0 if gamma is None else int((gamma.detach() == 0).sum())
        rank = width - max(zeros, 1)
        return [LayerFact(name, "centred", width, width, rank_upper=rank, rank_lower=rank)]

    def chain(self, paths: Sequence[str], mask: Tensor) -> tuple[Facts, Tensor]:
        """Modules one after the other; absent or skipped ones are left out."""
        found: Facts = []
        for path in paths:
            if path in self.modules and path in self.seen:
                more, mask = self.module(path, mask)
                found += more
        return found, mask

    def residual(
        self,
        name: str,
        branch: Sequence[str],
        mask: Tensor,
        shortcut: str | None = None,
        mixes: bool = False,
    ) -> tuple[LayerFact, Tensor]:
        """The sum shortcut(x) + branch(x); the shortcut is the identity when ``None``.

        ``mixes`` says that the branch transposes tokens and channels: everything may be live.
        """
        inside, after = self.chain(branch, everything(mask) if mixes else mask)
        after = everything(after) if mixes else after
        short, beside = (None, mask) if shortcut is None else self.module(shortcut, mask)
        if beside.numel() != after.numel():
            raise InputError(
                f"block {name!r}: shortcut of shape {tuple(beside.shape)} and branch of shape "
                f"{tuple(after.shape)} cannot be added"
            )
        joined = fit(after, tuple(beside.shape)) | beside
        live = int(joined.sum())
        self.norm = None
        fact = LayerFact(
            name,
            "residual",
            mask.numel(),
            joined.numel(),
            live=live if live < joined.numel() else None,
            branch=tuple(inside),
            shortcut=None if short is None else tuple(short),
        )
        return fact, joined
