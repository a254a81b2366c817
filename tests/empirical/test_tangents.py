"""The engine against dense oracles: torch.func in float64, and python-flint over the rationals."""

import copy

import pytest
import torch
from torch import nn

from empirical.engine import Engine
from empirical.fields import FloatField, ModField, random_primes
from empirical.push import push
from empirical.tangents import Tangent
from theory.errors import InputError, UnsupportedError

P = random_primes(1, 0)[0]
#: rounding of a few dozen float64 operations, relative to the largest entry
TOLERANCE = 1e-12


def tangents(model, x, data, engine, tap="", offset=None):
    """The tangents [K, *shape] of one tap."""
    found = {}
    push(model, x, data, engine, [tap], lambda n, t: found.__setitem__(n, t), offset)
    return found[tap]


def oracle(model, x, data):
    """torch.func.jvp, one direction at a time."""
    return torch.stack([torch.func.jvp(model, (x,), (v,))[1] for v in data])


def agrees(model, shape, k=5, seed=0):
    """The engine's tangents equal torch.func.jvp's."""
    torch.manual_seed(seed)
    model = model.double().eval().requires_grad_(False)
    x, data = torch.randn(1, *shape).double(), torch.randn(k, 1, *shape).double()
    ours = tangents(model, x, data, Engine(FloatField())).dense()
    theirs = oracle(model, x, data)
    assert theirs.abs().max() > 0
    assert torch.allclose(ours, theirs, atol=TOLERANCE * float(theirs.abs().max()), rtol=0)


class Call(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


CONVS = [
    nn.Conv2d(4, 6, 3, padding=1),
    nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
    nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(0, 1), dilation=(2, 1)),
    nn.Conv2d(4, 8, 3, groups=2, padding=1),
    nn.Conv2d(4, 4, 5, groups=4, padding=2, stride=2),
    nn.Conv2d(4, 8, 3, groups=4, padding=2, dilation=2),
    nn.Conv2d(4, 6, 1),
    nn.Conv2d(4, 6, 1, stride=2),
]
POOLS = [
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d(2, ceil_mode=True),
    nn.AvgPool2d(3, 1, 1),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((3, 4)),
    nn.AdaptiveAvgPool2d(9),
    nn.AdaptiveAvgPool2d((11, 2)),
]
NORMS = [
    nn.BatchNorm2d(4),
    nn.GroupNorm(2, 4),
    nn.LayerNorm([4, 9, 9]),
    nn.LayerNorm(9, eps=0.0, elementwise_affine=False),
    nn.Softmax(1),
]
SCALARS = [
    nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.25), nn.Hardtanh(-0.5, 0.5),
    nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Sigmoid(), nn.Tanh(), nn.Hardswish(), nn.Hardsigmoid(),
    nn.Mish(), nn.Softplus(), nn.ELU(0.7),
]  # fmt: skip
FUNCTIONS = [
    lambda x: x * x.sigmoid() + 2 * x - x / 3 + 1 / (2 + x * x),
    lambda x: torch.cat([x[:, :2], torch.ones_like(x), x.flip(3)], 1),
    lambda x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).softmax(-1),
    lambda x: nn.functional.normalize(x.flatten(2), dim=-1),
    lambda x: nn.functional.pad(x, (1, -1, 2, 0)).roll((1, 2), (2, 3)),
    lambda x: torch.stack(x.chunk(2, 1)).mean((0, 3)) - x.var(1).unsqueeze(1).mean(3),
    lambda x: x.reshape(1, 2, 2, 81).unbind(1)[1] ** 3,
    lambda x: torch.einsum("bchw,bdhw->bcd", x, x.clamp(-1, 1)),
    lambda x: nn.functional.interpolate(
        nn.functional.pad(x, (1, 2, 3, 0), "reflect"), scale_factor=2
    ),
    lambda x: x.abs().add_(1).mul_(2).sqrt().cumsum(2),  # cumsum has no rule: falls back
]
#: 4 channels, 9 rows, 9 columns
MASK = torch.ones(9, 9).tril().bool()
MASKED = {
    "fill": lambda x: x.masked_fill(MASK, 2.0),
    "fill with a tensor": lambda x: x.masked_fill(MASK, torch.tensor(-3.0).double()),
    "fill in place": lambda x: (2 * x).masked_fill_(MASK[:1], 0.0) + x,
    "fill with an active number": lambda x: x.masked_fill(MASK, x.sum()),
    "two active": lambda x: torch.where(MASK, x, x.flip(1) * 2),
    "active first": lambda x: torch.where(MASK, x, -1.0),
    "active last": lambda x: torch.where(MASK[3:4], 0.5, x),
    "grown": lambda x: torch.where(MASK, x[:, :, :1], torch.ones(4, 9, 9, dtype=x.dtype)),
}


