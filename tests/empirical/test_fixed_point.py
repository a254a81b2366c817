"""Fixed-point tensors against Python's exact fractions: every held value within its bound."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from empirical.fixed_point import (
    BASE,
    LONGEST,
    Fixed,
    Linear,
    add,
    apply,
    divide,
    negative,
    scale,
    stored,
)
from theory.errors import InputError

#: numbers whose digits lie above place -48 or can be bounded below it
FLOATS = st.floats(-1e30, 1e30, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def fractions(x: Fixed) -> np.ndarray:
    """The values held, exactly."""
    total = np.full(tuple(x.shape), Fraction(0), dtype=object)
    for k, digit in enumerate(x.digits):
        assert float(digit.abs().max()) <= BASE / 2
        assert torch.equal(digit, digit.round())
        whole = np.vectorize(lambda d: Fraction(int(d)), otypes=[object])(digit.numpy())
        total = total + whole * Fraction(BASE) ** (x.low + k)
    return total


def exact(values: torch.Tensor) -> np.ndarray:
    """A float tensor as fractions."""
    return np.vectorize(Fraction, otypes=[object])(values.double().numpy())


def within(x: Fixed, true: np.ndarray) -> bool:
    """Whether no entry is farther from the true one than the bound says."""
    return bool((abs(fractions(x) - true) <= Fraction(x.error)).all())


def blurred(values: torch.Tensor, bottom: int, error: float, seed: int) -> tuple[Fixed, np.ndarray]:
    """A fixed-point tensor, and a true one that is as far away as its bound allows."""
    held = replace(stored(values, bottom), error=error)
    signs = np.random.default_rng(seed).choice([-1, 1], size=tuple(values.shape))
    return held, fractions(held) + signs * Fraction(error)


def product(rows: int) -> Linear:
    """``w @ x`` for a matrix of stored coefficients."""

    def multiply(held: torch.Tensor | None, d: torch.Tensor, w: torch.Tensor, part: int):
        inner = slice(part * LONGEST, (part + 1) * LONGEST)
        term = w[:, inner] @ d[inner]
        return term if held is None else held.add_(term)

    return Linear(lambda d: d, multiply, lambda a: float(a.sum(1).max()), -(-rows // LONGEST))


@given(st.lists(FLOATS, min_size=1, max_size=9))
def test_a_stored_float_is_held_exactly_or_bounded(values):
    tensor = torch.tensor(values, dtype=torch.float64)
    for bottom in (-2, -8, -48):
        held = stored(tensor, bottom)
        assert within(held, exact(tensor))
        assert held.error <= BASE**bottom
    spread = tensor[tensor.abs() > 2.0**-900]
    if len(spread):
        assert stored(spread, -48).error == 0
    signs = stored(tensor, -48).approximate().sign()
    assert torch.equal(signs[tensor.abs() > 2.0**-900], spread.sign())


@given(st.integers(0, 10**6), st.integers(-9, -1))
def test_sums_products_and_quotients_stay_within_their_bounds(seed, bottom):
    torch.manual_seed(seed)
    error = BASE ** (bottom + 1) * 0.75
    x, tx = blurred(torch.randn(3, 4) * 100, bottom, error, seed)
    y, ty = blurred(torch.randn(3, 1) / 7, bottom, error / 3, seed + 1)
    factor = torch.randn(4, dtype=torch.float64)
    weights = torch.randn(5, 3, dtype=torch.float64)
    sizes = torch.randint(1, 999, (3, 1)).double()
    for out, true, gain in (
        (add(x, y, bottom), tx + ty, 4 / 3),
        (add(x, negative(y), bottom), tx - ty, 4 / 3),
        (scale(x, factor, bottom), tx * exact(factor), float(factor.abs().max())),
        (divide(x, sizes, bottom), tx / exact(sizes), 1 / float(sizes.min())),
        (
            apply(x, weights, bottom, product(3)), exact(weights) @ tx,
            float(weights.abs().sum(1).max()),
        ),
    ):  # fmt: skip
        assert within(out, true)
        # not vacuous: what the inputs' bounds must cause, and some units of the last place
        assert out.error <= gain * error * 1.001 + 8 * BASE**bottom


def test_a_bound_that_forgets_the_inputs_bound_is_caught():
    """The false variant of every rule above: the same operations on inputs taken for exact."""
    x, tx = blurred(torch.randn(3, 4), -4, 2.0**-30, 0)
    forgetful = replace(x, error=0.0)
    factor = torch.full((4,), 3.0, dtype=torch.float64)
    assert within(scale(x, factor, -4), tx * 3)
    assert not within(scale(forgetful, factor, -4), tx * 3)
    assert not within(add(forgetful, forgetful, -4), tx + tx)
    ones = torch.ones(2, 3, dtype=torch.float64)
    assert within(apply(x, ones, -4, product(3)), exact(ones) @ tx)
    # and one that takes the largest coefficient where the row sum belongs
    honest = product(3).weigh
    narrow = replace(
        product(3),  # honest about digits, which are integers, so that their sums stay exact
        weigh=lambda a: honest(a) if torch.equal(a, a.round()) else float(a.max()),
    )
    ones = ones * 0.75
    biased = replace(x, error=2.0**-30)
    worst = fractions(x) + Fraction(2.0**-30)
    assert not within(apply(biased, ones, -4, narrow), exact(ones) @ worst)


def test_products_of_digits_are_exact_in_float64():
    """Sums of 2^14 products of two digits, the longest there are, and a convolution's 4,608."""
    draw = torch.Generator().manual_seed(0)
    for rows in (4608, LONGEST):
        half = int(BASE) // 2
        a = torch.randint(half - 99, half + 1, (3, rows), generator=draw)
        b = torch.randint(half - 99, half + 1, (rows, 5), generator=draw)
        # numpy's int64 is exact below 2^63, and these sums stay below 2^53
        assert np.array_equal((a.double() @ b.double()).numpy(), a.numpy() @ b.numpy())
    wide = torch.full((1, 4 * LONGEST), float(half - 1), dtype=torch.float64)
    x = Fixed((wide.T.contiguous() - 2,), 0, 0.0)
    out = apply(x, wide * BASE**-1, -1, product(4 * LONGEST))
    assert fractions(out)[0, 0] == Fraction((half - 1) * (half - 3) * 4 * LONGEST, int(BASE))
    assert out.error == 0


def test_what_is_rounded_away_enters_the_bound():
    third = stored(torch.tensor([1 / 3], dtype=torch.float64), -1)
    assert 0 < third.error < BASE**-1
    tiny = stored(torch.tensor([1.0, 2.0**-200], dtype=torch.float64), -4)
    assert tiny.error == 2.0**-200
    small = apply(
        stored(torch.tensor([[2.0**-60]], dtype=torch.float64), -4),
        torch.tensor([[2.0**-60]], dtype=torch.float64), -4, product(1),
    )  # fmt: skip
    assert float(small.approximate()) == 0
    assert 2.0**-120 <= small.error <= 2.0**-119


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_constants_are_refused(bad):
    with pytest.raises(InputError, match="NaN or infinite"):
        stored(torch.tensor([bad]), -4)
