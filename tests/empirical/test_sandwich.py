"""A doctored record flips its verdict; honest ones do not."""

from dataclasses import replace

import pytest

from empirical.records import Record
from empirical.sandwich import CONTRADICTED, HOLDS, REFUTED, UNDECIDED, ClaimVerdict, judge
from tests.empirical.test_runs import record

TAPS = ("stem", "block", "pooled", "logits")
STRUCTURAL = (12, 12, 8, 5)
EXACT = (12, 11, 7, 5)
RELATIVE = (10, 6, 4, 4)
FAMILY = (12, 12, 7, 5)


def honest() -> dict[tuple[str, str], Record]:
    rows = {}
    for notion, values, known in (
        ("structural", STRUCTURAL, "proved"),
        ("exact", EXACT, "proved for the recorded pattern"),
        ("family(weights)", FAMILY, "probable"),
        ("relative(0.001)", RELATIVE, "measured"),
    ):
        for index, (tap, value) in enumerate(zip(TAPS, values, strict=True)):
            kind = "logits" if tap == "logits" else "block"
            rows[notion, tap] = record(
                tap, float(value), tap_index=index, notion=notion, known=known,
                tolerance=1e-3 if "rel" in notion else None, extra={"kind": kind},
            )  # fmt: skip
    return rows


def verdict(rows: dict[tuple[str, str], Record], claim: str) -> ClaimVerdict:
    return next(v for v in judge(rows.values()) if v.claim == claim)


def doctored(notion: str, tap: str, low: float, high: float | None = None) -> dict:
    rows = honest()
    high = low if high is None else high
    rows[notion, tap] = replace(rows[notion, tap], value=low, low=low, high=high)
    return rows


def test_honest_records() -> None:
    rows = honest()
    assert verdict(rows, "principle").verdict == HOLDS
    assert verdict(rows, "structural-bound").verdict == HOLDS
    assert verdict(rows, "family-bound").verdict == HOLDS
    assert verdict(rows, "family-bound").tap == "block"  # 11 < 12: lost, not structurally
    assert verdict(rows, "numerical-monotone").verdict == HOLDS
    assert verdict(rows, "rank-loss").verdict == HOLDS
    assert not any(v.failure for v in judge(rows.values()))


@pytest.mark.parametrize(
    ("claim", "notion", "tap", "low", "high", "expected"),
    [
        ("principle", "exact", "pooled", 12, None, CONTRADICTED),
        ("principle", "exact", "logits", 8, None, CONTRADICTED),
        ("structural-bound", "exact", "pooled", 9, None, CONTRADICTED),
        ("structural-bound", "relative(0.001)", "logits", 6, None, CONTRADICTED),
        ("structural-bound", "structural", "logits", 4, None, CONTRADICTED),
        ("family-bound", "family(weights)", "pooled", 6, None, CONTRADICTED),
        ("numerical-monotone", "relative(0.001)", "logits", 5, None, REFUTED),
        ("numerical-monotone", "relative(0.001)", "logits", 4, 5, UNDECIDED),
        ("rank-loss", "relative(0.001)", "pooled", 6, None, REFUTED),
        ("rank-loss", "relative(0.001)", "pooled", 4, 6, UNDECIDED),
    ],
)
def test_doctored_record_flips_its_verdict(
    claim: str, notion: str, tap: str, low: float, high: float | None, expected: str
) -> None:
    assert verdict(honest(), claim).verdict == HOLDS
    assert verdict(doctored(notion, tap, low, high), claim).verdict == expected


def test_a_float_rank_enters_by_its_lower_end() -> None:
    """Rounding over-counts: an upper end above the bound contradicts nothing."""
    rows = doctored("relative(0.001)", "logits", 5, 40)
    assert verdict(rows, "structural-bound").verdict == HOLDS


def test_a_float_spectrum_bounds_no_exact_rank_from_above() -> None:
    """Float ranks 6 then 7 are no contradiction of exact rank diminishing, only a doubt."""
    rows = honest()
    for tap, value in zip(TAPS, (12.0, 6.0, 7.0, 5.0), strict=True):
        rows["exact", tap] = replace(
            rows["exact", tap], known="measured", value=value, low=value, high=value
        )
    assert verdict(rows, "principle").verdict == UNDECIDED


def test_an_inner_tap_takes_no_part_in_statements_about_depth() -> None:
    """Rank 2 inside a branch and 8 after it is no contradiction (theory.md, section 1)."""
    rows = honest()
    rows["exact", "branch"] = replace(
        rows["exact", "block"], tap="branch", separator=False, value=2.0, low=2.0, high=2.0
    )
    assert verdict(rows, "principle").verdict == HOLDS


def test_nothing_measured_gives_no_verdict() -> None:
    assert judge([]) == ()
    assert judge([record("stem")]) == ()


def test_classification_dimension() -> None:
    kept = record(
        "pooled", 7.0, measurement="classification", notion="classification(0.95)", shape=(48,)
    )
    assert judge([kept])[0].verdict == HOLDS
    assert judge([replace(kept, value=40.0, low=40.0, high=40.0)])[0].verdict == REFUTED


def test_independence_deficit() -> None:
    carried = record(
        "logits", 3.0, measurement="dependence", notion="feature-span",
        extra={"class": 4, "accuracy": 0.97, "accuracy_original": 0.98},
    )  # fmt: skip
    assert judge([carried])[0].verdict == HOLDS
    worse = replace(carried, extra=carried.extra | {"accuracy": 0.4})
    assert judge([worse])[0].verdict == REFUTED
    none = replace(carried, value=0.0, low=0.0, high=0.0)  # says nothing about other logits
    assert judge([none])[0].verdict == UNDECIDED
