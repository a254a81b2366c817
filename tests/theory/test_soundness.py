"""Soundness fuzz: nothing false is proved, every witness replays, by an independent oracle."""

import random
from collections import Counter

import pytest

from tests.theory.fuzz import Draw, matrices, sized, statement
from tests.theory.oracle import holds
from theory.certificates import check
from theory.evaluate import evaluate
from theory.prover import prove
from theory.statements import parse

TRIALS = 40  # random matrices against each proved statement; false ones fall within 5 on average


def examine(draw: Draw, rng: random.Random, seconds: float) -> str:
    """Prove one statement and hold the answer against exact matrices.

    Returns:
        The verdict's kind; ``true?`` in front when no matrices violate an open statement.
    """
    result = prove(draw.text, given=draw.given, timeout=seconds)
    broken = None
    parsed = parse(draw.text, draw.given)
    for _ in range(TRIALS):
        found = matrices(rng, draw)
        assert all(holds(h, found) for h in draw.given), "the generator respects hypotheses"
        good = holds(draw.text, found)
        seen = evaluate(parsed, {n: m.entries for n, m in found.items()})
        assert seen.holds == good, (draw, {n: m.entries for n, m in found.items()})
        if not good:
            broken = {n: m.entries for n, m in found.items()}
            break
    if result.kind == "PROVED":
        assert broken is None, f"UNSOUND: {draw} is violated by {broken}"
        check(result.certificate)
    if result.kind == "REFUTED":
        witness = sized(result.witness["matrices"])
        assert all(holds(h, witness) for h in draw.given), (draw, result.witness)
        assert not holds(draw.text, witness), (draw, result.witness)
    if result.kind in ("UNKNOWN", "UNSUPPORTED"):
        assert result.reason
    return result.kind


def fuzz(seed: int, count: int, seconds: float) -> Counter:
    rng = random.Random(seed)
    return Counter(examine(statement(rng), rng, seconds) for _ in range(count))


def test_a_few_hundred_random_statements():
    kinds = fuzz(seed=1, count=220, seconds=0.5)  # open ones cost their whole timeout
    # both kinds must occur in numbers, or the test says nothing
    assert kinds["PROVED"] > 50, kinds
    assert kinds["REFUTED"] > 50, kinds


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_thousands_of_random_statements(seed):
    kinds = fuzz(seed=seed, count=400, seconds=1.0)
    assert kinds["PROVED"] > 80, kinds
    assert kinds["REFUTED"] > 60, kinds


def test_the_fuzz_can_fail():
    """A prover that calls everything proved is caught by the matrices at once."""
    rng = random.Random(3)
    caught = 0
    for _ in range(60):
        draw = statement(rng)
        caught += any(not holds(draw.text, matrices(rng, draw)) for _ in range(TRIALS))
    assert caught >= 15, "at least a quarter of the statements are visibly false"
