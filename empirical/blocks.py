"""Blocks of directions that fit a memory budget, and Jacobians gathered from several blocks.

With one block a tap's Jacobian becomes its spectrum on the spot and is dropped. With more, columns
wait on disk, and the spectrum reads them back in strips of rows, so memory stays within the budget.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical.chunks import Costs
from empirical.machine import trim
from empirical.spectrum import STRIP, Spectrum, from_triangle, triangle, without_zeros
from empirical.tangents import Tangent, as_rows
from empirical.taps import Tap
from empirical.turned import FEWEST, Factor, cholesky, turn
from theory.errors import InputError

#: what a pass needs beside live tangents: primal values, patches of a convolution, strips of the QR
WORKING = 400 << 20
#: an operation's temporaries as a share of live tangents (most are inside chunks, hence small)
HEADROOM = 1.25
#: tangents of one pass when no budget is given
DEFAULT = 6 << 30


@dataclass(frozen=True)
class Plan:
    """Ranges of directions, pushed one after another.

    Attributes:
        parts: the directions of each pass.
        chunks: how many of them a module takes at a time, by its path.
        tangents: bytes that live tangents may have.
    """

    parts: tuple[range, ...]
    chunks: dict[str, int]
    tangents: int


def plan_blocks(
    directions: int, memory: int | None, costs: Costs, fixed: int, device: torch.device
) -> Plan:
    """The fewest equal blocks whose tangents fit.

    Args:
        directions: how many there are.
        memory: budget in bytes of the whole process; by default 6 GB, on a GPU what it has free.
        costs: of a pass with one direction.
        fixed: bytes that are there whatever the directions: the process and its weights.
        device: where the tangents live.

    Raises:
        InputError: the budget does not hold one direction.
    """
    if memory is None:
        memory = torch.cuda.mem_get_info()[0] * 3 // 4 if device.type == "cuda" else DEFAULT

    def need(count: int) -> int:
        return fixed + WORKING + int(costs.bytes(count, device) * HEADROOM)

    if need(1) > memory:
        raise InputError(
            f"--memory {memory / 2**30:.2f} GiB does not hold one direction: the pass needs "
            f"{need(1) / 2**30:.2f} GiB ({fixed / 2**30:.2f} for the process and its weights); "
            "give more"
        )
    count = next(n for n in itertools.count(1) if need(-(-directions // n)) <= memory)
    size = -(-directions // count)
    parts = tuple(range(a, min(a + size, directions)) for a in range(0, directions, size))
    return Plan(parts, costs.chunks(size, device), memory - fixed - WORKING)


Finish = Callable[[Tap, Spectrum, tuple[int, ...]], None]


@dataclass
class Columns:
    """Gathers the tangents of taps over blocks and hands over spectra.

    With one block, the first separator turns the directions (``empirical.turned``). Where Cholesky's QR then
    fails they are turned again, unless it never worked: a network that bends too much pays for one attempt.

    Attributes:
        may_turn: whether directions may be turned.
        nearly_orthogonal: they have been, and Cholesky's QR has not failed since.
    """

    plan: Plan
    taps: Sequence[Tap]
    may_turn: bool = True
    nearly_orthogonal: bool = False
    folder: Any = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    alive: dict[Path, list[Tensor]] = field(default_factory=dict)
    operations: int = 0

    def add(self, tap: Tap, x: Tangent, part: range, finish: Finish, dtype: torch.dtype) -> None:
        """Take a tap's tangents: the spectrum at once, or the columns to disk."""
        shape = tuple(x.primal.shape[1:])
        rows = as_rows(x.data_)
        self.operations = x.engine.operations
        if len(self.plan.parts) == 1:
            factor = self._factor(rows, dtype)
            spec = from_triangle(
                factor.R, (x.primal.numel(), rows.shape[0]), dtype=dtype,
                operations=self.operations, growth=factor.growth,
            )  # fmt: skip
            finish(tap, spec, shape)
            if self.may_turn and not self.nearly_orthogonal and self._turn_pays(tap, x, rows):
                self.may_turn, self.nearly_orthogonal = False, True
                turn(x, factor.R)
            return
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="rankfall-")
        self.shapes[tap.name] = shape
        path = self._file(tap, part)
        kept: list[Tensor] = []
        # strip by strip, as they are read again; not mapped: pages of a map count as memory
        with path.open("wb") as file:
            for a in range(0, rows.shape[1], STRIP):
                strip, alive = without_zeros(rows[:, a : a + STRIP])
                kept.append(torch.arange(strip.shape[1]) if alive is None else alive.cpu())
                strip.contiguous().cpu().numpy().tofile(file)
        self.alive[path] = kept

    def _turn_pays(self, tap: Tap, x: Tangent, rows: Tensor) -> bool:
        """Whether large taps follow that depend on this one alone, and a copy of its tangents fits."""
        following = self.taps[self.taps.index(tap) + 1 :]
        large = any(later.kind not in ("pooled", "logits") for later in following)
        # the copy, and one more where the rows had to be gathered
        fits = x.engine.total + 2 * rows.nbytes <= self.plan.tangents
        return tap.separator and large and fits and rows.shape[1] > 0

    def _factor(self, rows: Tensor, dtype: torch.dtype) -> Factor:
        """R of a tap's Jacobian, by Cholesky's QR where the directions have been turned for it."""
        if self.nearly_orthogonal and rows.shape[1] >= FEWEST * rows.shape[0]:
            factor = cholesky(rows)
            if factor is not None:
                self.may_turn = True
                return factor
            self.nearly_orthogonal = False
        return Factor(triangle(rows, precision=dtype))

    def finish(self, finish: Finish, dtype: torch.dtype) -> None:
        """Spectra of the taps whose columns waited on disk."""
        if self.folder is None:
            return
        for tap in self.taps:
            shape, k = self.shapes[tap.name], self.plan.parts[-1].stop
            R = self._read(tap, k, dtype)
            spec = from_triangle(
                R, (int(np.prod(shape)), k), dtype=dtype, operations=self.operations
            )
            finish(tap, spec, shape)
        self.folder.cleanup()
        self.folder = None

    def _read(self, tap: Tap, directions: int, dtype: torch.dtype) -> Tensor:
        """The QR triangle of a tap's Jacobian, strip by strip; its files are gone afterwards."""
        kind = np.float32 if dtype == torch.float32 else np.float64
        upper = torch.zeros(0, directions, dtype=dtype)
        paths = {self._file(tap, part): part for part in self.plan.parts}
        with ExitStack() as stack:
            files = {path: stack.enter_context(path.open("rb")) for path in paths}
            for strip in range(len(self.alive[next(iter(paths))])):
                block = torch.zeros(directions, STRIP, dtype=dtype)
                for path, part in paths.items():
                    kept = self.alive[path][strip]
                    read = np.fromfile(files[path], kind, len(part) * len(kept))
                    block[part.start : part.stop, kept] = torch.from_numpy(read).view(len(part), -1)
                upper = triangle(block, upper, dtype)
                trim()
        for path in paths:
            path.unlink()
        return upper

    def _file(self, tap: Tap, part: range) -> Path:
        return Path(self.folder.name) / f"{tap.index}-{part.start}.bin"
