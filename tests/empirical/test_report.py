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
from empirical.report.curves import Line, curves
from empirical.report.plots import rank_by_depth
from empirical.report.rows import exact_text, gap, networks, number, theory_rows
from empirical.report.sections import of_network, whole_run
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
    for word in (
        "badge CONFIRMED",
        "badge PROVED",
        "frobenius",
        "60 examples",
        "peak memory 1.00 GB",
        "3x4",
        "11 p",
    ):
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


def law_rows() -> list[Record]:
    """One record of each kind that a section reads."""
    spectrum = [1.0, 0.1, 1e-5]
    soft = {"stable": 2.0, "participation": 3.0, "spread": 0.5}
    return [
        record("a", 12.0, measurement="ablation", extra={"float32": 9.0, "float64": 11.0, "exact": 12}),
        record("a", 8.0, measurement="centralisation", extra=soft),
        record("b", 5.0, measurement="centralisation", tap_index=1, extra=soft),
        record("b", 3.0, measurement="loss", tap_index=1, extra={"bound": 4.0, "broken": False}),
        record(
            "b", 7.0, measurement="rise", settings={"from": "a"},
            extra={"before": 5.0, "spectrum_before": spectrum, "spectrum_after": spectrum},
        ),
        record(
            "-", -0.3, measurement="lyapunov", notion="spectra",
            extra={
                "exponents": [0.0, -0.3], "gaussian": [0.0, -0.1], "deviation": [0.0, 0.05],
                "apart": -4.0, "depth": 3, "note": "median exponent -0.300",
            },
        ),
        *(
            record(
                "a", 3.0, measurement="tokens", settings={"skips": skips},
                extra={"distance": 0.5, "stable": 1.5, "attention": True},
            )
            for skips in (True, False)
        ),
        record(
            "p", 2.0, measurement="classification", notion="classification(0.95)", shape=(3,),
            tolerance=0.95, settings={"projection": "centred"},
            extra={"curve": [0.2, 0.9, 0.98], "accuracy_original": 0.98, "last": 2},
        ),
        record(
            "p", 1.0, measurement="dependence", settings={"samples": "own"}, tolerance=20.0,
            extra={"each": [
                {"class": 4, "support": 1, "carriers": {"0.9": 2, "0.95": 3, "0.99": None},
                 "accuracy_class": 0.9, "accuracy_class_original": 0.97}
            ]},
        ),
        record(
            "-", 5.0, measurement="bound", settings={"row": "frobenius"},
            extra={"broken": False, "note": "5 instances hold", "where": "-"},
        ),
        record(
            "-", None, measurement="published",
            extra={"published": 149, "width": 512, "verdict": "NOT APPLICABLE", "note": "no data"},
        ),
    ]  # fmt: skip


def test_each_law_has_its_section() -> None:
    sections = {s.title: s for s in of_network(law_rows(), "m")}
    assert sections["Float32, float64 and exact ranks"].rows == (("a", "9", "11", "12", "-"),)
    assert sections["Where the relative rank rises"].rows == (("i", "a", "<= 5", "b", ">= 7"),)
    assert sections["Classification dimension"].rows[0][:2] == ("centred", "2")
    assert sections["Sparse dependences"].rows[0][:6] == ("4", "own", "1", "2", "3", ".")
    assert sections["Concentration of the spectrum, loss of rank"].rows[1][-2:] == ("3", "<= 4")
    drawn = {title for title, s in sections.items() if s.figure}
    assert drawn >= {
        "Singular-value exponents (QR method)", "Token rank by depth", "Classification dimension",
        "Where the relative rank rises",
    }  # fmt: skip
    text = page(law_rows(), INFO)
    for title in sections:
        assert f"<h4>{title}</h4>" in text
    assert "The catalogue held against each network" in text
    assert "no data" in text
    assert of_network(law_rows(), "another") == []


def test_a_doctored_bound_shows_as_broken() -> None:
    rows = law_rows()
    broken = [
        replace(r, extra=r.extra | {"broken": True}) if r.measurement in ("bound", "loss") else r
        for r in rows
    ]
    assert not any("BROKEN" in cell for s in whole_run(rows) for row in s.rows for cell in row)
    assert whole_run(broken)[0].rows[0][1] == "BROKEN"
    (table,) = (s for s in of_network(broken, "m") if s.title.startswith("Concentration"))
    assert table.rows[1][-1] == "<= 4 BROKEN"
    assert "expected verdicts missed" in page(broken, INFO)


def test_seconds_are_summed_over_images() -> None:
    items = [
        record("-", 0.0, measurement="item", model=m, image=i, seconds=s, settings={"field": f})
        for m, i, f, s in (("a", "1", "pca", 1.5), ("a", "2", "pca", 2.0), ("b", "1", "exact", 4.0))
    ]
    (cost,) = whole_run(items)
    assert cost.columns == ("network", "pca", "exact", "sum")
    assert cost.rows == (("a", "3.5", ".", "3.5"), ("b", ".", "4.0", "4.0"))


def test_failed_studies_head_the_page() -> None:
    text = page(law_rows(), INFO | {"failed": ["digits-vit, pca, digit 0: no memory"]})
    assert "1 studies failed" in text
    assert "digits-vit, pca, digit 0: no memory" in text


def test_curves_label_their_axes_and_leave_out_what_a_logarithm_cannot_show() -> None:
    svg = curves(
        [Line("one", [0, 1, 2], [1.0, 0.0, 0.1])], "depth here", "distance there", log=True
    )
    assert svg.startswith("<svg")
    for text in ("depth here", "distance there", "one"):
        assert f"<!-- {text} -->" in svg


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_page_opens_without_console_errors_and_fits_a_phone(tmp_path: Path, width: int) -> None:
    file = tmp_path / "frame.html"
    inside = html.escape(page([*all_records(), *law_rows()], INFO))
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
