"""The DAG prover proves what is true and known, and nothing that is false."""

from __future__ import annotations

import random
import time
from fractions import Fraction

import pytest

from theory.blocks import Algebra, Block, add, from_json, identity, multiply, to_json, transpose
from theory.catalogue import CATALOGUE
from theory.certificates import check
from theory.errors import UnsupportedError
from theory.growth import grow
from theory.polymatroid import prove_dag
from theory.pool import RULES, Pool, step
from theory.problem import problem
from theory.statements import parse

ISSUE = [
    ("rank((I+G)*(I+H)) >= rows(G)-rank(G)-rank(H)", ()),
    (
        "rank((I+G1)*(I+G2)*(I+G3)*(I+G4)*(I+G5)*(I+G6)*(I+G7)) >= rows(G1)-rank(G1)-rank(G2)"
        "-rank(G3)-rank(G4)-rank(G5)-rank(G6)-rank(G7)",
        (),
    ),
    ("rank(A*B-I) <= rank(A-I)+rank(B-I)", ()),
    ("rank(A*D-C*B) <= rank(A-C)+rank(D-B)", ()),
    ("rank(A)+rank(I-A) == rows(A)", ("A*A == A",)),
    ("rank(A+B) >= rank(hstack(A, B)) + rank(vstack(A, B)) - rank(A) - rank(B)", ()),
    ("rank(A^3)+rank(A) >= 2*rank(A^2)", ()),
    ("rank((I+G)*(I+H)*U*V) >= rank(U*V)-rank(G)-rank(H)", ()),
    ("rank((I+G)*(I+H)*U*V) <= cols(U)", ()),
]
#: true of ranks, and no consequence of Shannon's inequalities (Ingleton 1971)
INGLETON = (
    "rank(vstack(A, B)) + rank(vstack(A, C)) + rank(vstack(A, D)) + rank(vstack(B, C))"
    " + rank(vstack(B, D)) >= rank(A) + rank(B) + rank(vstack(C, D)) + rank(vstack(A, B, C))"
    " + rank(vstack(A, B, D))"
)
BEYOND = [
    (INGLETON, ()),
    ("rank(vstack(A, B)) + rank(vstack(B, C)) >= rank(vstack(A, B, C)) + rank(B)", ()),
    ("rank(blockdiag(A, B, C)) == rank(A) + rank(B) + rank(C)", ()),
    ("rank(A+A) == rank(A)", ()),
    ("rank(A.T*B) <= rank(A)", ()),
    ("rank(A) == rank(A.T)", ()),
    ("rank(A*B) == rank(B)", ("C*A == I",)),
    ("rank(A) <= 3", ("rank(B) <= 3", "A == B*C")),
    ("rank(hstack(A, B)*C) <= rank(C)", ()),
    ("rank(A*C+B*D) <= rank(vstack(C, D))", ()),
    ("rank((A+B)*C) <= rank(A*C) + rank(B*C)", ()),
    ("rank(hstack(A, B)*vstack(C, D)) <= rank(A*C) + rank(B*D)", ()),
]
K_ROWS = [(text, e.given) for e in CATALOGUE if e.status.startswith("K") for text in e.statements]

#: each is one token away from a true one
FALSE = [
    ("rank((I+G)*(I+H)) >= rows(G)-rank(G)", ()),
    ("rank(A*B-I) <= rank(A-I)+rank(B)", ()),
    ("rank(A*D-C*B) <= rank(A-C)+rank(D+B)", ()),
    ("rank(A)+rank(I-A) == rows(A)", ()),
    ("rank(A)+rank(I-A) == rows(A)", ("A*A*A == A",)),
    ("rank(A)+rank(I-A) == rows(A)", ("A*A == I",)),
    ("rank(A+B) >= rank(hstack(A, B)) + rank(vstack(A, B)) - rank(A)", ()),
    (INGLETON.replace("+ rank(vstack(B, C))", ""), ()),
    (INGLETON + " + rank(C)", ()),
    ("rank(A^3)+rank(A) <= 2*rank(A^2)", ()),
    ("rank((I+G)*(I+H)*U*V) <= cols(U)-1", ()),
    ("rank(vstack(A, B)) + rank(vstack(B, C)) <= rank(vstack(A, B, C)) + rank(B)", ()),
    ("rank(blockdiag(A, B, C)) <= rank(A) + rank(B)", ()),
    ("rank(A*B) == rank(B)", ("A*C == I",)),
    ("rank(F) - rank(J*F) == rank(F) + rank(K) - rank(hstack(F, K))", ("J*K == 0",)),
    ("rank(A*B) <= rank(B*A)", ()),
    ("rank(A.T*B) == rank(A*B)", ()),
]


