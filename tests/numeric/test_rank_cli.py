"""``rankfall numeric rank`` on every format, good and bad."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from safetensors.torch import save_file

from numeric.files import read_matrix
from rankfall.cli import main
from theory.errors import InputError, UnsupportedError


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of ``rankfall numeric rank``."""
    with pytest.raises(SystemExit) as end:
        main(["numeric", "rank", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


@pytest.fixture
def rounded(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.standard_normal((40, 12)) @ rng.standard_normal((12, 40)))
    return tmp_path / "a.npy"


def test_it_prints_the_notion_and_explains_numpy(
    capsys: pytest.CaptureFixture[str], rounded: Path
) -> None:
    status, out, _ = run(capsys, rounded)
    assert status == 0
    assert "40 (exact over the rationals, proved)" in out
    assert "numpy        12 (relative(" in out
    assert "singular values 13 to 40 are not zero" in out
    assert max(map(len, out.splitlines()[1:])) <= 80


def test_the_certificate_replays_and_fails_on_another_matrix(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "m.csv").write_text("1/3,1\n1,3\n")
    (tmp_path / "other.csv").write_text("1/3,1\n1,2\n")
    witness = tmp_path / "deep" / "c.json"
    status, out, _ = run(capsys, tmp_path / "m.csv", "--certificate", witness, "--json")
    data = json.loads(out)
    assert (status, data["rank"], data["notion"], data["upper_by"]) == (0, 1, "exact", "kernel")
    assert data["certificate_bytes"] == len(witness.read_text().strip())
    status, out, _ = run(capsys, tmp_path / "m.csv", "--replay", witness)
    assert status == 0
    assert "replayed" in out
    status, _, err = run(capsys, tmp_path / "other.csv", "--replay", witness)
    assert status == 2
    assert "not zero" in err


def test_rounding_that_changes_the_rank_is_the_reason(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    big = 10**17
    (tmp_path / "m.txt").write_text(f"{big} {big + 1}\n{big} {big + 1}\n{big} {big}\n")
    _, out, _ = run(capsys, tmp_path / "m.txt", "--json")
    data = json.loads(out)
    assert data["rank"] == 2
    numpy = data["float"][0]
    assert (numpy["rank"], "changed the exact rank to 1" in numpy["why"]) == (1, True)


def test_a_partial_result_is_status_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    left = rng.integers(-(2**20), 2**20, (150, 75)).astype(object)
    product = left @ left.T
    text = "\n".join(" ".join(map(str, row)) for row in product)
    (tmp_path / "m.txt").write_text(text)
    status, out, _ = run(capsys, tmp_path / "m.txt", "--timeout", "0.02")
    assert status == 3
    assert "both ends proved" in out
    assert "partial" in out


FILES = {
    "text": ("m.txt", "# a comment\n1 2 3\n\n2, 4; 6\n", 1),
    "decimals": ("m.csv", "0.1,1\n1,10\n", 1),
    "exponents": ("m.csv", "1e-3,1\n1,1E3\n", 1),
    "empty": ("m.csv", "", 0),
    "market": ("m.mtx", "%%MatrixMarket matrix array real general\n2 2\n1\n2\n2\n4\n", 1),
}


@pytest.mark.parametrize("name", FILES)
def test_text_formats(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    file, text, expected = FILES[name]
    (tmp_path / file).write_text(text)
    status, out, _ = run(capsys, tmp_path / file, "--json")
    assert (status, json.loads(out)["rank"]) == (0, expected)


def test_binary_formats_store_the_same_matrix(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    tensor = torch.from_numpy(values)
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    tensors = {str(dtype): tensor.to(dtype) for dtype in types}
    save_file(
        {**tensors, "integers": (tensor * 9).long(), "bias": tensor[0].clone()},
        tmp_path / "t.safetensors",
    )
    for name, expected in tensors.items():
        found = read_matrix(tmp_path / "t.safetensors", tensor=name)
        np.testing.assert_array_equal(
            found, expected.double().numpy()
        )  # exact: no rounding allowed
    np.save(tmp_path / "m.npy", values)
    np.testing.assert_array_equal(read_matrix(tmp_path / "m.npy"), values)
    scipy.io.mmwrite(tmp_path / "m.mtx", scipy.sparse.coo_matrix(values.astype(np.float64)))
    np.testing.assert_array_equal(read_matrix(tmp_path / "m.mtx"), values)
    with pytest.raises(InputError, match="choose one with --tensor"):
        read_matrix(tmp_path / "t.safetensors")
    with pytest.raises(InputError, match="no tensor 'x'"):
        read_matrix(tmp_path / "t.safetensors", tensor="x")
    with pytest.raises(InputError, match="two dimensions"):
        read_matrix(tmp_path / "t.safetensors", tensor="bias")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("m.csv", b"1,2\n3\n", "line 2 has 1 numbers, line 1 has 2"),
        ("m.csv", b"a,b\n1,2\n", "line 1, column 1: 'a'"),
        ("m.csv", b"1,,2\n", "column 2: ''"),
        ("m.csv", b"1,nan\n", "not finite"),
        ("m.csv", b"1/0,1\n", "divides by zero"),
        ("m.csv", b"1e999999999,1\n", "no number"),
        ("m.csv", b"__import__('os'),1\n", "no number"),
        ("m.csv", b"\xff\xfe\x00", "not text"),
        ("m.npy", b"not numpy", "no .npy file"),
        ("m.mtx", b"not a market", "no Matrix Market file"),
        ("m.safetensors", b"short", "no .safetensors file"),
        ("m.safetensors", b"\xff" * 8 + b"{}", "no .safetensors file"),
    ],
)
def test_bad_files_are_status_2_and_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    (tmp_path / file).write_bytes(content)
    status, out, err = run(capsys, tmp_path / file)
    assert (status, out) == (2, "")
    assert message in err


def test_pickles_are_never_loaded(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[1, {}]], dtype=object), allow_pickle=True)
    assert run(capsys, tmp_path / "m.npy")[0] == 2
    torch.save(torch.ones(2, 2), tmp_path / "m.pt")
    with pytest.raises(UnsupportedError, match=r"\.pt files are not read"):
        read_matrix(tmp_path / "m.pt")
    assert run(capsys, tmp_path / "missing.npy")[0] == 2


def test_what_cannot_be_written_is_status_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "m.csv").write_text("1,2\n")
    status, _, err = run(capsys, tmp_path / "m.csv", "--certificate", tmp_path / "m.csv" / "c.json")
    assert status == 2
    assert "cannot write" in err
    (tmp_path / "bad.json").write_text("{}")
    status, _, err = run(capsys, tmp_path / "m.csv", "--replay", tmp_path / "bad.json")
    assert status == 2
    assert "not a rank witness" in err
