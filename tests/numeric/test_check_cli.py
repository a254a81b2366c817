"""``rankfall numeric check`` and the pytest plugin, as their users run them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from numeric import counterexamples, properties
from numeric.properties import property_for
from rankfall.commands.numeric_check import check
from theory.errors import InputError


def invoke(*args):
    return CliRunner().invoke(check, args, standalone_mode=False)


def test_rows_hold_and_variants_are_refuted():
    run = invoke("sylvester", "weyl", "--examples", "50", "--variants", "--json")
    assert run.return_value == 0, run.exception
    data = json.loads(run.output)
    assert [r["id"] for r in data["rows"]] == [
        "sylvester", "weyl", "sylvester#false1", "sylvester#false2", "weyl#false1",
    ]  # fmt: skip
    assert data["rows"][0]["examples"] == 50
    assert data["failed"] == []
    plain = invoke("gram", "--examples", "20")
    assert plain.return_value == 0
    assert "holds" in plain.output
    assert all(len(line) <= 80 for line in plain.output.splitlines())


@pytest.mark.parametrize("name", ["sylvester", "weyl"])
def test_a_counterexample_is_printed_written_and_replayed(monkeypatch, tmp_path, name):
    """The row is swapped for its false variant, so that the command has something to find."""
    monkeypatch.setattr(properties, "property_for", lambda row, v=None: property_for(row, 0))
    run = invoke(name, "--seed", "3", "--out", str(tmp_path))
    assert run.return_value == 1, run.exception
    assert "REFUTED" in run.output
    assert "smallest counterexample" in run.output
    (path,) = tmp_path.iterdir()
    assert path.name == f"counterexample-{name}-seed3.json"
    data = counterexamples.read(path)
    monkeypatch.setattr(counterexamples, "property_for", lambda row, v=None: property_for(row, 0))
    assert invoke("--replay", str(path)).return_value == 0
    # a doctored case no longer refutes
    if "matrices" in data["case"]:
        data["case"]["matrices"] = {
            k: [["0"] * len(r) for r in rows] for k, rows in data["case"]["matrices"].items()
        }
    else:
        data["case"]["i"] = 99
    path.write_text(json.dumps(data))
    assert invoke("--replay", str(path)).return_value == 1


def test_bad_input(tmp_path):
    for args, words in (
        (("sylvster",), "did you mean sylvester"),
        (("--replay", str(tmp_path / "none.json")), "cannot read the counterexample"),
    ):
        run = invoke(*args)
        assert isinstance(run.exception, InputError)
        assert words in str(run.exception)
    broken = tmp_path / "broken.json"
    for text in ("{", "[]", '{"row": "weyl"}', '{"schema": 1}'):
        broken.write_text(text)
        assert isinstance(invoke("--replay", str(broken)).exception, InputError)
    wrong = {"schema": 1, "row": "sylvester", "variant": None, "seed": 0, "examples": 1}
    broken.write_text(json.dumps(wrong | {"case": {"matrices": {"A": [[1]]}}}))
    assert "does not fit" in str(invoke("--replay", str(broken)).exception)


def test_unwritable_folder_is_bad_input(tmp_path):
    taken = tmp_path / "file"
    taken.write_text("")
    result = properties.run_false_variant("sylvester", 0)
    with pytest.raises(InputError, match="cannot write the counterexample"):
        counterexamples.write(taken / "sub", "sylvester", None, 0, 9, result)


TESTS = """
from hypothesis import given, settings
from numeric.strategies import matrices

counted = []

@settings(deadline=None)
@given(matrices())
def test_counts(A):
    counted.append(A)

def test_examples(rankfall_examples, rankfall_strategies, rankfall_property):
    assert rankfall_examples == 7
    assert len(counted) == 7
    assert rankfall_strategies.matrices is matrices
    assert rankfall_property("frobenius").examples == 7
"""


def test_the_plugin_serves_another_project(tmp_path):
    (tmp_path / "test_other.py").write_text(TESTS)
    root = Path(__file__).parents[2]
    env = {"PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "/usr/bin:/bin"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "numeric.plugin",
        "-p",
        "no:cacheprovider",
    ]
    ok = subprocess.run(
        [*command, "--rankfall-examples", "7"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert ok.returncode == 0, ok.stdout + ok.stderr
    assert "2 passed" in ok.stdout
    bad = subprocess.run(
        [*command, "--rankfall-examples", "0"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert bad.returncode == 4
    assert "must be at least 1" in bad.stderr


def test_the_plugin_is_an_entry_point():
    import tomllib

    data = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert data["project"]["entry-points"]["pytest11"] == {"rankfall": "numeric.plugin"}
