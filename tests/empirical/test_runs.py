"""The run folder survives kills, torn lines and wrong folders; nothing is measured twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from empirical.records import Record
from empirical.runs import Run, read_records
from theory.errors import InputError


def record(tap: str = "stem", value: float = 3.0, **changes: object) -> Record:
    base: dict[str, object] = {"measurement": "jacobian", "model": "m", "weights": "w"}
    base |= {"image": "i", "tap": tap, "tap_index": 0, "separator": True, "shape": (3, 4)}
    base |= {"directions": 12, "notion": "exact", "tolerance": None, "known": "proved"}
    base |= {"value": value, "low": value, "high": value, "dtype": "float64", "device": "cpu"}
    base |= {"seconds": 0.1, "seed": 0}
    return Record(**(base | changes))  # type: ignore[arg-type]


def test_continues_without_measuring_twice(tmp_path: Path) -> None:
    with Run.open(tmp_path / "r", "verify", 0) as run:
        run.append(record("a"))
        run.append(record("b", 2.0))
    with Run.open(tmp_path / "r", "verify", 0) as run:
        assert run.has(record("a").key)
        assert not run.has(record("c").key)
        run.append(record("a", 99.0))  # the same key: the first number stands
        run.append(record("c"))
    values = {r.tap: r.value for r in read_records(tmp_path / "r")}
    assert values == {"a": 3.0, "b": 2.0, "c": 3.0}
    assert len((tmp_path / "r" / "records.jsonl").read_text().splitlines()) == 3


def test_key_is_identity_not_result() -> None:
    assert record(value=3.0).key == record(value=4.0, seconds=9.0).key
    assert record().key != record(notion="relative(0.001)", tolerance=1e-3).key
    assert record().key != record(settings={"patch": 8}).key


def test_torn_last_line_is_dropped_and_the_next_append_is_whole(tmp_path: Path) -> None:
    with Run.open(tmp_path, "verify", 0) as run:
        run.append(record("a"))
        run.append(record("b"))
    file = tmp_path / "records.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert [r.tap for r in read_records(tmp_path)] == ["a"]
    with Run.open(tmp_path, "verify", 0) as run:
        assert run.torn
        run.append(record("b"))
    lines = file.read_text().splitlines()
    assert [json.loads(line)["tap"] for line in lines] == ["a", "b"]


def test_damaged_inner_line_is_named(tmp_path: Path) -> None:
    with Run.open(tmp_path, "verify", 0) as run:
        run.append(record("a"))
    file = tmp_path / "records.jsonl"
    file.write_text("{broken\n" + file.read_text())
    with pytest.raises(InputError, match="line 1"):
        Run.open(tmp_path, "verify", 0)


@pytest.mark.parametrize(("command", "seed"), [("validate", 0), ("verify", 1)])
def test_another_command_or_seed_is_refused(tmp_path: Path, command: str, seed: int) -> None:
    Run.open(tmp_path, "verify", 0).close()
    with pytest.raises(InputError, match="--fresh"):
        Run.open(tmp_path, command, seed)
    Run.open(tmp_path, command, seed, fresh=True).close()


def test_other_versions_are_refused(tmp_path: Path) -> None:
    Run.open(tmp_path, "verify", 0).close()
    info = json.loads((tmp_path / "run.json").read_text())
    info["versions"]["torch"] = "0.0"
    (tmp_path / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"torch 0\.0"):
        Run.open(tmp_path, "verify", 0)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        Run.open(tmp_path, "verify", 0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with Run.open(tmp_path, "verify", 0), pytest.raises(InputError, match="another process"):
        Run.open(tmp_path, "verify", 0)
    Run.open(tmp_path, "verify", 0).close()


def test_unwritable_place_and_full_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        Run.open(tmp_path / "file" / "run", "verify", 0)
    if Path("/dev/full").exists():
        with Run.open(tmp_path / "run", "verify", 0) as run:
            assert run._lines is not None
            run._lines.close()
            run._lines = open("/dev/full", "ab")  # noqa: SIM115
            with pytest.raises(InputError, match="no space"):
                run.append(record())
            run._lines = None


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    with Run.open(tmp_path, "verify", 0) as run:
        run.write_array("spectra/a.npy", np.arange(3.0))
        run.write("report.html", "<p>")
    assert np.load(tmp_path / "spectra" / "a.npy").tolist() == [0, 1, 2]
    assert not [p for p in tmp_path.rglob(".*") if p.name != ".lock"]


WRITER = """
import sys
from tests.empirical.test_runs import record
from empirical.runs import Run
with Run.open(sys.argv[1], "verify", 0) as run:
    for i in range(10**6):
        run.append(record(f"tap{i}", extra={"pad": "x" * 5000}))
        if i == 20:
            print("going", flush=True)
"""


def test_kill_in_the_middle_leaves_a_run_that_continues(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"going\n"
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Run.open(tmp_path, "verify", 0) as run:
        taps = [r.tap for r in run.records()]
        assert len(taps) >= 20
        assert taps == [f"tap{i}" for i in range(len(taps))]
        run.append(record("after"))
    assert read_records(tmp_path)[-1].tap == "after"


def test_numbers_that_are_not_finite_become_null() -> None:
    odd = record(extra={"margin": float("inf"), "inside": [{"x": float("nan")}, 1.5]})
    extra = Record.from_json(odd.to_json()).extra
    assert extra == {"margin": None, "inside": [{"x": None}, 1.5]}
