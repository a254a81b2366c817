"""Verdicts: what must be proved, what stays open, and that none is a guess."""

import pytest

from theory import prover
from theory.certificates import CertificateError, check
from theory.errors import InputError
from theory.notions import parse_notion
from theory.prover import prove
from theory.statements import Statement
from theory.witness import from_json, violates

SEVEN = "*".join(f"(I+G{k})" for k in range(7, 0, -1))
LOSSES = "".join(f" - rank(G{k})" for k in range(1, 8))

TRUE = [
    ("rank((I+G)*(I+H)) >= rows(G) - rank(G) - rank(H)", ()),
    (f"rank({SEVEN}) >= rows(G1){LOSSES}", ()),
    ("rank(A*B-I) <= rank(A-I) + rank(B-I)", ()),
    ("rank(A*D-C*B) <= rank(A-C) + rank(D-B)", ()),
    ("rank(A) + rank(I-A) == rows(A)", ("A*A == A",)),
    ("rank(A+B) >= rank(hstack(A,B)) + rank(vstack(A,B)) - rank(A) - rank(B)", ()),
    ("rank(A^3) + rank(A) >= 2*rank(A^2)", ()),
    ("rank((I+G)*(I+H)*U*V) >= rank(U*V) - rank(G) - rank(H)", ()),
    ("rank((I+G)*(I+H)*U*V) <= cols(U)", ()),
    ("rank(A*B) == rank(B)", ("rank(A) == cols(A)",)),
    ("rank(A) + rank(B) <= cols(A)", ("A*B == 0",)),
    ("rank(A*B) <= 5", ("rank(A) <= 5",)),
    ("rank(A*B) <= k", ("rank(A) <= k",)),
    ("rank(blockdiag(A, B)) == rank(A) + rank(B)", ()),
    ("max(rank(A), rank(B)) <= rank(vstack(A, B))", ()),
    ("rank(A*B) <= min(rank(A), rank(B), cols(A))", ()),
    ("rank(A+B) <= max(2*rank(A), 2*rank(B), rank(A) + rank(B))", ()),
]


@pytest.mark.parametrize(("text", "given"), TRUE)
def test_proved_and_checked(text, given):
    found = prove(text, given=given)
    assert found.kind == "PROVED", found.reason
    check(found.certificate)
    embedded = Statement.from_json(found.certificate["statement"])
    assert (embedded.text, embedded.given) == (text, given)


@pytest.mark.parametrize(("text", "given"), [c for c in TRUE if c[1]])
def test_without_its_hypothesis_each_is_refuted(text, given):
    assert prove(text, timeout=20).kind == "REFUTED"


def test_open_statements_say_what_was_tried():
    """True over the reals and false over finite fields: no rule that holds over every field proves it."""
    found = prove("rank(A.T*A) == rank(A)", timeout=60)  # ends by itself within a second
    assert found.kind == "UNKNOWN"
    assert "Frobenius" in found.reason
    assert int(found.reason.split(" assignments")[0].rsplit("(", 1)[1].split()[-1]) > 500
    assert (found.certificate, found.witness) == (None, None)
    kron = prove("rank(kron(A, B)) == 2*rank(B)", given=("rank(A) == 2",), timeout=1)
    assert kron.kind == "UNKNOWN"
    assert "Kronecker" in kron.reason


def test_no_notion_but_the_exact_one_is_proved():
    text = "rank(A) >= 0"  # true of every notion, and still no proof is carried over
    for notion in ("relative(0.001)", "absolute(1)", "pca", "architecture", "supremum"):
        found = prove(text, notion=parse_notion(notion), timeout=0.3)
        assert found.kind == "UNSUPPORTED"
        assert notion in found.reason
    assert prove(text).kind == "PROVED"
    assert prove(text, notion=parse_notion("partial")).kind == "PROVED"


def test_the_timeout_is_obeyed():
    """Five residual blocks that take half a minute, most of it in the expression prover."""
    many = "*".join(f"(I+G{k}*H{k})" for k in range(5, 0, -1))
    found = prove(f"rank(A.T*A*{many}) == rank(A*{many})", timeout=0.5)
    assert found.kind == "UNKNOWN"
    assert found.reason.startswith("out of time after 0.5 s")
    # 8 if the search is not held to it, 28 if nothing is: whether it is obeyed, not how fast it is
    assert found.seconds < 5


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"dims": -1}]
)
def test_options_are_checked(options):
    with pytest.raises(InputError, match="it must be"):
        prove("rank(A) >= 0", **options)


def test_a_proof_that_does_not_check_is_no_proof(monkeypatch):
    """If the prover erred, the checker's word would stand: the verdict is UNKNOWN, not PROVED."""

    def refuse(certificate):
        raise CertificateError("the certificate is refused: on purpose")

    monkeypatch.setattr(prover, "check", refuse)
    found = prove("rank(A+B) <= rank(A) + rank(B)", timeout=1)
    assert found.kind == "UNKNOWN"
    assert "on purpose" in found.reason


def test_constants_and_statements_without_matrices():
    assert prove("1 <= 0").kind == "REFUTED"
    assert prove("0 <= 1").kind == "PROVED"
    assert prove("rank(B - A) == rank(-(A - B))").kind == "PROVED"
    found = prove("n <= m")
    assert found.kind == "REFUTED"
    assert found.witness["dims"]["n"] > found.witness["dims"]["m"]


def test_json_has_the_fields_of_the_contract():
    good = prove("rank(A*B) <= rank(B)").to_json()
    assert set(good) == {"verdict", "statement", "notion", "certificate", "reason", "seconds"}
    bad = prove("rank(A*B) >= rank(B)").to_json()
    assert set(bad) == {"verdict", "statement", "notion", "witness", "reason", "seconds"}
    assert violates(Statement.from_json(bad["statement"]), from_json(bad["witness"]))
