"""Data, commands and studies of ``rankfall validate`` on the digits networks."""

import runpy
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from empirical.aggregate import image_records, spreads
from empirical.data import find, labelled, stratified
from empirical.models import load
from empirical.published import PUBLISHED, published_records, published_table
from empirical.runs import Run, read_records
from empirical.sandwich import CLAIMS, judge
from empirical.validation import PRESETS, preset
from empirical.verdicts import CONTRADICTED, INAPPLICABLE
from rankfall.studies import CONTROL, FEATURE_CLAIMS, Studies
from rankfall.validation import Options, load_all, validate
from rankfall.verify import Outcome
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


OPTIONS = Options(("digits-vit",), count=2, samples=30, labelled=300)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with Run.open(tmp_path_factory.mktemp("validate") / "r", OPTIONS.command, 0) as run:
        return validate(run, OPTIONS, Silent())


def test_every_study_has_its_control(outcome: Outcome) -> None:
    assert outcome.missed == ()
    assert outcome.failed == ()
    assert outcome.status == (3 if outcome.undecided else 0)
    kinds = {
        name: {r.measurement for r in outcome.records if r.model == name}
        for name in ("digits-vit", "digits-vit" + CONTROL)
    }
    assert kinds["digits-vit"] - {"factorise"} == kinds["digits-vit" + CONTROL]
    assert kinds["digits-vit"] >= {
        "jacobian", "pca", "lyapunov", "tokens", "loss", "centralisation", "bound", "ablation",
        "classification", "dependence", "patch", "factorise", "images", "scope",
    }  # fmt: skip
    folder = outcome.page.parent
    assert (folder / "factorise-digits-vit.csv").read_text().count("\n") > 5


def test_every_claim_has_a_verdict_on_every_network(outcome: Outcome) -> None:
    for name in ("digits-vit", "digits-vit" + CONTROL):
        assert {v.claim for v in outcome.verdicts if v.model == name} == set(CLAIMS)
    smooth = [v for v in outcome.verdicts if v.claim == "exact-loss"]
    assert {v.verdict for v in smooth} == {INAPPLICABLE}
    assert "not piecewise linear" in smooth[0].why


def test_every_catalogue_row_is_held_against_each_network(outcome: Outcome) -> None:
    from theory.catalogue import CATALOGUE

    for name in ("digits-vit", "digits-vit" + CONTROL):
        rows = {
            r.settings["row"]: r
            for r in outcome.records
            if r.measurement == "bound" and r.model == name
        }
        assert set(rows) == {entry.id for entry in CATALOGUE}
        for row in rows.values():
            assert row.value or row.extra["verdict"] == INAPPLICABLE
            assert row.extra["note"]
        assert sum(bool(row.value) for row in rows.values()) >= 20


