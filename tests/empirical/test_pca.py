"""Perturbed PCA dimension against numpy's covariance, planted ranks, and the official flaws."""

import numpy as np
import pytest
import torch
from torch import nn

from empirical.pca import measure
from empirical.subject import Subject
from empirical.taps import Tap
from theory.errors import InputError

TAPS = (Tap("0", 0, True, "block"), Tap("1", 1, True, "logits"))


def linear(singular: torch.Tensor, width: int) -> nn.Sequential:
    """Flatten, then a linear layer with the given singular values."""
    torch.manual_seed(0)
    n = len(singular)
    u, _ = torch.linalg.qr(torch.randn(width, n, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))
    layer = nn.Linear(n, width, bias=True, dtype=torch.float64)
    layer.weight.data = (u * singular) @ v.T
    return nn.Sequential(nn.Flatten(), layer).eval()


def image(n: int) -> torch.Tensor:
    return torch.linspace(-1, 1, n, dtype=torch.float64).view(1, 1, n)


def test_spectrum_against_scikit_learn() -> None:
    pca = pytest.importorskip("sklearn.decomposition").PCA
    net = linear(torch.linspace(1, 0.2, 12, dtype=torch.float64), 20)
    found = measure(net, image(12), TAPS, samples=400, batch=37, noises=(1e-3,))
    z = torch.randn(0)
    generator = torch.Generator().manual_seed(0)
    parts = [
        torch.randn(min(37, 400 - s), 1, 1, 12, generator=generator, dtype=torch.float64)
        for s in range(0, 400, 37)
    ]
    z = torch.cat(parts)
    with torch.no_grad():
        y = net(image(12) + 1e-3 * z).numpy()
    variance = pca(12, svd_solver="full").fit(y).explained_variance_ * 399 / 400
    np.testing.assert_allclose(found.taps[1].deviations[:12] ** 2, variance, rtol=1e-8)
    assert [t.rank for t in found.taps] == [12, 12]


def test_true_rank_where_the_official_estimator_loses_it() -> None:
    """theory: sigma_i = 2^(-i/4), 64 of them: float32 sees about half (the official flaw)."""
    net = linear(2.0 ** (-torch.arange(64, dtype=torch.float64) / 4), 64)
    ours = measure(net, image(64), TAPS[1:], samples=600).taps[0]
    theirs = measure(net, image(64), TAPS[1:], samples=600, estimator="official").taps[0]
    assert ours.rank == 64
    assert theirs.rank < 50


@pytest.mark.parametrize("rank", [3, 11])
def test_planted_rank_through_a_sketch(rank: int) -> None:
    singular = torch.zeros(16, dtype=torch.float64)
    singular[:rank] = torch.linspace(1, 0.1, rank, dtype=torch.float64)
    found = measure(linear(singular, 300), image(16), TAPS[1:], samples=200, sketch=64).taps[0]
    assert found.relative(1e-3) == rank
    assert found.sketch == 64


def test_saturates_at_n_minus_one_and_says_so() -> None:
    net = linear(torch.ones(40, dtype=torch.float64), 40)
    found = measure(net, image(40), TAPS[1:], samples=10, jacobian={"1": 40})
    (record,) = found.records(Subject(model="m"))
    assert record.value == 9 == record.extra["bound"]
    assert record.extra["saturated"]
    assert record.extra["bias"] == -31


def test_counts_kinks_that_the_jacobian_does_not_have() -> None:
    """One input, 64 ReLU kinks near it: rank 1 almost everywhere, many for PCA (the official flaw)."""
    layer = nn.Linear(1, 64, dtype=torch.float64)
    layer.weight.data.fill_(1.0)
    layer.bias.data = torch.linspace(-2e-3, 2e-3, 64, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Sequential(layer, nn.ReLU())).eval()
    found = measure(net, torch.zeros(1, 1, 1), TAPS[1:], samples=500).taps[0]
    assert found.rank > 10


def test_dimension_of_known_manifolds() -> None:
    """An embedded d-dimensional flat manifold has dimension d; scikit-dimension agrees."""
    lpca = pytest.importorskip(
        "skdim.id", reason="scikit-dimension is an outside check, not a dependency"
    ).lPCA
    singular = torch.cat([torch.ones(5), torch.zeros(7)]).double()
    net = linear(singular, 12)
    z = torch.randn(500, 1, 1, 12, dtype=torch.float64)
    assert measure(net, image(12), TAPS[1:], samples=300).taps[0].relative(1e-3) == 5
    assert round(lpca().fit(net(z).detach().numpy()).dimension_) == 5


def test_bad_input() -> None:
    net = linear(torch.ones(4, dtype=torch.float64), 4)
    with pytest.raises(InputError, match="at least 2 samples"):
        measure(net, image(4), TAPS, samples=1)
    with pytest.raises(InputError, match="positive noise"):
        measure(net, image(4), TAPS, samples=5, noises=(0.0,))
