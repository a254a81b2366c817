"""The mutation corpus: false statements one token away from the rows, and what the prover says."""

import random
from collections import Counter
from functools import cache

import pytest

from tests.theory.fuzz import Draw, idempotent, matrix, nilpotent, sized
from tests.theory.oracle import Misfit, Sized, holds
from theory.catalogue import CATALOGUE
from theory.mutations import CORNERS, MUTATIONS, RATIONAL, RECTANGULAR, Mutation
from theory.notions import parse_notion
from theory.prover import Verdict, prove
from theory.statements import parse

EXACT = [m for m in MUTATIONS if m.notion == "exact"]
SECONDS = 20.0  # generous: on a busy machine a refutation that takes 0.1 s may take seconds


@cache
def verdict(mutation: Mutation) -> Verdict:
    return prove(
        mutation.text,
        given=mutation.given,
        notion=parse_notion(mutation.notion),
        timeout=SECONDS,
    )


def spell(mutation: Mutation) -> str:
    return " given ".join((mutation.text, *mutation.given))


def replays(text: str, given: tuple[str, ...], witness: dict) -> bool:
    """Whether a witness satisfies the hypotheses and not the statement, by the oracle."""
    found = sized(witness["matrices"])
    return all(holds(h, found) for h in given) and not holds(text, found)


def test_the_corpus_is_large_varied_and_one_token_from_rows():
    assert len(MUTATIONS) >= 60
    assert len(EXACT) >= 60
    kinds = Counter(m.kind for m in MUTATIONS)
    for kind in ("flipped sign", "swapped order", "dropped term", "missing hypothesis",
                 "wrong notion"):  # fmt: skip
        assert any(k.startswith(kind) for k in kinds), kinds
    rows = {row.id for row in CATALOGUE if row.statements}
    assert {m.row for m in MUTATIONS} == rows, "every row with text has a mutation"
    true = {(s, row.given) for row in CATALOGUE if row.status != "R" for s in row.statements}
    assert not [m for m in EXACT if (m.text, m.given) in true]


@pytest.mark.parametrize("mutation", EXACT, ids=spell)
def test_every_mutation_is_really_false(mutation):
    """An independent search by the oracle finds matrices: the corpus itself is not mistaken."""
    assert find(mutation.text, mutation.given) is not None


def find(text: str, given: tuple[str, ...], tries: int = 20_000) -> dict[str, Sized] | None:
    """Random small matrices that satisfy the hypotheses and violate the statement."""
    rng = random.Random(11)
    shapes = parse(text, given).matrices
    symbols = sorted({str(s) for pair in shapes.values() for s in pair if not str(s).isdigit()})
    for _ in range(tries):
        dims = {s: rng.randint(1, 3) for s in symbols}
        if rng.random() < 0.5:
            dims = dict.fromkeys(symbols, rng.randint(1, 3))
        sizes = {n: tuple(dims.get(str(s), 1) for s in pair) for n, pair in shapes.items()}
        special = (matrix, matrix, lambda r, n, _c: idempotent(r, n),
                   lambda r, n, _c: nilpotent(r, n))  # fmt: skip
        found = {
            n: (rng.choice(special) if r == c else matrix)(rng, r, c) for n, (r, c) in sizes.items()
        }
        try:
            if all(holds(h, found) for h in given) and not holds(text, found):
                return found
        except Misfit:
            continue
    return None


@pytest.mark.parametrize("mutation", [*MUTATIONS, *CORNERS], ids=spell)
def test_no_mutation_is_proved_and_each_witness_replays(mutation):
    result = verdict(mutation)
    assert result.kind != "PROVED", result
    if result.kind == "REFUTED" and mutation.notion == "exact":
        assert replays(mutation.text, mutation.given, result.witness), result.witness


def test_at_least_fifty_five_mutations_are_refuted_with_a_witness():
    refuted = [m for m in MUTATIONS if verdict(m).kind == "REFUTED" and verdict(m).witness]
    left = [spell(m) for m in MUTATIONS if verdict(m).kind != "REFUTED"]
    assert len(refuted) >= 55, left
    # all of the exact ones: a witness with dimensions up to 3 exists for each (see above)
    open_exact = [m for m in EXACT if verdict(m).kind != "REFUTED"]
    assert not open_exact, [spell(m) for m in open_exact]


@pytest.mark.parametrize("corner", CORNERS, ids=spell)
def test_statements_false_only_in_a_corner_are_refuted(corner):
    result = verdict(corner)
    assert result.kind == "REFUTED", result
    found = sized(result.witness["matrices"])
    if corner.kind == RECTANGULAR:
        assert any(m.rows != m.cols for m in found.values())
    if corner.kind == RATIONAL:
        entries = [x for m in found.values() for row in m.entries for x in row]
        assert any(x.denominator != 1 for x in entries)


def test_corners_need_their_corner():
    """The rectangular ones are true for square matrices: their name is deserved."""
    rng = random.Random(5)
    for corner in CORNERS:
        if corner.kind != RECTANGULAR:
            continue
        names = parse(corner.text, corner.given).matrices
        for _ in range(100):
            n = rng.randint(1, 3)
            found = {name: matrix(rng, n, n) for name in names}
            assert holds(corner.text, found), (corner, found)


def test_the_oracle_bites():
    """A true row refutes the finder, a false one does not."""
    assert find("rank(A*B) <= rank(A)", (), tries=300) is None
    assert find("rank(A*B) >= rank(A)", (), tries=300) is not None
    assert Draw("rank(A) >= 0", (), {"A": ("n", "n")}).given == ()
