"""The laws of depth that are read off a run's own records and spectra; nothing is pushed again.

Loss of rank per block beside its proved bound, concentration of the spectrum, the taps where a
relative rank rises with both spectra, and float32 beside float64 beside exact ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from empirical import depth
from empirical.jacobian import jacobian_profile
from empirical.models import LoadedModel
from empirical.records import Record
from empirical.subject import Subject
from empirical.verdicts import best_exact

#: the resolution of the official code's float32
FLOAT32 = 2.0**-23
#: singular values of each of two spectra that a record keeps; the folder has them all
KEPT = 64


def law_records(
    loaded: LoadedModel, image: Tensor, subject: Subject, records: Sequence[Record],
    spectra: Mapping[str, np.ndarray],
) -> list[Record]:  # fmt: skip
    """Losses beside their bounds, centralisation at every tap, and where relative ranks rise.

    Args:
        loaded: the network.
        image: preprocessed.
        subject: who the records are about, at this image.
        records: the Jacobian's records at this image.
        spectra: tap -> descending singular values (float64).
    """
    taps = {tap.name: tap for tap in loaded.taps}

    def at(name: str) -> Subject:
        tap = taps[name]
        return replace(
            subject, tap=name, tap_index=tap.index, separator=tap.separator,
            extra=subject.extra | {"kind": tap.kind},
        )  # fmt: skip

    found = []
    bounds, proofs = depth.segment_bounds(loaded.model, image, loaded.taps)
    for loss in depth.losses(records, bounds, proofs):
        limit = "no bound" if loss.bound is None else f"at most {loss.bound:g} proved"
        sure = max(loss.sure, 0.0) if np.isfinite(loss.sure) else None
        told = "" if sure is not None else " (float64: not proved)"
        found.append(
            at(loss.after).record(
                "loss", "exact", loss.lost, low=sure, high=loss.bound,
                settings={"from": loss.before},
                extra={
                    "broken": loss.broken, "bound": loss.bound, "proof": list(loss.proof),
                    "note": f"{loss.lost:g} lost after {loss.before}{told}: {limit}",
                },
            )
        )  # fmt: skip
    for c in depth.centralisation({t.name: spectra[t.name] for t in loaded.taps
                                   if t.name in spectra}):  # fmt: skip
        note = (
            f"stable {c.stable:.3g}, effective {c.effective:.3g}, participation "
            f"{c.participation:.3g}; sigma_1 / median sigma 10^{c.spread:.2f}"
        )
        found.append(
            at(c.tap).record(
                "centralisation", "effective", c.effective,
                extra={
                    "stable": c.stable, "participation": c.participation, "spread": c.spread,
                    "note": note,
                },
            )
        )  # fmt: skip
    for rise in depth.rises(records, spectra):
        before, after = (_thin(s) for s in rise.spectra)
        found.append(
            at(rise.after).record(
                "rise", rise.notion, rise.high, low=rise.high, high=rise.high, tolerance=1e-3,
                settings={"from": rise.before},
                extra={
                    "before": rise.low, "spectrum_before": before, "spectrum_after": after,
                    "note": f"at most {rise.low:g} at {rise.before}, at least {rise.high:g} here",
                },
            )
        )  # fmt: skip
    return found


def _thin(values: np.ndarray) -> list[float]:
    """At most ``KEPT`` values of a spectrum, evenly spaced, divided by the largest."""
    if not len(values) or not values[0] > 0:
        return []
    chosen = np.unique(np.linspace(0, len(values) - 1, KEPT).round().astype(int))
    return [float(f"{v:.4g}") for v in values[chosen] / values[0]]


def ablation_records(
    loaded: LoadedModel, image: Tensor, subject: Subject, patch: int | None, device: str,
    records: Sequence[Record],
) -> list[Record]:  # fmt: skip
    """Float32, float64 and exact ranks side by side, one record a tap.

    How far the two spectra are apart stands beside the estimate of their rounding: in a deep network
    another unit can be active in float32, which no estimate of rounding covers.

    Args:
        loaded: the network.
        image: preprocessed.
        subject: who the records are about, at this image.
        patch: side of the patch; None for all pixels.
        device: where to run.
        records: the Jacobian's records at this image, for the exact ranks.
    """
    profiles = {
        field: jacobian_profile(
            loaded.model, image, field=field, patch=patch, taps=loaded.taps, eps=(FLOAT32,),
            seed=subject.seed, name=loaded.name, weights=loaded.weights, device=device,
        )
        for field in ("float32", "float64")
    }  # fmt: skip
    rows = [r for r in records if r.measurement == "jacobian"]
    found = []
    errors: dict[tuple[str, str], float] = {
        (field, r.tap): float(r.extra["error"])
        for field, profile in profiles.items()
        for r in profile.records
        if "error" in r.extra
    }
    for r in profiles["float32"].records:
        if not r.notion.startswith("relative"):
            continue
        doubled = profiles["float64"].value(r.tap, r.notion)
        true = best_exact(rows, r.tap)
        exact = None if true is None or true.known == "measured" else true.value
        told = "not available" if exact is None else f"{exact:g}"
        note = (
            f"float32 {r.value:g}, float64 {doubled:g} (both relative to float32 eps), exact {told}"
        )
        single, double = (profiles[f].spectra[r.tap] for f in ("float32", "float64"))
        apart = float(np.abs(single - double).max(initial=0.0))
        room = errors["float32", r.tap] + errors["float64", r.tap]
        if apart > room:
            note += f"; the spectra are {apart:.2g} apart, their rounding is put at {room:.2g}"
        extra = {
            "float32": r.value, "float64": doubled, "exact": exact, "note": note,
            "known": None if true is None or exact is None else true.known,
            "apart": apart, "room": room,
        }  # fmt: skip
        found.append(replace(r, measurement="ablation", extra=subject.extra | extra))
    return found
