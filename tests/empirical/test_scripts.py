"""Each study runs on the embedded default, says how long it takes, and continues where it stopped."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from empirical.runs import read_records
from theory.errors import InputError

SCRIPTS = Path(__file__).parents[2] / "scripts"
#: study -> measurement of its records
STUDIES = {
    "layer_rank": "jacobian",
    "pca_dimension": "pca",
    "classification_dimension": "classification",
    "independence_deficit": "dependence",
    "depth_laws": "lyapunov",
}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the studies set their own

    def run(name: str, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")

    return run


@pytest.mark.parametrize("name", STUDIES)
def test_smoke(
    name: str, study, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    study(name, "--smoke", "--out", str(tmp_path / "run"))
    said = capsys.readouterr()
    assert "digits-resnet" in said.out
    assert "all take about" in said.err
    found = read_records(tmp_path / "run")
    assert STUDIES[name] in {r.measurement for r in found}
    study(name, "--smoke", "--out", str(tmp_path / "run"))  # continues: nothing is added
    assert read_records(tmp_path / "run") == found


def test_every_script_is_tested() -> None:
    assert {p.stem for p in SCRIPTS.glob("*.py")} - {"_common"} == set(STUDIES)


def test_an_interrupted_study_goes_on_with_the_next_image(
    study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from empirical import pca

    for k in range(3):
        Image.new("L", (8, 8), 60 * k + 20).save(tmp_path / f"{k}.png")
    asked = ("pca_dimension", "digits-resnet", "--random-weights", "--images", str(tmp_path),
             "--out", str(tmp_path / "run"), "--count", "3")  # fmt: skip
    measured = []
    original = pca.measure

    def counted(model, image, *a, **k):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(float(image[0, 0, 0]))
        return original(model, image, *a, **(k | {"samples": 20, "noises": (1e-3,)}))

    pca.measure = counted
    try:
        with pytest.raises(KeyboardInterrupt):
            study(*asked)
        first = list(measured)
        assert len({r.image for r in read_records(tmp_path / "run")}) == 2
        measured.clear()
        study(*asked)
    finally:
        pca.measure = original
    assert len(measured) == 1
    assert measured[0] not in first
    assert len({r.image for r in read_records(tmp_path / "run")}) == 3
    assert "1 of 1 took" in capsys.readouterr().err  # one image is left to estimate


def test_bad_input_is_one_line_and_exit_status_2() -> None:
    asked = [str(SCRIPTS / "layer_rank.py"), "digits-resnet", "--random-weights", "--images", "no"]
    done = subprocess.run(
        [sys.executable, *asked], cwd=SCRIPTS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no folder of images at no")
    assert "Traceback" not in done.stderr


def test_too_few_images_are_refused(study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="600 images are asked for, there are 540"):
        study("classification_dimension", "digits-resnet", "--random-weights", "--count", "600")
    with pytest.raises(InputError, match="no folder of images"):
        study("layer_rank", "digits-resnet", "--random-weights", "--images", str(tmp_path / "no"))
