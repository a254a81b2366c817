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
from empirical.verdicts import best_exact, ends
from empirical.verdicts import taps as tap_order
from theory.errors import UnsupportedError
from theory.layers import LayerFact, layer_rank


@dataclass(frozen=True)
class Tokens:
    """The token matrix [tokens, width] after one block.

    Attributes:
        tap: the block.
        rank: relative(1e-3) rank.
        distance: |X - 1 mean^T| / |X|, 0 when all tokens are equal (Frobenius).
        stable: stable rank.
        attention: whether the block mixes tokens by attention.
    """

    tap: str
    rank: int
    distance: float
    stable: float
    attention: bool = False


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
        attention = hasattr(net.get_submodule(name), "attn")
        found.append(Tokens(name, count, distance, stable_rank(values), attention))
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
        lost: difference of the best-known exact ranks along these directions (a partial drop: a
            lower bound of the drop over all inputs).
        sure: what is surely lost: lower end before less upper end after; -inf where the rank after
            has no upper end (a float64 spectrum bounds no exact rank from above).
        bound: the most that the layers between can lose, or None where nothing is proved.
        proof: the steps of the bound.
    """

    before: str
    after: str
    lost: float
    sure: float
    bound: float | None
    proof: tuple[str, ...] = ()

    @property
    def broken(self) -> bool:
        """Whether a proved bound is contradicted."""
        return self.bound is not None and self.sure > self.bound


def losses(
    records: Iterable[Record],
    bounds: Mapping[str, float],
    proofs: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[Loss, ...]:
    """Loss per block from the best-known exact ranks; ``bounds``: tap -> most it may lose."""
    rows = [r for r in records if r.measurement == "jacobian"]
    known = [(t, r) for t in tap_order(rows) if (r := best_exact(rows, t)) is not None]
    found = []
    for (before, a), (after, b) in pairwise(known):
        lost = (a.value or 0.0) - (b.value or 0.0)
        sure = (a.low or 0.0) - (b.high if b.high is not None else float("inf"))
        if a.known == "measured" or b.known == "measured":
            sure = min(sure, ends(a)[0] - ends(b)[1])
        proof = (proofs or {}).get(after, ())
        found.append(Loss(before, after, lost, sure, bounds.get(after), proof))
    return tuple(found)


def segment_bounds(
    model: nn.Module, image: Tensor, taps: Sequence[Tap]
) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
    """Most rank that is lost between consecutive separator taps, and the steps that prove it.

    A residual block loses at most its branch's rank, so at most the branch's inner width
    (residual-loss; several in a row add up, residual-stack); any other layer with n inputs loses at
    most n less its own rank (Sylvester), a ReLU after the sum at most its inactive outputs. Along a
    few directions of a wide network such a bound is seldom tight.

    Args:
        model: in eval mode.
        image: preprocessed, [channels, height, width]; its activation pattern is used.
        taps: separator taps in forward order; others are left out.

    Returns:
        Bounds and proofs by the later tap; a tap behind a projection shortcut, or behind layers
        whose own rank is unknown, is absent.
    """
    from empirical.facts import facts

    layers = facts(
        model, image.shape, image=image, taps=[tap.name for tap in taps if tap.separator]
    )
    bounds: dict[str, float] = {}
    proofs: dict[str, tuple[str, ...]] = {}
    segment: list[LayerFact] = []
    for number, fact in enumerate(layers):
        segment.append(fact)
        if fact.tap:
            parts = [_most_lost(f) for f in segment]
            if number >= len(segment) and all(p is not None for p in parts):
                kept = [p for p in parts if p is not None]
                bounds[fact.name] = float(sum(most for most, _ in kept))
                proofs[fact.name] = tuple(text for most, text in kept if most)
            segment = []
    return bounds, proofs


def _most_lost(fact: LayerFact) -> tuple[int, str] | None:
    """Most rank that one layer loses, with its reason; None where nothing is known."""
    from theory.audit import audit

    if fact.from_input or (fact.kind == "residual" and fact.shortcut is not None):
        return None
    if fact.kind == "residual":
        branch = audit(fact.branch, fact.inputs)[-1].upper
        assert isinstance(branch, int)
        return branch, f"{fact.name}: residual-loss: branch of rank at most {branch}"
    rank = layer_rank(fact).lower
    if not rank:
        return None
    lost = fact.inputs - rank
    return lost, f"{fact.name}: sylvester: {fact.inputs} inputs, rank at least {rank}"


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