@pytest.mark.parametrize("layer", [*CONVS, *POOLS, *NORMS, *SCALARS], ids=str)
def test_layer_against_torch_func(layer):
    if isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.running_mean)
    copied = copy.deepcopy(layer)
    if isinstance(layer, nn.Hardsigmoid):  # torch's own slope is 1/6 in float32, off by 5e-9
        copied = Call(
            lambda x: (
                nn.functional.hardsigmoid(x)
                if isinstance(x, Tangent)
                else nn.functional.hardtanh(x + 3, 0, 6) / 6
            )
        )
    agrees(nn.Sequential(nn.Conv2d(4, 4, 1), copied), (4, 9, 9))


@pytest.mark.parametrize("index", range(len(FUNCTIONS)))
def test_function_against_torch_func(index):
    agrees(Call(FUNCTIONS[index]), (4, 9, 9))


@pytest.mark.parametrize("name", MASKED)
def test_masks_against_torch_func(name):
    agrees(Call(MASKED[name]), (4, 9, 9))


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("family", [False, True])
def test_masks_have_a_rule_in_every_field(name, family):
    """Integers, so float64 is exact; a family without a random function has the same residues."""
    x = torch.randint(-9, 10, (1, 4, 9, 9)).double()
    data = torch.randint(-99999, 99999, (5, 1, 4, 9, 9)).double()
    engine = Engine(FloatField())
    floats = tangents(Call(MASKED[name]), x, data, engine)
    assert not engine.fallbacks
    own = Engine(ModField(P), family=family, structural=not family)
    residues = tangents(Call(MASKED[name]), x, data, own)
    difference = 2 * floats.dense() - 2 * residues.dense()
    assert torch.equal(difference.remainder(P), torch.zeros_like(difference))
    if not family:
        assert not (floats.dense() != 0).any(0)[~residues.support].any()
        # a unit that the mask has filled with a number is not active
        assert residues.support.all() == (
            name in ("two active", "fill in place", "fill with an active number")
        )


def test_a_mask_taken_from_the_input_is_a_kink():
    """The recorded comparison chooses; where both sides are equal it is in doubt."""
    x = torch.tensor([[1.0, 0.0, -4.0, 2.0]]).double()
    data = torch.eye(4).double()[:, None]
    leaky = Call(lambda z: torch.where(z > 0, z, 0.25 * z))
    assert torch.equal(
        tangents(leaky, x, data, Engine(FloatField())).dense()[:, 0].diagonal(),
        torch.tensor([1, 0.25, 0.25, 1]).double(),
    )
    engine = Engine(ModField(P), structural=True)
    found = tangents(leaky, x, data, engine).dense()[:, 0].diagonal()
    assert torch.equal((4 * found).remainder(P), torch.tensor([4.0, 1, 1, 4]).double())
    assert (engine.kinks.units, engine.kinks.in_doubt, engine.kinks.margin) == (4, 1, 0.25)
    other = Engine(ModField(P))
    tangents(leaky, x + 1, data, other)
    assert engine.kinks.seen != other.kinks.seen
    with pytest.raises(UnsupportedError, match="no order"):
        tangents(leaky, x, data, Engine(ModField(P), family=True))


GUARDS = {
    "sqrt": lambda z: torch.where(z > 0, z.sqrt(), z),
    "reciprocal": lambda z: (1 / z).masked_fill(z == 0, 0.0),
    "log": lambda z: torch.where(z > 0, z.log(), 0.0),
    "bytes": lambda z: torch.where(torch.tensor([1, 0, 1, 0]).byte(), z, 2 * z),
}


@pytest.mark.parametrize("name", GUARDS)
@pytest.mark.filterwarnings("ignore:where received a uint8 condition")
def test_entries_are_selected_not_multiplied(name):
    """The branch that is not taken may have an infinite slope."""
    x, data = torch.tensor([[-1.0, 0.0, 2.0, 3.0]]).double(), torch.ones(1, 1, 4).double()
    ours = tangents(Call(GUARDS[name]), x, data, Engine(FloatField())).dense()
    assert torch.equal(ours, oracle(Call(GUARDS[name]), x, data))


def test_infinite_entries_leave_the_margin_of_a_kink():
    x, data = torch.tensor([[1.0, 0.5, -4.0, 2.0]]).double(), torch.ones(1, 1, 4).double()
    last = torch.tensor([False, False, False, True])
    for net in (
        lambda z: z.masked_fill(last, float("-inf")).relu(),
        lambda z: torch.where((s := z.masked_fill(last, float("-inf"))) > 0, s, 0.0),
    ):
        engine = Engine(ModField(P), structural=True)
        tangents(Call(net), x, data, engine)
        assert (engine.kinks.units, engine.kinks.in_doubt, engine.kinks.margin) == (3, 0, 0.125)


