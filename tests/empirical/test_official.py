"""The official arithmetic, re-stated: the flaws that reference.md reports show, and only there."""

import numpy as np
import pytest
import torch
from torch import nn

from empirical.jacobian import jacobian_profile
from empirical.official import jacobian_ranks, jacobian_records, subgradient
from empirical.subject import Subject
from empirical.taps import Tap

TAPS = (Tap("1", 0, True, "block"), Tap("2", 1, True, "logits"))


def chain(first: torch.Tensor, second: torch.Tensor) -> nn.Sequential:
    net = nn.Sequential(
        nn.Flatten(), *(nn.Linear(w.shape[1], w.shape[0], bias=False) for w in (first, second))
    )
    for layer, w in zip(list(net)[1:], (first, second), strict=True):
        layer.weight.data = w.float()  # type: ignore[union-attr,operator]
    return net.eval()


def test_half_of_the_columns_scaled_by_2_to_the_minus_8() -> None:
    """Reference.md: true rank 96, the official estimate about 50."""
    draw = torch.Generator().manual_seed(0)
    w = torch.randn(400, 96, generator=draw)
    w[:, 48:] *= 2.0**-8
    net = chain(w, torch.eye(400))
    x = torch.zeros(6, 4, 4)
    ranks = {k: v[0] for k, v in jacobian_ranks(net, x, TAPS, patch=None).items()}
    true = jacobian_profile(net, x.double(), patch=None, taps=TAPS)
    for tap in TAPS:
        assert int((true.spectra[tap.name] > 1e-3).sum()) == 96
        assert 48 <= ranks[tap.name] < 70


def test_rank_rises_with_depth() -> None:
    """Reference.md: diag(1, 2^-14), then its inverse: 1, 2 where the truth is 2, 2."""
    d = torch.diag(torch.tensor([1.0, 2.0**-14]))
    net = chain(d, torch.linalg.inv(d))
    ranks = jacobian_ranks(net, torch.zeros(1, 1, 2), TAPS, patch=None)
    assert [ranks[t.name][0] for t in TAPS] == [1, 2]


def test_is_the_arithmetic_of_the_definition() -> None:
    """Oracle: autograd's whole Jacobian, float32 J^T J, numpy's count at torch's default cut."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(48, 30), nn.Sequential(nn.GELU(), nn.Linear(30, 20))
    ).eval()
    image = torch.randn(3, 4, 4)
    found = jacobian_ranks(net, image, TAPS, patch=2, background="zero")
    blank = torch.zeros_like(image)

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        x = blank.clone()
        x[:, 1:3, 1:3] = pixels
        return net(x[None])[0]  # type: ignore[no-any-return]

    j = torch.autograd.functional.jacobian(logits, image[:, 1:3, 1:3]).reshape(20, 12).numpy()
    values = np.linalg.svd(j.T @ j, compute_uv=False)
    assert found["2"][0] == int((values > 12 * np.finfo(np.float32).eps * values[0]).sum())
    np.testing.assert_allclose(found["2"][1].numpy(), values, rtol=1e-3, atol=1e-6)  # float32
    records = jacobian_records(found, TAPS, Subject(model="m"), 0.0, {"background": "zero"})
    assert [r.value for r in records] == [found["1"][0], found["2"][0]]
    assert records[1].tolerance == pytest.approx((12 * 2.0**-23) ** 0.5)
    assert (records[1].settings["estimator"], records[1].dtype) == ("official", "float32")
    assert records[1].shape == (20,)


def test_outputs_that_the_patch_does_not_reach_are_zero_rows() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.Flatten()).eval()
    found = jacobian_ranks(net, torch.randn(1, 6, 6), TAPS[:1], patch=2)
    assert found["1"][0] == 4  # 2 channels of 4 pixels, each a multiple of one input pixel


def test_subgradient_steps_approach_the_minimum_and_never_reach_zero() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 6)) / 7
    rows[:, 0] = rows[:, 1] + 0.01 * rng.normal(size=50)
    theta = subgradient(rows, 0, 1e-4)
    assert theta[0] == 0
    assert theta[1] == pytest.approx(1, abs=0.05)
    assert (theta[1:] != 0).all()


def test_the_command(tmp_path) -> None:
    from click.testing import CliRunner

    from empirical.runs import read_records
    from rankfall.commands.measure import command

    asked = ["jacobian", "digits-resmlp", "--random-weights", "--patch", "2", "--estimator",
             "official", "--out", str(tmp_path / "run")]  # fmt: skip
    done = CliRunner().invoke(command, asked)
    assert done.exit_code == 0, done.output
    records = read_records(tmp_path / "run")
    assert {r.settings["estimator"] for r in records} == {"official"}
    assert all(r.value is not None and 0 < r.value <= 4 for r in records)
