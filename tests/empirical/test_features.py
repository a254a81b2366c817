"""What the head sees and says: against a forward pass by hand, and heads that are none."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from empirical import pca
from empirical.digits import build, digits_data
from empirical.features import collect, head_of
from empirical.runs import read_records
from rankfall.commands.measure import command
from theory.errors import InputError, UnsupportedError


def test_features_and_logits_of_a_network() -> None:
    net = build("digits-resmlp", 0)
    x = digits_data().test_x[:50]
    seen = collect(net, x, batch=16)
    with torch.no_grad():
        inner = net.forward_head(net.forward_features(x), pre_logits=True)
        torch.testing.assert_close(seen.features.float(), inner, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(seen.logits.float(), net(x), rtol=1e-6, atol=1e-6)
    again = seen.features @ seen.weight.T + (seen.bias if seen.bias is not None else 0)
    # float32 rounding of sums of 32 products
    torch.testing.assert_close(again, seen.logits, rtol=1e-4, atol=1e-5)


class After(nn.Module):
    """A network whose last word is not its last linear layer's."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x))  # type: ignore[no-any-return]


def test_a_head_that_is_not_linear_is_unsupported() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 1, 4, 4)
    assert collect(After(nn.Identity()), x).tap == "inner.3"
    for last in (nn.Softmax(1), nn.BatchNorm1d(3).eval(), nn.ReLU()):
        model = After(last)
        if isinstance(last, nn.BatchNorm1d):
            last.running_mean = torch.ones(3)
        with pytest.raises(UnsupportedError, match=r"'inner\.3'.*not that layer alone"):
            collect(model, x)
    conv = nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten())
    with pytest.raises(UnsupportedError, match="not linear"):
        head_of(conv)


def test_no_images_and_logits_with_nan() -> None:
    model = After(nn.Identity())
    with pytest.raises(InputError, match="no images"):
        collect(model, torch.zeros(0, 1, 4, 4))
    x = torch.randn(5, 1, 4, 4)
    x[2, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="3 of 15 logits are NaN"):
        collect(model, x)


def test_what_was_measured_before_an_error_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = pca.measure, []

    def fails_later(*a, **k):
        calls.append(1)
        if len(calls) == 2:
            raise InputError("the features at fc are NaN or infinite")
        return original(*a, **k)

    monkeypatch.setattr(pca, "measure", fails_later)
    out = str(tmp_path / "run")
    asked = ["pca", "digits-resmlp", "--random-weights", "--samples", "20", "--count", "2"]
    done = CliRunner().invoke(command, [*asked, "--out", out])
    assert isinstance(done.exception, InputError)
    kept = read_records(out)
    assert {r.extra["image_name"] for r in kept} == {"digit 0"}
    assert {r.measurement for r in kept} == {"pca"}
    monkeypatch.undo()
    done = CliRunner().invoke(command, [*asked, "--out", out])  # the same command continues
    assert done.exit_code == 0, done.output
    assert {r.extra["image_name"] for r in read_records(out)} == {"digit 0", "digit 1"}


@pytest.mark.parametrize(
    ("name", "used"),
    [("pca", False), ("lyapunov", False), ("classification", True), ("dependence", True),
     ("factorise", True)],
)  # fmt: skip
def test_labels_are_an_option_where_they_are_used(name: str, used: bool) -> None:
    """A measurement that took the file and ignored it would look as if it had used it."""
    shown = CliRunner().invoke(command, [name, "--help"])
    assert shown.exit_code == 0
    assert ("--labels" in shown.output) == used


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["classification", "digits-resmlp", "--count", "5"], "5 images cannot cover 10 classes"),
        (["classification", "digits-resmlp", "--count", "541"], "there are 540"),
        (["dependence", "digits-resmlp", "--images", "absent"], "no folder of images at absent"),
        (["classification", "test_resnet", "--random-weights"], "needs labelled images"),
        (["factorise", "digits-resmlp", "--layers", "nothing"], "'nothing' is no linear"),
        (["pca", "digits-resmlp", "--noise", "tiny"], "--noise takes numbers"),
        (["pca", "digits-resmlp", "--patch", "9"], "9x9 patch does not fit"),
        (
            ["classification", "digits-resmlp", "--estimator", "official", "--projection",
             "centred"], "has its own projection",
        ),
    ],
)  # fmt: skip
def test_bad_input_of_the_commands(asked: list[str], words: str) -> None:
    done = CliRunner().invoke(command, asked)
    assert isinstance(done.exception, InputError), done.output
    assert words in str(done.exception)
