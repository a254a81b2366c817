"""Products put off: one matrix for each token instead of two wide layers, with equal tangents."""

import itertools

import pytest
import torch
from torch import Tensor, nn

import empirical.deferred as deferred
from empirical import passes
from empirical.blocks import Plan
from empirical.chunks import Costs
from empirical.engine import Engine
from empirical.fields import FloatField, ModField
from empirical.jacobian import jacobian_profile
from empirical.push import push

#: not 786433 = 3 * 2^18 + 1, where 1/6 is a power of two and float32 products are exact
PRIME = 753341


class Perceptrons(nn.Module):
    """Tokens [1, 6, 4], a perceptron over channels, one over tokens, and a rectifier between."""

    def __init__(self, activation: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.channels = nn.Sequential(
            nn.Linear(4, 16), activation or nn.GELU(), nn.Dropout(0.5), nn.Linear(16, 4, bias=False)
        )
        self.tokens = nn.Sequential(nn.Linear(6, 12), nn.ReLU(inplace=True), nn.Linear(12, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.channels(x)
        return x + self.tokens(x.transpose(1, 2)).transpose(1, 2)


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the matrices that were formed."""
    shapes: list[tuple[int, ...]] = []
    real = deferred._matrices

    def seen(engine, block, narrow):
        found = real(engine, block, narrow)
        if found is not None:
            shapes.append(tuple(found.each.shape))
        return found

    monkeypatch.setattr(deferred, "_matrices", seen)
    return shapes


def pushed(
    net: nn.Module, x: Tensor, data: Tensor, field=None, chunks: int | None = None, **options
) -> Tensor:
    """The tangents of the whole network."""
    out: list[Tensor] = []
    net = net.double().eval().requires_grad_(False)
    engine = Engine(field or FloatField(), **options)
    costs = Costs()
    if chunks:
        push(net, x, data[:1], Engine(FloatField()), [""], lambda n, t: None, costs=costs)
    push(
        net, x, data, engine, [""], lambda n, t: out.append(t.dense()),
        chunks=dict.fromkeys(costs.inside, chunks) if chunks else None,
    )  # fmt: skip
    return out[0]


def dense(net: nn.Module, x: Tensor, data: Tensor) -> Tensor:
    """The same by torch's own forward mode."""
    return torch.stack([torch.func.jvp(net, (x,), (v,))[1] for v in data])


@pytest.mark.parametrize("chunks", [None, 7])
def test_two_layers_are_one_matrix_a_token(composed, chunks):
    net, x = Perceptrons(), torch.randn(1, 6, 4, dtype=torch.float64)
    data = torch.randn(40, 1, 6, 4, dtype=torch.float64)
    ours = pushed(net, x, data, chunks=chunks)
    assert composed == [(6, 4, 4), (4, 6, 6)]  # once, whatever the chunks
    theirs = dense(net, x, data)
    # a dozen roundings of numbers of order 1
    assert float((ours - theirs).abs().max()) < 1e-13 * float(theirs.abs().max())


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.LeakyReLU(), nn.Hardswish(), nn.Sequential(nn.Hardsigmoid(), nn.Hardsigmoid())],
)
def test_exactly_the_residues_of_both_layers(composed, monkeypatch, activation):
    net, x = Perceptrons(activation), torch.randn(1, 6, 4, dtype=torch.float64)
    data = torch.randint(-1000, 1000, (40, 1, 6, 4)).double()
    ours = pushed(net, x, data, ModField(PRIME), structural=True)
    assert len(composed) == 2
    monkeypatch.setattr("empirical.rules.linear.worth_waiting", lambda *a: False)
    assert torch.equal(ours, pushed(net, x, data, ModField(PRIME), structural=True))
    assert len(composed) == 2


def test_a_family_draws_the_same_functions(composed, monkeypatch):
    net, x = Perceptrons(), torch.randint(-99, 99, (1, 6, 4)).double()
    data = torch.randint(-1000, 1000, (40, 1, 6, 4)).double()
    ours = pushed(net, x, data, ModField(PRIME), family=True, seed=3)
    assert len(composed) == 2
    monkeypatch.setattr(deferred, "LARGEST", 0)
    assert torch.equal(ours, pushed(net, x, data, ModField(PRIME), family=True, seed=3))


def test_few_directions_go_through_both_layers(composed):
    net, x = Perceptrons(), torch.randn(1, 6, 4, dtype=torch.float64)
    data = torch.randn(2, 1, 6, 4, dtype=torch.float64)
    ours = pushed(net, x, data)
    assert composed == []
    theirs = dense(net, x, data)
    assert float((ours - theirs).abs().max()) < 1e-13 * float(theirs.abs().max())


def test_wrong_slopes_would_be_seen(monkeypatch):
    """The false variant: slopes of the wrong tokens."""
    net, x = Perceptrons(), torch.randn(1, 6, 4, dtype=torch.float64)
    data = torch.randn(40, 1, 6, 4, dtype=torch.float64)
    real = deferred._matrices

    def turned(engine, block, narrow):
        found = real(engine, block, narrow)
        return found and deferred.Matrices(found.each.roll(1, 0))

    monkeypatch.setattr(deferred, "_matrices", turned)
    ours, theirs = pushed(net, x, data), dense(net, x, data)
    assert float((ours - theirs).abs().max()) > 1e-2 * float(theirs.abs().max())


class Uses(nn.Module):
    """The wide tensor used in another way than by a layer that narrows it."""

    def __init__(self, use) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.wide, self.narrow, self.use = nn.Linear(4, 16), nn.Linear(16, 4), use
        self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, self.wide(x))


