"""Directions in chunks: the same tangents, at a fraction of the memory, whatever a module does."""

import time

import pytest
import torch
from torch import nn

from empirical.chunks import CACHE, FEWEST, Costs, _equal, at_a_time
from empirical.digits import build
from empirical.engine import Engine
from empirical.fields import FloatField, ModField
from empirical.push import push
from empirical.threads import no_denormals
from theory.errors import UnsupportedError

K = 23  # no multiple of a chunk


def tangents(model, shape, taps, engine, chunk, count=K):
    """Every tap's dense tangents, and the support, pushed with ``chunk`` directions a time."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-40, 40, (1, *shape), generator=generator).double() / 16
    data = torch.randint(-4, 5, (count, 1, *shape), generator=generator).double()
    primal = x if not engine.family else (x * 16).round()
    costs = Costs()
    push(
        model, primal, data[:1].clone(), Engine(FloatField()), taps, lambda n, t: None, costs=costs
    )
    chunks = dict.fromkeys(costs.inside, chunk) if chunk else None
    found = {}
    push(model, primal, data, engine, taps,
         lambda n, t: found.__setitem__(n, (t.dense().clone(), t.support)), chunks=chunks)  # fmt: skip
    return found, costs


ENGINES = {
    "float64": lambda: Engine(FloatField()),
    "exact": lambda: Engine(ModField(786433), structural=True),
    "family": lambda: Engine(ModField(786433), family=True, seed=3),
}


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", ["digits-resnet", "digits-mixer", "digits-vit"])
@pytest.mark.parametrize("chunk", [1, 5])
def test_chunks_do_not_matter(kind, name, chunk):
    model = build(name).double()
    taps = [n for n, _ in model.named_modules() if n and n.count(".") <= 1][-6:]
    taps = [t for t in taps if not any(u.startswith(t + ".") for u in taps)]
    whole_engine, engine = ENGINES[kind](), ENGINES[kind]()
    try:
        whole, _ = tangents(model, (1, 8, 8), taps, whole_engine, None)
    except UnsupportedError:
        assert (kind, name != "digits-resnet") == ("exact", True)
        return
    parts, costs = tangents(model, (1, 8, 8), taps, engine, chunk)
    assert costs.inside  # something did run in chunks
    for tap in taps:
        # residues are exact; float64 products of another shape may sum in another order
        scale = max(float(whole[tap][0].abs().max()), 1.0)
        assert torch.allclose(
            whole[tap][0], parts[tap][0], rtol=0, atol=1e-13 * scale if kind == "float64" else 0
        )
        assert (whole[tap][1] is None) == (parts[tap][1] is None)
        if whole[tap][1] is not None:
            assert torch.equal(whole[tap][1], parts[tap][1])
    assert engine.operations == whole_engine.operations  # the error estimate counts a pass once
    assert engine.kinks.units == whole_engine.kinks.units
    assert len(engine.kinks.choices) == len(whole_engine.kinks.choices)


class Block(nn.Module):
    """Three operations and more, so that it runs in chunks."""

    def __init__(self, act):
        super().__init__()
        self.a, self.act = nn.Linear(6, 6), act

    def forward(self, x):
        return self.a(self.act(self.a(self.a(x)))) + x


class Mutating(nn.Module):
    """Changes its input in place, as pre-activation networks do."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)

    def forward(self, x):
        torch.relu_(x)
        return self.a(self.a(self.a(x)))


class Outer(nn.Module):
    """Uses what the inner module changed; taps at the end."""

    def __init__(self, inner, view=False):
        super().__init__()
        self.first, self.inner, self.last, self.view = nn.Linear(6, 6), inner, nn.Identity(), view

    def forward(self, x):
        x = self.first(x)
        alias = x.view(-1) if self.view else None
        y = self.inner(x)
        y = y + x
        return self.last(y if alias is None else y + alias.view(y.shape))


def test_a_module_that_changes_its_input_in_place():
    model = Outer(Mutating()).double()
    whole, _ = tangents(model, (6,), ["last"], Engine(FloatField()), None)
    parts, costs = tangents(model, (6,), ["last"], Engine(FloatField()), 4)
    assert "inner" in costs.inside
    assert torch.allclose(whole["last"][0], parts["last"][0], atol=1e-13)
    kept = Outer(Block(nn.ReLU())).double()  # the false variant: without the change they differ
    kept.first, kept.inner.a = model.first, model.inner.a
    other, _ = tangents(kept, (6,), ["last"], Engine(FloatField()), 4)
    assert not torch.allclose(whole["last"][0], other["last"][0], atol=1e-3)


def test_a_changed_input_with_live_views_is_refused():
    model = Outer(Mutating(), view=True).double()
    with pytest.raises(UnsupportedError, match="live views"):
        tangents(model, (6,), ["last"], Engine(FloatField()), 4)


class Views(nn.Module):
    """Three operations whose result is a view of the input."""

    def forward(self, x):
        return x.view(2, 3).unsqueeze(0).view(1, 6)


