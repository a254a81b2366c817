"""A doctored record flips its verdict; honest ones do not."""

from dataclasses import replace

import pytest

from empirical.records import Record
from empirical.sandwich import CLAIMS, judge
from empirical.study_claims import DEVIATIONS
from empirical.verdicts import (
    CONFIRMED,
    CONTRADICTED,
    INAPPLICABLE,
    PRECEDENCE,
    PROVED,
    UNDECIDED,
    VIOLATED,
    ClaimVerdict,
    by_model,
)
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
    assert verdict(rows, "principle").verdict == PROVED
    assert verdict(rows, "exact-loss").verdict == PROVED  # 7 < 12
    assert verdict(rows, "structural-bound").verdict == CONFIRMED
    assert verdict(rows, "family-bound").verdict == CONFIRMED
    assert verdict(rows, "family-bound").tap == "block"  # 11 < 12: lost, not structurally
    assert verdict(rows, "numerical-monotone").verdict == CONFIRMED
    assert verdict(rows, "rank-loss").verdict == CONFIRMED
    assert not any(v.failure for v in judge(rows.values()))


@pytest.mark.parametrize(
    ("claim", "notion", "tap", "low", "high", "expected"),
    [
        ("principle", "exact", "pooled", 12, None, CONTRADICTED),
        ("principle", "exact", "logits", 8, None, CONTRADICTED),
        ("exact-loss", "exact", "pooled", 12, None, VIOLATED),
        ("exact-loss", "exact", "pooled", 7, 12, UNDECIDED),
        ("structural-bound", "exact", "pooled", 9, None, CONTRADICTED),
        ("structural-bound", "relative(0.001)", "logits", 6, None, CONTRADICTED),
        ("structural-bound", "structural", "logits", 4, None, CONTRADICTED),
        ("family-bound", "family(weights)", "pooled", 6, None, CONTRADICTED),
        ("numerical-monotone", "relative(0.001)", "logits", 5, None, VIOLATED),
        ("numerical-monotone", "relative(0.001)", "logits", 4, 5, UNDECIDED),
        ("rank-loss", "relative(0.001)", "pooled", 6, None, VIOLATED),
        ("rank-loss", "relative(0.001)", "pooled", 4, 6, UNDECIDED),
    ],
)
def test_doctored_record_flips_its_verdict(
    claim: str, notion: str, tap: str, low: float, high: float | None, expected: str
) -> None:
    assert verdict(honest(), claim).verdict in (CONFIRMED, PROVED)
    assert verdict(doctored(notion, tap, low, high), claim).verdict == expected


def test_a_float_rank_enters_by_its_lower_end() -> None:
    """Rounding over-counts: an upper end above the bound contradicts nothing."""
    rows = doctored("relative(0.001)", "logits", 5, 40)
    assert verdict(rows, "structural-bound").verdict == CONFIRMED


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
    assert verdict(rows, "principle").verdict == PROVED


def test_a_family_drawn_at_one_image_bounds_every_image() -> None:
    rows = list(honest().values())
    other = [replace(r, image="j") for r in rows if not r.notion.startswith("family")]
    verdicts = {v.image: v for v in judge([*rows, *other]) if v.claim == "family-bound"}
    assert {v.verdict for v in verdicts.values()} == {CONFIRMED}
    assert set(verdicts) == {"i", "j"}
    lie = [replace(r, value=9.0, low=9.0) if r.tap == "pooled" else r for r in other]
    verdicts = {v.image: v for v in judge([*rows, *lie]) if v.claim == "family-bound"}
    assert (verdicts["i"].verdict, verdicts["j"].verdict) == (CONFIRMED, CONTRADICTED)
    fewer = [replace(r, directions=4) for r in other]  # other directions: another family
    assert {v.image for v in judge([*rows, *fewer]) if v.claim == "family-bound"} == {"i"}


def test_nothing_measured_gives_no_verdict() -> None:
    assert judge([]) == ()
    assert judge([record("stem")]) == ()


def only(records: list[Record]) -> ClaimVerdict:
    (found,) = judge(records)
    return found


def test_classification_dimension() -> None:
    kept = record(
        "pooled", 7.0, measurement="classification", notion="classification(0.95)", shape=(48,)
    )
    assert only([kept]).verdict == CONFIRMED
    assert only([replace(kept, value=40.0, low=40.0, high=40.0)]).verdict == VIOLATED
    assert only([replace(kept, high=30.0)]).verdict == UNDECIDED  # its interval straddles the half
    guess = {"classes": 10, "accuracy_original": 0.11}
    assert only([replace(kept, extra=guess)]).verdict == INAPPLICABLE
    assert only([replace(kept, extra=guess | {"accuracy_original": 0.9})]).verdict == CONFIRMED


