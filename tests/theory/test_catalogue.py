"""The catalogue as data: complete, light, and its refuted rows replayed exactly."""

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import mpmath
import pytest
import sympy

from theory.catalogue import CATALOGUE, entry
from theory.constants import (
    CONSTANTS,
    collapse_counterexamples,
    gaussian_exponents,
    iid_limit,
    pca_limit,
    token_collapse,
)
from theory.errors import InputError
from theory.notions import parse_notion

#: the rows of the specification's table, in its order
ROWS = """composition diminishing bottleneck sylvester frobenius chain-sylvester loss-law
structural-impetus residual-lower residual-loss residual-stack partial-drop partial-lower
marsaglia-styan subadditive stacking kronecker gram powers completeness barcode eps-calculus
log-majorisation weyl dimension rank-is-dimension pca-limit gaussian-exponents iid-limit
collapse-is-universal eps-monotone logit-dependence token-collapse"""
DOCS = Path(__file__).parents[2] / "docs" / "catalogue.md"


def test_every_row_is_there_in_order():
    assert [row.id for row in CATALOGUE] == ROWS.split()


def test_importing_the_catalogue_is_light():
    code = (
        "import theory.catalogue, theory.mutations, sys; "
        "print([m for m in ('sympy', 'scipy', 'torch', 'numpy', 'mpmath') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.id)
def test_each_row_is_filled_in(row):
    assert set(re.split(r", ", row.status)) <= set("KANR")
    for text in (row.title, row.display, row.source, row.known, row.proof):
        assert text.strip(), row
    for notion in row.notions:
        parse_notion(notion)
    assert row.property == row.id.replace("-", "_")
    assert row.false_variants
    for variant in row.false_variants:
        parse_notion(variant.notion)
        assert ":" in variant.why or "R" in row.status, "says which token and a case"
        same = variant.text in row.statements and variant.given == row.given
        assert not same or variant.notion not in row.notions or "R" in row.status
    if "K" in row.status:
        assert row.statements
    assert bool(row.counterexamples) == ("R" in row.status)
    if "N" in row.status:
        assert row.id in CONSTANTS


@pytest.mark.parametrize(
    "name",
    ["diminishing", "bottleneck", "chain-sylvester", "residual-stack", "powers"],
)
def test_rows_about_n_maps_go_up_to_eight(name):
    counts = []
    for text in entry(name).statements:
        if name == "powers":
            counts.append(max([int(k) for k in re.findall(r"\^(\d)", text)] or [1]))
        else:
            counts.append(len(set(re.findall(r"[JG]\d", text))))
    assert max(counts) == 8
    assert set(range(2, 9)) <= set(counts)


def test_unknown_row_lists_close_matches():
    with pytest.raises(InputError, match="sylvester"):
        entry("silvester")


def test_every_hand_proof_is_in_the_docs():
    text = DOCS.read_text()
    for row in CATALOGUE:
        if "A" in row.status:
            body = re.search(rf"^### {row.id}\n(.*?)(?=^#|\Z)", text, re.M | re.S)
            assert body, f"docs/catalogue.md has no proof of {row.id}"
            assert len(body.group(1)) > 200, f"the proof of {row.id} is no proof"


# ------------------------------------------------------------------ refuted rows


def relative_rank(matrix: sympy.Matrix, eps: Fraction) -> int:
    """#{i : sigma_i > 0 and sigma_i >= eps sigma_1}, exactly, from the spectrum of M^T M."""
    values = []
    for value, times in (matrix.T * matrix).eigenvals().items():
        values += [value] * times
    top = max(values)
    threshold = sympy.Rational(eps.numerator, eps.denominator) ** 2 * top
    return sum(1 for v in values if v > 0 and v >= threshold)


def replay(example) -> tuple[int, ...]:
    eps = Fraction(re.fullmatch(r"relative\((.+)\)", example.notion).group(1))
    product, values = None, []
    for layer in example.layers:
        step = sympy.Matrix([[sympy.Rational(x) for x in row] for row in layer])
        product = step if product is None else step * product
        values.append(relative_rank(product, eps))
    return tuple(values)


@pytest.mark.parametrize(
    ("row", "example"),
    [(row.id, example) for row in CATALOGUE for example in row.counterexamples],
)
def test_counterexamples_replay_exactly(row, example):
    assert replay(example) == example.values, row


def test_the_counterexamples_refute_their_claims():
    rising = entry("eps-monotone").counterexample
    assert rising is not None
    assert any(b > a for a, b in zip(rising.values, rising.values[1:], strict=False))
    for example in entry("collapse-is-universal").counterexamples:
        assert len(set(example.values)) == 1, "the rank does not fall with depth"
        assert len(example.values) >= 12


def test_a_doctored_counterexample_is_noticed():
    """The replay can fail: with the second layer the identity the rank stays 1."""
    example = entry("eps-monotone").counterexample
    doctored = type(example)(
        (example.layers[0], (("1", "0"), ("0", "1"))), example.notion, (1, 2), ""
    )
    assert replay(doctored) == (1, 1)


# ------------------------------------------------------------------ predicted constants


def test_gaussian_exponents_to_thirty_digits():
    """Closed forms: psi(1/2) - psi(1) = -2 log 2 and psi(x+1) = psi(x) + 1/x."""
    values = gaussian_exponents(4)
    with mpmath.workdps(40):
        log2 = mpmath.log(2)
        # k = 2: (psi(3/2) - psi(2))/2 = (2 - 2 log 2 - 1)/2; k = 3: (psi(1) - psi(2))/2 = -1/2
        expected = [mpmath.mpf(0), (1 - 2 * log2) / 2, mpmath.mpf(-1) / 2, (-1 - 2 * log2) / 2]
        for value, exact in zip(values, expected, strict=True):
            assert abs(mpmath.mpf(value) - exact) < mpmath.mpf(10) ** -29
    shifted = [mpmath.mpf(v) - mpmath.mpf(iid_limit(4)[0]) for v in iid_limit(4, digits=40)]
    for value, other in zip(values, shifted, strict=True):
        assert abs(mpmath.mpf(value) - other) < 1e-14  # the variance cancels


def test_the_false_exponents_differ():
    """The false variant (n-k for n-k+1) is visibly another number."""
    with mpmath.workdps(40):
        wrong = (mpmath.digamma(mpmath.mpf(4 - 1) / 2) - mpmath.digamma(2)) / 2
    assert abs(wrong - mpmath.mpf(gaussian_exponents(4)[0])) > 0.1


def test_elementary_constants():
    values = collapse_counterexamples()
    with mpmath.workdps(40):
        assert abs(mpmath.mpf(values["diagonal"]) - 2 / mpmath.sqrt(mpmath.pi)) < mpmath.mpf(
            "1e-29"
        )
        assert abs(mpmath.mpf(values["residual"]) - mpmath.e) < mpmath.mpf("1e-28")
        assert abs(mpmath.mpf(token_collapse()["log_log_rate"]) - mpmath.log(3)) < 1e-29
    assert float(values["orthogonal"]) == 0
    # Var(t + eps t^2 / 2 at t = eps z) / eps^2 = 1 + eps^2/2, by E z^4 - (E z^2)^2 = 2
    assert float(pca_limit(1, 1, 0.5)) == 1.125
    for call in (
        lambda: gaussian_exponents(0),
        lambda: iid_limit(2, 0.0),
        lambda: pca_limit(1, 1, -0.1),
    ):
        with pytest.raises(InputError):
            call()
