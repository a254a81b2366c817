"""The chain of a small network's block Jacobians, whole, and the ranks of all its pieces.

J_k is the Jacobian of block k at the image, all outputs by all inputs, in float64. Read as dyadic
rationals mod a random prime these matrices are a chain of linear maps over a field, so that every
r(i,j) of theory.md, section 1, is exact for them: a proved lower bound of the rank of the recorded
product (5.2). What the catalogue says of chains can then be held against numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from empirical.features import outputs
from empirical.fields import ModField, random_primes
from empirical.finite import rank_mod
from empirical.lyapunov import push, segment
from empirical.taps import Tap
from theory.errors import UnsupportedError

#: widest tap whose Jacobian is formed whole: 4096 x 4096 in float64 is 128 MiB
WIDEST = 4096


@dataclass(frozen=True, eq=False)
class Chain:
    """Block Jacobians J_1..J_L as float64 matrices and as residues mod ``field.prime``.

    Attributes:
        taps: the separator taps that end the blocks.
        matrices: J_k, shape (d_k, d_{k-1}); d_0 is the number of pixels.
        residues: the same mod p.
        field: the integers mod p.
    """

    taps: tuple[Tap, ...]
    matrices: tuple[Tensor, ...]
    residues: tuple[Tensor, ...]
    field: ModField

    @property
    def dimensions(self) -> tuple[int, ...]:
        """d_0..d_L."""
        return (self.matrices[0].shape[1], *(m.shape[0] for m in self.matrices))

    @cached_property
    def products(self) -> dict[tuple[int, int], Tensor]:
        """J_{i->j} mod p for every i < j."""
        found: dict[tuple[int, int], Tensor] = {}
        for i in range(len(self.residues)):
            found[i, i + 1] = self.residues[i]
            for j in range(i + 1, len(self.residues)):
                found[i, j + 1] = self.field.matmul(self.residues[j], found[i, j])
        return found

    @cached_property
    def table(self) -> dict[tuple[int, int], int]:
        """r(i,j) for all 0 <= i <= j <= L, with r(i,i) = d_i."""
        found = {(i, i): d for i, d in enumerate(self.dimensions)}
        for (i, j), matrix in self.products.items():
            found[i, j] = self.rank(matrix)
        return found

    def rank(self, matrix: Tensor) -> int:
        """Rank mod p."""
        tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        return rank_mod(tall, self.field.prime)


def chain(
    model: nn.Module, image: Tensor, taps: Sequence[Tap], *, seed: int = 0, device: str = "cpu"
) -> Chain:
    """Form the chain of a network at an image.

    Args:
        model: in eval mode.
        image: preprocessed, [channels, height, width].
        taps: separator taps in forward order; others are left out.
        seed: seed of the prime.
        device: where to differentiate.

    Raises:
        UnsupportedError: no separator taps, or a tap is too wide to be formed whole.
    """
    chosen = tuple(tap for tap in taps if tap.separator)
    if not chosen:
        raise UnsupportedError("no tap separates the input from the output: there is no chain")
    net = copy.deepcopy(model).to(device=device, dtype=torch.float64).eval()
    x = image.to(device=device, dtype=torch.float64)[None]
    shapes = {n: v.shape[1:] for n, v in outputs(net, x, [t.name for t in chosen]).items()}
    widest = max([("the input", image.numel())] + [(n, prod(s)) for n, s in shapes.items()],
                 key=lambda pair: pair[1])  # fmt: skip
    if widest[1] > WIDEST:
        raise UnsupportedError(
            f"{widest[0]} has {widest[1]} values: Jacobians of inner blocks are formed whole up to "
            f"{WIDEST}; only r(0,k) along the patch is measured"
        )
    matrices: list[Tensor] = []
    before, point = "", x
    for tap in chosen:
        step = segment(net, x, before, tap.name)
        basis = torch.eye(point.numel(), dtype=torch.float64, device=device)
        matrices.append(push(step, point, basis, 128).cpu())
        before, point = tap.name, step(point)
    field = ModField(random_primes(1, seed)[0])
    residues = tuple(field.constant(m) for m in matrices)
    return Chain(chosen, tuple(matrices), residues, field)


def spectra(matrices: Sequence[Tensor]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Singular values of each J_k and of each J_{0->k}, descending."""
    own = [torch.linalg.svdvals(m).numpy() for m in matrices]
    product, prefixes = matrices[0], [own[0]]
    for m in matrices[1:]:
        product = m @ product
        prefixes.append(torch.linalg.svdvals(product).numpy())
    return own, prefixes
