"""The rounding bound of a whole forward pass, against exact fractions; patterns that lie."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import timm
import torch
from torch import nn

import empirical.rounding as rounding
from empirical.digits import build
from empirical.engine import Engine
from empirical.exact_pass import _check
from empirical.fields import ModField, random_primes
from empirical.fixed_point import Fixed
from empirical.jacobian import jacobian_profile
from empirical.pattern import Choice
from empirical.push import push
from empirical.rounding import Session, check_pattern
from tests.empirical.test_fixed_point import exact, within

PRIME = random_primes(1, 0)[0]


def recorded(net: nn.Module, x: torch.Tensor) -> list[Choice]:
    """The pattern of a float64 pass in which every pixel may move."""
    engine = Engine(ModField(PRIME), structural=True)
    data = torch.zeros(1, *x.shape).double()
    data[:] = 1
    push(net, x, data, engine, [""], lambda name, t: None)
    return engine.kinks.choices


def held(net: nn.Module, x: torch.Tensor, places: int, choices=None) -> dict[str, Fixed]:
    """What a pass in fixed point holds at the output of every module."""
    found: dict[str, Fixed] = {}
    choices = recorded(net, x) if choices is None else choices
    session = Session(-places, iter(choices), True)
    handles = [
        m.register_forward_hook(lambda _m, _i, out, n=n: found.__setitem__(n, out.fixed))
        for n, m in net.named_modules()
    ]
    rounding._run(net, x, session)
    for handle in handles:
        handle.remove()
    return found


class Net(nn.Module):
    """Convolution, folded batch norm, ReLU, max pool, a residual, mean and a head."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.bn = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.branch = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(3, 4)
        nn.init.normal_(self.bn.weight)
        nn.init.normal_(self.bn.running_mean)
        nn.init.uniform_(self.bn.running_var, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.bn(self.conv(x))))
        x = torch.relu(x + self.branch(x))
        return self.head(x.mean((2, 3)))


def operator(module: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    """A convolution's matrix as fractions: each entry is one stored weight, copied."""
    basis = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    rest = (module.stride, module.padding, module.dilation, module.groups)
    return exact(nn.functional.conv2d(basis, module.weight, None, *rest).flatten(1).T.contiguous())


def relu(v: np.ndarray) -> np.ndarray:
    return np.maximum(v, Fraction(0))


def forward(net: Net, x: torch.Tensor) -> dict[str, np.ndarray]:
    """``Net`` in exact arithmetic."""
    from empirical.rules.norms import folded

    value = operator(net.conv, (2, 4, 4)) @ exact(x.flatten())
    conv = value.reshape(3, 4, 4) + exact(net.conv.bias).reshape(3, 1, 1)
    bn = net.bn
    scale, shift = folded(bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.eps, 4)
    normed = conv * exact(scale[0]) + exact(shift[0])
    pooled = relu(normed).reshape(3, 2, 2, 2, 2).max((2, 4))
    branch = (operator(net.branch, (3, 2, 2)) @ pooled.flatten()).reshape(3, 2, 2)
    means = relu(pooled + branch).sum((1, 2)) * Fraction(1, 4)
    return {
        "conv": conv, "bn": normed, "pool": pooled, "branch": branch,
        "head": exact(net.head.weight) @ means + exact(net.head.bias),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_every_value_lies_within_its_bound_of_the_exact_one(seed):
    net = Net(seed).double().eval().requires_grad_(False)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    true = forward(net, x)
    for places in (2, 4, 8):
        found = held(net, x, places)
        for name, values in true.items():
            ours = replace(found[name], digits=tuple(d[0] for d in found[name].digits))
            assert within(ours, values.reshape(tuple(ours.shape))), (name, places)
            # not vacuous: five layers of gain below 2^6 each, on units of the last place
            assert ours.error <= 2.0 ** (30 - 20 * places), (name, places)
    # 12 digits hold all of it, up to the mean's and the head's last bits
    assert held(net, x, 12)["branch"].error == 0


def test_a_pass_that_forgets_the_bound_of_its_input_is_caught(monkeypatch):
    """The false variant: convolutions whose bound holds for an exact input only."""
    import empirical.rounding_rules as rules

    net = Net(0).double().eval().requires_grad_(False)
    net.conv.weight.mul_(64)  # so that what the first convolution forgets is not made up for later
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    true, honest = forward(net, x), rules.apply
    choices = recorded(net, x)

    def good(places: int) -> bool:
        found = held(net, x, places, choices)["branch"]
        return within(replace(found, digits=tuple(d[0] for d in found.digits)), true["branch"])

    assert all(good(places) for places in (1, 2, 3))
    monkeypatch.setattr(
        rules, "apply",
        lambda v, w, bottom, linear: honest(replace(v, error=0.0), w, bottom, linear),
    )  # fmt: skip
    assert not all(good(places) for places in (1, 2, 3))


class Call(nn.Module):
    def __init__(self, f) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.f(x)


F = nn.functional
OPERATIONS = [
    lambda x: F.leaky_relu(F.hardtanh(x, -0.7, 0.9), 0.1),
    lambda x: F.relu6(x * 5) / 3 - x.abs(),
    lambda x: x.clamp(min=-0.5) + x.clamp(max=0.5) - x.clamp(-0.25, 0.75) + 2 - (1 - x) * 0.1,
    lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False) + F.avg_pool2d(x, 3, 2, 1),
    lambda x: F.max_pool2d(F.pad(x, (1, 2, 0, 1)), 3, 2, 1, ceil_mode=True),
    lambda x: F.max_pool2d(x, 2, 1, dilation=2),
    lambda x: F.adaptive_avg_pool2d(x, (3, 2)) + x.mean((2, 3), keepdim=True),
    lambda x: torch.cat([x[:, 1:2], torch.ones_like(x), -x], 1).flip(3).sum((0, 2)),
    lambda x: torch.stack(x.chunk(2, 1)).transpose(1, 2).reshape(1, -1).relu_(),
    lambda x: (x + 0).mul_(0.3).add_(x).sub_(0.1),
    lambda x: x.flatten(2) @ torch.linspace(-1, 1, 147).double().reshape(49, 3),
    lambda x: torch.linspace(-1, 1, 98).double().reshape(1, 2, 49).expand(4, 2, 49) @ x.reshape(4, 49, 1),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(OPERATIONS)))
