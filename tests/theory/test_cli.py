"""``rankfall theory`` from the outside: exit status, text, JSON, files."""

import json
import subprocess
import sys

import pytest

from rankfall.cli import main
from theory.catalogue import CATALOGUE


@pytest.fixture
def run(capsys):
    """Run the command line; returns (exit status, standard output, standard error)."""

    def call(*words):
        with pytest.raises(SystemExit) as done:
            main(["theory", *map(str, words)])
        return (done.value.code, *capsys.readouterr())

    return call


def test_list_shows_every_row_once(run):
    status, out, _ = run("list")
    assert status == 0
    lines = [line.split("\t")[0] for line in out.splitlines()]
    for row in CATALOGUE:
        assert lines.count(row.id) == 1
    status, out, _ = run("list", "--json")
    assert [row["id"] for row in json.loads(out)] == [row.id for row in CATALOGUE]


def test_show_gives_the_statement_its_proof_and_source(run):
    status, out, _ = run("show", "frobenius")
    assert status == 0
    assert "rank(A*B) + rank(B*C) <= rank(B) + rank(A*B*C)" in out
    assert "status   K" in out
    assert "1 x frobenius(A, B, C)" in out  # the certificate as a sum of named inequalities
    assert r"\operatorname{rank}(A\,B)" in run("show", "frobenius", "--latex")[1]
    data = json.loads(run("show", "eps-monotone", "--json")[1])
    assert data["status"].startswith("R")
    status, _, err = run("show", "frobenus")
    assert status == 2
    assert "did you mean frobenius" in err


@pytest.mark.parametrize(
    ("words", "status", "verdict"),
    [
        (("rank(A*B) <= rank(B)",), 0, "PROVED"),
        (("rank(A*B) >= rank(B)",), 1, "REFUTED"),
        (("rank(A.T*A) == rank(A)", "--timeout", "0.5"), 3, "UNKNOWN"),
        (("rank(A) >= 0", "--notion", "stable"), 3, "UNSUPPORTED"),
        (("rank(A*B) <= rank(B)", "--notion", "relative(0.001)"), 1, "REFUTED"),
        (("rank(A) + rank(B) <= cols(A)", "--given", "A*B == 0"), 0, "PROVED"),
        (("rank(A) + rank(I-A) == rows(A)", "--given", "A*A == A", "--given", "rank(A) <= 5"), 0,
         "PROVED"),
    ],
)  # fmt: skip
def test_prove_in_text_and_json(run, words, status, verdict):
    code, out, _ = run("prove", *words)
    assert code == status
    assert out.startswith(f"{verdict}  {words[0]}")
    code, out, _ = run("prove", *words, "--json")
    data = json.loads(out)
    assert (code, data["verdict"]) == (status, verdict)
    assert data["notion"] == data["statement"]["notion"]
    assert data["reason"]
    assert data["seconds"] >= 0
    assert ("certificate" in data, "witness" in data) == (status == 0, status == 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("rank(A*B",), "^"),
        (("rank(A + vstack(A, A)) <= 1",), " and "),
        (("rank(A) >= 0", "--given", "rank(A"), "^"),
        (("rank(A) >= 0", "--notion", "numerical"), "unknown rank notion"),
        (("rank(A) >= 0", "--timeout", "0"), "timeout"),
        (("rank(A) >= 0", "--dims", "-3"), "dims"),
        ((), "STATEMENT"),
    ],
)
def test_bad_input_is_status_2_with_a_reason(run, words, says):
    status, out, err = run("prove", *words)
    assert status == 2
    assert says in err
    assert out == ""
    assert "Traceback" not in err


def test_sizes_of_a_counterexample(run):
    for words, sides in ((("--dims", "4"), {4}), (("--positive",), None)):
        status, out, _ = run("prove", "min(rank(A), rank(B)) <= rank(A*B)", *words, "--json")
        found = {
            x
            for m in json.loads(out)["witness"]["matrices"].values()
            for x in (m["rows"], m["cols"])
        }
        assert status == 1
        assert found == sides if sides else 0 not in found
    status, out, _ = run("prove", "rank(A*B) >= rank(A) + rank(B) - 4", "--dims", "4")
    assert status == 3
    assert "with all dimensions 4" in out


def test_certify_accepts_what_prove_wrote_and_refuses_what_was_changed(run, tmp_path):
    file = tmp_path / "certificate.json"
    run("prove", "rank(A+B) <= rank(A) + rank(B)", "--out", file)
    status, out, _ = run("certify", file)
    assert (status, out.split()[0]) == (0, "ACCEPTED")
    good = json.loads(file.read_text())

    times = json.loads(json.dumps(good))
    times["clauses"][0]["steps"][0]["times"] = "2"
    other = json.loads(json.dumps(good))
    other["statement"]["text"] = "rank(A+B) <= rank(A)"
    for damaged in (times, other):
        file.write_text(json.dumps(damaged))
        status, out, _ = run("certify", file)
        assert (status, out.split()[0]) == (1, "REJECTED")
        assert json.loads(run("certify", file, "--json")[1])["ok"] is False

    for text in ("[]", "{", '{"statement": 3}', "\x00"):
        file.write_text(text)
        status, _, err = run("certify", file)
        assert status == 2
        assert "no certificate" in err
    assert run("certify", tmp_path / "none.json")[0] == 2


def test_certify_imports_no_prover_and_no_solver(tmp_path):
    file = tmp_path / "certificate.json"
    code = (
        "import sys; from rankfall.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "bad = {'scipy.optimize', 'theory.polymatroid', 'theory.prover', 'theory.refute', 'torch'}\n"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-m", "rankfall.cli", "theory", "prove", "rank(A*B) <= rank(B)", "--out", file],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run([sys.executable, "-c", code, "theory", "certify", file], check=True)


def test_export_writes_a_mathcomp_script(run, tmp_path):
    file, script = tmp_path / "certificate.json", tmp_path / "certificate.v"
    run("prove", "rank(A*B) + rank(B*C) <= rank(B) + rank(A*B*C)", "--out", file)
    status, out, _ = run("export", "--coq", file)
    assert status == 0
    assert "Print Assumptions" in out
    assert run("export", "--coq", file, "--out", script)[0] == 0
    assert script.read_text().strip() == out.strip()


def test_check_proves_rows_from_nothing(run):
    status, out, _ = run("check", "frobenius", "eps-monotone", "gram")
    assert status == 0
    assert "replayed exactly" in out
    status, out, _ = run("check", "sylvester", "--json")
    data = json.loads(out)
    assert (status, data["ok"]) == (0, True)
    assert set(data["rows"][0]["verdicts"]) == {"PROVED"}
    assert run("check", "nothing")[0] == 2


def test_audit_names_the_proof_of_every_bound(run):
    """Random weights of the smallest embedded network; the images' pixels bound every tap."""
    status, out, _ = run("audit", "digits-resnet", "--random-weights", "--json")
    bounds = json.loads(out)
    assert status == 0
    assert bounds
    for bound in bounds:
        assert (bound["lower"] or 0) <= bound["upper"] <= bound["width"]
        assert all(s["layer"] and s["rule"] and s["statement"] for s in bound["steps"])
        assert any(s["bound"] == "upper" for s in bound["steps"])
    status, out, _ = run("audit", "digits-resnet", "--random-weights", "--symbolic")
    assert status == 0
    assert "min(" in out
