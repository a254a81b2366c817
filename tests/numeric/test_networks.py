"""Exact and ball Jacobians of small networks against autodiff of the same network in torch."""

import json
from fractions import Fraction as F

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numeric.decoding import Bytes
from numeric.networks import (
    BALL,
    EXACT,
    GELU,
    Attention,
    AvgPool,
    BatchNorm,
    Clip,
    Concat,
    Conv,
    Flatten,
    Gate,
    GlobalPool,
    L2Normalise,
    Linear,
    MaxPool,
    Network,
    Norm,
    PatchEmbed,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)
from numeric.scalars import KinkError, to_float
from numeric.strategies import conv_networks, networks, smooth_networks
from theory.errors import InputError, UnsupportedError

# rounding of a few hundred float64 operations, relative to the largest entry
TOLERANCE = 1e-11


def weights(rows: int, cols: int, seed: int = 1) -> tuple:
    values = Bytes(bytes((seed * 37 + 11 * i * i + 5 * i) % 251 for i in range(rows * cols)))
    flat = values.integers(rows * cols)
    return tuple(tuple(flat[i * cols : (i + 1) * cols]) for i in range(rows))


def vector(n: int) -> tuple:
    return tuple(F((7 * i * i + 3) % 11 - 5, 2) + F(1, 3 + i) for i in range(n))


def compare(network: Network, x, field) -> None:
    """The value and Jacobian of both implementations agree; says which entries differ if not."""
    exact = torch.tensor(to_float(network.jacobian(x, field)), dtype=torch.float64)
    value = torch.tensor(to_float(network.forward(x, field)), dtype=torch.float64).flatten()
    module = network.to_torch()
    at = torch.tensor([float(v) for v in x], dtype=torch.float64)

    def function(v):
        return module(v.reshape(1, *network.input_shape)).flatten()

    auto = torch.autograd.functional.jacobian(function, at)
    for name, a, b in (("value", value, function(at).detach()), ("Jacobian", exact, auto)):
        bad = (a - b).abs() > TOLERANCE * (1 + b.abs().max())
        assert not bad.any(), (
            f"{name} differs at {bad.nonzero().tolist()}: {a[bad]} against {b[bad]}"
        )


