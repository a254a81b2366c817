"""Which samples a head classifies right with the leading k components, for every k at once.

The logits of all k are sums of rank-one updates. Only whether a rival reaches the label's logit is
asked: within a block of updates a sample, or a rival, that Cauchy-Schwarz on the block decides is
left out, so that the work shrinks with the spectrum. This runs in float32; a sample whose nearest
rival comes within the rounding bound is decided again in float64.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from empirical.threads import threads

#: most entries of a temporary [pairs of sample and rival, block]
_ENTRIES = 1 << 18
#: logits of one tile of samples
_TILE = 1 << 22


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
    # component by component in memory: the tiles write many samples of few components
    correct = torch.zeros(n, count, dtype=torch.bool)
    t, u, b = scores.float(), head.float(), offset.float()
    # rounding of a float32 sum of n products, each factor rounded once (Higham, theorem 3.1), of
    # both logits of a difference, with 10 % for the order of the sum
    unit = 1.1 * 2 * (n + 64) * 2.0**-24
    slack = unit * (b.abs().max() + t.norm(dim=1) * u.norm(dim=1).max())
    blocks = _blocks(u)
    cores = torch.get_num_threads()
    # equal tiles keep every core at work to the end; few logits would only wait for Python's lock
    tiles = count * len(head) / _TILE
    tiles = cores * math.ceil(tiles / cores) if tiles > 0.1 else 1
    rows = max(16, math.ceil(count / tiles))

    def fill(top: int) -> Tensor:
        part = slice(top, top + rows)
        found = _tile(t[part], blocks, b, labels[part], slack[part], correct[:, part])
        found[1] += top
        return found

    with threads(1), ThreadPoolExecutor(cores) as pool:
        doubt = torch.cat(list(pool.map(fill, range(0, count, rows))), 1)
        _recheck(scores, head, offset, labels, doubt, correct, pool)
    return correct.T


def _tile(
    t: Tensor, blocks: list[tuple[int, Tensor, Tensor]], offset: Tensor, labels: Tensor,
    slack: Tensor, correct: Tensor,
) -> Tensor:  # fmt: skip
    """Fill ``correct`` [n, samples] for a few samples, whose logits stay in cache (float32).

    Returns:
        [2, m]: component (from 0) and sample of the m entries left open, where a rival comes
        within ``slack`` of the label's logit.
    """
    each = torch.arange(len(t))
    own = offset[labels].clone()
    rivals = offset.expand(len(t), -1).clone()
    rivals[each, labels] = -torch.inf
    doubt = [torch.empty(2, 0, dtype=torch.long)]
    for start, v, size in blocks:
        stop = start + v.shape[1]
        x = t[:, start:stop]
        if stop - start > 1:
            found = _block(rivals, own, x, v, size, labels, slack, correct[start:stop])
        rivals.addmm_(x, v.T)
        own += (x * v[labels]).sum(1)
        if stop - start == 1:
            margin = rivals.amax(1) - own
            correct[start] = margin < -slack
            found = (margin.abs() <= slack)[None].nonzero().T
        found[0] += start
        doubt.append(found)
    return torch.cat(doubt, 1)


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
    return 1 if start < 16 else 8 if start < 64 else 32 if start < 256 else 64


def _block(
    rivals: Tensor, own: Tensor, x: Tensor, v: Tensor, size: Tensor, labels: Tensor,
    slack: Tensor, correct: Tensor,
) -> Tensor:  # fmt: skip
    """Fill a block of components from the logits before it and its updates; what is left open.

    |sum_i x_i v_ci| <= |x| |v_c| for every prefix (Cauchy-Schwarz): most samples are decided for the
    whole block by that, and in the others most classes.
    """
    length = x.norm(dim=1)
    reach = length * size[labels] + slack
    nearest = rivals.amax(1) - own
    most = length * size.max() + reach
    right, wrong = nearest < -most, nearest > most
    correct[:] = ~wrong  # the open ones until a rival reaches them
    open_rows = (~(right | wrong)).nonzero().flatten()
    up = torch.addr(rivals[open_rows], length[open_rows], size)
    place, classes = (up >= (own - reach)[open_rows, None]).nonzero(as_tuple=True)
    met, counts = torch.unique_consecutive(place, return_counts=True)
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
    correct[:, rows] = (worst < -bound).T
    sample, component = (worst.abs() <= bound).nonzero(as_tuple=True)
    return torch.stack([component, rows[sample]])


def _recheck(
    scores: Tensor, head: Tensor, offset: Tensor, labels: Tensor, doubt: Tensor, correct: Tensor,
    pool: ThreadPoolExecutor,
) -> None:  # fmt: skip
    """Decide in float64 what float32 left in doubt."""
    ks, rows = doubt
    n = scores.shape[1]
    if not len(rows):
        return
    if len(rows) <= 16 * n:
        inside = torch.arange(n)
        order = ks.argsort()  # so that a chunk needs its first components only

        def decide(chosen: Tensor) -> None:
            r, k = rows[chosen], ks[chosen]
            top = int(k[-1]) + 1
            logits = (scores[r, :top] * (inside[:top] <= k[:, None])) @ head[:, :top].T + offset
            correct[k, r] = logits.argmax(1) == labels[r]

        list(pool.map(decide, order.split(256)))
        return
    # many ties, such as equal rows of the head: all components of the samples that have some
    rows = torch.unique(rows)
    for a in range(0, len(rows), 256):
        r = rows[a : a + 256]
        logits = offset.expand(len(r), -1).clone()
        for j in range(n):
            logits.addmm_(scores[r, j : j + 1], head[:, j : j + 1].T)
            correct[j, r] = logits.argmax(1) == labels[r]
