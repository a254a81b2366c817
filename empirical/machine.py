"""What this machine and process are: versions, devices, memory taken, memory given back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from theory.errors import InputError

if TYPE_CHECKING:  # `rankfall report` needs no torch
    import torch

#: what decides a number
PACKAGES = ("rankfall", "torch", "timm", "numpy", "scipy", "sympy", "python-flint", "hypothesis")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of some packages; by default Python's and those of all that decide a number."""
    found = {} if packages else {"python": platform.python_version()}
    return found | {package: _installed(package) for package in packages or PACKAGES}


@cache
def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def description() -> str:
    """System, processor and cores, in words."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def device_of(name: str) -> torch.device:
    """The processor, or a CUDA device that is there and works.

    Raises:
        InputError: there is none of that name.
    """
    import torch

    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"no device is called {name!r}; use cpu or cuda") from error
    if found.type not in ("cpu", "cuda"):
        raise InputError(
            f"device {name!r}: ranks are computed on cpu or cuda only; use one of them"
        )
    count = 1
    if found.type == "cuda":  # a device whose driver is too old is counted, and does not work
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 <= (found.index or 0) < count:
        seen = f"{count} {found.type} here" if count else "no CUDA device here"
        raise InputError(f"device {name!r}: torch sees {seen}; use cpu")
    return found


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    with contextlib.suppress(OSError):  # Linux: getrusage would tell a child its parent's peak
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def fixed_bytes(device: torch.device) -> int:
    """Memory that is taken before the first direction: the process, or what a GPU already holds."""
    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux: the largest so far, which errs to the safe side
        return peak_bytes()
    return pages * resource.getpagesize()


def trim() -> None:
    """Give freed memory back to the system: glibc keeps the holes between blocks that are in use."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has other habits
        ctypes.CDLL("libc.so.6").malloc_trim(0)
