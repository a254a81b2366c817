"""Rank rules of theory.md section 4 on exact Jacobians, and theory.layers' bounds around them."""

from fractions import Fraction as F
from math import prod

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from numeric.balls import ball_rank
from numeric.decoding import decoded
from numeric.networks import (
    BALL,
    EXACT,
    Attention,
    AvgPool,
    BatchNorm,
    Clip,
    Conv,
    GlobalPool,
    L2Normalise,
    Linear,
    MaxPool,
    Network,
    Norm,
    ReLU,
    Residual,
    Sequential,
    Softmax,
)
from numeric.strategies import matrices
from theory.layers import LayerFact, attention_rank, layer_rank


def rank(layer, shape, x) -> int:
    return Network(shape, (layer,)).jacobian(x).rank()


def rows_of(matrix) -> tuple:
    return tuple(tuple(F(int(e.p), int(e.q)) for e in row) for row in matrix.tolist())


def inside(kind: str, shape, out: int, found: int, **known) -> None:
    bounds = layer_rank(LayerFact("layer", kind, prod(shape), out, **known))
    assert bounds.lower <= found <= bounds.upper, (kind, shape, found, bounds)


integers = st.integers(-4, 4)


def vectors(n: int, low: int = -4):
    return st.lists(st.integers(low, 4), min_size=n, max_size=n).map(tuple)


@given(matrices())
def test_linear_has_the_rank_of_its_weights(weight):
    layer = Linear(rows_of(weight))
    n = weight.ncols()
    assert rank(layer, (n,), (0,) * n) == weight.rank()
    inside("linear", (n,), weight.nrows(), weight.rank(), rank_upper=weight.rank())


def test_convolution_needs_its_operator():
    # 1x1, stride 2, 1 -> 4 channels on 4x4: rank 4, not min(16, 16)
    layer = Conv(((1,), (2,), (3,), (-1,)), (1, 1), 2)
    assert rank(layer, (1, 4, 4), (0,) * 16) == 4


@pytest.mark.parametrize("size", [3, 4, 5, 6, 8, 14])
def test_average_pool_loses_a_border_when_n_is_2_mod_3(size):
    # 3x3, stride 1, padding 1 is the square of a tridiagonal matrix, singular iff N = 2 mod 3
    found = rank(AvgPool((3, 3), 1, 1), (1, size, size), (0,) * size**2)
    assert found == ((size - 1) ** 2 if size % 3 == 2 else size**2)
    inside("average-pool", (1, size, size), size**2, found)


@given(vectors(5), vectors(5, 1), vectors(5))
def test_batch_norm_counts_its_gammas(gamma, var, x):
    square = tuple(v * v - 1 for v in var)  # var + eps is a square, so the layer is rational
    layer = BatchNorm(gamma, x, x, square, 1)
    assert rank(layer, (5,), x) == sum(g != 0 for g in gamma)


@given(vectors(6))
def test_piecewise_linear_units_count_their_slopes(x):
    x = tuple(v + F(1, 3) for v in x)
    assert rank(ReLU(), (6,), x) == sum(v > 0 for v in x)
    assert rank(ReLU(F(1, 8)), (6,), x) == 6
    assert rank(Clip(0, 6), (6,), x) == sum(0 < v < 6 for v in x)
    assert rank(Clip(-1, 1), (6,), x) == sum(-1 < v < 1 for v in x)
    inside("activation", (6,), 6, rank(ReLU(), (6,), x), live=sum(v > 0 for v in x))


@given(st.permutations(range(16)))
def test_max_pool_counts_distinct_winners(x):
    winners = {
        max(x[4 * (i + a) + j + b] for a in (0, 1) for b in (0, 1))
        for i in range(3)
        for j in range(3)
    }
    found = rank(MaxPool((2, 2)), (1, 4, 4), tuple(x))
    assert found == len(winners)
    inside("max-pool", (1, 4, 4), 9, found)


def test_global_pool_keeps_channels():
    assert rank(GlobalPool(), (3, 2, 2), (0,) * 12) == 3


# centred tokens with a rational standard deviation: (a, -a, b, -b) with (a^2 + b^2) / 2 a square
ROOTS = [(1, 7, 5), (7, 17, 13), (7, 23, 17)]


