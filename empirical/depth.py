"""Depth laws: what depth does to tokens, spectra and ranks, read off activations and records.

Token rank with and without skips (theory.md, token-collapse; Dong et al. 2021), centralisation of
the spectrum, loss of rank in each block beside its proved bound (residual-loss), and the taps where
a relative rank rises, with both spectra.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.features import outputs
from empirical.records import Record
from empirical.spectrum import effective_rank, participation_ratio, stable_rank
from empirical.taps import Tap
from theory.errors import UnsupportedError


@dataclass(frozen=True)
class Tokens:
    """The token matrix [tokens, width] after one block.

    Attributes:
        tap: the block.
        rank: relative(1e-3) rank.
        distance: |X - 1 mean^T| / |X|, 0 when all tokens are equal (Frobenius).
        stable: stable rank.
    """

    tap: str
    rank: int
    distance: float
    stable: float


def token_ranks(
    model: nn.Module, image: Tensor, taps: Sequence[Tap], *, skips: bool = True
) -> tuple[Tokens, ...]:
    """Token matrices by depth, of the network or of the network without its skips.

    Args:
        model: a Transformer or Mixer whose blocks put out [1, tokens, width].
        image: preprocessed, [channels, height, width].
        taps: blocks among them are read.
        skips: False takes ``x +`` out of every attention and MLP branch.

    Raises:
        UnsupportedError: no block puts out tokens, or its skips cannot be taken out.
    """
    net = copy.deepcopy(model).double().eval()
    blocks = [tap.name for tap in taps if tap.kind == "block"]
    if not skips:
        for name in blocks:
            _without_skips(net.get_submodule(name), name)
    seen = outputs(net, image.double()[None], blocks)
    found = []
    for name in blocks:
        x = seen[name]
        if x.ndim != 3:
            raise UnsupportedError(
                f"block {name!r} puts out shape {tuple(x.shape[1:])}, not [tokens, width]"
            )
        values = torch.linalg.svdvals(x[0]).numpy()
        norm = float(x[0].norm())
        distance = float((x[0] - x[0].mean(0)).norm()) / norm if norm else 0.0
        count = int(((values > 0) & (values >= 1e-3 * values[0])).sum())
        found.append(Tokens(name, count, distance, stable_rank(values)))
    if not found:
        raise UnsupportedError("the network has no blocks of tokens")
    return tuple(found)


def _without_skips(block: nn.Module, name: str) -> None:
    """Replace a pre-norm block's forward by its branches alone."""
    first, second = ("attn", "mlp") if hasattr(block, "attn") else ("mlp_tokens", "mlp_channels")
    if hasattr(block, "linear_tokens"):  # ResMLP mixes tokens with one linear layer
        first = "linear_tokens"
    if not all(hasattr(block, part) for part in ("norm1", "norm2", first, second)):
        raise UnsupportedError(f"the skips of {type(block).__name__} {name!r} cannot be taken out")
    mixes_tokens = first != "attn"

    def forward(x: Tensor, *_: Any, **__: Any) -> Tensor:
        inner = block.norm1(x)  # type: ignore[operator]
        mix = getattr(block, first)
        x = mix(inner.transpose(1, 2)).transpose(1, 2) if mixes_tokens else mix(inner)
        return getattr(block, second)(block.norm2(x))  # type: ignore[operator, no-any-return]

    block.forward = forward


@dataclass(frozen=True)
class Centralisation:
    """How concentrated a spectrum is: three soft ranks, and log10 sigma_1 / median sigma."""

    tap: str
    stable: float
    effective: float
    participation: float
    spread: float


def centralisation(spectra: Mapping[str, np.ndarray]) -> tuple[Centralisation, ...]:
    """Soft ranks of each tap's Jacobian spectrum, in the order given."""
    found = []
    for tap, values in spectra.items():
        positive = values[values > 0]
        spread = float(np.log10(positive[0] / np.median(positive))) if len(positive) else 0.0
        soft = (stable_rank(values), effective_rank(values), participation_ratio(values))
        found.append(Centralisation(tap, *soft, spread))
    return tuple(found)


@dataclass(frozen=True)
class Loss:
    """Rank lost between two consecutive separator taps, and what is proved about it.

    Attributes:
        before, after: the taps.
        lost: rank lost along these directions (a partial drop: a lower bound of the true drop).
        bound: the most that residual-loss allows, or None where no bound applies.
    """

    before: str
    after: str
    lost: float
    bound: float | None

    @property
    def broken(self) -> bool:
        """Whether a proved bound is contradicted."""
        return self.bound is not None and self.lost > self.bound


def losses(records: Iterable[Record], bounds: Mapping[str, float]) -> tuple[Loss, ...]:
    """Loss per block from the best-known exact ranks; ``bounds``: tap -> most it may lose."""
    from empirical.sandwich import best_exact, taps

    rows = [r for r in records if r.measurement == "jacobian"]
    known = [(t, r) for t in taps(rows) if (r := best_exact(rows, t)) is not None]
    found = []
    for (before, a), (after, b) in pairwise(known):
        # only what is surely lost counts against a bound: lower end before, upper end after
        high = b.high if b.high is not None else b.value
        found.append(Loss(before, after, (a.low or 0.0) - (high or 0.0), bounds.get(after)))
    return tuple(found)


def branch_bounds(model: nn.Module, image: Tensor, taps: Sequence[Tap]) -> dict[str, float]:
    """Most rank a residual block can lose: the inner width of its branch (residual-loss).

    Only timm's ResNet blocks with an identity shortcut are recognised; their ReLU after the sum
    adds its inactive outputs at this image. A projection shortcut has no such bound.
    """
    net = copy.deepcopy(model).double().eval()
    found: dict[str, float] = {}
    for tap in taps:
        block = net.get_submodule(tap.name)
        convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
        if tap.kind != "block" or not hasattr(block, "downsample") or len(convs) < 2:
            continue
        if block.downsample is not None:
            continue
        inner = {n: m for n, m in net.named_modules() if m in convs[:-1]}
        seen = outputs(net, image.double()[None], [*inner, tap.name])
        width = min(seen[name].numel() for name in inner)
        found[tap.name] = float(width + int((seen[tap.name] == 0).sum()))
    return found


@dataclass(frozen=True, eq=False)
class Rise:
    """A tap where a relative rank surely grows with depth, and the two spectra."""

    before: str
    after: str
    notion: str
    low: float
    high: float
    spectra: tuple[np.ndarray, np.ndarray]


def rises(
    records: Iterable[Record], spectra: Mapping[str, np.ndarray], notion: str = "relative(0.001)"
) -> tuple[Rise, ...]:
    """Consecutive separator taps whose relative-rank intervals part upwards."""
    rows = sorted(
        (r for r in records if r.notion == notion and r.separator and r.measurement == "jacobian"),
        key=lambda r: r.tap_index,
    )
    found = []
    for a, b in pairwise(rows):
        if a.high is not None and b.low is not None and b.low > a.high:
            pair = (spectra.get(a.tap, np.zeros(0)), spectra.get(b.tap, np.zeros(0)))
            found.append(Rise(a.tap, b.tap, notion, a.high, b.low, pair))
    return tuple(found)
