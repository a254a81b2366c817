"""Devices that are not there: one line and status 2 from every way in, before a network is loaded."""

import subprocess
import sys

import pytest
import torch

import rankfall
from empirical.machine import PACKAGES, device_of, fixed_bytes, peak_bytes, versions
from empirical.models import load
from empirical.subject import at_image
from rankfall.cli import main
from theory.errors import InputError

#: name -> what is wrong with it
ABSENT = {
    "gpu": "no device is called 'gpu'",
    "mps": "on cpu or cuda only",
    "meta": "on cpu or cuda only",
    "cpu:128": "torch sees 1 cpu here",  # whose index torch wraps to -128
    f"cuda:{torch.cuda.device_count()}": "torch sees",
}


@pytest.mark.parametrize("name", ABSENT)
def test_each_way_in_refuses_a_device_that_is_not_there(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load("digits-resmlp", random_weights=True)
    with pytest.raises(InputError, match=ABSENT[name]):
        rankfall.jacobian_profile(loaded.model, torch.zeros(1, 8, 8), patch=8, device=name)
    monkeypatch.setattr("empirical.models.load", None)  # never reached
    for words in (
        ("measure", "jacobian", "digits-resmlp"),
        ("measure", "pca", "digits-resmlp"),
        ("validate", "digits-resmlp"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--device", name])
        assert ended.value.code == 2
        assert ABSENT[name] in capsys.readouterr().err


def test_a_device_that_is_counted_and_does_not_work_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # the driver lists it
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # and cannot start it
    with pytest.raises(InputError, match="no CUDA device here"):
        device_of("cuda")


def test_records_name_the_build_of_torch() -> None:
    loaded = load("digits-resmlp", random_weights=True)
    profile = rankfall.jacobian_profile(loaded.model, torch.zeros(1, 8, 8), patch=2)
    assert {record.versions["torch"] for record in profile.records} == {torch.__version__}
    subject = at_image(loaded, torch.zeros(1, 8, 8), "nothing", 0)
    assert subject.record("pca", "pca", 1.0).versions["torch"] == torch.__version__


def test_the_processor_is_there() -> None:
    assert device_of("cpu") == torch.device("cpu")


def test_what_a_number_depends_on_is_named() -> None:
    assert set(versions()) == {"python", *PACKAGES}
    assert versions("numpy", "no-such-package")["no-such-package"] == "not installed"
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_peak_holds_what_was_taken() -> None:
    code = (
        "import numpy; from empirical.machine import peak_bytes; before = peak_bytes()\n"
        "block = numpy.ones(1 << 25); print(before, peak_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    # 256 MiB; the imports may have needed more at their own peak than they keep
    assert after - before > 128 << 20
    assert after < before + (300 << 20)


def test_a_budget_counts_what_the_process_holds() -> None:
    before = fixed_bytes(torch.device("cpu"))
    block = torch.ones(1 << 25, dtype=torch.float64)
    after = fixed_bytes(torch.device("cpu"))
    assert after - before > 200 << 20  # of 256 MiB; other threads may give some back meanwhile
    assert after <= peak_bytes()
    assert block[-1] == 1