def test_operations_agree_with_float64(index):
    net = nn.Sequential(nn.Conv2d(2, 4, 1), Call(OPERATIONS[index])).double().requires_grad_(False)
    x = torch.randn(1, 2, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(index))
    found = held(net, x, 8)["1"]
    assert found.error < 2.0**-130
    # float64's own rounding of a few operations on numbers below 100
    assert torch.allclose(found.approximate(), net(x), atol=1e-13, rtol=0)
    assert check_pattern(net, x, recorded(net, x)).certified


def row(*weights: float) -> nn.Module:
    """One ReLU of one linear combination, and the identity after it."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(len(weights), 1, bias=False), nn.ReLU()).double()
    net[1].weight.data = torch.tensor([weights], dtype=torch.float64)
    return net.eval().requires_grad_(False)


def slope(active: float) -> Choice:
    """A recorded side of one ReLU."""
    return Choice(
        "relu", "2", torch.ones(1, 1, dtype=torch.bool), (0.0,), lambda p: (p > 0).to(p.dtype),
        torch.full((1, 1), active, dtype=torch.float64),
    )  # fmt: skip


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_kink_nearer_than_float64_can_see(sign):
    """1 + 2^-80 - 1: float64 says 0 and takes the slope 0, which is right on one side only."""
    net = row(1.0, sign * 2.0**-40, -1.0)
    x = torch.tensor([1.0, 2.0**-40, 1.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    right, wrong = (slope(1.0), slope(0.0)) if sign > 0 else (slope(0.0), slope(1.0))
    good = check_pattern(net, x, [right])
    assert good.certified
    assert (good.units, good.undecided, good.differs) == (1, 0, 0)
    assert good.margin == 2.0**-80
    bad = check_pattern(net, x, [wrong])
    assert not bad.certified
    assert bad.differs == 1
    assert "differs from the true one at 1 units of 2" in bad.why


def test_a_doctored_pattern_is_found_out():
    """One flipped side or winner that matters differs; where nothing moves it does not matter."""
    net = Net(1).double().eval().requires_grad_(False)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    choices = recorded(net, x)
    assert check_pattern(net, x, choices).certified
    for number, choice in enumerate(choices):
        mine = list(choices)
        if choice.slopes is not None:
            flipped = choice.slopes.clone()
            place = tuple(choice.support.nonzero()[0])
            flipped[place] = 1 - flipped[place]
            mine[number] = replace(choice, slopes=flipped)
        else:
            # the next place of the first window whose winner is a unit that moves
            winners = choice.winners.clone()
            moves = choice.support.flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape)
            place = tuple(moves.nonzero()[0])
            corner = (int(place[2]) * 2) * 4 + int(place[3]) * 2
            window = [corner, corner + 1, corner + 4, corner + 5]
            winners[place] = next(w for w in window if w != int(winners[place]))
            mine[number] = replace(choice, winners=winners)
        found = check_pattern(net, x, mine)
        assert not found.certified
        assert found.differs == 1, number
        still = replace(mine[number], support=torch.zeros_like(choice.support))
        mine[number] = still
        assert check_pattern(net, x, mine).certified


def test_a_unit_exactly_on_its_kink_stays_in_doubt():
    """x - x is 0 at every precision: no number of digits decides it, and the rest is decided."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), Call(lambda x: (x - x).relu() + x.relu())).double()
    x = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    found = check_pattern(net.requires_grad_(False), x, recorded(net, x))
    assert not found.certified
    assert (found.undecided, found.differs, found.units) == (18, 0, 36)
    assert "18 units lie on their kink" in found.why