@pytest.mark.parametrize(("text", "given"), [*ISSUE, *BEYOND])
def test_proved_with_a_certificate(text, given):
    certificate = prove_dag(parse(text, given), 60)
    assert certificate is not None
    check(certificate)


@pytest.mark.parametrize("weight", ["1/10007", "99991/10007"])
def test_multipliers_that_rounding_does_not_reach_are_solved_for_exactly(weight):
    """The program's solution is rounded to denominators of 5040; a prime above needs elimination."""
    text = (
        f"rank(C-D) + {weight}*rank(A+B) <= rank(C) + rank(D) + {weight}*rank(A) + {weight}*rank(B)"
    )
    certificate = prove_dag(parse(text), 60)
    check(certificate)
    times = [Fraction(s["times"]) for clause in certificate["clauses"] for s in clause["steps"]]
    assert {Fraction(weight), Fraction(1)} <= set(times)


def test_a_sum_that_only_rounding_makes_equal_proves_nothing():
    """False by less than the program's tolerance: exact arithmetic has the last word."""
    text = "rank(A+B) <= 999999999999/1000000000000*rank(A) + rank(B)"
    assert prove_dag(parse(text), 60) is None


def test_every_k_row_is_proved():
    for text, given in K_ROWS:
        certificate = prove_dag(parse(text, given), 60)
        assert certificate is not None, text
        check(certificate)


@pytest.mark.parametrize(("text", "given"), FALSE)
def test_false_statements_are_never_proved(text, given):
    assert prove_dag(parse(text, given), 60) is None


def test_kronecker_is_unsupported():
    with pytest.raises(UnsupportedError, match="Kronecker"):
        prove_dag(parse("rank(kron(A, B)) <= rank(A)"), 1)


# ---- the rules, on random exact matrices ---------------------------------------------------
def _matrix(rng, rows, cols):
    """A small matrix of small rank: the product of two random factors."""
    r = rng.randint(0, min(rows, cols))
    a = [[rng.randint(-1, 1) for _ in range(r)] for _ in range(rows)]
    b = [[rng.randint(-1, 1) for _ in range(cols)] for _ in range(r)]
    return [
        [Fraction(sum(a[i][k] * b[k][j] for k in range(r))) for j in range(cols)]
        for i in range(rows)
    ]


def _rank(m):
    m, rank = [row[:] for row in m], 0
    for j in range(len(m[0]) if m else 0):
        pivot = next((i for i in range(rank, len(m)) if m[i][j]), None)
        if pivot is None:
            continue
        m[rank], m[pivot] = m[pivot], m[rank]
        for i in range(rank + 1, len(m)):
            f = m[i][j] / m[rank][j]
            m[i] = [x - f * y for x, y in zip(m[i], m[rank], strict=True)]
        rank += 1
    return rank


def _value(block, maps, dims):
    """A block as one explicit matrix: the oracle for block arithmetic."""
    out = []
    for height, row in zip(block.rows, block.cells, strict=True):
        parts = []
        for width, cell in zip(block.cols, row, strict=True):
            total = [[Fraction(0)] * dims[width] for _ in range(dims[height])]
            for word, c in cell.items():
                m = [[Fraction(i == j) for j in range(dims[width])] for i in range(dims[width])]
                for letter in reversed(word):
                    a = maps[letter.removesuffix("'")]
                    a = [list(x) for x in zip(*a, strict=True)] if letter.endswith("'") else a
                    m = [
                        [
                            sum(x * y for x, y in zip(r, col, strict=True))
                            for col in zip(*m, strict=True)
                        ]
                        for r in a
                    ]
                total = [
                    [x + c * y for x, y in zip(r, s, strict=True)]
                    for r, s in zip(total, m, strict=True)
                ]
            parts.append(total)
        out += [[x for p in parts for x in p[i]] for i in range(dims[height])]
    return out