def test_independence_deficit() -> None:
    carried = record(
        "logits", 3.0, measurement="dependence", notion="feature-span", tolerance=20.0,
        extra={"class": 4, "accuracy": 0.97, "accuracy_original": 0.98, "objective": 12.0},
    )  # fmt: skip
    assert only([carried]).verdict == CONFIRMED
    worse = replace(carried, extra=carried.extra | {"accuracy": 0.4})
    assert only([worse]).verdict == VIOLATED
    none = replace(carried, value=0.0, low=0.0, high=0.0)
    assert only([none]).verdict == UNDECIDED  # the penalty alone decides: 12 < 20
    loud = replace(none, extra=none.extra | {"objective": 90.0})
    assert only([loud]).verdict == VIOLATED


def test_independence_deficit_over_all_samples() -> None:
    def summary(*carriers: int | None) -> Record:
        each = [{"class": i, "carriers": {"0.95": n}} for i, n in enumerate(carriers)]
        return record(
            "logits", 1.0, measurement="dependence", directions=9, settings={"samples": "all"},
            extra={"each": each},
        )  # fmt: skip

    assert only([summary(6, 4, None)]).verdict == CONFIRMED
    assert only([summary(6, 5, None)]).verdict == VIOLATED
    assert only([summary(None)]).verdict == VIOLATED


def exponent(apart: float, depth: int = 5) -> Record:
    extra = {"apart": apart, "depth": depth, "deviation": [0.0, 0.1], "note": "n"}
    return record(
        "-", -0.3, measurement="lyapunov", notion="spectra", known="measured", extra=extra
    )


def test_exponents_against_the_prediction() -> None:
    assert only([exponent(DEVIATIONS)]).verdict == CONFIRMED
    assert only([exponent(-DEVIATIONS - 0.1)]).verdict == VIOLATED
    assert "faster" in only([exponent(-9.0)]).why
    assert "slower" in only([exponent(9.0)]).why
    assert only([exponent(0.0, depth=1)]).verdict == UNDECIDED


def tokens(kept: float, *bare: float, attention: bool = True) -> list[Record]:
    rows = [(True, i, kept) for i in range(len(bare))] + [(False, *p) for p in enumerate(bare)]
    return [
        record(
            f"b{i}", 1.0, tap_index=i, measurement="tokens", known="measured",
            settings={"skips": skips}, extra={"distance": d, "attention": attention},
        )
        for skips, i, d in rows
    ]  # fmt: skip


def test_token_collapse_is_about_attention() -> None:
    assert only(tokens(0.8, 0.5, 0.01)).verdict == CONFIRMED
    assert only(tokens(0.8, 0.5, 0.4)).verdict == VIOLATED
    linear = tokens(0.8, 0.5, 0.01, attention=False)
    assert judge(linear) == ()
    scope = record(
        "-",
        measurement="scope",
        settings={"claim": "token-collapse"},
        extra={"why": "no attention"},
    )
    assert only([*linear, scope]).verdict == INAPPLICABLE
    assert only([*tokens(0.8, 0.5, 0.01), scope]).verdict == CONFIRMED  # what was measured wins


def curve(measurement: str, *values: float, **extra: object) -> list[Record]:
    return [
        record(
            f"b{i}", v, tap_index=i, measurement=measurement, known="measured",
            settings={"noise": 1e-3, "samples": 100}, extra={"kind": "block", **extra},
        )
        for i, v in enumerate(values)
    ]  # fmt: skip


def test_centralisation_and_pca_dimension() -> None:
    assert only(curve("centralisation", 60, 61, 17)).verdict == CONFIRMED
    assert only(curve("centralisation", 17, 61)).verdict == VIOLATED
    assert only(curve("centralisation", 60, 60.1)).verdict == UNDECIDED
    assert only(curve("pca", 70, 20)).verdict == CONFIRMED
    assert only(curve("pca", 20, 70)).verdict == VIOLATED
    assert only(curve("pca", 99, 99, saturated=True)).verdict == UNDECIDED


def test_a_broken_bound_is_a_contradiction() -> None:
    row = record(
        "-", 5.0, measurement="bound", settings={"row": "frobenius"},
        extra={"broken": False, "note": "5 instances hold", "where": "-"},
    )  # fmt: skip
    loss = record("b1", 3.0, measurement="loss", extra={"broken": False, "bound": 4, "note": ""})
    assert only([row, loss]).verdict == CONFIRMED
    broken = replace(row, extra={"broken": True, "note": "7 > 5", "where": "b1"})
    assert only([broken, loss]).failure
    assert only([broken, loss]).tap == "b1"
    assert only([row, replace(loss, extra=loss.extra | {"broken": True})]).failure


def test_one_verdict_a_network() -> None:
    cases = [
        ClaimVerdict("principle", "m", v, v, image=str(i)) for i, v in enumerate(PRECEDENCE[::-1])
    ]
    (found,) = by_model(cases)
    assert found.verdict == CONTRADICTED
    assert "1 of 6" in found.why
    (found,) = by_model(v for v in cases if v.verdict in (PROVED, CONFIRMED))
    assert found.verdict == CONFIRMED
    assert {v.claim for v in cases} <= set(CLAIMS)
