"""The traps: cases in which a plausible computation gives a wrong rank, each beside the right one.

Every trap has the exact value by an independent exact route, the wrong answer that the trap gives,
and a near-by case in which the trap does not spring, so that neither number is an accident.
Sources: theory.md, sections 2 to 5, and the table "where it errs" of the official implementation.
"""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np
import pytest
import torch
from torch.nn import functional

from numeric.balls import ball_rank, replay
from numeric.exact import certified_rank, integer_matrix, rank
from numeric.spectra import relative_rank, singular_values


def relative(matrix: object, eps: float) -> int:
    """relative(eps) rank, refused where the threshold is within the error of a singular value."""
    found = relative_rank(singular_values(matrix, digits=15), eps)
    assert found.low == found.value == found.high
    return found.value


def jacobian(function: object, point: object) -> np.ndarray:
    """torch's Jacobian in float64, outputs flattened."""
    x = torch.as_tensor(point, dtype=torch.float64)
    return torch.func.jacrev(function)(x).reshape(-1, x.numel()).numpy()


def operator(layer: torch.nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    """The matrix of a linear layer: its values on the unit vectors."""
    size = int(np.prod(shape))
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    return layer.double()(basis).reshape(size, -1).T.detach().numpy()


# Rounding a product


def test_rank_of_a_rounded_product_is_not_the_rank_of_the_product() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((40, 12)), rng.standard_normal((12, 40))
    rounded = left @ right
    assert certified_rank(rounded).rank == 40  # exact, of the rounded entries
    assert np.linalg.matrix_rank(rounded) == 12  # numpy happens to give the product's
    product = integer_matrix(left.T).transpose() * integer_matrix(right)
    assert certified_rank(product).rank == 12  # exact, of the product


def test_the_other_way_round_numpy_counts_the_rounding() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((40, 12)), rng.standard_normal((12, 40))
    stored = (left @ right).astype(np.float32)  # a Jacobian that was kept in float32 ...
    assert np.linalg.matrix_rank(stored.astype(np.float64)) == 40  # ... and analysed in float64
    assert certified_rank(integer_matrix(left.T).transpose() * integer_matrix(right)).rank == 12
    integers = rng.integers(-9, 9, (40, 12)) @ rng.integers(-9, 9, (12, 40))  # nothing rounded
    assert np.linalg.matrix_rank(integers.astype(np.float32).astype(np.float64)) == 12


# Layer norm


def layer_norm_slope(x: list[int], eps: Fraction) -> tuple[list[list[Fraction]], Fraction]:
    """sqrt(var + eps) times layer norm's Jacobian, exactly, and the ratio eps / (var + eps)."""
    n = len(x)
    mean = Fraction(sum(x), n)
    centred = [entry - mean for entry in x]
    total = sum(entry * entry for entry in centred) / n + eps
    rows = [
        [(i == j) - Fraction(1, n) - centred[i] * centred[j] / (n * total) for j in range(n)]
        for i in range(n)
    ]
    return rows, eps / total


@pytest.mark.parametrize("eps", [Fraction(1, 100_000), Fraction(1, 10), Fraction(7)])
def test_layer_norm_with_eps_keeps_the_radial_direction_at_its_ratio(eps: Fraction) -> None:
    x = [3, -1, 4, 1, -5, 9]
    slope, ratio = layer_norm_slope(x, eps)
    n = len(x)
    assert certified_rank(slope).rank == n - 1
    assert relative(slope, float(ratio) * 0.999) == n - 1
    assert relative(slope, float(ratio) * 1.001) == n - 2  # exactly when the ratio is below t
    without, _ = layer_norm_slope(x, Fraction(0))
    assert certified_rank(without).rank == n - 2
    autodiff = jacobian(lambda v: functional.layer_norm(v, (n,), eps=float(eps)), x)
    scale = float(np.sqrt(np.var(x) + float(eps)))
    # float64: some n eps of entries near 1
    np.testing.assert_allclose(autodiff * scale, np.array(slope, dtype=float), atol=1e-13)


# Kinks


def test_autodiff_at_a_kink_is_not_a_derivative() -> None:
    def identity(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) - torch.relu(-x)

    points = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
    assert torch.equal(identity(points), points)  # it is x -> x, of slope 1 everywhere
    slopes = [float(jacobian(identity, [x])[0, 0]) for x in points]
    assert slopes == [1.0, 0.0, 1.0]


# Relative ranks


def test_relative_rank_rises_with_depth() -> None:
    first, second = np.diag([1e-9, 1.0]), np.diag([1.0, 1e-9])
    assert [relative(first, 1e-3), relative(second @ first, 1e-3)] == [1, 2]
    assert [rank(first), rank(second @ first)] == [2, 2]  # the exact rank does not
    orthogonal = np.array([[0.0, -1.0], [1.0, 0.0]])
    assert [relative(first, 1e-3), relative(orthogonal @ first, 1e-3)] == [1, 1]


def test_partial_drop_fails_for_relative_ranks() -> None:
    first, second = np.diag([1e5, 1.0, 1.0]), np.diag([1e-5, 1.0, 1e-4])
    patch = np.eye(3)[:, 1:]
    eps = 1e-3

    def drops(of: object) -> tuple[int, int]:
        count = (lambda m: relative(m, eps)) if of is relative else rank
        seen = count(first @ patch) - count(second @ first @ patch)
        return seen, count(first) - count(second @ first)

    assert drops(relative) == (1, -1)  # 1 <= -1 is false
    seen, true = drops(rank)
    assert seen <= true


# Float32


def test_a_softmax_saturated_in_float32_has_rank_n_minus_1_all_the_same() -> None:
    logits = [0.0, 200.0, -150.0, 30.0]
    n = len(logits)
    single = torch.func.jacrev(lambda v: torch.softmax(v, 0))(torch.tensor(logits))
    assert not single.any()  # float32: the Jacobian is 0, rank 0

    def slope() -> flint.arb_mat:
        powers = [flint.arb(x).exp() for x in logits]
        p = [power / sum(powers, flint.arb(0)) for power in powers]
        return flint.arb_mat([[p[i] * ((i == j) - p[j]) for j in range(n)] for i in range(n)])

    bound = ball_rank(slope)
    assert bound.lower == n - 1  # proved from below; from above: the columns sum to 0
    assert replay(slope, bound)
    mild = torch.func.jacrev(lambda v: torch.softmax(v, 0))(torch.tensor([0.0, 1.0, -1.0, 0.5]))
    assert torch.linalg.matrix_rank(mild) == n - 1


@pytest.mark.parametrize(("exponent", "lost"), [(-8, True), (-4, False)])
def test_a_float32_gram_matrix_loses_half_the_digits(exponent: int, lost: bool) -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((768, 96)))[0]
    full = np.zeros((768, 768), dtype=np.float32)  # 768 directions, 96 of which the outputs see
    full[:, :96] = basis
    full[:, 48:96] *= 2.0**exponent
    gram = torch.from_numpy(full.T @ full)
    # its cut-off on J is sqrt(768 * 2^-23) = 0.0096, between 2^-8 and 2^-4
    assert int(torch.linalg.matrix_rank(gram)) == (48 if lost else 96)
    assert np.linalg.matrix_rank(full.astype(np.float64)) == 96
    assert certified_rank(full[:, :96]).rank == 96