@pytest.mark.parametrize("other", [True, torch.tensor(True), 0])
@pytest.mark.parametrize("columns", [0, 4])
def test_comparisons_with_anything(other, columns):
    x, data = torch.tensor([[1.0, 0.5, -4.0, 2.0]]).double(), torch.ones(1, 1, 4).double()
    net = Call(lambda z: torch.where(z[:, :columns] > other, z[:, :columns], 0.0))
    ours = tangents(net, x, data, Engine(ModField(P), structural=True)).dense()
    assert torch.equal(ours, oracle(net, x, data))


def test_an_infinite_fill_has_no_residue_in_a_family():
    x = torch.ones(1, 4, 9, 9).double()
    net = Call(lambda z: z.masked_fill(MASK, float("-inf")))
    with pytest.raises(UnsupportedError, match="infinite fill"):
        tangents(net, x, torch.ones(1, 1, 4, 9, 9).double(), Engine(ModField(P), family=True))


def test_unknown_operation_falls_back_and_says_so():
    engine = Engine(FloatField())
    x = torch.randn(1, 3, 4).double()
    tangents(Call(lambda z: z.cumsum(1)), x, torch.randn(2, 1, 3, 4).double(), engine)
    assert engine.fallbacks == {"aten.cumsum.default"}


def test_unknown_operation_mod_p_names_operation_and_module():
    model = nn.Sequential(nn.ReLU(), Call(lambda z: z.cumsum(1)))
    x = torch.randn(1, 3, 4).double()
    with pytest.raises(UnsupportedError, match=r"aten\.cumsum\.default in module '1'"):
        tangents(model, x, torch.ones(2, 1, 3, 4).double(), Engine(ModField(P)))


@pytest.mark.parametrize("join", [torch.cat, torch.stack])
def test_what_is_joined_from_a_constant_can_carry_nothing(join):
    """Units that can carry nothing are what exact upper bounds rest on."""
    net = Call(lambda z: join([z * 2, torch.ones(z.shape).double(), z[:, :1].expand(z.shape)], 1))
    x = torch.randn(1, 3, 4).double()
    joined = tangents(net, x, torch.ones(2, 1, 3, 4).double(), Engine(ModField(P), structural=True))
    parts = joined.support.unbind(1) if join is torch.stack else joined.support.split(3, 1)
    assert [bool(part.any()) for part in parts] == [True, False, True]
    assert parts[0].all()


