"""What the official implementation and naive forward mode report and cost, beside ours.

    python benchmarks/reference.py errors     where the official estimators err (seconds)
    python benchmarks/reference.py costs      reverse mode and vmap(jvp) of six networks (10 minutes)
    python benchmarks/reference.py trained    a briefly trained ResNet-18 at 224x224, every notion

The true values of ``errors`` are ours: exact fields, planted ranks, coordinate descent. ``costs`` times
five rows of each tap and 16 directions, and multiplies. The arithmetic of the official code (published
with the paper) is re-stated in ``empirical.official``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import timm
import torch
from engine import NETWORKS, official_rows, tap_values
from torch import Tensor, nn

from empirical import classification, dependence, pca
from empirical.jacobian import jacobian_profile
from empirical.models import LoadedModel, load
from empirical.official import classification_dimension, jacobian_ranks
from empirical.taps import Tap

EPS32 = 2.0**-23
#: directions of naive forward mode that are timed, a chunk of vmap
SOME = 16


def dense(*weights: Tensor) -> tuple[nn.Module, list[Tap]]:
    """A linear chain and its taps."""
    layers = [nn.Linear(w.shape[1], w.shape[0], bias=False) for w in weights]
    for layer, w in zip(layers, weights, strict=True):
        layer.weight.data = w
    net = nn.Sequential(nn.Flatten(), *layers).eval().requires_grad_(False)
    return net, [Tap(str(n + 1), n, True, "block") for n in range(len(layers))]


def both(
    net: nn.Module, taps: list[Tap], inputs: int, point: Sequence[float] | None = None
) -> tuple[list[int], list[int]]:
    """(exact, official) ranks of the taps, at a point or at zero."""
    x = torch.tensor(point or [0.0] * inputs).view(1, 1, inputs)
    profile = jacobian_profile(net, x, field="exact", patch=None, taps=taps)
    exact = {r.tap: int(r.value) for r in profile.records if r.notion == "exact"}
    theirs = jacobian_ranks(net, x, taps, patch=None)
    return [exact[t.name] for t in taps], [theirs[t.name][0] for t in taps]


def errors() -> Iterator[tuple[str, Any, Any]]:
    """(case, true, official) of each known fault."""
    draw = torch.Generator().manual_seed(0)
    w = torch.randn(400, 96, generator=draw)
    w[:, 48:] *= 2.0**-8
    yield "96 columns, half of them scaled by 2^-8", *both(*dense(w), 96)
    net, taps = dense(*(torch.randn(64, 64, generator=draw) / 8 for _ in range(24)))
    picked = [taps[0], taps[7], taps[23]]
    yield "linear chain, width 64, depth 1, 8, 24", *both(net, picked, 64)
    d = torch.diag(torch.tensor([1.0, 2.0**-14]))
    yield "diag(1, 2^-14), then its inverse", *both(*dense(d, torch.linalg.inv(d)), 2)
    layer = nn.Linear(3, 3, bias=False)
    layer.weight.data = torch.eye(3)
    relu = nn.Sequential(nn.Flatten(), nn.Sequential(layer, nn.ReLU())).eval()
    (one, one_), (three, three_) = (both(relu, taps[:1], 3, (1.0, x, x)) for x in (-1.0, 1.0))
    yield (
        "a ReLU layer at two points: largest, mean",
        max(one + three),
        statistics.mean(one_ + three_),
    )
    values = 2.0 ** (-torch.arange(64) / 4)
    u, v = (torch.linalg.qr(torch.randn(64, 64, generator=draw))[0] for _ in range(2))
    yield (
        "PCA, linear layer, sigma_i = 2^(-i/4)",
        64,
        perturbed(dense((u * values) @ v)[0], 64, 600),
    )
    wide = dense(torch.eye(2000))[0]
    yield "PCA, 2000 inputs, 300 samples", 2000, perturbed(wide, 2000, 300)
    layer = nn.Linear(1, 64)
    layer.weight.data.fill_(1.0)
    layer.bias.data = torch.linspace(-2e-3, 2e-3, 64)
    kinks = nn.Sequential(nn.Flatten(), nn.Sequential(layer, nn.ReLU())).eval()
    yield "PCA, one input, 64 ReLU kinks near it", 1, perturbed(kinks, 1, 500)
    yield "classification dimension, all 6 axes needed", *classes()
    yield "Lasso of one among 999 logits, w = 20: zeros", *lasso()


def perturbed(net: nn.Module, inputs: int, samples: int) -> int:
    """The official PCA dimension of the first layer."""
    tap = (Tap("1", 0, True, "block"),)
    found = pca.measure(
        net.double(), torch.zeros(1, 1, inputs).double(), tap, samples=samples, estimator="official"
    )
    return int(found.taps[0].rank)


def classes() -> tuple[int, int | None]:
    """Twelve classes at plus and minus six axes."""
    axes = torch.cat([torch.eye(6), -torch.eye(6)]).double()
    h = axes.repeat(4, 1) * torch.linspace(1, 0.9, 6, dtype=torch.float64)
    y, b = torch.arange(12).repeat(4), torch.zeros(12, dtype=torch.float64)
    ours = classification.measure(h, axes, b, y, bootstrap=0, fraction=1.0).first
    return ours, classification_dimension(h, axes, b, y, 1.0)


def lasso() -> tuple[str, str]:
    """Zeros and objective of both optimisers on 50 samples of 1,000 correlated logits."""
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.standard_normal((2000, 40)) @ rng.standard_normal((40, 1000)))
    y = torch.arange(2000) % 40
    found = [
        dependence.measure(
            z, y, held_out=(z, y), weight=20.0, samples="own", points=0, estimator=estimator,
            classes=range(1),
        ).classes[0]
        for estimator in ("lasso", "official")
    ]  # fmt: skip
    return tuple(f"{one.zeros} (objective {one.objective:.2f})" for one in found)  # type: ignore[return-value]


def naive(loaded: LoadedModel, image: Tensor, dtype: torch.dtype) -> float:
    """Seconds of vmap(jvp) for 768 directions and all taps, from some of them."""
    model, x = loaded.model.to(dtype), image.to(dtype)[None]
    names = [tap.name for tap in loaded.taps]

    directions = torch.zeros(SOME, *x.shape, dtype=dtype)
    directions.view(SOME, -1)[:, torch.arange(SOME) + x.numel() // 2] += torch.eye(
        SOME, dtype=dtype
    )
    push = torch.func.vmap(
        lambda v: torch.func.jvp(lambda z: tap_values(model, names, z), (x,), (v,))[1]
    )
    push(directions)
    started = time.perf_counter()
    push(directions)
    return (time.perf_counter() - started) * 768 / SOME


def costs() -> Iterator[str]:
    """A line a network, Markdown."""
    yield "| network | rows | ms a row | reverse mode | J in float32 | vmap(jvp) f32, f64 | ours f32, f64 |"
    yield "|---|---|---|---|---|---|---|"
    for name in NETWORKS:
        loaded = load(name, random_weights=True)
        draw = torch.Generator().manual_seed(0)
        image = torch.randn(loaded.input_size, generator=draw, dtype=torch.float64)
        taps = list(official_rows(loaded, image))
        rows = sum(count for _, count in taps)
        each = [1e3 * took for took, _ in taps]
        hours = sum(took * count for took, count in taps) / 3600
        ours = [
            jacobian_profile(loaded.model, image, field=field, taps=loaded.taps).seconds
            for field in ("float32", "float64")
        ]
        plain = [naive(loaded, image, dtype) for dtype in (torch.float32, torch.float64)]
        yield (
            f"| {name}, {len(taps)} taps | {rows:,} | {min(each):.1f} to {max(each):.1f} | {hours:.1f} h "
            f"| {rows * 768 * 4 / 2**30:.1f} GiB | {plain[0]:.0f} s, {plain[1]:.0f} s "
            f"| {ours[0]:.1f} s, {ours[1]:.1f} s |"
        )


def trained_network(size: int, steps: int, batch: int) -> nn.Module:
    """A ResNet-18 after a few steps of SGD on ten noisy templates."""
    torch.manual_seed(0)
    net = timm.create_model("resnet18", pretrained=False, num_classes=10, zero_init_last=False)
    draw = torch.Generator().manual_seed(1)
    templates = torch.randn(10, 3, size, size, generator=draw)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        labels = torch.randint(0, 10, (batch,), generator=draw)
        images = templates[labels] / 2 + torch.randn(batch, 3, size, size, generator=draw)
        loss = nn.functional.cross_entropy(net(images), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return net.eval().requires_grad_(False)


def trained() -> Iterator[tuple[Any, ...]]:
    """(tap, exact, float64 at its default tolerance, float32 at max(m, n) eps32, official) at 224x224.

    The official float32 J^T J is taken from forward mode: its own way takes hours.
    """
    net = trained_network(224, 12, 8)
    image = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(7))
    records = jacobian_profile(net, image, field="exact", primes=1).records
    exact = {r.tap: (int(r.value), r.known) for r in records if r.notion == "exact"}
    double = jacobian_profile(net, image, field="float64").spectra
    single = jacobian_profile(net, image, field="float32")
    for tap, (rank, known) in exact.items():
        rows = next(int(np.prod(r.shape)) for r in single.records if r.tap == tap)
        cut = max(rows, 768)
        s64, s32 = double[tap], single.spectra[tap]
        yield (
            tap, f"{rank} ({known})", int((s64 > cut * 2.0**-52 * s64[0]).sum()),
            int((s32 > cut * EPS32 * s32[0]).sum()), int((s32**2 > 768 * EPS32 * s32[0] ** 2).sum()),
        )  # fmt: skip


def main(arguments: list[str]) -> int:
    """Print one table as Markdown, line by line as it comes."""
    if arguments == ["costs"]:
        for line in costs():
            print(line, flush=True)
    elif arguments == ["errors"]:
        print("| case | true | official |\n|---|---|---|")
        for case, true, theirs in errors():
            print(f"| {case} | {_words(true)} | {_words(theirs)} |", flush=True)
    elif arguments == ["trained"]:
        print(
            "| tap | exact | float64, default | float32, max(m, n) eps32 | official |\n|---|---|---|---|---|"
        )
        for row in trained():
            print("| " + " | ".join(str(x) for x in row) + " |", flush=True)
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


def _words(value: Any) -> str:
    return ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
