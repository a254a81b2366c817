"""Every row of the catalogue held against one network at one image, or the reason why it is not.

Small networks have their chain of block Jacobians formed whole (``empirical.chain``); of wide ones
only the ranks along a patch, r(0,k) P, are there, and the rows about those are checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from empirical import chain_bounds
from empirical.chain import chain
from empirical.models import LoadedModel
from empirical.records import Record
from empirical.subject import Subject
from empirical.tally import Tally
from empirical.verdicts import best_exact, structural, taps
from theory.errors import UnsupportedError

#: rows that other studies check
ELSEWHERE = ("logit-dependence",)
#: rows of which no instance can be read off one network
REASONS = {
    "kronecker": "no measured Jacobian of this network is a Kronecker product of two measured maps",
    "powers": "it needs one map applied again and again: no two blocks here share their weights",
    "dimension": "it is about the Hausdorff dimension of the feature set, which nothing measures",
    "rank-is-dimension": "it is about the dimension of the feature set, which nothing measures",
    "pca-limit": "a limit, not a bound: the PCA study shows both numbers side by side",
    "gaussian-exponents": "a limit law of Gaussian layers: see the claim exponential-collapse",
    "iid-limit": "a limit law of i.i.d. layers; the blocks of one network are not i.i.d.",
    "collapse-is-universal": "a statement about all networks, refuted in general",
    "eps-monotone": "refuted in general: see the claim numerical-monotone",
    "token-collapse": "a limit law: see the claim token-collapse",
}


def bound_records(
    loaded: LoadedModel, image: Tensor, subject: Subject, records: Sequence[Record], device: str
) -> list[Record]:
    """One record a catalogue row.

    Args:
        loaded: the network.
        image: preprocessed, [channels, height, width].
        subject: who the records are about, at this image.
        records: the Jacobian's records at this image.
        device: where to differentiate.
    """
    from theory.catalogue import CATALOGUE

    rows = {t.row: t for t in measured_rows([r for r in records if r.measurement == "jacobian"])}
    missing = ""
    try:
        own = chain(loaded.model, image, loaded.taps, seed=subject.seed, device=device)
    except UnsupportedError as error:
        missing = str(error)
    else:
        rows |= {t.row: t for t in chain_bounds.all_rows(own, centre(image))}
    found = []
    for entry in CATALOGUE:
        if entry.id in ELSEWHERE:
            continue
        row = rows.get(entry.id, Tally(entry.id, why=REASONS.get(entry.id, missing)))
        found.append(row.record(subject))
    return found


def centre(image: Tensor) -> Tensor:
    """The pixels of the central half of each side, boolean and flat."""
    mask = torch.zeros(image.shape, dtype=torch.bool)
    h, w = image.shape[-2:]
    mask[..., h // 4 : h // 4 + max(1, h // 2), w // 4 : w // 4 + max(1, w // 2)] = True
    return mask.flatten()


def measured_rows(records: Sequence[Record]) -> list[Tally]:
    """Diminishing and bottleneck on r(0,k) P: proved lower ends against proved upper ends."""
    names = taps(records)
    best = {tap: r for tap in names if (r := best_exact(records, tap)) is not None}
    bounds = structural(records)
    upper = {}
    for tap, r in best.items():
        ends = [float(bounds[tap].value or 0)] if tap in bounds else []
        if r.known.startswith("proved") and r.high is not None:
            ends.append(r.high)
        if ends:
            upper[tap] = min(ends)
    diminishing, bottleneck = Tally("diminishing", "partial"), Tally("bottleneck", "partial")
    order = [tap for tap in names if tap in best and tap in upper]
    for before, after in pairwise(order):
        low = best[after].low or 0.0
        diminishing.at_most(low, upper[before], f"{after} against {before}", after)
    for place, tap in enumerate(order):
        for earlier in order[: place + 1]:
            width = float(torch.Size(best[earlier].shape).numel())
            bottleneck.at_most(best[tap].low or 0.0, width, f"{tap} through {earlier}", tap)
    return [diminishing, bottleneck]