def test_too_few_digits_decide_nothing(monkeypatch):
    net, x = Net(0).double().eval().requires_grad_(False), torch.zeros(1, 2, 4, 4).double() + 0.1
    choices = recorded(net, x)
    monkeypatch.setattr(rounding, "FEWEST", 0)
    monkeypatch.setattr(rounding, "MOST", 0)
    found = check_pattern(net, x, choices)
    assert not found.certified
    assert found.undecided > 0
    _, near = Session(-1, iter(()), True).decide(torch.tensor([1.0, -5.0]), float("nan"))
    assert near.all()


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.GELU(), r"aten\.gelu\.default in module '1' has no rounding bound"),
        (Call(lambda x: x * x), "a product of two values that depend on the input"),
        (Call(lambda x: F.pad(x, (1, 0), value=2.0)), "padding with 2.0"),
        (Call(lambda x: x / 0.1), "a quotient by 0.1"),
    ],
    ids=str,
)
def test_an_operation_without_a_bound_is_the_stated_reason(layer, why):
    net = nn.Sequential(nn.Linear(3, 3), layer).double().requires_grad_(False)
    found = check_pattern(net, torch.randn(1, 3).double(), [])
    assert not found.certified
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found.why)


def exact_records(profile):
    return [r for r in profile.records if r.notion == "exact"]


def test_profiles_say_how_their_pattern_is_known(monkeypatch):
    import empirical.exact_pass as exact_pass

    net, x = (
        build("digits-resnet"),
        torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(3)),
    )
    options = {"patch": None, "field": "exact"}
    for record in exact_records(jacobian_profile(net, x, **options)):
        met = record.low == record.high
        assert record.known == ("proved" if met else "probable")
        assert record.extra["pattern_certified"]
        found = record.extra["pattern"]
        assert found["bits"] >= 40
        assert 0 < found["error"] < found["margin"]
    lie = rounding.PatternCheck(False, "the recorded pattern differs at 3 units", differs=3)
    monkeypatch.setattr(exact_pass, "check_pattern", lambda *_: lie)
    profile = jacobian_profile(net, x, **options)
    assert any("differs at 3 units" in note for note in profile.notes)
    for record in exact_records(profile):
        assert not record.extra["pattern_certified"]
        assert record.known == "probable"
    unknown = rounding.PatternCheck(False, "not certified: an operation has no rounding bound")
    monkeypatch.setattr(exact_pass, "check_pattern", lambda *_: unknown)
    first = exact_records(jacobian_profile(net, x, **options))[0]
    assert first.known == "proved for the recorded pattern"


def test_passes_that_disagree_about_the_pattern_prove_nothing():
    net, x = build("digits-resnet").double(), torch.randn(1, 1, 8, 8, dtype=torch.float64)

    class Fake:
        image, device = x[0], x.device

        def convert(self, dtype):
            return net

        def say(self, text):
            assert text.startswith("pattern: ")

    engine = Engine(ModField(PRIME), structural=True)
    push(net, x, torch.ones(1, *x.shape).double(), engine, [""], lambda name, t: None)
    engine.kinks.close()
    assert _check(Fake(), engine.kinks, engine.kinks.patterns).certified
    found = _check(Fake(), engine.kinks, engine.kinks.patterns | {1})
    assert not found.certified
    assert "2 patterns" in found.why


@pytest.mark.parametrize(
    ("size", "patch"), [(64, 4), pytest.param(224, 16, marks=pytest.mark.slow)]
)
def test_resnet18_is_certified(size, patch):
    torch.manual_seed(0)
    net = timm.create_model("resnet18", pretrained=False, zero_init_last=False).eval()
    x = torch.randn(3, size, size, generator=torch.Generator().manual_seed(0))
    profile = jacobian_profile(net, x, patch=patch, field="exact", primes=1)
    for record in exact_records(profile):
        assert record.extra["pattern_certified"], record.extra["pattern"]
        assert record.known == "proved" or record.low < record.high
