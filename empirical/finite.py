"""Rank mod p of a tall matrix, from a random sketch of its rows and python-flint's elimination.

``rank(S J) <= rank(J)`` for every S, so the sketch's rank is a proved lower bound; with 8 rows more
than columns and entries of 8 random bits it misses the rank with probability about 256^-9.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical.fields import Field, ModField
from empirical.spectrum import without_zeros
from empirical.tangents import Tangent, as_rows

EXTRA = 8
STEP = 1 << 14


@dataclass
class Sketch:
    """``S J`` mod p, gathered from blocks of columns of J.

    Attributes:
        directions: columns of J.
        field: the integers mod p.
        seed: of S, the same for every block.
    """

    directions: int
    field: Field
    seed: int
    columns: dict[int, Tensor] = default(default_factory=dict)

    def add(self, x: Tangent, part: range) -> None:
        """Sketch the tangents of directions ``part``.

        Blocks of one tap have one window: rows keep their order, so S matches across blocks.
        """
        data = as_rows(x.data_)
        m = data.shape[1]
        rows = min(m, self.directions + EXTRA)
        field = self.field
        if m <= self.directions + EXTRA:
            self.columns[part.start] = data.clone()
            return
        draw = np.random.Generator(np.random.SFC64(self.seed))
        total = torch.zeros(data.shape[0], rows, dtype=torch.float64, device=data.device)
        for a in range(0, m, STEP):
            width = min(STEP, m - a)
            bits = np.frombuffer(draw.bytes(rows * width), dtype=np.int8)
            bits = bits.reshape(width, rows)
            strip, alive = without_zeros(data[:, a : a + width])  # they add nothing
            if alive is not None:
                bits = bits[alive.cpu().numpy()]
            total += strip @ torch.from_numpy(bits.astype(np.float64)).to(data.device)
            field.reduce_(total)
        self.columns[part.start] = total

    def rank(self) -> int:
        """Rank of the sketch mod p."""
        assert isinstance(self.field, ModField)
        matrix = torch.cat([self.columns[k] for k in sorted(self.columns)])
        return rank_mod(matrix, self.field.prime)


def rank_mod(matrix: Tensor, prime: int) -> int:
    """Exact rank mod ``prime`` of a matrix of integer residues."""
    import flint

    if matrix.numel() == 0:
        return 0
    residues: Any = matrix.cpu().to(torch.int64).remainder(prime)
    rows, columns = residues.shape
    entries = residues.reshape(-1).tolist()
    # by way of the integers: twice as fast as residues one by one
    return int(flint.nmod_mat(flint.fmpz_mat(rows, columns, entries), prime).rank())
