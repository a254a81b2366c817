"""The page and the CSV say what the records say, load nothing, and open without console errors."""

import csv
import html
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from empirical.records import Record
from empirical.report import page, table_csv
from empirical.report.plots import rank_by_depth
from empirical.report.rows import exact_text, gap, networks, number, theory_rows
from tests.empirical.test_runs import record
from tests.empirical.test_sandwich import honest

INFO = {
    "command": "verify", "seed": 0, "versions": {"torch": "2"}, "machine": "m", "started": "now",
    "seconds": 12.0, "peak_bytes": 10**9, "finished": "then",
}  # fmt: skip


def proof(row: str, verdict: str, ok: bool) -> Record:
    extra = {"verdict": verdict, "ok": ok, "statement": "s", "reason": "r"}
    return record(row, 1.0, measurement="prove", separator=False, extra=extra)


def all_records() -> list[Record]:
    test = {"ok": True, "summary": "60 examples, 2 false variants refuted"}
    return [
        *honest().values(),
        proof("frobenius", "PROVED", True),
        record("frobenius", 60.0, measurement="property", extra=test),
    ]


def test_page_is_self_contained_and_complete() -> None:
    text = page(all_records(), INFO)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)  # nothing is loaded
    assert text.count("<svg") == 1
    for word in ("HOLDS", "frobenius", "60 examples", "peak memory 1.00 GB", "3x4", "11 p"):
        assert word in text
    assert "every expected verdict met" in text


def test_a_doctored_record_changes_the_page() -> None:
    rows = honest()
    rows["exact", "logits"] = replace(rows["exact", "logits"], value=9.0, low=9.0, high=9.0)
    text = page(list(rows.values()), INFO)
    assert "expected verdicts missed" in text
    assert 'class="badge CONTRADICTED">CONTRADICTED' in text


def test_a_missed_proof_changes_the_page() -> None:
    text = page([proof("frobenius", "REFUTED", False)], INFO)
    assert "1 expected verdicts missed" in text
    assert "MISSED" in text
    text = page([proof("frobenius", "UNKNOWN", False)], INFO)
    assert "1 undecided" in text
    assert "every expected verdict met" not in text


def test_names_are_escaped() -> None:
    text = page([replace(r, model="<script>alert(1)</script>") for r in all_records()], INFO)
    assert "<script>alert" not in text


def test_cells() -> None:
    assert number(None) == "."
    assert number(record(value=7.0)) == "7"
    assert number(replace(record(value=7.0), low=6.0, high=9.0)) == "6-9"
    assert exact_text(record(value=7.0)) == "7 ="
    assert exact_text(record(value=7.0, known="probable")) == "7 ~"
    assert gap(record(extra={"gap": 1.031})) == "1.03"
    assert gap(record(extra={"gap": 1.6e14})) == "1e14"
    assert gap(record()) == "."


def test_rows_follow_the_forward_pass_and_pick_the_best_known() -> None:
    rows = honest()
    rows["float", "stem"] = record("stem", 9.0, known="measured")
    (network,) = networks(reversed(list(rows.values())))
    assert [row.tap for row in network.rows] == ["stem", "block", "pooled", "logits"]
    stem = network.rows[0]
    assert stem.exact is not None
    assert stem.float64 is not None
    assert stem.upper is not None
    assert (stem.exact.value, stem.float64.value, stem.upper.value) == (12, 9, 12)


def test_theory_rows_are_in_catalogue_order_and_carry_a_miss() -> None:
    rows = theory_rows([proof("frobenius", "UNKNOWN", False), proof("composition", "PROVED", True)])
    assert [(r.id, r.ok) for r in rows] == [("composition", True), ("frobenius", False)]


def test_csv_has_every_record() -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(all_records()))))
    assert len(rows) == len(all_records())
    assert {r["notion"] for r in rows} >= {"exact", "structural", "relative(0.001)"}


def test_plot_labels_its_axes() -> None:
    (network,) = networks(honest().values())
    svg = rank_by_depth(network)
    assert svg == rank_by_depth(network)  # no dates, no random ids
    assert svg.startswith("<svg")
    # text is drawn as paths, and each string stands beside its paths as a comment
    assert "rank of the Jacobian over 12 directions" in svg
    assert "tap, in the order of the forward pass" in svg


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_page_opens_without_console_errors_and_fits_a_phone(tmp_path: Path, width: int) -> None:
    file = tmp_path / "frame.html"
    inside = html.escape(page(all_records(), INFO))
    file.write_text(  # a headless window is at least 500 wide: a frame gives a phone's width
        f'<iframe id="f" width="{width}" height="800" style="border:0" srcdoc="{inside}"></iframe>'
        "<script>f.onload = () => { const d = f.contentDocument.documentElement;"
        f"document.title = 'overflow ' + (d.scrollWidth - {width}); }}</script>"
    )
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
            "--v=0", f"--window-size={width},844", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    found = re.search(r"<title>overflow (-?\d+)</title>", done.stdout)
    assert found is not None
    assert int(found.group(1)) <= 0  # only the tables scroll sideways, never the page
