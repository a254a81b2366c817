"""The decision procedure for chains, against brute force over intervals and explicit matrices."""

import random
from fractions import Fraction

import pytest

from theory.certificate_data import chain_certificate
from theory.certificates import check
from theory.chains import decide, interval_values, read_chain, realise, rectangles
from theory.prover import prove
from theory.rational import identity, multiply, rank
from theory.refute import refute_chain
from theory.statements import parse
from theory.witness import violates


def ranks_of(matrices):
    """r(i, j) of explicit maps, the first applied first."""
    n = len(matrices)
    out = {}
    for i in range(n + 1):
        product = identity(matrices[i].cols if i < n else matrices[-1].rows)
        for j in range(i, n + 1):
            if j > i:
                product = multiply(matrices[j - 1], product)
            out[i, j] = rank(product)
    return out


def random_form(rng, n):
    pairs = [(i, j) for i in range(n + 1) for j in range(i, n + 1)]
    return {
        k: Fraction(rng.randint(-2, 3), rng.choice((1, 1, 2))) for k in pairs if rng.random() < 0.6
    }


def true_form(rng, n):
    """A sum of Frobenius inequalities, so it holds for all chains."""
    form: dict[tuple[int, int], Fraction] = {}
    for _ in range(rng.randint(1, 6)):
        i = rng.randint(0, n)
        j, times = rng.randint(i, n), Fraction(rng.randint(1, 3))
        for a, b, sign in ((i, j, 1), (i - 1, j, -1), (i, j + 1, -1), (i - 1, j + 1, 1)):
            if a >= 0 and b <= n:
                form[a, b] = form.get((a, b), Fraction(0)) + sign * times
    return form


def test_values_on_interval_modules_are_the_sums_that_define_them():
    rng = random.Random(0)
    for _ in range(60):
        n = rng.randint(1, 6)
        form = random_form(rng, n)
        values = interval_values(form, n)
        for (a, b), value in values.items():
            assert value == sum(c for (i, j), c in form.items() if a <= i and j <= b)
        assert len(values) == (n + 1) * (n + 2) // 2


def test_a_realised_barcode_has_the_ranks_of_its_bars():
    rng = random.Random(1)
    for _ in range(40):
        n = rng.randint(1, 5)
        bars = {(a, b): rng.randint(0, 2) for a in range(n + 1) for b in range(a, n + 1)}
        found = ranks_of(realise(bars, n))
        for (i, j), r in found.items():
            assert r == sum(m for (a, b), m in bars.items() if a <= i and j <= b)


def test_the_decision_is_complete():
    """Both answers are checked: a negative interval is realised; a proof is added up again."""
    rng = random.Random(2)
    answers = {True: 0, False: 0}
    for k in range(200):
        n = rng.randint(1, 5)
        form = true_form(rng, n) if k % 2 else random_form(rng, n)
        found = decide(form, n)
        answers[found.negative is None] += 1
        if found.negative is not None:
            r = ranks_of(realise({found.negative: 1}, n))
            assert sum(c * r[k] for k, c in form.items()) < 0
            continue
        total: dict[tuple[int, int], Fraction] = {}
        for (i, j), times in found.multipliers().items():
            assert times > 0
            for a, b, sign in ((i, j, 1), (i - 1, j, -1), (i, j + 1, -1), (i - 1, j + 1, 1)):
                if a >= 0 and b <= n:
                    total[a, b] = total.get((a, b), Fraction(0)) + sign * times
        assert {k: c for k, c in total.items() if c} == {k: c for k, c in form.items() if c}
    assert min(answers.values()) > 50, answers


def test_rectangles_add_up_to_the_same_multipliers():
    rng = random.Random(3)
    fewer = 0
    for _ in range(300):
        n = rng.randint(0, 7)
        places = [(a, b) for a in range(n + 1) for b in range(a, n + 1) if rng.random() < 0.8]
        given = {k: Fraction(rng.randint(1, 3)) for k in places}
        found = rectangles(given)
        total: dict[tuple[int, int], Fraction] = {}
        for (first, last, low, high), times in found.items():
            assert first <= last <= low <= high
            assert times > 0
            for a in range(first, last + 1):
                for b in range(low, high + 1):
                    total[a, b] = total.get((a, b), Fraction(0)) + times
        assert total == given
        fewer += len(found) < len(given)
    assert fewer > 200


def test_four_hundred_maps_are_decided():
    """80,601 intervals, true and false, and all of them at once."""
    n = 400
    form = {(k, k + 1): -1 for k in range(n)} | {(k, k): 1 for k in range(1, n)} | {(0, n): 1}
    for changed, holds in ((0, True), (-1, False)):
        form[200, 200] += changed
        assert (decide(form, n).negative is None) == holds
    dense = {(i, j): 1 for i in range(n + 1) for j in range(i, n + 1)}
    assert decide(dense, n).negative is None


