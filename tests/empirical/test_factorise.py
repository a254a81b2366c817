"""Factorising layers and depth laws against planted ranks and flint."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from empirical.depth import centralisation, losses, rises, token_ranks
from empirical.digits import build
from empirical.factorise import exact_rank, measure, to_csv
from empirical.taps import Tap, default_taps
from numeric.exact import rank
from tests.empirical.test_runs import record
from theory.errors import InputError, UnsupportedError


def test_exact_rank_against_flint() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(-8, 9, (20, 6)).astype(float) @ rng.integers(-8, 9, (6, 15)) * 2.0**-9
    rounded = (rng.normal(size=(40, 12)) @ rng.normal(size=(12, 40))).astype(np.float32)
    for matrix in (low, rounded.astype(float)):
        assert exact_rank(torch.from_numpy(matrix)) == rank(matrix)
    assert exact_rank(torch.from_numpy(low)) == 6
    assert exact_rank(torch.from_numpy(rounded)) == 40  # theory.md 5.4: rounding fills the rank


def test_a_low_rank_layer_is_found_and_its_savings_counted() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    net[1].weight.data = torch.randn(32, 3) @ torch.randn(3, 64)
    x = torch.randn(300, 1, 8, 8)
    y = net(x).argmax(1)
    first, last = measure(net, x, y, loss=0.0)
    assert (first.relative_3, first.kept_rank) == (3, 3)
    assert first.saved == 32 * 64 - 3 * 96
    assert first.input_rank == 64
    assert last.input_rank is not None
    assert last.input_rank <= 32
    assert (last.proved, last.exact) == (True, 10)
    before = net[1].weight.clone()
    assert torch.equal(before, net[1].weight)
    rows = list(csv.DictReader(io.StringIO(to_csv((first, last)))))
    assert [r["name"] for r in rows] == ["1", "3"]
    with pytest.raises(InputError, match="no linear"):
        measure(net, x, y, layers=["2"])


def test_deficient_weights_are_certified_where_they_are_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from empirical import factorise

    rng = np.random.default_rng(1)
    low = torch.from_numpy(rng.integers(-8, 9, (20, 6)) @ rng.integers(-8, 9, (6, 15)) * 2.0**-9)
    assert factorise.stored_rank(low) == (6, True)
    monkeypatch.setattr(factorise, "CERTIFIED", 10)
    assert factorise.stored_rank(low) == (6, False)  # a rank mod p alone proves full rank only
    # an unlucky prime: the entry is 0 mod p, and not over the rationals
    unlucky = torch.tensor([[float(factorise.PRIME)]], dtype=torch.float64)
    monkeypatch.setattr(factorise, "CERTIFIED", 0)
    assert factorise.stored_rank(unlucky) == (0, False)
    monkeypatch.undo()
    assert factorise.stored_rank(unlucky) == (1, True)


def test_relative_ranks_against_scipy() -> None:
    from scipy.linalg import svdvals

    net = build("digits-vit", 3)
    x = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    names = ["blocks.0.attn.qkv", "blocks.3.mlp.fc2", "patch_embed.proj"]
    for layer in measure(net, x, net(x).argmax(1), layers=names):
        stored = net.get_submodule(layer.name).weight.detach().double().flatten(1).numpy()
        values = svdvals(stored)
        assert layer.relative_3 == (values >= 1e-3 * values[0]).sum()
        assert layer.relative_7 == (values >= 2.0**-23 * values[0]).sum()
        assert layer.exact == rank(stored)


def test_the_command_writes_a_table(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from empirical.runs import read_records
    from rankfall.commands.measure import command

    asked = ["factorise", "digits-resmlp", "--layers", "stem.proj,head", "--count", "100"]
    more = ["--out", str(tmp_path / "run"), "--csv", str(tmp_path / "layers.csv")]
    done = CliRunner().invoke(command, [*asked, *more])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO((tmp_path / "layers.csv").read_text())))
    assert [r["name"] for r in rows] == ["stem.proj", "head"]
    assert [r.tap for r in read_records(tmp_path / "run")] == ["stem.proj", "head"]
    assert "head" in done.output
    refused = CliRunner().invoke(command, ["factorise", "digits-resmlp", "--loss", "1.5"])
    assert isinstance(refused.exception, InputError)


def test_convolutions_with_groups() -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2, bias=False), nn.Flatten(), nn.Linear(144, 3)
    ).eval()
    x = torch.randn(40, 2, 8, 8)
    conv = measure(net, x, net(x).argmax(1), layers=["0"])[0]
    assert (conv.rows, conv.columns, conv.groups, conv.exact) == (2, 9, 2, 4)
    assert conv.input_rank is None


def test_attention_collapses_tokens_without_skips_only() -> None:
    net = build("digits-vit", 0)
    taps = default_taps(net.eval(), (1, 8, 8))
    image = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    kept, lost = (token_ranks(net, image, taps, skips=s)[-1] for s in (True, False))
    assert kept.distance > 2 * lost.distance


def test_without_skips_is_the_branches_alone() -> None:
    net = build("digits-vit", 0).double().eval()
    taps = [t for t in default_taps(net, (1, 8, 8)) if t.kind == "block"][:1]
    image = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    seen: list[torch.Tensor] = []
    block = net.get_submodule(taps[0].name)
    handle = block.register_forward_pre_hook(lambda _m, i: seen.append(i[0]))
    net(image[None])
    handle.remove()
    x = block.attn(block.norm1(seen[0]))
    expected = torch.linalg.svdvals(block.mlp(block.norm2(x))[0])
    found = token_ranks(net, image, taps, skips=False)[0]
    assert found.stable == pytest.approx(
        float(((expected / expected[0]) ** 2).sum().detach()), rel=1e-9
    )


def test_convolutional_blocks_have_no_tokens() -> None:
    net = build("digits-resnet", 0).eval()
    with pytest.raises(UnsupportedError, match="tokens"):
        token_ranks(net, torch.zeros(1, 8, 8), default_taps(net, (1, 8, 8)))


def test_losses_rises_and_centralisation_from_records() -> None:
    rows = [record("a", 12.0), record("b", 9.0, tap_index=1), record("c", 9.0, tap_index=2)]
    held, broken = losses(rows, {"b": 3.0}), losses(rows, {"b": 2.0})
    assert [x.lost for x in held] == [3, 0]
    assert not any(x.broken for x in held)
    assert broken[0].broken  # a doctored bound is contradicted
    relative = [
        record(t, v, tap_index=i, notion="relative(0.001)", known="measured")
        for i, (t, v) in enumerate([("a", 5.0), ("b", 7.0), ("c", 7.0)])
    ]
    assert [(r.before, r.after) for r in rises(relative, {})] == [("a", "b")]
    flat, peaked = centralisation({"a": np.ones(8), "b": 2.0 ** -np.arange(8.0)})
    assert flat.effective == pytest.approx(8)
    assert peaked.effective < flat.effective
    assert Tap("a", 0, True, "block").separator
