"""Which samples a head classifies right with the leading k components, for every k at once.

The logits of all k are sums of rank-one updates. Only whether a rival reaches the label's logit is
asked: within a block of updates a sample, or a rival, that Cauchy-Schwarz on the block decides is
left out, so that the work shrinks with the spectrum. This runs in float32; a sample whose nearest
rival comes within the rounding bound is decided again in float64.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from empirical.threads import threads

#: most entries of a temporary [pairs of sample and rival, block]
_ENTRIES = 1 << 18
#: logits of one tile of samples
_TILE = 1 << 21


def correct_by_rank(scores: Tensor, head: Tensor, offset: Tensor, labels: Tensor) -> Tensor:
    """Whether each sample is right with the leading k components, for every k.

    Args:
        scores: [samples, n], coordinates on the principal axes.
        head: [classes, n], the head in the same axes.
        offset: [classes], logits without any component.
        labels: [samples].

    Returns:
        Boolean [samples, n]; column k - 1 belongs to k components.
    """
    count, n = scores.shape
    correct = torch.zeros(count, n, dtype=torch.bool)
    doubt = torch.zeros(count, n, dtype=torch.bool)
    t, u, b = scores.float(), head.float(), offset.float()
    # rounding of a float32 sum of n products, each factor rounded once (Higham, theorem 3.1), of
    # both logits of a difference, with 10 % for the order of the sum
    unit = 1.1 * 2 * (n + 64) * 2.0**-24
    slack = unit * (b.abs().max() + t.norm(dim=1) * u.norm(dim=1).max())
    rows = max(16, _TILE // len(head))
    blocks = _blocks(u)
    starts = range(0, count, rows)

    def fill(top: int) -> None:
        part = slice(top, top + rows)
        _tile(t[part], blocks, b, labels[part], slack[part], correct[part], doubt[part])

    cores = torch.get_num_threads()
    with threads(1), ThreadPoolExecutor(max(1, min(cores, len(starts)))) as pool:
        list(pool.map(fill, starts))
    with threads(1):
        _recheck(scores, head, offset, labels, doubt, correct)
    return correct


def _tile(
    t: Tensor, blocks: list[tuple[int, Tensor, Tensor]], offset: Tensor, labels: Tensor,
    slack: Tensor, correct: Tensor, doubt: Tensor,
) -> None:  # fmt: skip
    """Fill the rows of some samples, few enough that their logits stay in cache (float32).

    Where a rival comes within ``slack`` of the label's logit, ``doubt`` is set instead.
    """
    each = torch.arange(len(t))
    own = offset[labels].clone()
    rivals = offset.expand(len(t), -1).clone()
    rivals[each, labels] = -torch.inf
    for start, v, size in blocks:
        stop = start + v.shape[1]
        x = t[:, start:stop]
        if stop - start == 1:
            rivals.addmm_(x, v.T)
            own += (x * v[labels]).sum(1)
            margin = rivals.amax(1) - own
            correct[:, start] = margin < -slack
            doubt[:, start] = margin.abs() <= slack
        else:
            inside = slice(start, stop)
            _block(rivals, own, x, v, size, labels, slack, correct[:, inside], doubt[:, inside])
            rivals.addmm_(x, v.T)
            own += (x * v[labels]).sum(1)


def _blocks(u: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """(first component, head columns, norm of each class's) of each block."""
    found, start = [], 0
    while start < u.shape[1]:
        v = u[:, start : start + _size(start)].contiguous()
        found.append((start, v, v.norm(dim=1)))
        start += v.shape[1]
    return found


def _size(start: int) -> int:
    """Length of the block that begins at ``start``; late components move the logits little."""
    return 1 if start < 16 else 4 if start < 64 else 16 if start < 128 else 32


def _block(
    rivals: Tensor, own: Tensor, x: Tensor, v: Tensor, size: Tensor, labels: Tensor,
    slack: Tensor, correct: Tensor, doubt: Tensor,
) -> None:  # fmt: skip
    """Fill a block of components from the logits before it and its updates.

    |sum_i x_i v_ci| <= |x| |v_c| for every prefix (Cauchy-Schwarz): most samples are decided for the
    whole block by that, and in the others most classes.
    """
    length = x.norm(dim=1)
    reach = length * size[labels] + slack
    nearest = rivals.amax(1) - own
    most = length * size.max() + reach
    right, wrong = nearest < -most, nearest > most
    correct[right] = True
    open_rows = (~(right | wrong)).nonzero().flatten()
    if not len(open_rows):
        return
    up = torch.addr(rivals[open_rows], length[open_rows], size)
    place, classes = (up >= (own - reach)[open_rows, None]).nonzero(as_tuple=True)
    met, counts = torch.unique_consecutive(place, return_counts=True)
    correct[open_rows] = True  # those that no class can reach
    if not len(met):
        return
    rows = open_rows[place]
    worst = torch.empty(len(met), x.shape[1])
    starts = torch.cumsum(counts, 0) - counts
    step = max(1, _ENTRIES // x.shape[1])
    first = 0
    while first < len(met):  # whole samples, as many pairs as the memory takes
        begin = int(starts[first])
        last = max(int(torch.searchsorted(starts, begin + step)), first + 1)
        end = int(starts[last]) if last < len(met) else len(rows)
        r, c = rows[begin:end], classes[begin:end]
        margins = ((v[c] - v[labels[r]]) * x[r]).cumsum_(1)
        margins += (rivals[r, c] - own[r])[:, None]
        worst[first:last] = torch.from_numpy(
            np.maximum.reduceat(margins.numpy(), (starts[first:last] - begin).numpy(), axis=0)
        )
        first = last
    rows = open_rows[met]
    bound = slack[rows, None]
    correct[rows] = worst < -bound
    doubt[rows] = worst.abs() <= bound


def _recheck(
    scores: Tensor, head: Tensor, offset: Tensor, labels: Tensor, doubt: Tensor, correct: Tensor
) -> None:
    """Decide in float64 what float32 left in doubt."""
    rows, ks = doubt.nonzero(as_tuple=True)
    n = scores.shape[1]
    if len(rows) <= 16 * n:
        inside = torch.arange(n)
        order = ks.argsort()  # so that a chunk needs its first components only
        for a in range(0, len(rows), 256):
            r, k = rows[order[a : a + 256]], ks[order[a : a + 256]]
            top = int(k[-1]) + 1
            logits = (scores[r, :top] * (inside[:top] <= k[:, None])) @ head[:, :top].T + offset
            correct[r, k] = logits.argmax(1) == labels[r]
        return
    # many ties, such as equal rows of the head: all components of the samples that have some
    rows = torch.unique(rows)
    for a in range(0, len(rows), 256):
        r = rows[a : a + 256]
        logits = offset.expand(len(r), -1).clone()
        for j in range(n):
            logits.addmm_(scores[r, j : j + 1], head[:, j : j + 1].T)
            correct[r, j] = logits.argmax(1) == labels[r]
