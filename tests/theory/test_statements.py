"""The normal form of statements, their evaluation, and their three printed forms."""

import json
from fractions import Fraction
from itertools import product

import pytest

from tests.theory.oracle import Sized, holds
from theory.catalogue import CATALOGUE
from theory.errors import InputError
from theory.evaluate import evaluate
from theory.latex import plain_text
from theory.notions import EXACT, relative
from theory.rational import matrix
from theory.statements import LinearForm, Statement, parse

TEXTS = [(text, row.given) for row in CATALOGUE for text in row.statements]
TEXTS += [
    ("min(rank(A), rank(B)) <= 1/2*rank(A*B) + k - 3", ("A*B == 0", "rank(A) <= 5")),
    ("rank(A^3) + rank(A) >= 2*rank(A**2)", ("A*A == A",)),
    ("rank(kron(A, B.T)) < rows(A)*2 + 1", ()),
    ("rank(blockdiag(A1, J12*J11)) == rank(vstack(I, O - A2))", ("2*A2 == I",)),
]


def same(a: Statement, b: Statement) -> bool:
    """Equal in normal form, the texts aside."""
    return (a.goal, a.hypotheses, a.equations, a.matrices, a.notion) == (
        b.goal, b.hypotheses, b.equations, b.matrices, b.notion,
    )  # fmt: skip


@pytest.mark.parametrize(("text", "given"), TEXTS)
def test_text_json_and_latex_read_back_as_the_same_statement(text, given):
    statement = parse(text, given)
    assert Statement.from_json(json.dumps(statement.to_json())) == statement
    latex = statement.to_latex()
    assert "*" not in latex
    again = parse(*plain_text(latex))
    assert same(again, statement)
    assert again.to_latex() == latex
    for clause in statement.goal:
        for inequality in clause:  # the normal form prints in the grammar too
            told = parse(str(inequality)).goal[0][0].form
            ours = inequality.form
            assert told.constant == ours.constant
            assert len(told.terms) == len(ours.terms)


def test_the_notion_is_part_of_the_statement():
    one, other = parse("rank(A*B) <= rank(B)"), parse("rank(A*B) <= rank(B)", (), relative(1e-3))
    assert one != other
    assert one.notion == EXACT
    assert Statement.from_json(other.to_json()) == other
    with pytest.raises(InputError, match="unknown rank notion"):
        Statement.from_json({"text": "rank(A) <= 1", "notion": "numeric"})


@pytest.mark.parametrize("data", ["[1", "3", {}, {"given": []}, []])
def test_what_is_no_statement_is_refused(data):
    with pytest.raises(InputError, match="not a statement"):
        Statement.from_json(data)


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("rank(A) <= rank(B)", [1]),
        ("rank(A) == rank(B)", [1, 1]),
        ("rank(C) <= min(rank(A), rank(B))", [1, 1]),  # a conjunction
        ("max(rank(A), rank(B)) <= rank(C)", [1, 1]),
        ("min(rank(A), rank(B)) <= rank(C)", [2]),  # a disjunction
        ("rank(C) <= max(rank(A), rank(B))", [2]),
        ("-min(rank(A), rank(B)) <= -rank(C)", [1, 1]),  # a sign swaps them
        ("max(rank(A), rank(B)) <= max(rank(C), rank(D))", [2, 2]),
        ("min(max(rank(A), 1), 2) <= rank(C)", [2, 2]),  # (A <= C and 1 <= C) or 2 <= C
    ],
)
def test_min_and_max_become_conjunctions_and_disjunctions(text, clauses):
    """On matrices of every rank up to 3 the normal form says what the oracle reads in the text."""
    goal = parse(text).goal
    assert [len(c) for c in goal] == clauses
    names = sorted(set(text) & set("ABCD"))
    for values in product(range(4), repeat=len(names)):
        known = dict(zip(names, values, strict=True))
        ours = all(any(_value(i.form, known) >= 0 for i in clause) for clause in goal)
        assert ours == holds(text, {name: _of_rank(r) for name, r in known.items()}), known


def _value(form: LinearForm, known: dict[str, int]) -> Fraction:
    return sum((c * known[str(m)] for c, m in form.ranks), form.constant)


def _of_rank(r: int) -> Sized:
    return Sized(3, 3, [[int(i == j < r) for j in range(3)] for i in range(3)])


def test_coefficients_stay_exact():
    form = parse("1/3*rank(A) - 2*rows(A) + 7 <= 5/6*rank(A)").goal[0][0].form
    assert form.constant == -7
    assert [c for c, _ in form.ranks] == [Fraction(1, 2)]
    assert [c for c, _ in form.dims] == [Fraction(2)]


def test_strict_inequalities_speak_of_integers():
    assert parse("rank(A) < rank(B)").goal[0][0].form.constant == -1
    with pytest.raises(InputError, match="integer coefficients"):
        parse("1/2*rank(A) < rank(B)")


def test_a_number_times_a_matrix_has_its_rank():
    assert parse("rank(-3/2*A*B) >= 0").goal == parse("rank(A*B) >= 0").goal
    assert parse("rank(0*A) + 1 >= 0").goal[0][0].form.terms == ()


def test_evaluation_is_exact():
    """1/3 and 3 make a singular matrix exactly; one unit in the last place makes it regular."""
    statement = parse("rank(A) == 1")
    third = Fraction(1, 3)
    assert evaluate(statement, {"A": [[third, 1], [1, 3]]}).holds
    off = third + Fraction(1, 2**60)
    found = evaluate(statement, {"A": [[off, 1], [1, 3]]})
    assert (found.holds, found.slack) == (False, -1)


def test_evaluation_reports_hypotheses_slack_and_tightness():
    statement = parse("rank(A) + rank(B) <= cols(A)", ("A*B == 0",))
    good = evaluate(statement, {"A": [[1, 0]], "B": [[0], [1]]})
    assert (good.holds, good.hypotheses_hold, good.slack, good.tight) == (True, True, 0, True)
    bad = evaluate(statement, {"A": [[1, 0]], "B": [[1], [1]]})
    assert not bad.hypotheses_hold
    assert evaluate(statement, {"A": [[0, 0]], "B": [[0], [0]]}).slack == 2


def test_empty_matrices_have_shapes():
    statement = parse("rank(A*B) >= rank(A) + rank(B) - cols(A)")
    found = evaluate(statement, {"A": matrix(2, 0, []), "B": matrix(0, 3, [])})
    assert found.slack == 0


def test_the_rank_function_is_pluggable():
    statement = parse("rank(A) <= 1")
    assert not evaluate(statement, {"A": [[1, 0], [0, 1]]}).holds
    assert evaluate(statement, {"A": [[1, 0], [0, 1]]}, rank=lambda m: 1).holds


@pytest.mark.parametrize(
    ("matrices", "says"),
    [
        ({"A": [[1]]}, "no matrix given for B"),
        ({"A": [[1, 2]], "B": [[1, 2]]}, "must be"),
    ],
)
def test_evaluation_names_what_does_not_fit(matrices, says):
    with pytest.raises(InputError, match=says):
        evaluate(parse("rank(A*B) <= rank(B)"), matrices)
