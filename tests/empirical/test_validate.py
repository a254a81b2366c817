"""Data, commands and studies of ``rankfall validate`` on the digits networks."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from empirical.data import find, labelled, stratified
from empirical.models import load
from empirical.runs import Run, read_records
from empirical.validation import PRESETS, PUBLISHED, preset, published_records, spreads
from rankfall.validation import Options, validate
from tests.empirical.test_runs import record
from theory.errors import InputError

ROOT = Path(__file__).parents[2]


class Silent:
    """A progress that says nothing."""

    def start(self, step: str, total: int) -> None:
        self.total = total

    def tick(self, what: str) -> None:
        self.what = what

    tell = tick


def test_subsamples_are_stratified_and_seeded() -> None:
    y = np.array([0] * 50 + [1] * 30 + [2] * 5)
    chosen = stratified(y, 15, 0)
    assert np.bincount(y[chosen]).tolist() == [5, 5, 5]
    assert np.bincount(y[stratified(y, 25, 0)]).tolist() == [10, 10, 5]
    assert (stratified(y, 15, 0) == chosen).all()
    assert not (stratified(y, 15, 1) == chosen).all()
    with pytest.raises(InputError, match="cannot cover 3 classes"):
        stratified(y, 2, 0)
    with pytest.raises(InputError, match="100 images are asked for, there are 85"):
        stratified(y, 100, 0)


def test_folders_of_classes(tmp_path: Path) -> None:
    from PIL import Image

    for label in ("3", "7"):
        (tmp_path / label).mkdir()
        for k in range(2):
            Image.new("L", (8, 8), 20 * int(label) + k).save(tmp_path / label / f"{k}.png")
    loaded = load("digits-resnet", random_weights=True)
    data = labelled(loaded, tmp_path, count=2)
    assert data.labels.tolist() == [3, 7]
    assert data.images.shape == (2, 1, 8, 8)
    (tmp_path / "zebra").mkdir()
    with pytest.raises(InputError, match=r"'zebra' in .* has no images"):
        find(tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "zebra" / "a.png")
    with pytest.raises(InputError, match="'zebra' is none of the classes"):
        labelled(loaded, tmp_path)
    with pytest.raises(InputError, match="no folder"):
        labelled(loaded, tmp_path / "missing")


def test_flat_folder_with_a_label_file(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "flat"
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "a.png")
    names = tmp_path / "names.csv"
    names.write_text("a.png,4\n")
    assert [label for _, label in find(folder, names)] == ["4"]
    names.write_text("b.png,4\n")
    with pytest.raises(InputError, match=r"a.png .* has no label"):
        find(folder, names)


def test_validate_measures_everything_and_continues(tmp_path: Path) -> None:
    options = Options(("digits-resnet",), count=1, samples=30, labelled=300)
    with Run.open(tmp_path / "r", options.command, 0) as run:
        outcome = validate(run, options, Silent())
    assert outcome.status == 0, outcome.missed
    kinds = {r.measurement for r in outcome.records}
    assert kinds >= {
        "jacobian", "pca", "lyapunov", "loss", "ablation", "classification", "dependence", "patch",
        "factorise",
    }  # fmt: skip
    assert {r.model for r in outcome.records} == {"digits-resnet", "digits-resnet@random"}
    assert (tmp_path / "r" / "factorise-digits-resnet.csv").read_text().count("\n") > 5
    lines = len(read_records(tmp_path / "r"))
    with Run.open(tmp_path / "r", options.command, 0) as run:  # nothing is measured twice
        again = validate(run, options, Silent())
    assert len(read_records(tmp_path / "r")) == lines
    assert again.seconds < outcome.seconds


def test_published_figures_and_their_tolerance() -> None:
    assert set(PUBLISHED) == set(PRESETS["paper"])
    near, far = (
        record(value=v, model="resnet18", measurement="classification") for v in (150.0, 300.0)
    )
    notes = [r.extra["note"] for r in published_records([near, far])]
    assert "agrees" in notes[0]
    assert "differs" in notes[1]
    with pytest.raises(InputError, match="no preset"):
        preset("all")


def test_images_are_aggregated_as_distributions() -> None:
    rows = [record(value=v, image=str(v)) for v in (1.0, 2.0, 9.0)]
    (spread,) = spreads(rows)
    assert (spread.images, spread.median, spread.extremes) == (3, 2.0, (1.0, 9.0))


@pytest.mark.parametrize(
    "script",
    [
        "layer_rank",
        "pca_dimension",
        "classification_dimension",
        "independence_deficit",
        "depth_laws",
    ],
)
def test_scripts_smoke(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setattr(sys, "argv", [script, "--smoke"])
    runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
    assert "digits-resnet" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["classification", "dependence", "pca", "lyapunov"])
def test_commands(name: str, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from rankfall.commands.measure import command

    more = ["--samples", "20"] if name == "pca" else []
    out = str(tmp_path / "run")
    done = CliRunner().invoke(command, [name, "digits-resnet", "--out", out, *more])
    assert done.exit_code == 0, done.output
    assert {r.measurement for r in read_records(out)} == {name}
    assert torch.get_default_dtype() == torch.float32
