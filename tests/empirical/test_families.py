"""Families: identities of single layers, and tiny networks between exact and float64 ranks."""

import copy

import pytest
import torch
from torch import nn

from empirical.directions import with_random_weights
from empirical.fields import FloatField, ModField, random_primes
from empirical.finite import rank_mod
from empirical.jacobian import jacobian_profile
from empirical.spectrum import relative_rank, spectrum
from empirical.push import push
from empirical.tangents import Engine

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


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.LayerNorm(12, eps=0.0), 10),  # ones and the radial direction
        (nn.LayerNorm(12, eps=1e-5), 11),  # ones only
        (Softmax(), 11),
        (nn.GELU(), 12),
        (nn.Sequential(nn.GELU(), Softmax()), 11),
        (nn.GroupNorm(3, 12), 9),  # the ones of each group of 4
    ],
    ids=str,
)
def test_identities_of_layers(layer, expected):
    assert family_rank(layer, (12,)) == expected


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
