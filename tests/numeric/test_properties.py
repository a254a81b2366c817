"""Every catalogue row holds on exact cases, and every false variant is refuted: nothing is vacuous."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from numeric.cases import Outcome, Property, outcomes, search
from numeric.decoding import decoded
from numeric.flint_eval import compile_statement
from numeric.properties import property_for, run_false_variant, run_property
from numeric.statement_properties import lost_directions, recheck
from theory.catalogue import CATALOGUE, entry
from theory.errors import InputError
from theory.evaluate import evaluate
from theory.statements import parse

EXAMPLES = 120
ROWS = [row.id for row in CATALOGUE]
FALSE = [(row.id, k) for row in CATALOGUE for k in range(len(row.false_variants))]
# a limit with a wrong constant is wrong for every width: no case of it is true
ALWAYS_FALSE = {"gaussian-exponents"}


@pytest.mark.parametrize("name", ROWS)
def test_row_holds(name):
    result = run_property(name, EXAMPLES, seed=1)
    assert result.counterexample is None
    assert result.examples >= 3
    if property_for(entry(name)).inequality:
        assert result.tight, (
            "no case was tight: the samples cannot tell a sharp bound from a slack one"
        )
        assert result.strict, "no case was strict: an equality would pass too"
    else:
        assert (result.tight, result.strict) == (0, 0)


@pytest.mark.parametrize(("name", "variant"), FALSE)
def test_false_variant_is_refuted_within_1000(name, variant):
    result = run_false_variant(name, variant, 1000, seed=1)
    assert result.counterexample is not None, entry(name).false_variants[variant]
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ROWS)
def test_some_false_variant_is_often_true(name):
    """A variant that is false everywhere would show nothing about the samples."""
    row = entry(name)
    rates = []
    for k in range(len(row.false_variants)):
        seen = outcomes(property_for(row, k), 100, 5)
        rates.append(sum(bool(o.holds) for o in seen) / len(seen))
    assert rates, f"{name} has no false variant"
    if name in ALWAYS_FALSE:
        assert max(rates) == 0
    else:
        assert max(rates) >= 0.2, rates


def test_every_catalogue_row_has_a_property_and_a_new_one_without_fails():
    for row in CATALOGUE:
        assert property_for(row).id == row.id
    new = replace(entry("weyl"), id="new-row", property="new_row")
    with pytest.raises(InputError, match="row 'new-row' has no grammar text and no property"):
        property_for(new)


def test_a_property_cannot_pass_a_broken_statement():
    # one token of the row's own text changed: the generated property must notice
    row = entry("frobenius")
    broken = replace(row, statements=("rank(A*B) + rank(B*C) <= rank(B*C) + rank(A*B*C)",))
    result = search(property_for(broken), 1000, 1)
    assert result.counterexample is not None
    assert recheck(result.counterexample).holds is False


@pytest.mark.parametrize("name", ["eps-monotone", "collapse-is-universal"])
def test_a_doctored_counterexample_of_the_catalogue_is_noticed(name):
    row = entry(name)
    first = row.counterexamples[0]
    wrong = replace(first, values=(*first.values[:-1], first.values[-1] + 1))
    doctored = replace(row, counterexamples=(wrong, *row.counterexamples[1:]))
    assert search(property_for(doctored), 5, 1).counterexample is not None


@pytest.mark.parametrize(
    "name", ["frobenius", "loss-law", "stacking", "kronecker", "powers", "gram"]
)
def test_two_evaluations_agree(name):
    """The compiled flint evaluation against theory.evaluate in plain fractions."""
    row = entry(name)
    checked = 0
    for k in [None, *range(len(row.false_variants))]:
        for outcome in outcomes(property_for(row, k), 40, 3):
            case = outcome.shown
            if case.get("notion") != "exact":
                continue
            statement = parse(case["statement"], given=tuple(case["given"]))
            matrices = {
                n: [[Fraction(e) for e in line] for line in rows]
                for n, rows in case["matrices"].items()
            }
            reference = evaluate(statement, matrices, case["dims"])
            assert reference.hypotheses_hold
            assert reference.holds == outcome.holds, case
            flint = compile_statement(statement)
            slack = outcome.slack if outcome.slack is not None else reference.slack
            assert reference.slack == slack or not outcome.holds
            assert flint.goal
            checked += 1
    assert checked > 40


def test_the_same_seed_gives_the_same_cases():
    a, b = (outcomes(property_for(entry("sylvester")), 30, 4) for _ in range(2))
    assert [o.shown for o in a] == [o.shown for o in b]
    assert [o.shown for o in a] != [
        o.shown for o in outcomes(property_for(entry("sylvester")), 30, 5)
    ]


def test_the_counterexample_is_small():
    result = run_false_variant("sylvester", 1, 1000, seed=2)
    assert result.counterexample["matrices"] == {"A": [["1"]], "B": [["0"]]}


def test_lost_directions_by_hand():
    from numeric.scalars import EXACT

    J = EXACT.matrix(1, 2, [1, 0])
    assert lost_directions(J, EXACT.matrix(2, 1, [0, 1])) == 1
    assert lost_directions(J, EXACT.matrix(2, 1, [1, 1])) == 0  # off the feature tangents: no loss
    assert lost_directions(J, EXACT.identity(2)) == 1


def test_undecided_examples_do_not_count():
    prop = Property(
        "x", decoded(1, lambda b: b.below(2)), lambda c: Outcome(None if c else True, 1, {}), True
    )
    result = search(prop, 20, 0)
    assert result.counterexample is None
    assert result.strict == result.examples


def test_bad_requests():
    with pytest.raises(InputError, match="did you mean"):
        run_property("sylvster", 10)
    with pytest.raises(InputError, match="at least 1"):
        run_property("sylvester", 0)
    with pytest.raises(InputError, match="has 2 false variants"):
        property_for(entry("sylvester"), 2)
