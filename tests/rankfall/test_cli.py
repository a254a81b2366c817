"""The front door: light imports, exit statuses, errors without traces."""

import subprocess
import sys
from pathlib import Path

import pytest

from rankfall.cli import COMMANDS, main

HEAVY = ("numpy", "torch", "sympy", "scipy", "timm", "matplotlib", "sklearn")
PROBE = """
import sys
from rankfall.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    loaded = [m for m in {heavy!r} if m in sys.modules]
    print("LOADED", *loaded)
    sys.exit(ended.code)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["theory", "--help"], ["theory", "list"], ["--version"]]
)
def test_answers_at_once_without_heavy_imports(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), *arguments],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_the_run_folder_is_read_without_torch() -> None:
    code = "import sys, empirical.runs; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "Usage: rankfall" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "nonsense"),
        (["verify", "--patch", "0"], "patch"),
        (["verify", "--photograph", "tea"], "coffee, rocket"),
        (["report", "absent"], "no run.json"),
    ],
)
def test_bad_input_is_status_2_and_writes_nothing(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_unwritable_out_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["verify", "--out", str(tmp_path / "file" / "run")])
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err
