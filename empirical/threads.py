"""How many threads torch's operations take, where the default is the wrong choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let each torch operation run on one thread.

    Thousands of small operations, and LAPACK's eigenvalues, meet at so many barriers that on a shared
    machine two threads cost ten times the work of one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
