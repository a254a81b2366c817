"""Counterexamples: found where they are rare, minimal, and replayed by an independent oracle."""

import time
from fractions import Fraction

import pytest

from tests.theory.oracle import Sized, holds
from theory.errors import InputError, UnsupportedError
from theory.mutations import CORNERS
from theory.notions import Notion, parse_notion, relative
from theory.prover import prove
from theory.rational import matrix
from theory.refute import search
from theory.statements import parse
from theory.tolerance import rank_function
from theory.witness import Witness, from_json, shrink, to_json, violates


def oracle_says_false(text, given, witness) -> bool:
    """By code that shares nothing with ours: the hypotheses hold and the statement does not."""
    matrices = {
        name: Sized(m["rows"], m["cols"], [[Fraction(x) for x in row] for row in m["entries"]])
        for name, m in witness["matrices"].items()
    }
    return all(holds(h, matrices) for h in given) and not holds(text, matrices)


FALSE = [
    ("rank(A*B) == rank(B*A)", ()),
    ("rank(A + B) >= rank(A)", ()),
    ("rank(A + B) == rank(A) + rank(B)", ("A*B == 0", "B*A == 0")),
    ("rank(A) + rank(B) <= rows(A)", ("A*B == 0",)),
    ("rank(I - A) + rank(A) == rows(A)", ("A^3 == A^2",)),
    ("rank(A) <= 1", ("A*A == 0",)),  # only from dimension 4 on
    ("rank(A^2) == 0", ("A^3 == 0",)),  # only from dimension 3 on
    ("rank(2*A - I) == rows(A)", ()),  # only where 1/2 is an eigenvalue
    ("rank(A.T*A + B.T*B) == rank(A) + rank(B)", ()),
    ("rank(vstack(A, B)) == rank(hstack(A, B))", ()),
    ("rank(kron(A, B)) <= rank(A) + rank(B)", ()),
    ("max(rank(A), rank(B)) <= rank(A + B)", ()),
    ("rank(A - B) <= max(rank(A), rank(B))", ()),
    ("rank(A*B) == rank(B)", ("rank(A) == rows(A)",)),
    ("rank(A) <= 2", ("rows(A) == 3",)),
    ("rank((I+G)*(I+H)) >= rows(G) - max(rank(G), rank(H))", ()),
]


@pytest.mark.parametrize(("text", "given"), FALSE)
def test_a_false_statement_gets_a_witness_that_the_oracle_accepts(text, given):
    found = prove(text, given=given, timeout=20)
    assert found.kind == "REFUTED", found.reason
    assert oracle_says_false(text, given, found.witness), found.witness
    sides = [x for m in found.witness["matrices"].values() for x in (m["rows"], m["cols"])]
    assert max(sides) <= 4


@pytest.mark.parametrize("case", CORNERS, ids=lambda c: c.text)
def test_what_is_false_in_a_corner_only(case):
    found = prove(case.text, given=case.given, timeout=20)
    assert found.kind == "REFUTED", found.reason
    assert oracle_says_false(case.text, case.given, found.witness)


def test_true_statements_are_not_refuted():
    """The oracle's negative: a search over true statements finds nothing."""
    for text, given in (
        ("rank(A*B) <= rank(B)", ()),
        ("rank(A.T*A) == rank(A)", ()),
        ("rank(kron(A, B)) == rank(B)", ("rank(A) == 1",)),
        ("2*rank(A) <= rows(A)", ("A*A == 0",)),
    ):
        found = search(parse(text, given), deadline=time.monotonic() + 60, tries=500)
        assert found.witness is None
        assert found.tried > 100  # the hypotheses can be met, so the search says something


def test_hypotheses_are_met_by_construction():
    """Random matrices meet these with probability 0; solving for one of them does it."""
    for given in ("A*B == 0", "A*A == A", "A*B == C*D", "A*B - B*A == 0", "A*X*B == C", "A^3 == A"):
        statement = parse("rank(A) <= 0", (given,))
        found = search(statement, deadline=time.monotonic() + 60, tries=2000)
        assert found.witness is not None, given
        assert violates(statement, found.witness)