def test_a_contradicted_bound_is_status_1(outcome: Outcome, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from rankfall.commands.report import command

    lines = []
    for r in outcome.records:
        hit = r.measurement == "bound" and r.settings["row"] == "frobenius"
        extra = r.extra | {"broken": True, "note": "7 > 6", "where": "blocks.1"}
        lines.append((replace(r, extra=extra) if hit else r).to_json())
    (tmp_path / "run.json").write_bytes((outcome.page.parent / "run.json").read_bytes())
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    done = CliRunner().invoke(command, [str(tmp_path)], standalone_mode=False)
    assert done.return_value == 1
    assert CONTRADICTED in (tmp_path / "report.html").read_text()


def test_nothing_is_measured_twice(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outcome.page.parent
    lines = len(read_records(folder))
    calls, whole = count(1), torch.nn.Module.__call__
    monkeypatch.setattr(
        torch.nn.Module, "__call__", lambda *args, **kwargs: next(calls) and whole(*args, **kwargs)
    )
    with Run.open(folder, OPTIONS.command, 0) as run:
        validate(run, OPTIONS, Silent())
    assert len(read_records(folder)) == lines
    made = next(calls) - 1
    modules = sum(1 for _ in load("digits-vit").model.modules())
    # loading tests the taps of the network and its control; the smallest study more is 5 a module
    assert made <= 4 * modules


def test_killed_in_the_middle_and_continued(outcome: Outcome, tmp_path: Path) -> None:
    """The first half of the lines and a torn one, as kill -9 leaves them, end in the same records."""
    source, folder = outcome.page.parent, tmp_path / "r"
    (folder / "spectra").mkdir(parents=True)
    for name in ("run.json", *(f"spectra/{p.name}" for p in (source / "spectra").iterdir())):
        (folder / name).write_bytes((source / name).read_bytes())
    data = (source / "records.jsonl").read_bytes()
    (folder / "records.jsonl").write_bytes(data[: len(data) // 2])
    with Run.open(folder, OPTIONS.command, 0) as run:
        again = validate(run, OPTIONS, Silent())
    assert {r.key for r in again.records} == {r.key for r in outcome.records}
    assert again.status == outcome.status


def test_a_failing_network_costs_only_itself(tmp_path: Path) -> None:
    """No model of that name, and a folder whose labels nobody knows: status 2, the rest is kept."""
    from PIL import Image

    (tmp_path / "images" / "zebra").mkdir(parents=True)
    for k in range(2):
        pixels = np.random.default_rng(k).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "zebra" / f"{k}.png")
    options = Options(
        ("no-such-net", "digits-resmlp"), images=str(tmp_path / "images"), samples=10,
        random_weights=True,
    )  # fmt: skip
    with Run.open(tmp_path / "r", options.command, 0) as run:
        found = validate(run, options, Silent())
    assert found.status == 2
    assert len(found.failed) == 3  # the name; features and factorise have no usable labels
    assert "no-such-net" in found.failed[0]
    assert any("'zebra' is none of the classes" in text for text in found.failed)
    assert {r.model for r in found.records if r.measurement == "jacobian"} == {"digits-resmlp"}
    assert sum(r.measurement == "images" for r in found.records) > 0  # two images were counted
    with pytest.raises(InputError, match="no-such-net"):
        load_all(Options(("no-such-net",)))


def test_a_head_that_is_not_linear_is_not_applicable(tmp_path: Path) -> None:
    loaded = load("digits-resnet", random_weights=True)
    loaded.model.fc = torch.nn.Sequential(loaded.model.fc, torch.nn.ReLU()).eval()
    with Run.open(tmp_path / "r", "validate x", 0) as run:
        studies = Studies(run, Options(("digits-resnet",)), {"digits-resnet": loaded})
        assert studies.attempt("digits-resnet", "all", "features", print) == ""
        scopes = {r.settings["claim"]: r for r in run.records() if r.measurement == "scope"}
        assert set(scopes) == set(FEATURE_CLAIMS)
        assert "not linear" in scopes["classification-dimension"].extra["why"]
        verdicts = {v.verdict for v in judge(run.records())}
        assert verdicts == {INAPPLICABLE}


def test_a_study_out_of_memory_is_reported_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = {"digits-resmlp": load("digits-resmlp", random_weights=True)}
    with Run.open(tmp_path / "r", "validate x", 0) as run:
        studies = Studies(run, Options(("digits-resmlp",), count=1, samples=10), loaded)
        ((image, _),) = studies.pictures("digits-resmlp")
        with monkeypatch.context() as patched:

            def fail(*_: object, **__: object) -> None:
                raise RuntimeError("cannot allocate 181 GB")

            patched.setattr("empirical.pca.measure", fail)
            why = studies.attempt("digits-resmlp", image, "pca", print)
            assert why == "RuntimeError: cannot allocate 181 GB"
            assert run.records() == ()  # not marked as done
        assert studies.attempt("digits-resmlp", image, "pca", print) == ""
        assert {r.measurement for r in run.records()} == {"pca", "item"}
        run.close()
        with pytest.raises(InputError, match="closed"):  # nothing more could be kept
            studies.attempt("digits-resmlp", image, "depth", print)


def test_published_figures_and_their_tolerance() -> None:
    assert set(PUBLISHED) == set(PRESETS["paper"])
    near, far, wide = (
        record(value=v, low=a, high=b, model="resnet18", measurement="classification")
        for v, a, b in ((150.0, 150.0, 150.0), (300.0, 290.0, 310.0), (300.0, 140.0, 310.0))
    )
    verdicts = [r.extra["verdict"] for r in published_records([near, far, wide])]
    assert verdicts == ["agrees", "differs", "agrees"]
    table = {r.model: r for r in published_table([near, record(model="resnet50")], 0)}
    assert set(table) == set(PUBLISHED)
    assert table["resnet18"].value == 150
    assert table["resnet50"].extra["verdict"] == INAPPLICABLE
    assert "no labelled ImageNet images" in table["resnet50"].extra["note"]
    assert "no ImageNet weights/data here" in table["gmixer_24_224"].extra["note"]
    with pytest.raises(InputError, match="no preset"):
        preset("all")


def test_images_are_aggregated_as_distributions() -> None:
    rows = [record(value=v, low=v, high=v, image=str(v)) for v in (1.0, 2.0, 9.0)]
    (spread,) = spreads(rows)
    assert (spread.images, spread.median, spread.extremes) == (3, 2.0, (1.0, 9.0))
    images, supremum = image_records(rows)
    assert (images.value, images.low, images.high) == (2, 1, 9)
    assert images.extra["quartiles"] == [1.5, 5.5]
    assert (supremum.notion, supremum.value, supremum.low, supremum.high) == (
        "supremum",
        9,
        9,
        None,
    )
    assert "a lower bound of the supremum" in supremum.extra["note"]
    resolution = [replace(r, known="measured") for r in rows]  # float64's own number is another
    assert image_records(resolution) == []


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
