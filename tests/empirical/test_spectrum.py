"""Spectra against numpy's SVD, and the notions against their definitions."""

import numpy as np
import pytest
import torch

from empirical.spectrum import (
    Spectrum,
    absolute_rank,
    effective_rank,
    participation_ratio,
    relative_rank,
    spectrum,
    stable_rank,
    triangle,
)
from theory.errors import InputError


@pytest.mark.parametrize("shape", [(40000, 30), (10, 30), (30, 30), (0, 5)])
def test_values_are_those_of_a_dense_svd(shape):
    J = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = np.linalg.svd(J.numpy(), compute_uv=False)
    spec = spectrum(J)
    assert spec.values.shape == (min(shape),)
    assert np.allclose(spec.values, expected, atol=max(spec.error, 1e-300))


def test_small_singular_values_survive_where_the_gram_matrix_loses_them():
    """J^T J in float32 loses all below sqrt(n eps32): 96 columns, half scaled by 2^-8 (official 50)."""
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(400, 96, dtype=torch.float64, generator=generator)
    J[:, 48:] *= 2.0**-20
    assert relative_rank(spectrum(J), 1e-7).value == 96
    gram = (J.float().T @ J.float()).double()
    assert int((torch.linalg.svdvals(gram) > 1e-7 * gram.norm()).sum()) < 96  # the false variant


def test_steps_of_rows_do_not_matter():
    J = torch.randn(7, 50000, dtype=torch.float64)
    whole = torch.linalg.svdvals(J)
    parts = triangle(J[:, 20000:], triangle(J[:, :20000]))
    assert torch.allclose(torch.linalg.svdvals(parts), whole, rtol=1e-12)


def test_relative_rank_is_an_interval():
    spec = Spectrum(np.array([1.0, 0.5, 1e-3, 1e-9]), 1e-6, (4, 4))
    found = relative_rank(spec, 1e-3)
    assert (found.value, found.low, found.high) == (3, 2, 3)
    assert found.gap == pytest.approx(1e6)
    clear = relative_rank(spec, 1e-2)
    assert (clear.value, clear.low, clear.high) == (2, 2, 2)


def test_weyl_interval_holds_every_perturbation_within_the_bound():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((20, 8)) * 10.0 ** -np.arange(8)
    for _ in range(50):
        E = rng.standard_normal(J.shape)
        E *= 1e-4 / np.linalg.norm(E, 2)
        spec = Spectrum(np.linalg.svd(J, compute_uv=False), 1e-4, J.shape)
        moved = Spectrum(np.linalg.svd(J + E, compute_uv=False), 0.0, J.shape)
        for eps in (1e-2, 1e-3, 1e-4):
            interval = relative_rank(spec, eps)
            assert interval.low <= relative_rank(moved, eps).value <= interval.high


def test_smooth_ranks_by_definition():
    values = np.array([3.0, 1.0, 1.0])
    assert stable_rank(values) == pytest.approx(11 / 9)
    p = values / 5
    assert effective_rank(values) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert participation_ratio(values) == pytest.approx(121 / 83)
    flat = np.ones(7)
    for measure in (stable_rank, effective_rank, participation_ratio):
        assert measure(flat) == pytest.approx(7)
    zero = np.zeros(3)
    assert stable_rank(zero) == effective_rank(zero) == participation_ratio(zero) == 0


def test_zero_matrix_has_rank_zero():
    spec = spectrum(torch.zeros(5, 3, dtype=torch.float64))
    assert relative_rank(spec, 1e-3).value == absolute_rank(spec, 1e-3).value == 0


@pytest.mark.parametrize("eps", [0, -1, 2, float("nan")])
def test_bad_tolerance(eps):
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        relative_rank(Spectrum(np.ones(2), 0.0, (2, 2)), eps)


def test_infinite_jacobian_is_refused():
    with pytest.raises(InputError, match="NaN or infinite"):
        spectrum(torch.tensor([[1.0, float("inf")], [0.0, 1.0], [1.0, 2.0]]))