@pytest.mark.parametrize("seed", range(6))
def test_every_inequality_of_a_pool_holds_on_random_matrices(seed):
    rng = random.Random(seed)
    text = [
        "rank(A*B*C) >= rank(hstack(A, D)) + rank(vstack(B, E))",
        "rank((I+G)*(I+H)*C) >= rank(G) + rank(G*H-I)",
        "rank(blockdiag(A, B)) <= rank(A.T*D)",
    ][seed % 3]
    p = problem(parse(text))
    pool = Pool(p.algebra, limit=60, transposes="T" in text)
    for block, _ in p.goal[0][0].ranks:
        pool.term(block)
    for _ in range(2):
        grow(pool, time.monotonic() + 5)
        pool.frobenius(freely=True)
    assert len(pool.rows) > 30
    for trial in range(3):
        dims = {d: rng.randint(1, 3) for s in p.algebra.shapes.values() for d in s}
        maps = {n: _matrix(rng, dims[h], dims[w]) for n, (h, w) in p.maps.items()}
        for row in pool.rows:
            value = sum(c * (dims[d] if d else 1) for d, c in row.dims.items())
            for block, c in row.step.ranks:
                value += c * _rank(_value(p.algebra.unfold(block), maps, dims))
            assert value >= 0, (trial, row.step.rule, maps)


def test_each_rule_named_in_the_pool_is_known_to_the_checker():
    one = identity(("n",))
    for rule in set(RULES) - {"hypothesis", "dimension", "ingleton"}:
        assert step(rule, one, one, one).rule == rule
    assert step("ingleton", identity(("n", "m", "p", "q"))).rule == "ingleton"
    with pytest.raises(UnsupportedError):
        step("wishful", one)


# ---- block arithmetic ----------------------------------------------------------------------
def _poly(*words):
    return {tuple(w.split()): Fraction(1) for w in words}


def test_abbreviations_and_hypotheses_make_blocks_equal():
    algebra = Algebra({"G": ("n", "n"), "P": ("n", "n")})
    s = algebra.letter(_poly("", "G"), "n", "n")
    folded = Block(("n",), ("n",), ((_poly(f"{s} {s}"),),))
    plain = Block(
        ("n",), ("n",), (({(): Fraction(1), ("G",): Fraction(2), ("G", "G"): Fraction(1)},),)
    )
    assert algebra.key(folded) == algebra.key(plain)
    square = Block(("n",), ("n",), ((_poly("P P P"),),))
    single = Block(("n",), ("n",), ((_poly("P"),),))
    assert algebra.key(square) != algebra.key(single)
    algebra.equate(add(multiply(single, single), single, -1))
    assert algebra.key(square) == algebra.key(single)


def test_block_arithmetic_refuses_what_does_not_fit():
    a = Block(("m",), ("n",), ((_poly("A"),),))
    for wrong in (lambda: add(a, transpose(a)), lambda: multiply(a, a)):
        with pytest.raises(UnsupportedError):
            wrong()


def test_blocks_round_trip_through_json():
    a = Block(("m", "n"), ("n",), (({("A", "B"): Fraction(-1, 2)},), (_poly("", "C"),)))
    again = from_json(to_json(a))
    assert (again.rows, again.cols, again.cells) == (a.rows, a.cols, a.cells)
    assert transpose(transpose(a)).cells == a.cells


def test_too_large_an_expansion_is_unsupported():
    product = "*".join(f"(I+G{k})" for k in range(1, 13))
    with pytest.raises(UnsupportedError, match="expands"):
        prove_dag(parse(f"rank({product}) <= rows(G1)"), 2)