def test_huge_coefficients_do_not_overflow():
    big = 2**62
    form = {(0, 0): big, (0, 1): big, (1, 1): big, (0, 2): -3 * big - 1}
    assert decide(form, 2).negative == (0, 2)
    assert decide({**form, (0, 2): -3 * big}, 2).negative is None


CHAINS = [
    "rank(A*B) + rank(B*C) <= rank(B) + rank(A*B*C)",
    "rank(A*B*C*D) >= rank(A*B) + rank(B*C) + rank(C*D) - rank(B) - rank(C)",
    "rank(A*B) >= rank(A) + rank(B) - cols(A)",
    "3*rank(A*B*C) <= rank(A*B) + rank(B) + 1/2*rank(C) + 1/2*cols(B)",
    "rank(A*B) <= min(rank(A), rank(B))",
    "rank(A*B) <= max(rank(A), rank(C))",
    "rank(A*B) <= max(rank(A*B*C), rank(B))",
]
FALSE = [
    "rank(A*B) + rank(B*C) <= rank(A*B*C) + rank(C)",
    "rank(A*B*C*D) >= rank(A*B) + rank(C*D) - rank(B)",
    "rank(A*B) >= rank(A) + rank(B) - rows(A)",
    "min(rank(A), rank(B)) <= rank(A*B)",
    "rank(B) <= max(rank(A*B), rank(B*C))",
    "rank(A*B) + 2 <= rank(A) + rank(B)",
]


@pytest.mark.parametrize("text", CHAINS)
def test_a_true_chain_statement_gets_a_certificate_that_checks(text):
    found = prove(text)
    assert found.kind == "PROVED", found.reason
    check(found.certificate)


def test_hypotheses_do_not_hide_a_chain_statement():
    """Fourteen disjunctions have 2^28 combinations; the goal needs none of them."""
    given = [f"max(rank(A), rank(C{i})) <= max(rank(B), rank(D{i}))" for i in range(14)]
    found = prove("rank(A*B) <= rank(A)", given=given, timeout=60)
    assert found.kind == "PROVED"  # not within an hour, if they were gone through
    check(found.certificate)


@pytest.mark.parametrize("text", FALSE)
@pytest.mark.parametrize(("positive", "dims"), [(False, None), (True, None), (False, 4)])
def test_a_false_one_gets_matrices_of_the_wanted_sizes(text, positive, dims):
    statement = parse(text)
    found = refute_chain(statement, positive=positive, dims=dims)
    if dims is not None and "rows(A)" in text:
        assert found is None  # false for rectangular matrices only: it is Sylvester for square ones
        return
    assert found is not None
    assert violates(statement, found)
    sides = [x for m in found.matrices.values() for x in (m.rows, m.cols)]
    assert all(x > 0 for x in sides) or not positive
    assert dims is None or set(sides) == {dims}
    assert {x for m in found.matrices.values() for row in m.entries for x in row} <= {0, 1}


def test_a_statement_true_at_one_size_only_is_not_refuted_there():
    text = "rank(A*B) >= rank(A) + rank(B) - 3"  # Sylvester where cols(A) <= 3
    assert refute_chain(parse(text), dims=3) is None
    assert refute_chain(parse(text), dims=4) is not None


def test_no_disjunct_alone_is_refuted_by_an_interval_but_the_program_refutes_them_together():
    statement = parse("min(rank(A), rank(B)) <= rank(A*B)")
    n = 2
    for a in range(n + 1):
        for b in range(a, n + 1):
            b_, a_ = realise({(a, b): 1}, n)
            assert min(rank(a_), rank(b_)) <= rank(multiply(a_, b_))
    assert refute_chain(statement).size()[0] <= 6


def test_repeated_maps_and_cycles_are_no_chains():
    for text in ("rank(A*A) <= rank(A)", "rank(A*B) <= rank(B*A)", "rank(A*B) <= rank(A*C)",
                 "rank(A+B) <= 1", "rank(I - A) <= 1"):  # fmt: skip
        assert read_chain(parse(text)) is None, text
    assert read_chain(parse("rank(A*B) <= rank(C*D)")).paths == (("D", "C"), ("B", "A"))


def test_a_changed_multiplier_is_refused():
    statement = parse("rank(A*B) + rank(B*C) <= rank(B) + rank(A*B*C)")
    proof = [(0, ("C", "B", "A"), {(1, 2): Fraction(1)})]
    check(chain_certificate(statement, proof))
    for wrong in ({(1, 2): Fraction(2)}, {(1, 1): Fraction(1)}, {}):
        with pytest.raises(ValueError, match="refused"):
            check(chain_certificate(statement, [(0, ("C", "B", "A"), wrong)]))
