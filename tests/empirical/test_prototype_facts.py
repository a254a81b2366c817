"""Two facts that a prototype measured on trained networks (shared issue 5), replayed."""

import importlib
from pathlib import Path

import pytest
import torch
from torch import nn

from empirical.jacobian import jacobian_profile
from empirical.official import jacobian_ranks
from empirical.taps import named_taps

EPS32 = 2.0**-23


@pytest.fixture
def trained(monkeypatch):
    """A briefly trained ResNet-18, as the benchmark's table has it."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("reference").trained_network


def noise(size: int) -> torch.Tensor:
    return torch.randn(3, size, size, generator=torch.Generator().manual_seed(7))


def exact_ranks(net: nn.Module, image: torch.Tensor, patch: int) -> dict[str, int]:
    profile = jacobian_profile(net, image, patch=patch, field="exact", primes=1)
    own = [r for r in profile.records if r.notion == "exact"]
    assert all(r.known == "proved" for r in own), [(r.tap, r.known, r.extra) for r in own]
    return {r.tap: int(r.value) for r in own}


def test_the_official_estimate_falls_below_the_proved_rank(trained):
    """32 x 32 pixels, a patch of 8 x 8: 192 directions, one backward pass for each output."""
    net, image = trained(32, 8, 16), noise(32)
    exact = exact_ranks(net, image, 8)
    taps = named_taps(net, ["global_pool"], (3, 32, 32))
    official = jacobian_ranks(net, image, taps, patch=8, background="image")["global_pool"][0]
    # by more than what any accident of rounding at one singular value could explain
    assert official < exact["global_pool"] / 2, (official, exact)
    values = list(exact.values())
    assert values == sorted(values, reverse=True)
    assert exact["layer4.1"] == 192


def default_rank(values, rows: int, columns: int) -> int:
    """NumPy's and PyTorch's default: singular values above max(m, n) eps of the largest."""
    return int((values > max(rows, columns) * EPS32 * values[0]).sum())


def test_a_tolerance_that_grows_with_the_map_makes_the_numerical_rank_rise():
    """The same spectrum on a map of 65,536 values and on one of 16; the exact rank stays."""
    torch.manual_seed(0)
    linear = nn.Linear(16, 16, bias=False)
    left, right = (torch.linalg.qr(torch.randn(16, 16))[0] for _ in range(2))
    linear.weight.data = left @ torch.diag(4.0 ** -torch.arange(16.0)) @ right
    net = nn.Sequential(
        nn.Flatten(), linear, nn.Unflatten(1, (1, 4, 4)), nn.Upsample(scale_factor=64),
        nn.AvgPool2d(64),
    ).eval().requires_grad_(False)  # fmt: skip
    image, taps = torch.randn(1, 4, 4), ["2", "3", "4"]
    floats = jacobian_profile(net, image, patch=None, taps=taps)
    exact = jacobian_profile(net, image, patch=None, taps=taps, field="exact")
    numerical = [
        default_rank(floats.spectra[tap], rows, 16)
        for tap, rows in zip(taps, (16, 1 << 16, 16), strict=True)
    ]
    assert numerical == [10, 4, 10]  # 4^-i against 2^-19 and 2^-7
    assert [exact.value(tap, "exact") for tap in taps] == [16, 16, 16]
    # a tolerance that does not depend on the map's size sees no rise here
    fixed = [floats.value(tap, "relative(0.001)") for tap in taps]
    assert fixed == [5, 5, 5]


@pytest.mark.slow
def test_both_facts_on_resnet18_at_224(trained):
    """The full case; the official J^T J is taken from forward mode (its own way takes hours)."""
    net, image = trained(224, 12, 8), noise(224)
    exact = exact_ranks(net, image, 16)
    floats = jacobian_profile(net, image, field="float32")
    shapes = {r.tap: r.shape for r in floats.records}
    official, numerical = {}, {}
    for tap, values in floats.spectra.items():
        official[tap] = int((values**2 > 768 * EPS32 * values[0] ** 2).sum())
        numerical[tap] = default_rank(values, int(torch.tensor(shapes[tap]).prod()), 768)
    blocks = [tap for tap in exact if tap.startswith("layer")]
    assert all(exact[tap] == 768 for tap in blocks)
    assert all(official[tap] < exact[tap] for tap in [*blocks[-4:], "global_pool"])
    ranks = [exact[tap] for tap in exact]
    assert ranks == sorted(ranks, reverse=True)
    falling = [numerical[tap] for tap in blocks]
    assert falling != sorted(falling, reverse=True), falling
