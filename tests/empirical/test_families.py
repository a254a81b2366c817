"""Families: identities of single layers, and tiny networks between exact and float64 ranks."""

import copy

import pytest
import torch
from torch import nn

from empirical.directions import with_random_weights
from empirical.engine import Engine
from empirical.fields import FloatField, ModField, random_primes
from empirical.finite import rank_mod
from empirical.jacobian import jacobian_profile
from empirical.push import push
from empirical.spectrum import relative_rank, spectrum

P = random_primes(1, 0)[0]


def family_rank(model, shape, seed=0):
    """Rank of the whole Jacobian in one draw."""
    model = copy.deepcopy(model).double().eval().requires_grad_(False)
    n = int(torch.tensor(shape).prod())
    x = torch.randint(-(P // 2), P // 2, (1, *shape), generator=torch.Generator().manual_seed(seed))
    found = {}
    push(model, x.double(), torch.eye(n).double().reshape(n, 1, *shape),
         Engine(ModField(P), family=True, seed=seed), [""],
         lambda k, t: found.__setitem__(k, t.dense()))  # fmt: skip
    return rank_mod(found[""].reshape(n, -1), P)


class Softmax(nn.Module):
    def forward(self, x):
        return x.softmax(-1)


class Call(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


LAYERS = {
    "layer norm, eps 0": (nn.LayerNorm(12, eps=0.0), 10),  # ones and the radial direction
    "layer norm": (nn.LayerNorm(12, eps=1e-5), 11),  # ones only
    "RMS norm, eps 0": (nn.RMSNorm(12, eps=0.0), 11),  # the radial direction
    "RMS norm": (nn.RMSNorm(12, eps=1e-5), 12),
    "L2 normalise": (Call(lambda x: nn.functional.normalize(x, dim=-1)), 11),
    "by hand": (Call(lambda x: (x - x.mean(-1, True)) * x.var(-1, keepdim=True).rsqrt()), 10),
    "softmax": (Softmax(), 11),
    "gelu": (nn.GELU(), 12),
    "gelu, softmax": (nn.Sequential(nn.GELU(), Softmax()), 11),
    "group norm": (nn.GroupNorm(3, 12), 9),  # the ones of each group of 4
    "group norm, eps 0": (nn.GroupNorm(3, 12, eps=0.0), 6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_identities_of_layers(name):
    """The family's rank, and as an independent one that of a member by torch.func in float64."""
    layer, expected = LAYERS[name]
    assert {family_rank(layer, (12,), seed) for seed in range(3)} == {expected}
    x = torch.randn(1, 12, generator=torch.Generator().manual_seed(0)).double()
    dense = torch.func.jacrev(copy.deepcopy(layer).double())(x).reshape(12, 12)
    # rounding leaves 1e-16 of the largest value where the identity has 0; eps leaves 1e-5
    assert int(torch.linalg.matrix_rank(dense, rtol=1e-10)) == expected


def family_value(layer, x, seed=0):
    """Primal residues and tangents [12, 12] of one draw."""
    found = {}
    push(layer, x, torch.eye(12).double()[:, None, None].expand(12, *x.shape),
         Engine(ModField(P), family=True, seed=seed), [""],
         lambda k, t: found.__setitem__(k, (t.primal, t.dense())))  # fmt: skip
    return found[""]


def residues(rows=8):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-(P // 2), P // 2, (1, rows, 12), generator=generator).double()


def squares(y):
    """Sums of squares of the rows mod p."""
    return (y.long() * y.long() % P).sum(-1).remainder(P).flatten().tolist()


def test_layer_norm_without_eps_has_sum_0_and_second_moment_1():
    for seed in range(3):
        y, dy = family_value(nn.LayerNorm(12, eps=0.0), residues(), seed)
        assert y.sum(-1).remainder(P).flatten().tolist() == [0] * 8
        assert squares(y) == [12] * 8
        # differentiated: sum dy = 0 and y . dy = 0
        assert not dy.sum(-1).remainder(P).any()
        assert not (y.long() * dy.long() % P).sum(-1).remainder(P).any()
    assert len({tuple(v) for v in y[0].tolist()}) == 8
    # with eps the second moment is free
    y, _ = family_value(nn.LayerNorm(12), residues())
    assert y.sum(-1).remainder(P).flatten().tolist() == [0] * 8
    assert squares(y) != [12] * 8


@pytest.mark.parametrize(("name", "total"), [("RMS norm, eps 0", 12), ("L2 normalise", 1)])
def test_sums_of_squares_of_normalised_rows_are_constant(name, total):
    """n or 1 where the sum of squares is a square mod p, times one non-square elsewhere."""
    y, dy = family_value(LAYERS[name][0].double(), residues(40))
    g = next(g for g in range(2, 99) if pow(g, (P - 1) // 2, P) == P - 1)
    expected = {total, total * g % P, total * pow(g, -1, P) % P}
    found = set(squares(y))
    assert total in found
    assert len(found) == 2
    assert found <= expected
    assert not (y.long() * dy.long() % P).sum(-1).remainder(P).any()


def test_a_free_root_forgets_the_identity(monkeypatch):
    """The false variant: a square root whose slope is unrelated to its value."""
    from empirical.rules import pointwise

    monkeypatch.setattr(pointwise, "root", pointwise.random_function)
    assert family_rank(nn.RMSNorm(12, eps=0.0), (12,)) == 12
    assert family_rank(LAYERS["L2 normalise"][0], (12,)) == 12


def test_a_layer_norm_off_its_sphere_forgets_the_second_moment(monkeypatch):
    """The false variant: a base point with sum 0 and any sum of squares."""
    from empirical.rules import norms

    real = norms._point
    monkeypatch.setattr(norms, "_point", lambda field, *a: field.reduce_(real(field, *a) * 3))
    y, _ = family_value(nn.LayerNorm(12, eps=0.0), residues())
    assert squares(y) == [12 * 9] * 8


class Twice(nn.Module):
    """gelu(x) - gelu(x) is zero in every member: equal inputs must give equal outputs."""

    def forward(self, x):
        return nn.functional.gelu(x) - nn.functional.gelu(x)


class Odd(nn.Module):
    """gelu(x) - gelu(-x) - x is zero, yet the family does not know it (theory.md 5.5)."""

    def forward(self, x):
        return nn.functional.gelu(x) - nn.functional.gelu(-x) - x


def test_equal_inputs_give_equal_outputs():
    assert family_rank(Twice(), (6,)) == 0


def test_a_family_can_exceed_every_member():
    assert family_rank(Odd(), (6,)) == 6
    dense = torch.func.jacrev(Odd())(torch.randn(6).double())
    assert dense.abs().max() < 1e-14


class Attention(nn.Module):
    """One head over 5 tokens of width 6, with a residual and a small MLP."""

    def __init__(self, width, rank):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.up, self.down = nn.Linear(width, rank), nn.Linear(rank, width)
        self.squeeze = nn.Linear(width, rank)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
        x = x + self.down(nn.functional.gelu(self.up(x)))
        return self.squeeze(x)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rank", [1, 3])
def test_family_is_never_below_a_float64_rank(seed, rank):
    """The family's maximum bounds every member's rank; a bottleneck of 5 tokens x rank binds it."""
    torch.manual_seed(seed)
    net = Attention(6, rank).double().eval().requires_grad_(False)
    x = torch.randn(1, 5, 6).double()
    found = {}
    push(net, x, torch.eye(30).double().reshape(30, 1, 5, 6), Engine(FloatField()), [""],
         lambda k, t: found.__setitem__(k, t.dense()))  # fmt: skip
    member = relative_rank(spectrum(found[""].reshape(30, -1).T), 1e-9)
    drawn = max(family_rank(net, (5, 6), draw) for draw in range(3))
    assert member.low <= drawn <= 5 * rank
    free = max(family_rank(with_random_weights(net, d), (5, 6), d) for d in range(3))
    assert drawn <= free


def test_max_pool_of_a_family_is_a_combination_of_its_window():
    assert family_rank(nn.MaxPool2d(2), (2, 4, 4)) == 8
    assert family_rank(nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.GELU()), (1, 5, 5)) == 9


@pytest.mark.parametrize("name", ["digits-mixer", "digits-vit"])
def test_digits_family_bounds_float64_at_every_tap(name):
    from empirical.digits import build

    net = build(name)
    nn.init.normal_(net.head.weight)
    image = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    floats = jacobian_profile(net, image, patch=8, eps=(1e-8,))
    drawn = jacobian_profile(net, image, patch=8, field="family")
    for record in (r for r in floats.records if r.notion.startswith("relative")):
        assert record.low <= drawn.value(record.tap, "family(weights)")
    assert all(r.known == "probable" for r in drawn.records)