# Perturbed PCA


@pytest.mark.parametrize(("spread", "counts_kinks"), [(1e-3, True), (10.0, False)])
def test_perturbed_pca_counts_kinks(spread: float, counts_kinks: bool) -> None:
    # 64 ReLUs of one input, kinks within ``spread`` of it (none within 6 standard deviations when
    # the spread is 10, whose nearest kink is at 0.16)
    kinks = (np.arange(64) - 31.5) / 32 * spread
    noise = 1e-3 * np.random.default_rng(0).standard_normal(5000)
    features = np.maximum(noise[:, None] - kinks, 0)
    centred = features - features.mean(0)
    values = np.linalg.svd(centred.T @ centred / 5000, compute_uv=False)
    counted = int(np.sum(values >= 64 * np.finfo(np.float32).eps * values[0]))
    assert counted > 10 if counts_kinks else counted == 1
    slope = (kinks < 0.0).astype(int)[:, None]  # one input: the Jacobian is one column
    assert certified_rank(slope).rank == 1


# Residual blocks and operators


def test_a_residual_block_with_a_relu_after_the_sum_loses_more_than_its_branch() -> None:
    point = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    up = torch.tensor([[1.0], [0], [0], [0], [0], [0]], dtype=torch.float64)
    down = torch.tensor([[1.0, 0, 0, 0, 0, 0]], dtype=torch.float64)

    def branch(x: torch.Tensor) -> torch.Tensor:
        return up @ torch.relu(down @ x)

    branch_rank = rank(jacobian(branch, point))
    assert branch_rank == 1
    after = rank(jacobian(lambda x: torch.relu(x + branch(x)), point))
    inactive = int((point + branch(point) <= 0).sum())
    assert (after, inactive) == (2, 4)
    assert 6 - after == 4 > branch_rank
    assert 6 - after <= branch_rank + inactive  # the true bound
    assert 6 - rank(jacobian(lambda x: x + branch(x), point)) <= branch_rank  # without the ReLU


@pytest.mark.parametrize(("size", "expected"), [(5, 16), (8, 49), (14, 169), (6, 36), (7, 49)])
@pytest.mark.parametrize("include_pad", [True, False])
def test_an_average_pool_is_singular_when_the_size_is_2_mod_3(
    size: int, expected: int, include_pad: bool
) -> None:
    pool = torch.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=include_pad)
    matrix = operator(pool, (1, size, size))
    # its entries are 1/9, 1/6, 1/4, which floats round: scale to the exact window counts
    counts = np.round(1 / np.max(matrix, axis=1, keepdims=True))
    exact = np.round(matrix * counts)
    np.testing.assert_allclose(matrix * counts, exact, atol=1e-12)
    assert certified_rank(exact).rank == expected


def test_a_strided_pointwise_convolution_sees_a_quarter_of_its_input() -> None:
    torch.manual_seed(0)
    strided = operator(torch.nn.Conv2d(1, 4, 1, stride=2, bias=False), (1, 4, 4))
    assert strided.shape == (16, 16)
    assert certified_rank(strided).rank == 4
    dense = operator(torch.nn.Conv2d(1, 4, 1, bias=False), (1, 4, 4))
    assert certified_rank(dense).rank == 16


# Logits


def test_a_jacobian_of_rank_1_forces_no_dependence_between_logits() -> None:
    points = [Fraction(t, 3) for t in range(-3, 4)]
    curve = [[t, t * t] for t in points]  # logits (t, t^2)
    for t in points:
        assert rank([[1], [2 * t]]) == 1  # first order: rank 1 < 2 logits at every point

    def centred(rows: list[list[Fraction]]) -> list[list[Fraction]]:
        return [[a - b for a, b in zip(row, rows[0], strict=True)] for row in rows]

    assert rank(centred(curve)) == 2  # the features' affine span is the plane: no lambda exists
    line = [[t, 2 * t + 1] for t in points]  # an affine head on one feature does force one
    assert rank(centred(line)) == 1
