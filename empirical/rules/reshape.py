"""Reshaping a box of non-zeros: dimensions merge and split, and the box follows.

Dimensions that merge must leave consecutive places, and places that split must fill whole rows; where
the box does not, it is widened by zeros to the smallest that does (a patch of tokens cut into windows
becomes the windows that it touches, instead of all of them).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from empirical.rules.boxes import Block, inside
from empirical.tangents import zeros_like_layout
from empirical.waiting import Waiting

#: (first place, how many) along one dimension
Span = tuple[int, int]


def reshaped(block: Block, old: Sequence[int], new: Sequence[int]) -> Block:
    """The block of a tensor of shape ``old`` as a block of the same tensor reshaped to ``new``."""
    data, offset = block
    if isinstance(data, Waiting):
        waiting = _waiting(data, offset, old, new)
        if waiting is not None:
            return waiting
        data = data.carried_out()
    k = data.shape[0]
    if list(data.shape[1:]) == list(old):
        return data.reshape(k, *new), (0,) * len(new)
    if data.numel() == 0:
        return data.new_zeros((k, *[0] * len(new))), (0,) * len(new)
    spans = list(zip(offset, data.shape[1:], strict=True))
    wide: list[Span] = []
    runs: list[Span] = []
    filled: list[Span] = []
    places: list[Span] = []
    for a, b in groups(old, new):
        merged, run = merge(spans[a], old[a])
        split, fill = cut(run, new[b])
        wide += merged
        runs.append(run)
        filled.append(fill)
        places += split
    data = widened(data, spans, wide)
    data = widened(data.reshape(k, *(n for _, n in runs)), runs, filled)
    return data.reshape(k, *(n for _, n in places)), tuple(o for o, _ in places)


def _waiting(
    data: Waiting, offset: Sequence[int], old: Sequence[int], new: Sequence[int]
) -> Block | None:
    """What waits goes on waiting where its last dimension does and the box of the others fits."""
    if not new or old[-1] != new[-1] or data.shape[-1] != old[-1]:
        return None
    place = torch.empty(1).expand(1, *data.shape[1:-1], 1)  # only its box is looked at
    shaped, corner = reshaped((place, (*offset[:-1], 0)), [*old[:-1], 1], [*new[:-1], 1])
    if shaped.numel() != place.numel():
        return None
    return data.with_lead(shaped.shape[1:-1]), corner


def groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The finest pieces of both shapes that hold the same entries."""
    i = j = 0
    while i < len(old) or j < len(new):
        a, b, left, right = i, j, 1, 1
        while (i == a and i < len(old)) or left < right:
            left, i = left * old[i], i + 1
            while right < left:
                right, j = right * new[j], j + 1
        if i == len(old) or left == 1:  # ones that nothing else asks for
            while j < len(new) and new[j] == 1:
                j += 1
        if j == len(new):
            while i < len(old) and old[i] == 1:
                i += 1
        yield slice(a, i), slice(b, j)


def merge(spans: Sequence[Span], sizes: Sequence[int]) -> tuple[list[Span], Span]:
    """The smallest box around ``spans`` whose places are consecutive, and that run of places."""
    first = next((d for d, (_, n) in enumerate(spans) if n > 1), len(spans))
    wide = [*spans[: first + 1], *((0, n) for n in sizes[first + 1 :])]
    start = sum(o * math.prod(sizes[d + 1 :]) for d, (o, _) in enumerate(wide))
    return wide, (start, math.prod(n for _, n in wide))


def cut(run: Span, sizes: Sequence[int]) -> tuple[list[Span], Span]:
    """The smallest box of ``sizes`` that holds a run of places, and the run that it fills."""
    if not sizes:
        return [], run
    start, count = run
    row = math.prod(sizes[1:])
    first, last = start // row, (start + count - 1) // row
    if first < last:
        rest = [(0, n) for n in sizes[1:]]
        return [(first, last - first + 1), *rest], (first * row, (last - first + 1) * row)
    spans, (low, filled) = cut((start - first * row, count), sizes[1:])
    return [(first, 1), *spans], (first * row + low, filled)


def widened(data: Tensor, spans: Sequence[Span], wide: Sequence[Span]) -> Tensor:
    """The data of the box ``spans`` in the larger box ``wide``."""
    if list(spans) == list(wide):
        return data
    out = zeros_like_layout(data, [n for _, n in wide])
    out[inside(data, [o for o, _ in spans], [o for o, _ in wide])] = data
    return out
