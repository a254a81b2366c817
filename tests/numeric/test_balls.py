"""Ball bounds never exceed the exact rank, reach it on smooth chains, and fail on a forged minor."""

from __future__ import annotations

import dataclasses

import flint
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numeric.balls import ball_rank, replay, tanh_jacobian
from numeric.exact import rank
from theory.errors import InputError


def _tanh_network(width: int, depth: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((width, width)) / np.sqrt(width) for _ in range(depth)]
    return weights, rng.standard_normal(width)


@given(st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4), min_size=1, max_size=5))
def test_exact_balls_have_the_exact_rank(matrix: list[list[int]]) -> None:
    bound = ball_rank(flint.arb_mat(matrix))
    assert bound.lower == rank(matrix)  # small integers are exact balls, and so are their pivots
    assert replay(flint.arb_mat(matrix), bound)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=3, max_size=3),
    st.floats(1e-6, 1.0),
)
def test_wide_balls_prove_only_what_all_their_members_share(
    matrix: list[list[int]], radius: float
) -> None:
    balls = flint.arb_mat([[flint.arb(x, radius) for x in row] for row in matrix])
    bound = ball_rank(balls)
    rng = np.random.default_rng(0)
    for _ in range(5):  # any member is a witness against a bound that is too high
        member = np.array(matrix) + radius * rng.uniform(-1, 1, (3, 3))
        assert bound.lower <= rank(member)
    assert bound.lower <= rank(matrix)


def test_tanh_of_width_32_and_depth_8_is_proved_full() -> None:
    jacobian = tanh_jacobian(*_tanh_network(32, 8))
    bound = ball_rank(jacobian)
    assert bound.lower == 32
    assert bound.full
    assert replay(jacobian, bound)


def test_a_bottleneck_is_never_exceeded_at_any_precision() -> None:
    rng = np.random.default_rng(0)
    shapes = [(6, 6), (2, 6), (6, 2)]
    bound = ball_rank(tanh_jacobian([rng.standard_normal(s) for s in shapes], [0.1] * 6))
    assert bound.lower == 2
    assert not bound.full


def test_precision_is_doubled_until_a_small_minor_is_seen() -> None:
    weights = [[[1, 0], [0, flint.fmpq(1, 2**400)]]]
    jacobian = tanh_jacobian(weights, [1, 1])
    assert ball_rank(jacobian).lower == 2
    near = flint.fmpq_mat([[1, 1], [1, 1 + flint.fmpq(1, 2**300)]])  # needs over 300 bits
    bound = ball_rank(tanh_jacobian([near.tolist()], [0, 0]))
    assert (bound.lower, bound.bits) == (2, 512)
    assert ball_rank(tanh_jacobian([near.tolist()], [0, 0]), most=256).lower == 1


def test_the_balls_contain_autodiffs_jacobian() -> None:
    weights, point = _tanh_network(5, 3)
    balls = tanh_jacobian(weights, point)()

    def network(x: torch.Tensor) -> torch.Tensor:
        for w in weights:
            x = torch.tanh(torch.from_numpy(w) @ x)
        return x

    reference = torch.func.jacrev(network)(torch.from_numpy(point)).numpy()
    middle = np.array([[float(entry.mid()) for entry in row] for row in balls.tolist()])
    np.testing.assert_allclose(middle, reference, atol=1e-14)  # entries below 1, 3 layers of eps


def test_a_forged_minor_does_not_replay() -> None:
    matrix = flint.arb_mat([[1, 2], [2, 4]])
    bound = ball_rank(matrix)
    assert bound.lower == 1
    assert not replay(matrix, dataclasses.replace(bound, lower=2, rows=(0, 1), columns=(0, 1)))
    assert not replay(matrix, dataclasses.replace(bound, lower=2, rows=(0, 0), columns=(0, 0)))


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="layer 2 takes 3 inputs and gets 2"):
        tanh_jacobian([np.ones((2, 2)), np.ones((2, 3))], [1, 1])
    with pytest.raises(InputError, match="not finite"):
        tanh_jacobian([[[float("inf")]]], [1])
    with pytest.raises(InputError, match="bits=1"):
        ball_rank(flint.arb_mat([[1]]), bits=1)
