"""Singular values against closed forms; their error bound against a far finer computation."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import flint
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numeric.exact import integer_matrix
from numeric.products import product_spectrum
from numeric.spectra import absolute_rank, relative_rank, singular_values
from theory.constants import gaussian_exponents
from theory.errors import InputError


def test_closed_form_of_two_by_two() -> None:
    found = singular_values([[1, 1], [0, 1]], digits=50)  # the golden ratio and its inverse
    with mpmath.workdps(60):
        golden = (1 + mpmath.sqrt(5)) / 2
        for value, expected in zip(found.values, (golden, 1 / golden), strict=True):
            assert abs(value - expected) <= found.error
            assert abs(value / expected - 1) < mpmath.mpf(10) ** -50
    assert min(found.digits) >= 50


def test_tiny_singular_values_have_as_many_right_digits_as_large_ones() -> None:
    size = 6  # Hilbert matrix: sigma_6 / sigma_1 = 7e-8; as floats they would have 9 digits
    hilbert = [[Fraction(1, i + j + 1) for j in range(size)] for i in range(size)]
    found = singular_values(hilbert, digits=30)
    assert min(found.digits) >= 30
    with mpmath.workdps(60):
        product = mpmath.fprod(found.values)
        determinant = 1 / mpmath.mpf(186313420339200000)  # OEIS A005249(6)
        assert abs(product / determinant - 1) < mpmath.mpf(10) ** -28  # 6 factors of 30 digits


def test_values_beyond_the_exact_rank_are_exactly_zero() -> None:
    found = singular_values([[1, 2], [2, 4], [3, 6]])
    assert found.rank == 1
    assert found.values[1] == 0
    assert found.digits[1] == -1
    assert abs(found.values[0] - mpmath.sqrt(70)) < 1e-14
    assert singular_values(np.zeros((2, 3))).values == (0, 0)
    assert singular_values([]).values == ()


def test_a_wide_matrix_has_the_values_of_its_transpose() -> None:
    matrix = np.random.default_rng(0).standard_normal((3, 6))
    wide, tall = singular_values(matrix), singular_values(matrix.T)
    for a, b in zip(wide.values, tall.values, strict=True):
        assert abs(a - b) <= wide.error + tall.error
    reference = np.linalg.svd(matrix, compute_uv=False)
    # float64's own error: a few eps of the largest
    assert np.abs(reference - [float(v) for v in wide.values]).max() < 1e-14 * reference[0]


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), min_size=3, max_size=3))
def test_the_proved_error_holds_against_a_finer_computation(matrix: list[list[int]]) -> None:
    rough, fine = singular_values(matrix, digits=8), singular_values(matrix, digits=60)
    for a, b, digits in zip(rough.values, fine.values, rough.digits, strict=True):
        assert abs(a - b) <= rough.error + fine.error
        if digits >= 0:
            assert digits >= 8
            with mpmath.workdps(80):
                assert abs(a / b - 1) <= 2 * mpmath.mpf(10) ** -digits


def test_ranks_come_with_their_interval_and_gap() -> None:
    spectrum = singular_values(np.diag([4.0, 2.0, 2.0**-30]))
    found = relative_rank(spectrum, 0.5)
    assert str(found.notion) == "relative(0.5)"
    assert (found.value, found.low, found.high, found.gap) == (2, 2, 2, 2.0**31)
    assert absolute_rank(spectrum, 3.0).value == 1
    assert absolute_rank(spectrum, 0.0).value == 3
    assert relative_rank(spectrum, 0.0).gap == math.inf
    assert relative_rank(singular_values([[1, 1], [1, 1]]), 0.0).value == 1  # sigma > 0 is asked


def test_a_threshold_within_the_error_is_an_interval_and_not_a_number() -> None:
    spectrum = singular_values([[1, 1], [0, 1]], digits=5)
    tau = float(spectrum.values[1])  # within rounding of the second value, not equal to it
    found = absolute_rank(spectrum, tau)
    assert float(spectrum.error) > 1e-17  # else the two would not be within the error
    assert (found.low, found.high) == (1, 2)
    assert absolute_rank(spectrum, tau * 1.01).high == 1  # the false variant: off the value


def test_bad_requests_name_the_value() -> None:
    spectrum = singular_values([[1]])
    with pytest.raises(InputError, match="eps=2"):
        relative_rank(spectrum, 2)
    with pytest.raises(InputError, match="tau=-1"):
        absolute_rank(spectrum, -1)
    with pytest.raises(InputError, match="digits=0"):
        singular_values([[1]], digits=0)
    with pytest.raises(InputError, match="not finite"):
        singular_values([[math.nan]])


@pytest.mark.parametrize("widths", [(4, 4, 4, 4, 4, 4, 4, 4, 4), (3, 5, 4, 2, 6, 4)])
def test_the_qr_sweeps_give_the_singular_values_of_the_exact_product(
    widths: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((b, a)) for a, b in pairwise(widths)]
    product = flint.fmpz_mat(np.eye(widths[0], dtype=int).tolist())
    for layer in layers:  # floats are dyadic: times 2^80 they are integers, and the product exact
        whole = [[int(x * 2.0**80) for x in row] for row in layer]
        product = integer_matrix(whole) * product
    exact = singular_values(product, digits=20)
    logs = [float(mpmath.log(v) - 80 * len(layers) * mpmath.log(2)) for v in exact.values]
    found = product_spectrum(layers, sweeps=60)
    # rounding of about L n eps times the product of the layers' condition numbers, some 1e3
    np.testing.assert_allclose(found.logs, logs[: len(found.logs)], atol=1e-8)
    assert len(found.logs) == min(widths)


def test_thousands_of_layers_neither_overflow_nor_collapse() -> None:
    depth = 3000
    orthogonal = [np.array([[0.0, -1.0], [1.0, 0.0]])] * depth
    np.testing.assert_allclose(product_spectrum(orthogonal).logs, 0, atol=1e-9)  # depth * eps
    graded = product_spectrum([np.diag([3.0, 0.5])] * depth)
    # each log is rounded once: relative error depth * eps
    np.testing.assert_allclose(graded.logs, [depth * math.log(3), -depth * math.log(2)], rtol=1e-12)
    assert graded.relative_rank(1e-3)[1] == 1
    assert product_spectrum([np.diag([3.0, 2.999])]).relative_rank(1e-3)[1] == 2
    zero = product_spectrum([np.diag([1.0, 0.0])] * 5)
    assert list(zero.logs) == [0.0, -math.inf]


def test_gaussian_layers_approach_newmans_exponents() -> None:
    n, depth = 4, 4000
    rng = np.random.default_rng(1)
    found = product_spectrum((rng.standard_normal((n, n)) for _ in range(depth)), sweeps=1)
    gaps = found.exponents - found.exponents[0]
    expected = [float(x) for x in gaussian_exponents(n)]
    # standard deviation of log|N| is at most 1.2 (n - k + 1 = 1): 1.2/sqrt(depth) = 0.019; 3 of them
    np.testing.assert_allclose(gaps, expected, atol=0.06)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "no layers"),
        ([np.ones((2, 3)), np.ones((2, 3))], "layer 2 takes 3 inputs and gets 2"),
        ([np.array([[np.nan]])], "layer 1 has a non-finite"),
        ([np.ones(3)], r"layer 1 has shape \(3,\)"),
    ],
)
def test_layers_that_do_not_compose_are_named(layers: list[np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        product_spectrum(layers)
