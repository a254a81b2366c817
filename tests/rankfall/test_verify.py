"""The main job end to end on a small work list: verdicts, page, exit status, kill and resume."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from empirical.expected import shortfalls
from empirical.runs import read_info, read_records
from empirical.sandwich import CLAIMS
from empirical.verdicts import CONFIRMED, CONTRADICTED, PROVED, UNDECIDED, ClaimVerdict
from rankfall.cli import main
from rankfall.verify import Outcome
from tests.rankfall.small import MODELS, ROWS, small_job

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return small_job(tmp_path_factory.mktemp("job") / "run")


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_every_expected_verdict_is_met(outcome: Outcome) -> None:
    assert outcome.missed == ()
    assert outcome.undecided == ()
    assert outcome.status == 0
    principle = {v.model: v.verdict for v in outcome.verdicts if v.claim == "principle"}
    assert principle == {"digits-resnet": PROVED, "digits-vit": CONFIRMED}


def test_every_measurement_has_a_short_form(outcome: Outcome) -> None:
    """PCA dimension and depth laws too; a claim of a law has a verdict or a reason."""
    kinds = {(r.model, r.measurement) for r in outcome.records}
    for model in MODELS:
        assert {(model, kind) for kind in ("pca", "lyapunov", "classification")} <= kinds
    assert ("digits-vit", "tokens") in kinds
    assert ("digits-resnet", "tokens") not in kinds
    judged = {(v.claim, v.model) for v in outcome.verdicts}
    only_validate = {"centralisation", "catalogue-bounds", "exact-loss"}
    for model in MODELS:
        assert {claim for claim, name in judged if name == model} >= set(CLAIMS) - only_validate


def test_records_have_what_the_issue_asks_for(outcome: Outcome) -> None:
    """Per tap: shape, structural bound, float64 rank, relative ranks at two tolerances, gap."""
    measured = [
        r for r in outcome.records if r.model == "digits-resnet" and r.measurement == "jacobian"
    ]
    taps = {r.tap for r in measured}
    assert taps == {"maxpool", "layer1.0", "layer2.0", "layer3.0", "layer4.0", "global_pool", "fc"}
    for tap in taps:
        here = [r for r in measured if r.tap == tap]
        notions = {(r.notion, r.known) for r in here}
        names = {notion for notion, _ in notions}
        assert {"structural", "exact", "family(weights)", "relative(0.001)"} <= names
        assert ("exact", "measured") in notions  # float64 resolution
        relatives = [r for r in here if r.notion.startswith("relative")]
        assert sorted(r.tolerance or 0 for r in relatives) == [2.0**-23, 1e-3]
        assert all("gap" in r.extra for r in relatives)
        assert all(r.shape and r.directions == 64 for r in here)
    assert {r.tap for r in outcome.records if r.measurement == "property"} == set(ROWS)
    others = {(r.model, r.measurement) for r in outcome.records}
    assert {(m, kind) for m in MODELS for kind in ("classification", "dependence")} <= others


def test_exact_rank_applies_to_piecewise_linear_networks_only(outcome: Outcome) -> None:
    proved = {
        r.model
        for r in outcome.records
        if r.notion == "exact" and r.known.startswith("proved") and r.measurement == "jacobian"
    }
    assert proved == {"digits-resnet"}


def test_the_folder_has_everything(outcome: Outcome) -> None:
    folder = outcome.page.parent
    names = {p.name for p in folder.iterdir()}
    assert {"run.json", "records.jsonl", "records.csv", "report.html", "spectra"} <= names
    assert list((folder / "certificates").glob("frobenius-*.json"))
    info = read_info(folder)
    assert info["status"] == 0
    assert info["peak_bytes"] > 0
    lines = (folder / "records.jsonl").read_text().splitlines()
    assert all(json.loads(line)["schema"] == 1 for line in lines)


def test_a_second_run_measures_nothing(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outcome.page.parent
    # no network is evaluated, nothing is proved and no property is run
    monkeypatch.setattr(torch.nn.Module, "__call__", None)
    monkeypatch.setattr("theory.prover.prove", None)
    monkeypatch.setattr("numeric.properties.run_property", None)
    monkeypatch.setattr("numeric.properties.run_false_variant", None)
    before = (folder / "records.jsonl").read_bytes()
    again = small_job(folder)
    assert (folder / "records.jsonl").read_bytes() == before
    assert again.status == 0


def test_report_from_records_alone_and_a_doctored_record(outcome: Outcome, tmp_path: Path) -> None:
    source = outcome.page.parent
    for name in ("run.json", "records.jsonl"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    assert status("report", str(tmp_path)) == 0
    assert list((tmp_path / "plots").glob("digits-resnet-*.svg"))
    lines = []
    for record in read_records(source):
        low = record.notion == "structural" and record.tap == "layer4.0"
        lines.append((replace(record, value=3.0, low=3.0, high=3.0) if low else record).to_json())
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    assert status("report", str(tmp_path)) == 1
    assert CONTRADICTED in (tmp_path / "report.html").read_text()


def test_report_as_json(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("report", "--json", str(outcome.page.parent)) == 0
    found = json.loads(capsys.readouterr().out)
    assert {n["model"] for n in found["networks"]} == set(MODELS)
    assert found["status"] == 0


def test_what_is_missed_and_what_is_undecided(outcome: Outcome) -> None:
    proof = next(r for r in outcome.records if r.measurement == "prove")
    test = next(r for r in outcome.records if r.measurement == "property")
    item = next(r for r in outcome.records if r.measurement == "item")

    def judged(record: object, **extra: object) -> tuple[int, int]:
        doctored = replace(record, extra=record.extra | extra)  # type: ignore[attr-defined,type-var]
        missed, undecided = shortfalls((doctored,), ())  # type: ignore[arg-type]
        return len(missed), len(undecided)

    assert judged(proof, ok=False, verdict="REFUTED") == (1, 0)
    assert judged(proof, ok=False, verdict="UNKNOWN") == (0, 1)
    assert judged(test, ok=False) == (1, 0)
    assert judged(item, notes=["exact: UNSUPPORTED: aten.foo"]) == (0, 1)
    assert judged(item, notes=["aten.foo went through torch.func.jvp"]) == (0, 0)
    both = replace(outcome, missed=("a",), undecided=("b",))
    assert (both.status, replace(both, missed=()).status) == (1, 3)
    assert replace(both, failed=("c",)).status == 2
    open_claim = ClaimVerdict("rank-loss", "m", UNDECIDED, "w")
    assert shortfalls((), (open_claim,)) == ((), ())  # verify asks for no verdict on each claim
    assert shortfalls((), (open_claim,), claims=True) == ((), ("rank-loss on m: w",))


def test_kill_in_the_middle_and_continue(outcome: Outcome, tmp_path: Path) -> None:
    out = tmp_path / "run"
    records = out / "records.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.rankfall.small", str(out)], cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if records.exists() and records.read_bytes().count(b"\n") >= 40:
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed = read_records(out)
    assert 40 <= len(killed) < len(outcome.records)
    assert "finished" not in read_info(out)
    continued = small_job(out)
    assert continued.status == 0
    whole = {r.key: r.value for r in outcome.records}
    assert {r.key: r.value for r in continued.records} == whole
    assert len(records.read_text().splitlines()) == len(whole)