USES = {
    "twice": lambda m, h: m.narrow(h) + m.narrow(h.tanh()),
    "sum": lambda m, h: h.sum(-1),
    "product": lambda m, h: h * h.sigmoid(),
    "split": lambda m, h: h.chunk(2, -1)[0] * h.chunk(2, -1)[1],
    "scaled": lambda m, h: m.narrow(m.scale * h.tanh() * 3.0),
    "shifted": lambda m, h: m.narrow(1 - (h.tanh() - m.scale)),
    "reshaped": lambda m, h: m.narrow(h.tanh().reshape(2, 3, 16)).reshape(1, 6, 4),
    "torn": lambda m, h: m.narrow(h.tanh().reshape(1, 12, 8).reshape(1, 6, 16)),
    "transposed": lambda m, h: h.transpose(1, 2) @ h,
    "negative": lambda m, h: -h,
    "in place": lambda m, h: m.narrow(h.mul_(m.scale).relu_()),
    "columns": lambda m, h: m.narrow(h.tanh())[..., 1:3],
    "widened again": lambda m, h: nn.functional.linear(h.tanh(), m.wide.weight.T.repeat(5, 1)),
}


@pytest.mark.parametrize(("name", "window"), list(itertools.product(USES, (False, True))))
def test_other_uses_carry_the_product_out(name, window):
    net = Uses(USES[name]).double().eval().requires_grad_(False)
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    full = torch.randn(40, 1, 6, 4, dtype=torch.float64)
    out: list[Tensor] = []
    offset = None
    data = full
    if window:  # two tokens of the six
        data, offset = full[:, :, 2:4], (0, 2, 0)
        full = torch.zeros_like(full)
        full[:, :, 2:4] = data
    push(net, x, data, Engine(FloatField()), [""], lambda n, t: out.append(t.dense()), offset)
    theirs = dense(net, x.clone(), full)
    assert float((out[0] - theirs).abs().max()) < 1e-13 * float(theirs.abs().max())


def test_matrices_that_wait_for_later_chunks_are_few(composed, monkeypatch):
    """One perceptron's matrices take 6 * 4 * 4 * 8 bytes: the budget holds one of the two."""
    monkeypatch.setattr(deferred, "LARGEST", 1500)
    net = nn.Sequential(*[Perceptrons().channels for _ in range(3)])
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    data = torch.randn(40, 1, 6, 4, dtype=torch.float64)
    ours = pushed(net, x, data, chunks=9)
    assert composed == [(6, 4, 4)]
    theirs = dense(net, x, data)
    assert float((ours - theirs).abs().max()) < 1e-13 * float(theirs.abs().max())


def changed_scale(module, h):
    scale = module.scale.clone()
    h = h * scale
    scale.mul_(3)
    return module.narrow(h)


def changed_weight(module, h):
    weight = module.wide.weight.clone()
    h = nn.functional.linear(module.narrow(h), weight)
    weight.zero_()
    return module.narrow(h.tanh())


