"""Exponents by the QR method against a dense Jacobian and against products of known layers."""

import numpy as np
import pytest
import torch
from torch import nn

from empirical.lyapunov import measure
from empirical.subject import Subject
from empirical.taps import Tap
from theory.errors import InputError


def chain(weights: list[torch.Tensor], relu: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for w in weights:
        layer = nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=torch.float64)
        layer.weight.data = w
        layers.append(nn.Sequential(layer, nn.LeakyReLU(0.3)) if relu else layer)
    return nn.Sequential(*layers).eval()


def taps(count: int) -> tuple[Tap, ...]:
    return tuple(Tap(str(i), i - 1, True, "block") for i in range(1, count + 1))


def draw(n: int, depth: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, n, generator=generator, dtype=torch.float64) for _ in range(depth)]


def test_against_the_dense_jacobian() -> None:
    net = chain(draw(6, 3), relu=True)
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).view(1, 1, 6)
    found = measure(net, x, taps(3), chunk=4, sweeps=2000)
    for depth in range(3):
        J = torch.autograd.functional.jacobian(net[: depth + 2], x[None]).reshape(6, 6)
        expected = np.linalg.svd(J.numpy(), compute_uv=False)
        np.testing.assert_allclose(np.exp(found.logs[depth]), expected, rtol=1e-8)
        determinant = sum(gain.sum() for gain in found.gains[: depth + 1])
        assert determinant == pytest.approx(np.log(expected).sum(), abs=1e-9)


def test_singular_values_that_a_dense_svd_loses() -> None:
    """diag(1, 2^-9, 2^-18) to the tenth: sigma_3 / sigma_1 = 2^-180."""
    scales = 2.0 ** torch.tensor([0.0, -9.0, -18.0], dtype=torch.float64)
    found = measure(chain([torch.diag(scales)] * 10), torch.ones(1, 1, 3).double(), taps(10))
    np.testing.assert_allclose(found.logs[-1] / np.log(2), [0, -90, -180], atol=1e-8)
    dense = np.linalg.svd(np.diag(scales.numpy() ** 10) + 1e-17, compute_uv=False)
    assert np.log2(dense[2]) > -100  # the false variant: rounding at 1e-17 hides it


def test_gaussian_layers_follow_the_prediction_and_orthogonal_ones_do_not() -> None:
    n, depth = 4, 80
    x = torch.ones(1, 1, n).double()
    gauss = measure(chain(draw(n, depth)), x, taps(depth), sweeps=1)
    spread = (gauss.logs[-1] - gauss.logs[-1][0]) / depth
    # standard deviation of an exponent at depth 80 is below 0.09
    np.testing.assert_allclose(spread, gauss.gaussian, atol=0.3)
    flat = measure(chain([torch.linalg.qr(w)[0] for w in draw(n, 20)]), x, taps(20))
    np.testing.assert_allclose(flat.exponents, 0, atol=1e-10)
    assert abs(flat.gaussian[-1]) > 0.5


def test_records_and_bad_input() -> None:
    net, x = chain(draw(4, 2)), torch.ones(1, 1, 4).double()
    found = measure(net, x, taps(2), directions=2)
    assert [r.directions for r in found.records(Subject(model="m"))] == [2, 2, 2]
    with pytest.raises(InputError, match="directions"):
        measure(net, x, taps(2), directions=9)
