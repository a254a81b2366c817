"""Exponents by the QR method against a dense Jacobian and against products of known layers."""

import numpy as np
import pytest
import torch
from torch import nn

from empirical.digits import digits_data
from empirical.lyapunov import measure
from empirical.models import load
from empirical.qr_method import gaussian_prediction, log_spectrum, split
from empirical.subject import Subject
from empirical.taps import Tap, default_taps
from theory.constants import gaussian_exponents
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
    found = measure(net, x, taps(3), chunk=4)
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


def z_scores(found: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """The exponents below the first, in standard deviations of the prediction."""
    return (found[1:] - mean[1:]) / deviation[1:]


def test_gaussian_layers_follow_the_prediction() -> None:
    """Within 4 standard deviations: 7 normal variables leave that once in 2,000 draws.

    The sums of the gains have exactly the predicted law; the log singular values differ from them
    by a bounded amount, which 400 layers make small beside the deviation.
    """
    n, depth = 8, 400
    x = torch.ones(1, 1, n).double()
    found = measure(chain(draw(n, depth)), x, taps(depth), sweeps=2)
    mean, deviation = gaussian_prediction([n] * depth, n)
    gains = sum(g for g in found.gains) / depth
    assert np.abs(z_scores(gains - gains[0], mean, deviation)).max() < 4
    np.testing.assert_allclose(found.gaussian, mean)
    # at 400 layers the standard deviation of an exponent is at most 0.06: false laws stand apart
    assert deviation.max() < 0.06
    for false in (2 * mean, mean * 0.5, np.append(mean[1:], mean[-1] - 0.7)):
        assert np.abs(z_scores(gains - gains[0], false, deviation)).max() > 4


def test_the_prediction_is_the_catalogues_for_square_layers() -> None:
    for n in (2, 5, 64):
        mean, deviation = gaussian_prediction([n] * 3, n)
        expected = np.array([float(v) for v in gaussian_exponents(n)])
        np.testing.assert_allclose(mean, expected, atol=1e-12)
        assert deviation[0] == 0
        assert (deviation[1:] > 0).all()
    wide, _ = gaussian_prediction([400, 64], 64)
    assert abs(wide[-1]) < abs(float(gaussian_exponents(64)[-1]))  # wide layers part them less
    with pytest.raises(InputError, match="do not pass"):
        gaussian_prediction([8, 3], 4)


def test_the_spread_of_the_prediction_over_seeds() -> None:
    """40 draws: the sample deviation of the last exponent is within 40 % of the predicted one.

    Its own relative standard error is 1/sqrt(2 * 39) = 11 %, so 40 % is 3.5 of them.
    """
    generator = torch.Generator().manual_seed(3)
    n, depth = 5, 12
    last = []
    for _ in range(40):
        sums = np.zeros(n)
        basis = torch.eye(n, dtype=torch.float64)
        for _ in range(depth):
            a = torch.randn(n, n, generator=generator, dtype=torch.float64)
            basis, r = torch.linalg.qr(a @ basis)
            sums += np.log(np.abs(np.diag(r.numpy())))
        last.append((sums[-1] - sums[0]) / depth)
    _, deviation = gaussian_prediction([n] * depth, n)
    assert np.std(last, ddof=1) == pytest.approx(deviation[-1], rel=0.4)


def test_orthogonal_layers_do_not_follow_it() -> None:
    n = 4
    x = torch.ones(1, 1, n).double()
    flat = measure(chain([torch.linalg.qr(w)[0] for w in draw(n, 20)]), x, taps(20))
    np.testing.assert_allclose(flat.exponents, 0, atol=1e-10)
    assert flat.apart()[-1] > 4
    assert "Gaussian layers of these widths" in flat.records(Subject())[-1].extra["note"]


def test_the_log_spectrum_is_converged() -> None:
    """The default reads near-equal values off an SVD, where 60 sweeps alone are off by percents."""
    net = load("digits-mixer", random_weights=True).model
    image = digits_data().test_x[0].double()
    found = measure(net, image, default_taps(net, (1, 8, 8)))
    assert max(found.changes) < 1e-6
    dense = torch.eye(64, dtype=torch.float64)
    from empirical.chain import chain as whole

    for depth, matrix in enumerate(whole(net, image, default_taps(net, (1, 8, 8))).matrices):
        dense = matrix @ dense
        expected = torch.linalg.svdvals(dense).log().numpy()[: len(found.logs[depth])]
        np.testing.assert_allclose(found.logs[depth], expected, atol=1e-6)
    close = [np.diag([1.0, 0.99]) @ np.array([[0.8, 0.6], [-0.6, 0.8]]) for _ in range(3)]
    logs, error = log_spectrum(close, 60, 1e-9)
    product = np.linalg.svd(close[2] @ close[1] @ close[0], compute_uv=False)
    np.testing.assert_allclose(logs, np.log(product), atol=1e-12)
    assert error < 1e-12


def test_directions_below_the_rounding_floor_are_dropped_not_measured() -> None:
    """A rank-deficient block: the spread is that of the surviving values, not of rounding noise."""
    n = 6
    full, flat = draw(n, 2)
    u, s, v = torch.linalg.svd(flat)
    s[4:] = 0.0
    deficient = u @ torch.diag(s) @ v
    x = torch.ones(1, 1, n).double()
    found = measure(chain([full, deficient, full]), x, taps(3))
    assert [len(log) for log in found.logs] == [6, 4, 4]
    assert found.dropped == (0, 2, 2)
    expected = np.linalg.svd((full @ deficient @ full).numpy(), compute_uv=False)
    np.testing.assert_allclose(found.logs[-1], np.log(expected[:4]), atol=1e-9)
    record = found.records(Subject())[2]
    assert record.extra["log_spread"] == pytest.approx(np.log(expected[0] / expected[3]), abs=1e-9)
    # the false variant: all six logarithms, the last two of them noise
    noise = np.log(np.maximum(expected, 1e-300))
    assert noise[0] - noise[5] > record.extra["log_spread"] + 20
    at_the_block = found.records(Subject())[1]
    assert (at_the_block.low, at_the_block.value, at_the_block.high) == (4, 4, 4)
    assert (record.low, record.value, record.high) == (4, 4, 6)  # a block behind it may revive two
    assert "2 directions below" in record.extra["note"]
    q, r, norm, floor = split(deficient)
    np.testing.assert_allclose((q @ r).numpy(), deficient.numpy(), atol=10 * floor)
    assert q.shape[1] == 4
    assert norm == pytest.approx(float(s[0]))


def test_what_was_dropped_may_still_count() -> None:
    """diag(1, 1e-20) then diag(1e-20, 1): the dropped direction comes back as large as the other."""
    one = torch.diag(torch.tensor([1.0, 1e-20], dtype=torch.float64))
    two = torch.diag(torch.tensor([1e-20, 1.0], dtype=torch.float64))
    found = measure(chain([one, two]), torch.ones(1, 1, 2).double(), taps(2))
    before, after = found.records(Subject())[:2]
    assert (before.value, before.high) == (1, 1)  # 1e-20 of the other, and no block behind it
    assert (after.value, after.high) == (1, 2)


def test_a_zero_jacobian_has_no_exponents() -> None:
    zero = torch.zeros(3, 3, dtype=torch.float64)
    with pytest.raises(InputError, match="is zero"):
        measure(chain([zero]), torch.ones(1, 1, 3).double(), taps(1))


def test_a_few_directions_of_many_inputs_need_no_square_basis() -> None:
    """150,528 inputs: a square basis would take 181 GB."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(150_528, 4, dtype=torch.float64)).eval()
    x = torch.zeros(3, 224, 224).double()
    found = measure(net, x, taps(1), directions=2)
    assert [len(log) for log in found.logs] == [2]


def test_records_and_bad_input() -> None:
    net, x = chain(draw(4, 2)), torch.ones(1, 1, 4).double()
    found = measure(net, x, taps(2), directions=2)
    assert [r.directions for r in found.records(Subject(model="m"))] == [2, 2, 2]
    with pytest.raises(InputError, match="directions"):
        measure(net, x, taps(2), directions=9)
