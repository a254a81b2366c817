"""The official implementation's arithmetic, re-stated from its description (reference.md).

For ``--estimator official``: so that a user sees the difference. Float32 throughout, as there. The
PCA dimension's official arithmetic stands beside the streaming one in ``empirical.pca``.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.jacobian import request_of
from empirical.records import Record
from empirical.subject import Subject
from empirical.taps import Tap

STEPS = 5000


def classification_dimension(
    h: Tensor, w: Tensor, b: Tensor, y: Tensor, fraction: float
) -> int | None:
    """First k < n that keeps the accuracy, one full projection of the features for each k.

    Principal axes are those of the covariance, but the features are not centred when they are
    projected; k = n is never tried.

    Args:
        h: features [samples, n]; ``w``, ``b`` the head [classes, n] and [classes]; ``y`` labels.
        w: as above.
        b: as above.
        y: as above.
        fraction: of the original accuracy.

    Returns:
        k, or None where every k < n falls short.
    """
    hits, original = classification_curve(h, w, b, y)
    kept = np.flatnonzero(hits >= fraction * original)
    return int(kept[0]) + 1 if len(kept) else None


def classification_curve(h: Tensor, w: Tensor, b: Tensor, y: Tensor) -> tuple[np.ndarray, int]:
    """Samples classified right with the leading k axes, k = 1..n-1, and without a projection."""
    h, w, b = h.float(), w.float(), b.float()
    centred = h - h.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(h))
    vectors = vectors.flip(1)
    original = int(((h @ w.T + b).argmax(1) == y).sum())
    hits = []
    for k in range(1, h.shape[1]):
        axes = vectors[:, :k]
        projected = (h @ axes) @ axes.T
        hits.append(int(((projected @ w.T + b).argmax(1) == y).sum()))
    return np.array(hits, dtype=np.int64), original


def subgradient(
    rows: np.ndarray, label: int, weight: float, *, steps: int = STEPS, seed: int = 0
) -> np.ndarray:
    """Coefficients after so many subgradient steps from a small random start, in float32.

    The description names neither rate nor start: here the rate is that of the smooth part, 1 / L,
    divided by 1 + step / 500, so that the steps converge; no entry is ever set to zero.

    Args:
        rows: [samples, classes], scaled so that rows^T rows is the second moment.
        label: the regressed logit.
        weight: of the penalty.
        steps: how many.
        seed: of the start.

    Returns:
        theta [classes], own entry 0, float64.
    """
    x = torch.from_numpy(np.ascontiguousarray(rows)).float()
    others = torch.arange(x.shape[1]) != label
    target, x = x[:, label], x[:, others]
    draw = torch.Generator().manual_seed(seed)
    theta = 0.01 * torch.randn(x.shape[1], generator=draw)
    rate = 1 / (2 * float(torch.linalg.matrix_norm(x, 2)) ** 2 + 1e-30)
    for step in range(steps):
        slope = 2 * (x.T @ (x @ theta - target)) + weight * theta.sign()
        theta -= rate / (1 + step / 500) * slope
    found = np.zeros(rows.shape[1])
    found[others.numpy()] = theta.double().numpy()
    return found


def jacobian_ranks(
    model: nn.Module,
    image: Tensor,
    taps: Sequence[Tap],
    *,
    patch: int | None = 16,
    at: tuple[int, int] | None = None,
    background: str = "zero",
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> dict[str, tuple[int, Tensor, tuple[int, ...]]]:
    """Rank of float32 J^T J at torch's default tolerance, J by one backward pass for each row.

    Args:
        model: in eval mode; not modified.
        image: preprocessed, [channels, height, width].
        taps: where; all rows of all of them are computed, which takes hours at 224 x 224.
        patch: side of the square of pixels that varies; None for all.
        at: its corner; centred by default.
        background: ``zero`` blanks the other pixels, as there; ``image`` keeps them.
        device: where to run.
        progress: called with a line of text: the estimate, then each tap.

    Returns:
        Tap -> (rank, singular values of J^T J, descending, shape of the tap's output).
    """
    net = copy.deepcopy(model).to(device=device, dtype=torch.float32).eval()
    x = image.to(device=device, dtype=torch.float32)
    request = request_of(x, patch, at, background)
    side = (request.patch or x.shape[1], request.patch or x.shape[2])
    (top, left), (height, width) = request.corner, side
    inside = x[:, top : top + height, left : left + width].clone()
    around = torch.zeros_like(x) if background == "zero" else x
    found: dict[str, tuple[int, Tensor, tuple[int, ...]]] = {}
    for tap in taps:
        seen: list[Tensor] = []
        handle = net.get_submodule(tap.name).register_forward_hook(
            lambda _m, _i, output, seen=seen: seen.append(output)
        )
        try:
            pixels = inside.clone().requires_grad_(True)
            full = around.clone()
            full[:, top : top + height, left : left + width] = pixels
            net(full[None])
        finally:
            handle.remove()
        output = seen[0].flatten()
        rows, started = [], time.perf_counter()
        for i in range(len(output)):
            # an output that the patch does not reach is a zero row, not an error
            if output.requires_grad:
                (row,) = torch.autograd.grad(
                    output[i], pixels, retain_graph=True, allow_unused=True
                )
            else:
                row = None
            rows.append(torch.zeros_like(pixels) if row is None else row)
            if i == 7 and progress is not None:
                each = (time.perf_counter() - started) / 8
                progress(f"{tap.name}: {len(output)} rows, about {each * len(output):.0f} s")
        j = torch.stack(rows).flatten(1)
        gram = j.T @ j
        found[tap.name] = (
            int(torch.linalg.matrix_rank(gram)),
            torch.linalg.svdvals(gram),
            tuple(seen[0].shape[1:]),
        )
    return found


def jacobian_records(
    found: dict[str, tuple[int, Tensor, tuple[int, ...]]], taps: Sequence[Tap], subject: Subject,
    seconds: float,
    settings: dict[str, Any],
) -> tuple[Record, ...]:  # fmt: skip
    """One record a tap; the cut on the singular values of J is the root of that on J^T J."""
    records = []
    for tap in taps:
        rank, values, shape = found[tap.name]
        cut = (len(values) * torch.finfo(torch.float32).eps) ** 0.5
        here = replace(
            subject,
            tap=tap.name,
            tap_index=tap.index,
            separator=tap.separator,
            dtype="float32",
            shape=shape,
        )
        note = f"official: float32 J^T J, cut at {cut:.2g} of the largest singular value"
        records.append(
            here.record(
                "jacobian", f"relative({cut:.3g})", float(rank), tolerance=cut,
                directions=len(values), seconds=seconds,
                settings=settings | {"estimator": "official"},
                extra={"kind": tap.kind, "note": note},
            )
        )  # fmt: skip
    return tuple(records)