class ChangesAView(nn.Module):
    """In place on a module's output that shares memory with a tensor in use."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(6, 6), Views(), nn.Identity()

    def forward(self, x):
        x = self.first(x)
        y = self.inner(x)
        torch.relu_(y)
        return self.last(x + y)


@pytest.mark.parametrize("chunk", [None, 4])
def test_an_output_that_is_a_view_of_the_input_stays_one(chunk):
    with pytest.raises(UnsupportedError, match="live views"):
        tangents(ChangesAView().double(), (6,), ["last"], Engine(FloatField()), chunk)


class Pair(nn.Module):
    """Returns a tuple with a number in it and takes a keyword."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)

    def forward(self, x, *, scale):
        y = torch.relu(self.a(x)) * scale
        return x, (y, y - x), 7


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.pair, self.last = Pair(), nn.Identity()

    def forward(self, x):
        same, (y, z), seven = self.pair(x, scale=3.0)
        return self.last(y + z * seven + (0 if same is x else 1000))


def test_tuples_keywords_and_inputs_handed_through():
    model = Branches().double()
    whole, _ = tangents(model, (6,), ["last"], Engine(FloatField()), None)
    parts, costs = tangents(model, (6,), ["last"], Engine(FloatField()), 4)
    assert "pair" in costs.inside
    assert torch.equal(whole["last"][0], parts["last"][0])


def test_memory_falls_and_is_foreseen():
    model = nn.Sequential(nn.Sequential(
        nn.Linear(4, 4000), nn.ReLU(), nn.Linear(4000, 4000), nn.ReLU(), nn.Linear(4000, 4)
    ), nn.Linear(4, 3)).double()  # fmt: skip
    whole, parts = Engine(FloatField()), Engine(FloatField())
    count = 200
    tangents(model, (4,), ["0", "1"], whole, None, count)
    _, costs = tangents(model, (4,), ["0", "1"], parts, 10, count)
    workers = at_a_time()
    assert parts.peak < whole.peak * workers / 10
    foreseen = count * costs.between + workers * 10 * costs.inside["0"]
    assert parts.peak <= foreseen <= 2 * parts.peak  # an input and its output count apart


def test_chunk_sizes_follow_the_cache():
    costs = Costs({"wide": CACHE // 40, "narrow": 8, "huge": CACHE}, 1)
    sizes = costs.chunks(768, torch.device("cpu"))
    assert sizes == {"wide": 40, "narrow": 768, "huge": FEWEST}
    workers = at_a_time()
    assert costs.bytes(768, torch.device("cpu")) == 768 + workers * FEWEST * CACHE


def test_the_model_is_left_as_it_was():
    model = build("digits-vit").double()
    before = {n: vars(m).get("forward") for n, m in model.named_modules()}
    tangents(
        model, (1, 8, 8), ["head"] if hasattr(model, "head") else [""], Engine(FloatField()), 4
    )
    assert before == {n: vars(m).get("forward") for n, m in model.named_modules()}


class Counting(nn.Module):
    """Does something else from its third call on: the probe and the first chunk are the others."""

    def __init__(self, more):
        super().__init__()
        self.a, self.calls, self.more = nn.Linear(6, 6), 0, more

    def forward(self, x):
        self.calls += 1
        y = self.a(self.a(self.a(x)))
        return self.a(y) if (self.calls > 2) == self.more else y


@pytest.mark.parametrize("more", [True, False])
def test_a_chunk_that_does_not_do_what_the_first_did_is_refused(more):
    """What the first chunk remembers must never be handed to another operation."""
    model = nn.Sequential(Counting(more), nn.Identity()).double()
    with pytest.raises(UnsupportedError, match="not a function of its input"):
        tangents(model, (6,), ["0", "1"], Engine(FloatField()), 4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_do_not_matter(count):
    """Chunks side by side give what they give one after another, bit by bit in exact arithmetic."""
    model = build("digits-resnet").double()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        found, _ = tangents(model, (1, 8, 8), ["layer2"], Engine(ModField(786433)), 3)
        assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    whole, _ = tangents(model, (1, 8, 8), ["layer2"], Engine(ModField(786433)), None)
    assert torch.equal(found["layer2"][0], whole["layer2"][0])


def test_denormals_are_zero_within_a_float_pass_only():
    small = torch.tensor(2.0**-149)
    assert small * 1.0 > 0
    with no_denormals():
        assert small * 1.0 == 0
        with no_denormals():
            pass
        assert small * 1.0 == 0  # what was off stays off
    assert small * 1.0 > 0


class Keeping(nn.Module):
    """Keeps a tensor between its two halves, where another thread may replace it."""

    def __init__(self):
        super().__init__()
        self.a, self.kept = nn.Linear(6, 6), None

    def forward(self, x):
        self.kept = self.a(self.a(x))
        time.sleep(0.02)  # the other chunk gets here
        return self.a(self.kept)


def test_a_module_that_keeps_tensors_between_calls_gets_its_own():
    model = nn.Sequential(Keeping(), nn.Identity()).double()
    whole, _ = tangents(model, (6,), ["0", "1"], Engine(FloatField()), None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        parts, _ = tangents(model, (6,), ["0", "1"], Engine(FloatField()), 4)
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(whole["1"][0], parts["1"][0], atol=1e-13)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3, 4, 5, 31, 62])
@pytest.mark.parametrize("count", [64, 65, 765, 768])
def test_chunks_hold_every_direction_once_and_no_more_than_planned(count, size, workers):
    parts = _equal(count, size, workers)
    assert [direction for part in parts for direction in part] == list(range(count))
    assert all(0 < len(part) <= size for part in parts)
    assert len({len(part) for part in parts[1:-1]}) <= 1  # equal, but for the last
