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


def test_bias_against_the_spectrum_of_the_jacobian_at_the_same_resolution() -> None:
    """Singular values below the PCA's own resolution are in neither count."""
    singular = torch.cat([torch.ones(5), torch.full((3,), 1e-9)]).double()
    net = linear(singular, 20)
    found = measure(
        net, image(8), TAPS[1:], samples=200, jacobian={"1": singular.numpy()}, noises=(1e-1, 1e-4)
    )
    assert [(t.rank, t.jacobian) for t in found.taps] == [(5, 5.0), (5, 5.0)]
    notes = [r.extra["note"] for r in found.records(Subject(model="m"))]
    assert all("Jacobian rank 5, bias +0" in note and "at most 20" in note for note in notes)


def test_a_patch_perturbs_its_own_pixels_only() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 40, dtype=torch.float64)).eval()
    x = torch.linspace(-1, 1, 108, dtype=torch.float64).view(3, 6, 6)
    found = measure(net, x, (Tap("1", 0, True, "logits"),), samples=100, patch=2)
    assert found.taps[0].rank == 12
    # oracle: the sample covariance of the central pixels' noise through their weights alone
    weight = net[1].weight.detach().view(40, 3, 6, 6)[:, :, 2:4, 2:4].reshape(40, 12)
    draw = torch.Generator().manual_seed(0)
    z = torch.cat(
        [torch.randn(n, 3, 6, 6, generator=draw, dtype=torch.float64) for n in (64, 36)]
    )[:, :, 2:4, 2:4].reshape(100, 12)  # fmt: skip
    expected = torch.linalg.svdvals((z - z.mean(0)) @ weight.T) * 1e-3 / 10
    np.testing.assert_allclose(found.taps[0].deviations[:12], expected[:12], rtol=1e-8)
    (record,) = found.records(Subject(model="m"))
    assert record.settings["patch"] == 2
    with pytest.raises(InputError, match="7x7 patch does not fit"):
        measure(net, x, TAPS[1:], samples=10, patch=7)


def test_features_that_are_not_finite_are_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, dtype=torch.float64)).eval()
    net[1].bias.data[0] = float("inf")
    for estimator in ("streaming", "official"):
        with pytest.raises(InputError, match="the features at 1 are NaN or infinite"):
            measure(net, image(4), TAPS[1:], samples=5, estimator=estimator)


def test_the_command_sets_the_jacobian_beside_it() -> None:
    from click.testing import CliRunner

    from empirical.records import Record
    from rankfall.commands.measure_pca import command

    asked = ["digits-resmlp", "--random-weights", "--samples", "90", "--patch", "3", "--json"]
    done = CliRunner().invoke(command, [*asked, "--noise", "1e-5"], standalone_mode=False)
    assert done.exception is None
    records = [Record.from_json(line) for line in done.output.splitlines() if line[0] == "{"]
    assert records
    for r in records:  # 9 directions of a piecewise-linear network, 90 samples near its pattern
        assert r.extra["jacobian_rank"] is not None
        assert r.extra["jacobian_rank"] <= 9


def test_counts_kinks_that_the_jacobian_does_not_have() -> None:
    """One input, 64 ReLU kinks near it: rank 1 almost everywhere, many for PCA (the official flaw)."""
    layer = nn.Linear(1, 64, dtype=torch.float64)
    layer.weight.data.fill_(1.0)
    layer.bias.data = torch.linspace(-2e-3, 2e-3, 64, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Sequential(layer, nn.ReLU())).eval()
    found = measure(net, torch.zeros(1, 1, 1), TAPS[1:], samples=500).taps[0]
    assert found.rank > 10


def sphere(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True)


@pytest.mark.filterwarnings("ignore:.*divide:RuntimeWarning:skdim")  # its gaps of exact zeros
@pytest.mark.parametrize(("manifold", "dimension"), [("flat", 5), ("sphere", 4), ("torus", 3)])
def test_dimension_of_known_manifolds(manifold: str, dimension: int) -> None:
    """Local dimension around a point of a known manifold in 12 dimensions: ours and skdim's lPCA.

    Close to a point (noise 1e-4) deviations along the manifold are of order 1e-4, curvature of
    order 1e-8: the relative(1e-2) count is the dimension.
    """
    lpca = pytest.importorskip(
        "skdim.id", reason="scikit-dimension (the test extra) is not installed"
    ).lPCA

    class Manifold(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            draw = torch.Generator().manual_seed(0)
            square = torch.randn(12, 12, generator=draw, dtype=torch.float64)
            self.rotation = torch.linalg.qr(square)[0]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = x.flatten(1)
            if manifold == "flat":
                y = z[:, :5]
            elif manifold == "sphere":
                y = sphere(z[:, :5])
            else:
                y = torch.cat([z[:, :3].cos(), z[:, :3].sin()], 1)
            return y @ self.rotation[: y.shape[1]]

    net = nn.Sequential(Manifold(), nn.Identity()).eval()
    found = measure(net, image(12), TAPS[1:], samples=300, noises=(1e-4,)).taps[0]
    assert found.relative(1e-2) == dimension
    draw = torch.Generator().manual_seed(1)
    z = torch.randn(400, 1, 1, 12, generator=draw, dtype=torch.float64)
    around = net(image(12) + 1e-4 * z).numpy()
    assert lpca(ver="FO", alphaFO=1e-4).fit(around).dimension_ == dimension


def test_bad_input() -> None:
    net = linear(torch.ones(4, dtype=torch.float64), 4)
    with pytest.raises(InputError, match="at least 2 samples"):
        measure(net, image(4), TAPS, samples=1)
    with pytest.raises(InputError, match="positive noise"):
        measure(net, image(4), TAPS, samples=5, noises=(0.0,))