@pytest.mark.parametrize(("a", "b", "s"), ROOTS)
@pytest.mark.parametrize("gamma", [(1, 2, 3, 4), (1, 0, 3, 4), (1, 0, 0, 4), (0, 0, 0, 4)])
def test_layer_norm_without_eps(a, b, s, gamma):
    x = tuple(v + 2 for v in (a, -a, b, -b))
    found = rank(Norm(gamma), (4,), x)
    assert found == min(2, sum(g != 0 for g in gamma))
    zeros = sum(g == 0 for g in gamma)
    inside("layer-norm", (4,), 4, found, eps=False, rank_upper=4 - zeros)


@given(vectors(5), st.integers(1, 9))
def test_layer_norm_with_eps_keeps_the_radial_direction(x, extra):
    """Exact rank n - 1; the radial direction survives with ratio eps / (var + eps)."""
    mean = F(sum(x), 5)
    var = sum((v - mean) ** 2 for v in x) / 5
    s = int(var) + extra
    assume(var > 0)
    eps = s * s - var  # so that var + eps is a square
    assume(eps > 0)
    J = Network((5,), (Norm((1,) * 5, None, eps),)).jacobian(x)
    assert J.rank() == 4
    c = EXACT.matrix(5, 1, [v - mean for v in x])
    # the Jacobian maps the radial direction to eps / (var + eps) of what it does to the others
    assert J * c == c * EXACT.scalar(eps / (var + eps) / s)
    inside("layer-norm", (5,), 5, 4, eps=True)


@given(vectors(4))
def test_rms_norm(x):
    assume(any(x))
    square = F(sum(v * v for v in x), 4)
    s = int(square) + 1
    with_eps = Norm((1, 2, 3, 4), None, s * s - square, centre=False)
    assert rank(with_eps, (4,), x) == (4 if s * s > square else 3)
    assert rank(Norm((1, 2, 3, 4), None, 0, centre=False), (4,), (1, 1, -1, 1)) == 3


def test_l2_normalise():
    assert rank(L2Normalise(), (3,), (1, 2, 2)) == 2  # norm 3 exceeds the clamp
    assert rank(L2Normalise(4), (3,), (1, 2, 2)) == 3  # below it: x / 4


@given(vectors(5))
@settings(max_examples=30)
def test_softmax_has_rank_n_minus_1(x):
    # from below a minor in balls; from above the columns of diag(p) - p p^T sum to 0
    network = Network((5,), (Softmax(),))
    assert ball_rank(lambda: network.jacobian(x, BALL)).lower == 4
    inside("softmax", (5,), 5, 4)


@given(matrices(3, 3), matrices(3, 3))
def test_residual_between_its_bounds(U, V):
    branch = Sequential((Linear(rows_of(U)), ReLU(F(1, 8)), Linear(rows_of(V))))
    x = (F(1, 3), F(1, 5), F(1, 7))
    network = Network((3,), (Residual(Sequential(branch.layers)),))
    G = Network((3,), branch.layers)
    try:
        g, found = G.jacobian(x).rank(), network.jacobian(x).rank()
    except ValueError:
        assume(False)
    assert 3 - g <= found <= 3


def test_a_relu_after_the_sum_can_lose_more_than_the_branch():
    # branch width 1, loses 4 of 6: three inactive outputs and the branch's one direction
    n = 6
    u = ((1, 0, 0, 0, 0, 0),)
    v = tuple((-1,) if i == 0 else (0,) for i in range(n))
    block = Residual(Sequential((Linear(u), Linear(v))))
    x = (1, 1, 1, -1, -1, -1)
    bias = Linear(tuple(tuple(int(i == j) for j in range(n)) for i in range(n)), (1, 0, 0, 0, 0, 0))
    assert rank(block, (n,), x) == 5
    assert rank(Sequential((block, bias, ReLU())), (n,), x) == 2


@given(
    decoded(40, lambda b: ([b.matrix_of_rank(2, 2, b.below(3)) for _ in range(3)], b.integers(6)))
)
@settings(max_examples=40)
def test_attention_stays_below_its_bound(case):
    """The proved lower bound in balls never exceeds the structural upper bound."""
    (q, k, v), x = case
    identity = ((1, 0), (0, 1))
    layer = Attention(rows_of(q), rows_of(k), rows_of(v), identity)
    lower = ball_rank(lambda: Network((3, 2), (layer,)).jacobian(x, BALL)).lower
    assert lower <= attention_rank(3, 2, [3], [v.rank()])