@pytest.mark.parametrize("use", [changed_scale, changed_weight])
@pytest.mark.parametrize("chunks", [None, 7])
def test_a_constant_that_changes_while_the_product_waits(use, chunks):
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    data = torch.randn(40, 1, 6, 4, dtype=torch.float64)
    net = Uses(use)
    ours, theirs = pushed(net, x, data, chunks=chunks), dense(net, x, data)
    assert float((ours - theirs).abs().max()) < 1e-13 * float(theirs.abs().max())


def test_a_window_of_nothing():
    """The patch lies between the pixels that a strided convolution sees."""

    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.wide = nn.Conv2d(1, 4, 1, stride=2), nn.Linear(4, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.wide(self.conv(x).permute(0, 2, 3, 1))

    net, out = Strided().double().eval().requires_grad_(False), []
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    data = torch.randn(40, 1, 1, 1, 1, dtype=torch.float64)
    push(net, x, data, Engine(FloatField()), [""], lambda n, t: out.append(t.dense()), (0, 0, 3, 3))
    assert out[0].shape == (40, 1, 3, 3, 16)
    assert not out[0].any()


@pytest.mark.parametrize("largest", [1 << 28, 20000])
@pytest.mark.parametrize("block", [8, 16, 17, 40, 200])
def test_the_plan_covers_the_pass(monkeypatch, block, largest):
    """Whatever the block, and where the budget holds the matrices of two perceptrons only."""
    monkeypatch.setattr(deferred, "LARGEST", largest)
    monkeypatch.setattr("empirical.chunks.CACHE", 1 << 16)
    monkeypatch.setattr("empirical.chunks.WORKERS", 1)
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)) for _ in range(4)]
    net = nn.Sequential(nn.Sequential(*layers), nn.Identity()).double().eval().requires_grad_(False)
    x = torch.randn(1, 16, 8, dtype=torch.float64)
    costs, nothing = Costs(), (lambda n, t: None)
    data = torch.randn(block, 1, 16, 8, dtype=torch.float64)
    rehearsal = Engine(FloatField(), directions=400, rehearsal=True)
    push(net, x, data[:1], rehearsal, ["1"], nothing, costs=costs)
    assert costs.matrices == 8 * 16 * 8 * 8 * (4 if largest > 20000 else 2)
    engine = Engine(FloatField(), directions=400)
    chunks = costs.chunks(block, x.device)
    push(net, x, data, engine, ["1"], nothing, chunks=chunks)
    assert engine.peak <= 1.25 * costs.bytes(block, x.device)  # blocks.HEADROOM


def test_every_block_and_the_rehearsal_decide_by_all_directions(monkeypatch):
    """Else a small block would keep wide tangents that the plan did not count."""
    seen: list[int] = []
    real = passes.push

    def noted(net, primal, data, engine, *rest, **options):
        seen.append(engine.directions)
        real(net, primal, data, engine, *rest, **options)

    monkeypatch.setattr(passes, "push", noted)
    monkeypatch.setattr(
        passes, "plan_blocks", lambda *_: Plan((range(5), range(5, 24)), {}, 1 << 30)
    )
    model = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (6, 4)), Perceptrons()).eval()
    image = torch.randn(3, 4, 2, dtype=torch.float64)
    jacobian_profile(model, image, field="float64", patch=None, taps=["2"])
    assert seen == [24, 24, 24]


def test_a_memory_budget_counts_the_matrices():
    """The rehearsal of a profile finds their size, and blocks do not change the spectrum."""
    net = Perceptrons().eval()
    model = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (6, 4)), net)
    image = torch.randn(3, 4, 2, dtype=torch.float64)
    whole = jacobian_profile(model, image, field="float64", patch=None, taps=["2"])
    engine, costs = Engine(FloatField(), directions=24, rehearsal=True), Costs()
    push(
        model.double(), image[None], torch.ones(1, 1, 3, 4, 2, dtype=torch.float64), engine, ["2"],
        lambda n, t: None, costs=costs,
    )  # fmt: skip
    assert costs.matrices == 8 * (6 * 4 * 4 + 4 * 6 * 6)
    values = torch.linalg.svdvals(
        torch.autograd.functional.jacobian(lambda z: model(z[None]).reshape(-1), image).reshape(
            24, 24
        )
    )
    assert float((torch.from_numpy(whole.spectra["2"]) - values).abs().max()) < 1e-13
