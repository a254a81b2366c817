"""Certificates through the Coq kernel: accepted as they are, refused with one multiplier changed."""

from __future__ import annotations

import copy
from fractions import Fraction

import pytest

from theory import coq
from theory.catalogue import CATALOGUE
from theory.certificate_data import chain_certificate
from theory.errors import InputError, UnsupportedError
from theory.polymatroid import prove_dag
from theory.statements import parse

needs_coq = pytest.mark.skipif(
    not coq.available(), reason="coqc is not installed (Debian: coq libcoq-mathcomp-algebra)"
)

#: beyond the catalogue: what the issue of the prover asks for
EXTRA = [
    ("rank((I+G)*(I+H)) >= rows(G)-rank(G)-rank(H)", ()),
    ("rank(A*B-I) <= rank(A-I)+rank(B-I)", ()),
    ("rank(A*D-C*B) <= rank(A-C)+rank(D-B)", ()),
    ("rank(A)+rank(I-A) == rows(A)", ("A*A == A",)),
    ("rank((I+G)*(I+H)*U*V) >= rank(U*V)-rank(G)-rank(H)", ()),
    ("rank((I+G)*(I+H)*U*V) <= cols(U)", ()),
    (
        "rank((I+G1)*(I+G2)*(I+G3)*(I+G4)*(I+G5)*(I+G6)*(I+G7)) >= rows(G1) - rank(G1) - rank(G2)"
        " - rank(G3) - rank(G4) - rank(G5) - rank(G6) - rank(G7)",
        (),
    ),
    ("rank(A.T*B) <= rank(A)", ()),
    ("rank(A) <= rank(A) + rank(I)", ()),
    ("rank(A*B) == rank(B)", ("C*A == I",)),
    ("rank(A) <= 3", ("rank(B) <= 3", "A == B*C")),
    ("rank(A*B) <= 7", ("rank(A) <= 3", "rank(A) + rank(B) <= 9")),
    ("2*rank(A*B) <= rank(A) + rank(B)", ()),
    ("1/2*rank(A*B) <= 1/3*rank(A) + 1/6*rank(B)", ()),
    ("rank(vstack(A, B)) + rank(vstack(B, C)) >= rank(vstack(A, B, C)) + rank(B)", ()),
    (
        "rank(vstack(A, B)) + rank(vstack(A, C)) + rank(vstack(A, D)) + rank(vstack(B, C))"
        " + rank(vstack(B, D)) >= rank(A) + rank(B) + rank(vstack(C, D)) + rank(vstack(A, B, C))"
        " + rank(vstack(A, B, D))",
        (),
    ),
]


def _certificate(text, given=()):
    certificate = prove_dag(parse(text, given), 30)
    assert certificate is not None, text
    return certificate


def _chain():
    statement = parse("rank(J3*J2*J1) >= rank(J1) + rank(J2) + rank(J3) - rows(J1) - rows(J2)")
    multipliers = {(1, 1): Fraction(1), (2, 2): Fraction(1), (1, 2): Fraction(1)}
    return chain_certificate(statement, [(0, ("J1", "J2", "J3"), multipliers)])


@pytest.mark.coq
@needs_coq
def test_every_k_row_passes_the_kernel():
    rows = [(text, e.given) for e in CATALOGUE if e.status.startswith("K") for text in e.statements]
    certificates = [_certificate(text, given) for text, given in [*rows, *EXTRA]]
    result = coq.run(coq.export_many([*certificates, _chain()]))
    assert result.ok, result.output
    assert result.assumptions == (coq.CLOSED,)


@pytest.mark.coq
@needs_coq
@pytest.mark.parametrize("make", [lambda: _certificate(*EXTRA[3]), _chain], ids=["dag", "chain"])
def test_one_changed_multiplier_is_refused(make):
    bad = copy.deepcopy(make())
    step = bad["clauses"][-1]["steps"][0]
    step["times"] = str(Fraction(step["times"]) + 1)
    result = coq.run(coq.export(bad))
    assert not result.ok
    assert "ring" in result.output, result.output  # the sum of the steps is no longer the goal


@pytest.mark.coq
@needs_coq
def test_rows_about_n_maps_hold_for_every_n():
    result = coq.run(coq.INDUCTION.read_text())
    assert result.ok, result.output
    for name in ("diminishing", "bottleneck_part", "chain_sylvester", "residual_stack", "powers"):
        assert f"Theorem {name} " in coq.INDUCTION.read_text()


@pytest.mark.coq
@needs_coq
def test_an_axiom_is_not_accepted():
    script = (
        "Axiom wish : 0 = 1.\nTheorem t : 0 = 1. Proof. exact wish. Qed.\nPrint Assumptions t.\n"
    )
    result = coq.run(script)
    assert not result.ok
    assert "wish" in result.output


def test_a_script_states_the_theorem_and_its_multipliers():
    script = coq.export(_certificate("rank(I+G) >= rows(G) - rank(G)"))
    assert "(* rank(I+G) >= rows(G) - rank(G) *)" in script
    assert "Theorem theorem" in script
    assert "Print Assumptions" in script
    for cheat in ("Admitted", "Axiom", "admit"):
        assert cheat not in script


def test_what_cannot_be_exported_says_so():
    with pytest.raises(UnsupportedError, match="every field"):
        coq.export(_certificate("rank(A) <= rank(A+A)"))
    with pytest.raises(InputError):
        coq.export({"problem": {}})
    bad = copy.deepcopy(_certificate("rank(A) + rank(I-A) == rows(A)", ("A*A == A",)))
    bad["problem"]["vanishing"] = []
    with pytest.raises(InputError, match="do not fit"):
        coq.export(bad)


def test_no_coqc_is_unsupported(monkeypatch):
    monkeypatch.setattr(coq.shutil, "which", lambda name: None)
    with pytest.raises(UnsupportedError, match="apt install"):
        coq.run("Print Assumptions t.")
