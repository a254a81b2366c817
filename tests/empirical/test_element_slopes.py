"""Hardsigmoid, hardswish and gates: exact element Jacobians at recorded points, against fractions."""

from fractions import Fraction

import numpy as np
import pytest
import timm
import torch
from torch import nn

from empirical.engine import Engine
from empirical.fields import FloatField, ModField, random_primes
from empirical.jacobian import jacobian_profile
from empirical.push import push
from empirical.rounding import check_pattern
from numeric.exact import rank as flint_rank
from tests.empirical.test_fixed_point import exact

P = random_primes(1, 0)[0]
ELEMENTS = "proved for the recorded element Jacobians"


def jacobian(net, x, engine):
    """[outputs, inputs] in the engine's field."""
    found = {}
    n = x.numel()
    data = torch.eye(n, dtype=torch.float64).reshape(n, *x.shape)
    push(net, x, data, engine, [""], lambda k, t: found.__setitem__(k, t.dense()))
    return found[""].reshape(n, -1).T


def residues(matrix: np.ndarray) -> list[list[int]]:
    """A matrix of fractions mod p."""
    return [[v.numerator * pow(v.denominator, -1, P) % P for v in row] for row in matrix]


def mod(net, x) -> list[list[int]]:
    return jacobian(net, x, Engine(ModField(P))).remainder(P).long().tolist()


def slope(x: float, swish: bool) -> Fraction:
    """The exact slope at a dyadic point."""
    if not -3 < x < 3:
        return Fraction(int(swish and x >= 3))
    return (2 * Fraction(x) + 3) / 6 if swish else Fraction(1, 6)


@pytest.mark.parametrize("swish", [True, False])
def test_slopes_are_exact_at_the_recorded_points(swish):
    layer = nn.Hardswish() if swish else nn.Hardsigmoid()
    x = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)).double() * 3
    x[0, :3] = torch.tensor([2.0**-50, -1.5, 2.999999])
    expected = np.diag([slope(v, swish) for v in x[0].tolist()])
    assert mod(layer, x) == residues(expected)
    # the false variant: the float slope is a dyadic rational near it, another element of the field
    rounded = np.diag([Fraction(float(s)) for s in expected.diagonal()])
    assert mod(layer, x) != residues(rounded)
    # and over the floats they agree to rounding
    floats = jacobian(layer, x, Engine(FloatField()))
    assert np.allclose(floats, expected.astype(float), atol=1e-15)


class Gate(nn.Module):
    """Squeeze and excite without its convolutions: ``W2 (u * hardsigmoid(V x))``, ``u = W1 x``."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.u, self.v, self.out = (nn.Linear(5, 5, bias=False) for _ in range(3))

    def forward(self, x):
        return self.out(self.u(x) * nn.functional.hardsigmoid(self.v(x)))


def test_a_gate_is_exact_at_the_recorded_factors():
    net = Gate().double().requires_grad_(False)
    x = torch.randn(1, 5).double() * 3
    u, y = net.u(x)[0], net.v(x)[0]
    g = nn.functional.hardsigmoid(y)
    W1, V, W2 = (exact(m.weight) for m in (net.u, net.v, net.out))
    inner = (
        np.diag(exact(g)) @ W1
        + np.diag(exact(u)) @ np.diag([slope(v, False) for v in y.tolist()]) @ V
    )
    expected = W2 @ inner
    assert mod(net, x) == residues(expected)
    floats = jacobian(net, x, Engine(FloatField()))
    assert np.allclose(floats, expected.astype(float), atol=1e-13)
    profile = jacobian_profile(
        nn.Sequential(nn.Flatten(), Gate()).eval(), x.reshape(5, 1, 1), patch=None, field="exact",
        taps=["1"],
    )  # fmt: skip
    record = next(r for r in profile.records if r.notion == "exact")
    assert record.value == flint_rank(expected.tolist())
    assert record.known == ELEMENTS
    assert not record.extra["pattern_certified"]
    assert record.extra["element_jacobians_at_recorded_points"] == ["aten.mul.Tensor"]


def test_hardsigmoid_alone_is_piecewise_linear_and_can_be_certified():
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Hardsigmoid()).eval()
    x = torch.randn(6, 1, 1, generator=torch.Generator().manual_seed(1))
    profile = jacobian_profile(net, x, patch=None, field="exact", taps=["2"])
    record = next(r for r in profile.records if r.notion == "exact")
    assert (record.value, record.known) == (6, "proved")
    engine = Engine(ModField(P), structural=True)
    double = net.double().requires_grad_(False)
    data = torch.eye(6).double().reshape(6, 1, 6, 1, 1)
    push(double, x.double()[None], data, engine, [""], lambda *_: None)
    choice = engine.kinks.choices[0]
    assert check_pattern(double, x.double()[None], [choice]).certified
    assert choice.kinks == (-3.0, 3.0)


def test_mobilenetv3_has_an_exact_profile_of_its_element_jacobians():
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv3_small_050", pretrained=False).eval()
    image = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    options = {"patch": 4}
    exacts = jacobian_profile(net, image, field="exact", primes=2, **options)
    floats = jacobian_profile(net, image, field="float64", eps=(1e-10,), **options)
    ranks = [r for r in exacts.records if r.notion == "exact"]
    assert len(ranks) > 10
    assert any(r.known == ELEMENTS for r in ranks)
    assert all(r.known in (ELEMENTS, "probable") for r in ranks)
    for record in ranks:
        low = next(r.low for r in floats.records if r.tap == record.tap and "rel" in r.notion)
        assert low <= record.value <= record.high
    through = [r.value for r in ranks if r.separator]
    assert through == sorted(through, reverse=True)