HALF = (F(1, 2),) * 4
LAYERS = {
    "linear": ((4,), (Linear(weights(3, 4), vector(3)),), EXACT),
    "tokens-linear": ((3, 4), (Linear(weights(2, 4), vector(2)),), EXACT),
    "conv1d": ((2, 5), (Conv(weights(3, 6), (3,), 2, 1, 1, vector(3)),), EXACT),
    "conv2d-groups": ((2, 4, 4), (Conv(weights(4, 9), (3, 3), 2, 1, 2, vector(4)),), EXACT),
    "relu": ((4,), (ReLU(),), EXACT),
    "leaky": ((4,), (ReLU(F(1, 8)),), EXACT),
    "relu6": ((8,), (Linear(weights(8, 8)), Clip(0, 6)), EXACT),
    "maxpool1d": ((2, 5), (MaxPool((2,), 2),), EXACT),
    "maxpool2d": ((1, 4, 4), (Linear(weights(4, 4)), MaxPool((2, 2), 1)), EXACT),
    "avgpool1d": ((2, 6), (AvgPool((3,), 2),), EXACT),
    "avgpool2d-padded": ((2, 4, 4), (AvgPool((3, 3), 1, 1),), EXACT),
    "batchnorm": ((4, 2, 2), (BatchNorm(vector(4), HALF, HALF, (1, 2, 3, 4), F(1, 2)),), BALL),
    "batchnorm-square": ((4,), (BatchNorm(vector(4), HALF, HALF, (0, 3, 8, 15), 1),), EXACT),
    "layernorm": ((3, 4), (Norm(vector(4), HALF, F(1, 10)),), BALL),
    "layernorm-eps0": ((4,), (Norm(vector(4)),), BALL),
    "rmsnorm": ((3, 4), (Norm(vector(4), None, F(1, 10), False),), BALL),
    "l2": ((3, 4), (L2Normalise(),), BALL),
    "l2-clamped": ((3, 4), (L2Normalise(1000),), EXACT),
    "tanh": ((4,), (Tanh(),), BALL),
    "sigmoid": ((4,), (Sigmoid(),), BALL),
    "gelu": ((4,), (GELU(),), BALL),
    "softmax": ((3, 4), (Softmax(),), BALL),
    "attention": ((3, 4), (Attention(*[weights(4, 4, s) for s in range(4)]),), BALL),
    "attention-heads": ((3, 4), (Attention(*[weights(4, 4, s) for s in range(4)], 2),), BALL),
    "gate": (
        (4,),
        (Gate(Sequential((Linear(weights(3, 4)),)), Sequential((Linear(weights(3, 4, 5)),))),),
        EXACT,
    ),
    "residual": ((4,), (Residual(Sequential((Linear(weights(4, 4)), ReLU()))),), EXACT),
    "projection": (
        (4,),
        (Residual(Sequential((Linear(weights(3, 4)),)), Sequential((Linear(weights(3, 4, 9)),))),),
        EXACT,
    ),
    "concat": ((2, 4), (Concat((Sequential(), Sequential((Conv(weights(3, 2), (1,)),)))),), EXACT),
    "patches": ((2, 4, 4), (PatchEmbed(weights(3, 8), 2, vector(3)), GlobalPool(True)), EXACT),
    "global-pool": ((2, 3, 3), (GlobalPool(), Linear(weights(2, 2))), EXACT),
    "flatten": ((2, 3), (Flatten(), Linear(weights(2, 6))), EXACT),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_agrees_with_autodiff(name):
    shape, layers, field = LAYERS[name]
    network = Network(shape, layers)
    compare(network, vector(torch.Size(shape).numel()), field)


def test_a_wrong_slope_would_be_noticed():
    # the false variant of the property: one slope changed must fail the comparison
    class Wrong(ReLU):
        def to_torch(self, shape):
            return torch.nn.LeakyReLU(0.01)

    with pytest.raises(AssertionError, match="differs at"):
        compare(Network((4,), (Wrong(),)), (1, -1, 2, -2), EXACT)


@given(networks())
@settings(max_examples=60)
def test_rational_networks_agree_with_autodiff(case):
    compare(*case, EXACT)


@given(conv_networks())
@settings(max_examples=25)
def test_convolutional_networks_agree_with_autodiff(case):
    compare(*case, EXACT)


@given(smooth_networks())
@settings(max_examples=25)
def test_smooth_networks_agree_with_autodiff(case):
    compare(*case, BALL)


@given(networks(depth=(1, 3), width=(1, 4)))
@settings(max_examples=60)
def test_chain_rule_and_balls(case):
    network, x = case
    product = None
    for J in network.elements(x):
        product = J if product is None else J * product
    assert product == network.jacobian(x)
    ball = network.jacobian(x, BALL)
    for a, b in zip(ball.entries(), product.entries(), strict=True):
        assert (a * b.q - b.p).contains(0), "the ball Jacobian must contain the exact one"


@given(networks(depth=(1, 3), width=(2, 4)), st.data())
@settings(max_examples=40)
def test_directions_are_a_product(case, data):
    network, x = case
    n = network.input_shape[0]
    entries = data.draw(st.lists(st.integers(-2, 2), min_size=n, max_size=n))
    P = EXACT.matrix(n, 1, entries)
    assert network.taps(x, EXACT, P)[-1][1] == network.jacobian(x) * P


def test_kink_matters_only_when_its_tangent_does():
    with pytest.raises(KinkError, match="unit 0 of ReLU is on its kink"):
        Network((1,), (ReLU(),)).jacobian((0,))
    dead = Network((1,), (Linear(((0,),)), ReLU()))
    assert dead.jacobian((3,)).tolist() == [[0]]
    with pytest.raises(KinkError, match="tie"):
        Network((1, 2), (MaxPool((2,)),)).jacobian((1, 1))
    same = Network((1,), (Linear(((1,), (1,))),))
    assert same.jacobian((1,)).tolist() == [[1], [1]]
    tied = Network((1, 1), (Linear(((1,), (1,))), MaxPool((2,))))
    assert tied.jacobian((1,)).tolist() == [[1]]  # the tied units have equal tangents
    assert Network((1,), (ReLU(),)).forward((0,)).tolist() == [[0]]


def test_autodiff_at_a_kink_is_not_the_derivative():
    # theory.md 5.1: relu(x) - relu(-x) is x, autodiff says slope 0 at 0; here it is refused
    plus = Sequential((ReLU(),))
    minus = Sequential((Linear(((-1,),)), ReLU(), Linear(((-1,),))))
    network = Network((1,), (Residual(minus, plus),))
    at = torch.zeros(1, dtype=torch.float64)
    auto = torch.autograd.functional.jacobian(lambda v: network.to_torch()(v[None])[0], at)
    assert float(auto) == 0
    assert network.jacobian((F(1, 10**9),)).tolist() == [[1]]
    with pytest.raises(KinkError):
        network.jacobian((0,))


def test_errors_name_both_shapes():
    with pytest.raises(InputError, match=r"layer 2 of 2: Linear takes \(..., 5\).*\(4,\)"):
        Network((3,), (Linear(weights(4, 3)), Linear(weights(2, 5))))
    with pytest.raises(InputError, match=r"shortcut of shape \(4,\) to a branch of shape \(3,\)"):
        Network((4,), (Residual(Sequential((Linear(weights(3, 4)),))),))
    with pytest.raises(InputError, match="the input has 2 entries"):
        Network((3,), ()).jacobian((1, 2))
    with pytest.raises(UnsupportedError, match="irrational"):
        Network((3,), (Norm((1, 1, 1)),)).jacobian((1, 2, 4))
    with pytest.raises(UnsupportedError, match="BALL"):
        Network((3,), (Tanh(),)).jacobian((1, 2, 4))


def test_layer_norm_is_exact_where_the_root_is_rational():
    # (1, -1) has variance 1: gamma / s = 1, so J = I - 11^T/2 - c c^T/2 = 0 at eps = 0
    assert Network((2,), (Norm((1, 1)),)).jacobian((1, -1)).rank() == 0
    # eps = 3 keeps the radial direction with ratio eps / (var + eps): rank n - 1
    assert Network((2,), (Norm((1, 1), None, 3),)).jacobian((1, -1)).rank() == 1


def test_a_network_is_readable():
    text = repr(Network((1,), (Linear(((2,),)), ReLU())))
    assert "weight=((2,),)" in text
    assert json.dumps(text)