def test_a_witness_is_minimal():
    """Dropping any line or zeroing any entry of the witness leaves none."""
    statement = parse("rank(A*B) == rank(B*A)")
    a = matrix(2, 3, [[2, 1, 5], [4, 2, 10]])
    b = matrix(3, 2, [[1, 2], [-2, 1], [0, -1]])  # a b = 0, b a is not
    big = Witness({"A": a, "B": b}, {})
    assert violates(statement, big)
    small = shrink(statement, big)
    assert violates(statement, small)
    assert small.size() < big.size()
    found = from_json(prove(statement, timeout=20).witness)
    assert sum(m.rows + m.cols for m in found.matrices.values()) == 6  # 1 x 2 and 2 x 1
    assert {abs(x) for m in found.matrices.values() for r in m.entries for x in r} <= {0, 1}
    kept = shrink(statement, big, positive=True)
    assert all(m.rows and m.cols for m in kept.matrices.values())
    three = Witness({"A": matrix(3, 3, [[1, 2, 3], [4, 5, 6], [7, 8, 10]])}, {})
    kept = shrink(parse("rank(A) <= 1"), three, dims=3)
    assert kept.matrices["A"].rows == 3
    assert shrink(parse("rank(A) <= 1"), three).matrices["A"].rows == 2


@pytest.mark.parametrize(("positive", "dims"), [(True, None), (False, 3)])
def test_sizes_of_a_witness_are_as_wanted(positive, dims):
    for text in ("rank(A+B) >= rank(A)", "rank(A*B) == rank(A)", "rank(A) == rank(A^2)"):
        found = prove(text, positive=positive, dims=dims, timeout=10)
        sides = [x for m in found.witness["matrices"].values() for x in (m["rows"], m["cols"])]
        assert found.kind == "REFUTED"
        assert all(x == dims for x in sides) if dims else all(sides)


def test_a_witness_round_trips_and_a_damaged_one_does_not_replay():
    statement = parse("rank(2*A - I) == rows(A)")
    found = prove(statement, timeout=10)
    again = from_json(found.witness)
    assert violates(statement, again)
    assert to_json(statement, again) == found.witness
    damaged = {**found.witness, "matrices": {"A": {"rows": 1, "cols": 1, "entries": [["1"]]}}}
    assert not violates(statement, from_json(damaged))
    with pytest.raises(InputError, match="not a witness"):
        from_json({"matrices": {"A": {"rows": 1}}, "dims": {}})


@pytest.mark.parametrize(
    ("text", "notion"),
    [
        ("rank(A*B) <= rank(B)", "relative(0.001)"),
        ("rank(A*B) <= rank(A)", "absolute(1)"),
        ("rank(B*P) - rank(A*B*P) <= rank(B) - rank(A*B)", "relative(0.001)"),
        ("rank(A*B) + rank(B*C) <= rank(B) + rank(A*B*C)", "relative(1/100)"),
    ],
)
def test_what_is_true_of_exact_ranks_is_refuted_for_ranks_with_a_tolerance(text, notion):
    assert prove(text).kind == "PROVED"
    found = prove(text, notion=parse_notion(notion), timeout=20)
    assert found.kind == "REFUTED", found.reason
    assert violates(parse(text, (), parse_notion(notion)), from_json(found.witness))
    assert not violates(parse(text), from_json(found.witness))  # it is none for exact ranks


def test_ranks_with_a_tolerance_are_counted_at_the_threshold():
    count = rank_function(relative(1e-3))
    at = Fraction("0.001")
    assert count(matrix(2, 2, [[1, 0], [0, at]])) == 2  # sigma = eps * sigma_1 counts
    assert count(matrix(2, 2, [[1, 0], [0, at - Fraction(1, 10**30)]])) == 1
    assert count(matrix(2, 2, [[0, 0], [0, 0]])) == 0
    assert count(matrix(2, 2, [[3, 4], [-4, 3]])) == 2  # orthogonal columns
    with pytest.raises(UnsupportedError):
        count(matrix(2, 2, [[1, 1], [0, 1]]))
    assert rank_function(Notion("absolute", ("2",)))(matrix(2, 2, [[2, 0], [0, 1]])) == 1
    with pytest.raises(InputError, match="no number"):
        rank_function(Notion("relative", ("small",)))
    with pytest.raises(InputError, match="positive"):
        rank_function(Notion("relative", ("-1",)))