def convnet(seed, integer=False):
    """Every windowed operation in a row, with a residual whose windows differ."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
            self.a = nn.Conv2d(8, 8, 3, padding=1)
            self.b = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.c = nn.Conv2d(8, 8, 3, padding=1, groups=2)
            self.pool = nn.AvgPool2d(2)
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            x = self.stem(x)
            x = torch.relu(x + self.b(torch.relu(self.a(x))))
            x = torch.cat([self.c(x)[:, :4], x[:, 4:]], 1)
            return self.head(self.pool(x).mean((2, 3)) * 32)

    torch.manual_seed(seed)
    net = Net().double().eval().requires_grad_(False)
    if integer:
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape).double())
    return net


@pytest.mark.parametrize("tap", ["stem", "a", "c", "pool", ""])
@pytest.mark.parametrize("corner", [(0, 0), (13, 9), (28, 28)])
def test_window_equals_no_window(tap, corner):
    net = convnet(0)
    x = torch.randn(1, 3, 32, 32).double()
    data = torch.randn(6, 1, 3, 4, 4).double()
    full = torch.zeros(6, 1, 3, 32, 32).double()
    y, z = corner
    full[..., y : y + 4, z : z + 4] = data
    windowed = tangents(net, x, data, Engine(FloatField()), tap, (0, 0, y, z))
    dense = tangents(net, x, full, Engine(FloatField()), tap)
    if tap == "stem":
        assert windowed.data_.numel() < dense.data_.numel() / 4
    assert torch.allclose(windowed.dense(), dense.dense(), atol=1e-13)


def test_integer_network_mod_p_equals_float64_entry_by_entry():
    """With integer weights float64 is exact, so residues must be equal, not close."""
    net = convnet(1, integer=True)
    x = torch.randint(-9, 10, (1, 3, 32, 32)).double()
    data = torch.randint(-99999, 99999, (7, 1, 3, 6, 6)).double()
    for tap in ("stem", "a", "c"):  # integers all the way
        exact = tangents(net, x, data, Engine(FloatField()), tap, (0, 0, 8, 8)).dense()
        assert tap == "stem" or exact.abs().max() > P  # so that the reduction is seen to work
        residues = tangents(net, x, data, Engine(ModField(P)), tap, (0, 0, 8, 8)).dense()
        assert torch.equal((exact - residues).remainder(P), torch.zeros_like(exact))
    # average pool and mean: exact fractions, so multiply by their denominators
    exact = tangents(net, x, data, Engine(FloatField()), "", (0, 0, 8, 8)).dense()
    residues = tangents(net, x, data, Engine(ModField(P)), "", (0, 0, 8, 8)).dense()
    whole = (exact * 2).round()  # (1/4)(1/16) * 32 = 1/2
    assert torch.equal((whole - 2 * residues).remainder(P), torch.zeros_like(exact))


def test_adaptive_pool_has_exact_fractions():
    x, data = torch.randn(1, 1, 5, 5).double(), torch.eye(25).double().reshape(25, 1, 1, 5, 5)
    pool = nn.AdaptiveAvgPool2d(4)  # cells of 2 x 2 pixels, so 4 times the map is an integer
    whole = tangents(pool, x, data, Engine(FloatField())).dense() * 4
    residues = tangents(pool, x, data, Engine(ModField(P))).dense() * 4
    assert torch.equal((whole.round() - residues).remainder(P), torch.zeros_like(whole))


def test_long_sums_are_split():
    """2^16 products of large residues overflow 2^53 unless they are split."""
    field = ModField(P)
    torch.manual_seed(0)
    a = torch.randint(P // 2 - 999, P // 2, (16, 1 << 16))
    b = torch.randint(P // 2 - 999, P // 2, (1 << 16, 1))
    expected = [sum(map(int.__mul__, row, b[:, 0].tolist())) % P for row in a.tolist()]
    found = field.matmul(a.double(), b.double())[:, 0]
    assert [int(x) % P for x in found] == expected
    # the false variant: without splitting some partial sum is rounded (in one row it may be by luck none)
    rounded = (a.double() @ b.double())[:, 0]
    assert [int(x) % P for x in rounded] != expected


def test_in_place_on_a_tensor_with_a_live_view_is_refused():
    def bad(x):
        y = x + 0
        view = y.view(-1)
        y.relu_()
        return view

    def fine(x):
        y = (x + 0).view(-1)
        y.relu_()
        return y

    x, data = torch.randn(1, 4).double(), torch.randn(2, 1, 4).double()
    with pytest.raises(UnsupportedError, match="live views"):
        tangents(Call(bad), x, data, Engine(FloatField()))
    agrees(Call(fine), (4,))


def test_a_tap_keeps_what_it_saw_before_an_in_place_operation():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)).double().requires_grad_(False)
    x, data = torch.randn(1, 4).double(), torch.eye(4).double()[:, None]
    found = {}
    push(net, x, data, Engine(FloatField()), ["0", "1"],
         lambda n, t: found.__setitem__(n, t.dense().clone()))  # fmt: skip
    assert torch.equal(found["0"][:, 0], net[0].weight.T)
    assert not torch.equal(found["0"], found["1"])


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_models_that_return_several_tensors(kind):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 3)

        def forward(self, x):
            y = self.body(x)
            return (y, y * 2) if kind == "tuple" else {"a": y, "b": y * 2}

    net = Two().double().requires_grad_(False)
    x, data = torch.randn(1, 4).double(), torch.eye(4).double()[:, None]
    assert tangents(net, x, data, Engine(FloatField()), "body").directions == 4
    with pytest.raises(InputError, match="returns 2 tensors"):
        tangents(net, x, data, Engine(FloatField()), "")


def test_output_that_does_not_depend_on_the_input_has_zero_rows():
    net = nn.Sequential(Call(lambda x: torch.ones(1, 3).double()))
    out = tangents(net, torch.randn(1, 4).double(), torch.eye(4).double()[:, None],
                   Engine(FloatField()), "0")  # fmt: skip
    assert out.dense().shape == (4, 1, 3)
    assert not out.dense().any()


def test_tap_never_reached_is_an_error():
    net = nn.Sequential(nn.Linear(4, 4)).double()
    net.unused = nn.Linear(4, 4)
    net.forward = lambda x: net[0](x)
    with pytest.raises(InputError, match="never reached: unused"):
        tangents(net, torch.randn(1, 4).double(), torch.eye(4).double()[:, None],
                 Engine(FloatField()), "unused")  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_equals_cpu():
    net = convnet(2)
    x = torch.randn(1, 3, 32, 32).double()
    data = torch.randint(-5, 6, (7, 1, 3, 6, 6)).double()
    for field in (FloatField(), ModField(P)):
        here = tangents(net, x, data, Engine(field), "", (0, 0, 8, 8)).dense()
        net.cuda()
        there = tangents(net, x.cuda(), data.cuda(), Engine(field), "", (0, 0, 8, 8)).dense().cpu()
        net.cpu()
        close = torch.allclose(here, there, atol=1e-12)
        assert torch.equal(here, there) if isinstance(field, ModField) else close
