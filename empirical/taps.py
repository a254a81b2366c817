"""Taps: the places in a network where a Jacobian is read, by module name, through forward hooks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tap:
    """A module whose output is read.

    Attributes:
        name: the module's path in ``model.named_modules()``.
        index: place in forward order, from 0.
        separator: whether the whole output depends on the input through this tap only
            (the output of a block, not a tensor inside a branch; theory.md, section 1).
        kind: ``stem``, ``block``, ``pooled``, ``logits`` or ``other``.
    """

    name: str
    index: int
    separator: bool
    kind: str
