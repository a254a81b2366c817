"""Chains that are carried out a few directions at a time where their result is used."""

import pytest
import torch
from torch import Tensor, nn

import empirical.rules.linear as linear
import empirical.rules.norms as norms
import empirical.waiting as waiting
from empirical.chunks import Costs
from empirical.digits import build
from empirical.engine import Engine
from empirical.fields import FloatField, ModField
from empirical.push import push
from empirical.waiting import Steps
from tests.empirical.test_chunks import K, tangents
from tests.empirical.test_deferred import PRIME, dense, pushed
from tests.empirical.test_tangents import Call

TOKENS, WIDTH, HEADS = 6, 8, 2
#: 40 directions of two heads' scores in float64 take 23 kB: they do not pass together
SMALL = 1 << 11


class Attention(nn.Module):
    """Tokens [1, 6, 8]; what happens to the scores on their way is ``between``."""

    def __init__(self, between) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(1, TOKENS, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        x = self.between(q @ k.transpose(-2, -1), v)
        return self.out(x.transpose(1, 2).reshape(1, TOKENS, WIDTH))


class Masked:
    """A mask that is added in place, and gone before anything asks for the scores."""

    def __call__(self, s: Tensor, v: Tensor) -> Tensor:
        mask = torch.linspace(-1, 1, TOKENS * TOKENS, dtype=s.dtype).reshape(TOKENS, TOKENS)
        scale = mask + 2
        s += mask
        s = s * scale
        scale.zero_()
        mask.zero_()
        return s.softmax(-1) @ v


BETWEEN = {
    "plain": lambda s, v: s.softmax(-1) @ v,
    "scaled": lambda s, v: (s * 0.25).softmax(-1) @ v,
    "masked": Masked(),
    "filled": lambda s, v: s.masked_fill(
        torch.ones(TOKENS, TOKENS).triu(1).bool(), float("-inf")
    ).softmax(-1) @ v,
    "over queries": lambda s, v: s.softmax(-2) @ v,
    "no softmax": lambda s, v: s @ v,
    "rectified": lambda s, v: s.relu().square() @ v,
    "used twice": lambda s, v: s.softmax(-1) @ v + (s.softmax(-1) @ (s @ v)) * s.sum(-1, True),
    "as right factor": lambda s, v: v.transpose(-1, -2).matmul(s.softmax(-1)).transpose(-1, -2),
    "constant values": lambda s, v: s.softmax(-1)
    @ torch.linspace(0, 1, v.numel(), dtype=v.dtype).reshape(v.shape),
    "other view": lambda s, v: s.reshape(1, HEADS * TOKENS, TOKENS).softmax(-1).reshape(s.shape) @ v,
    "rows merged with columns": lambda s, v: s.reshape(1, HEADS, -1).softmax(-1).reshape(s.shape) @ v,
    "half of the rows": lambda s, v: torch.cat([s[:, :, :2], s[:, :, 2:]], 2).softmax(-1) @ v,
}  # fmt: skip


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many matrices (a direction's each head) went into each product, in small steps."""
    monkeypatch.setattr(waiting, "MIDDLE", SMALL)
    seen: list[int] = []
    real = linear._added

    def added(engine, first, *rest):
        seen.append(len(first))
        return real(engine, first, *rest)

    monkeypatch.setattr(linear, "_added", added)
    return seen


@pytest.mark.parametrize("chunks", [None, 7])
@pytest.mark.parametrize("name", BETWEEN)
def test_scores_are_those_of_forward_mode(few, name, chunks):
    net = Attention(BETWEEN[name])
    x = torch.randn(1, TOKENS, WIDTH, dtype=torch.float64)
    data = torch.randn(40, 1, TOKENS, WIDTH, dtype=torch.float64)
    ours = pushed(net, x, data, chunks=chunks)
    assert 0 < max(few) < 7 * HEADS  # no step saw a whole chunk
    torch.testing.assert_close(ours, dense(net, x, data), rtol=0, atol=1e-13)


class Bare(nn.Module):
    """Its output still waits when it returns."""

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(1, 2)).softmax(-1) @ x


@pytest.mark.parametrize("chunks", [None, 7])
def test_what_a_module_returns_may_wait(few, chunks):
    x = torch.randn(1, TOKENS, WIDTH, dtype=torch.float64)
    data = torch.randn(40, 1, TOKENS, WIDTH, dtype=torch.float64)
    ours = pushed(Bare(), x, data, chunks=chunks)
    torch.testing.assert_close(ours, dense(Bare(), x, data), rtol=0, atol=1e-13)


class Mixed(nn.Module):
    """One factor sees all tokens, the other its own."""

    def __init__(self, left: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.left = nn.Linear(TOKENS, TOKENS), left

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(x.transpose(1, 2))
        return x @ mixed if self.left else mixed @ x


@pytest.mark.parametrize(
    "net", [Attention(BETWEEN["plain"]), Mixed(True), Mixed(False)], ids=["both", "left", "right"]
)
def test_a_window_of_tokens(net):
    """A patch reaches some tokens only: of the scores, their rows and columns."""
    net = net.double().eval().requires_grad_(False)
    x = torch.randn(1, TOKENS, WIDTH, dtype=torch.float64)
    data = torch.randn(5, 1, 2, WIDTH, dtype=torch.float64)
    whole = torch.zeros(5, 1, TOKENS, WIDTH, dtype=torch.float64)
    whole[:, :, 2:4] = data
    found = []
    push(net, x, data, Engine(FloatField()), [""], lambda n, t: found.append(t.dense()), (0, 2, 0))
    torch.testing.assert_close(found[0], dense(net, x, whole), rtol=0, atol=1e-13)


def test_chunks_side_by_side_share_forward_mode():
    """cumsum has no rule: torch.func.jvp in two threads at once gave wrong tangents, 2 of 5 times."""
    net = Attention(lambda s, v: s.cumsum(-1).softmax(-1) @ v).double().eval().requires_grad_(False)
    x = torch.randn(1, TOKENS, WIDTH, dtype=torch.float64)
    data = torch.randn(40, 1, TOKENS, WIDTH, dtype=torch.float64)
    expected = dense(net, x, data)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(10):
            torch.testing.assert_close(pushed(net, x, data, chunks=4), expected, rtol=0, atol=1e-13)
    finally:
        torch.set_num_threads(before)


def test_half_a_product_rule_would_be_seen(few, monkeypatch):
    net = Attention(BETWEEN["plain"])
    x = torch.randn(1, TOKENS, WIDTH, dtype=torch.float64)
    data = torch.randn(40, 1, TOKENS, WIDTH, dtype=torch.float64)
    monkeypatch.setattr(linear, "_added", lambda engine, first, *rest: first)
    assert (pushed(net, x, data) - dense(net, x, data)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["plain", "scaled", "used twice"])
def test_a_family_draws_the_same_residues(few, monkeypatch, name):
    net = Attention(BETWEEN[name])
    x = torch.randint(-50, 50, (1, TOKENS, WIDTH)).double()
    data = torch.randint(-50, 50, (40, 1, TOKENS, WIDTH)).double()

    def draw() -> Tensor:
        return pushed(net, x, data, ModField(PRIME), family=True, seed=5)

    steps = draw()
    assert max(few) < 40 * HEADS
    monkeypatch.setattr(waiting, "MIDDLE", 1 << 30)
    assert torch.equal(steps, draw())
    assert max(few) == 40 * HEADS


@pytest.mark.parametrize("kind", ["float64", "family"])
def test_a_few_directions_at_a_time_change_nothing(few, monkeypatch, kind):
    """Layer norm, softmax and batched products repeat their constants: also in several steps."""
    taps, model = ["blocks.1", "norm"], build("digits-vit").double()
    fields = {
        "float64": lambda: Engine(FloatField()),
        "family": lambda: Engine(ModField(PRIME), family=True),
    }
    norms_seen: list[int] = []
    real = norms._layer_norm_vjp

    def normed(t, *rest, **options):
        norms_seen.append(len(t))
        return real(t, *rest, **options)

    monkeypatch.setattr(norms, "_layer_norm_vjp", normed)
    monkeypatch.setattr(waiting, "MIDDLE", 1 << 30)
    whole, _ = tangents(model, (1, 8, 8), taps, fields[kind](), None)
    heads = model.blocks[0].attn.num_heads
    assert max(few) == K * heads
    monkeypatch.setattr(waiting, "WORKSPACE", 1 << 13)
    monkeypatch.setattr(waiting, "MIDDLE", 1 << 13)
    few.clear()
    norms_seen.clear()
    parts, _ = tangents(model, (1, 8, 8), taps, fields[kind](), None)
    assert max(few) < K * heads  # they did run in several steps
    assert kind == "family" or 0 < max(norms_seen) < K
    for tap, (found, _) in parts.items():
        # the same sums in other batches: rounding only, and none mod p
        atol = 1e-12 if kind == "float64" else 0
        torch.testing.assert_close(found, whole[tap][0], rtol=0, atol=atol)


def test_scores_are_not_stored_for_all_directions():
    """What waits for 64 directions keeps queries and keys, not 64 times the scores."""
    tokens = 128
    x = torch.randn(1, tokens, 2, dtype=torch.float64)
    data = torch.randn(64, 1, tokens, 2, dtype=torch.float64)
    engine = Engine(FloatField())
    push(Bare().eval(), x, data, engine, [""], lambda n, t: None)
    assert engine.peak < data[:, 0, 0, 0].numel() * tokens * tokens * 8 / 10


@pytest.mark.parametrize("factor", [3.0, torch.tensor([[2.0], [-1.0]], dtype=torch.float64)])
@pytest.mark.parametrize("stages", [0, 1])
def test_a_factor_leaves_the_first_block_as_it_was(monkeypatch, factor, stages):
    """A stage may multiply what the stage before returned in place; the first block is a tangent's."""
    monkeypatch.setattr(waiting, "MIDDLE", 1)
    data = torch.randn(5, 2, 3, dtype=torch.float64)
    before = data.clone()
    chain = Steps.of(Engine(FloatField()), data)
    for _ in range(stages):
        chain = chain.then(torch.sin)
    found = chain.times(factor).times(factor).carried_out()
    assert torch.equal(data, before)
    expected = (torch.sin(before) if stages else before) * factor * factor
    assert torch.equal(found, expected)


@pytest.mark.parametrize("after", [(), (torch.square,), (torch.Tensor.abs_, torch.sin)])
def test_results_arrive_wherever_the_last_product_put_them(monkeypatch, after):
    """The last product writes into the result; what comes after it works in place, or does not."""
    monkeypatch.setattr(
        waiting, "MIDDLE", 2 * 4 * 4 * 8
    )  # two directions in a step, one at the end
    data, wide = torch.randn(7, 1, 4, 2, dtype=torch.float64), torch.randn(1, 2, 4).double()
    narrow = torch.randn(1, 4, 3, dtype=torch.float64)
    chain = Steps.of(Engine(FloatField()), data)
    chain = chain.then(FloatField().matmul, wide, window=(1, 4, 4), batch=True)
    chain = chain.then(FloatField().matmul, narrow, window=(1, 4, 3), batch=True)
    expected = data @ wide @ narrow
    for kernel in after:
        chain, expected = chain.then(kernel), kernel(expected)
    torch.testing.assert_close(
        chain.with_lead([4]).carried_out(), expected[:, 0], rtol=0, atol=1e-14
    )


def changed_after_use(z: Tensor) -> Tensor:
    """Both constants are gone before anything asks for the product's entries."""
    w, scale = torch.eye(WIDTH).double()[None] * 2, torch.full((WIDTH,), 3.0).double()
    y = z @ w * scale
    w.zero_()
    scale.zero_()
    return (y + z.sin()) * 3


def changed_convolutions(z: Tensor) -> Tensor:
    """A pointwise and a depthwise kernel, which need no other layout than their own."""
    image = z.reshape(1, TOKENS, WIDTH, 1)
    point, depth = torch.ones(TOKENS, TOKENS, 1, 1).double(), torch.ones(TOKENS, 1, 3, 3).double()
    y = nn.functional.conv2d(image, point)
    y = nn.functional.conv2d(y, depth, padding=1, groups=TOKENS)
    point.zero_()
    depth.zero_()
    return (y + image.sin()) * 3


@pytest.mark.parametrize("chunks", [4, 5, 7, 8, 11])
@pytest.mark.parametrize(
    "net", [Attention(Masked()), Call(changed_after_use), Call(changed_convolutions)],
    ids=["mask", "factors", "convolutions"],
)  # fmt: skip
def test_constants_are_those_of_the_first_chunk(few, net, chunks):
    """Also in a last step of fewer directions, whatever the module has done to its own since."""
    x = torch.randn(1, TOKENS, WIDTH, dtype=torch.float64)
    data = torch.randn(40, 1, TOKENS, WIDTH, dtype=torch.float64)
    ours = pushed(net, x, data, chunks=chunks)
    expected = dense(net, x, data)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-13 * float(expected.abs().max()))


class Late(nn.Module):
    """A chain that still waits enters a module that runs in chunks, and is used again after it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.ReLU())
        self.tap, self.second = (
            nn.Identity(),
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = (x @ x.transpose(1, 2)).softmax(-1) @ x
        return self.second(self.tap(self.first(y))) + y


def test_what_waits_may_enter_a_module_in_chunks(few):
    net = Late().double().eval().requires_grad_(False)
    x = torch.randn(1, TOKENS, WIDTH, dtype=torch.float64)
    data = torch.randn(41, 1, TOKENS, WIDTH, dtype=torch.float64)
    costs, found = Costs(), []
    taps = ["tap", ""]
    push(net, x, data[:1], Engine(FloatField()), taps, lambda n, t: None, costs=costs)
    push(
        net, x, data, Engine(FloatField()), taps, lambda n, t: found.append(t.dense()),
        chunks=dict.fromkeys(costs.inside, 7),
    )  # fmt: skip
    torch.testing.assert_close(found[-1], dense(net, x, data), rtol=0, atol=1e-13)
