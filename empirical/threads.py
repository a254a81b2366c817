"""How a thread computes, where torch's default is the wrong choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let each torch operation run on ``count`` threads.

    Thousands of small operations, and LAPACK's eigenvalues, meet at so many barriers that on a shared
    machine two threads cost ten times the work of one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shares(rows: Tensor, fewest: int) -> tuple[Tensor, ...]:
    """Equal parts of the columns of ``rows``, one a thread, of ``fewest`` columns or more."""
    count = min(torch.get_num_threads() if rows.is_cpu else 1, rows.shape[1] // fewest)
    return rows.tensor_split(max(1, count), 1)


def side_by_side(work: Callable[[Tensor], Tensor], parts: tuple[Tensor, ...]) -> list[Tensor]:
    """``work`` on each part, one a thread: a library's QR keeps few threads busy."""
    if len(parts) < 2:
        return [work(part) for part in parts]
    with threads(1), ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(work, parts))


@contextmanager
def no_autograd() -> Iterator[None]:
    """A forward pass without autograd, in this thread.

    Without the second guard torch holds the base of each view alive: live views are counted by Python.
    """
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView)
    with torch.no_grad(), torch._C._ExcludeDispatchKeyGuard(keys):
        yield


@contextmanager
def no_denormals() -> Iterator[None]:
    """Numbers below 1e-38 (1e-308 in float64) are zero, in this thread.

    Masked attention is full of them (exp(-100)), and a product with them takes twenty times as long.
    They are far below the rounding of anything that a singular value could show.
    """
    alive = bool(torch.tensor(2.0**-149) * 1.0 > 0)  # there is no other way to ask
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if alive:
            torch.set_flush_denormal(False)


@contextmanager
def forward_pass(floats: bool) -> Iterator[None]:
    """What every thread of a pass enters; ``floats`` when its tangents are rounded numbers."""
    with no_autograd(), no_denormals() if floats else nullcontext():
        yield
