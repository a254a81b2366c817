"""Parsing and typing of matrix expressions, held by an oracle that reads the text another way."""

import random

import pytest
import sympy as sp

from tests.theory.fuzz import Writer
from tests.theory.oracle import Sized, holds
from theory.errors import InputError
from theory.evaluate import bind, substitute
from theory.expressions import to_text
from theory.grammar import ParseError, parse_tree
from theory.rational import matrix, rank
from theory.statements import parse


def expression(text: str) -> sp.MatrixExpr:
    """The SymPy expression inside ``rank(text)``."""
    return parse(f"rank({text}) >= 0").goal[0][0].form.ranks[0][1]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("A", sp.MatrixSymbol),
        ("A*B", sp.MatMul),
        ("A + B", sp.MatAdd),
        ("A - 1/2*B", sp.MatAdd),
        ("A.T", sp.Transpose),
        ("A^3", sp.MatPow),
        ("vstack(A, B)", sp.BlockMatrix),
        ("hstack(A, B, C)", sp.BlockMatrix),
        ("blockdiag(A, B)", sp.BlockMatrix),
        ("kron(A, B)", sp.matrices.expressions.kronecker.KroneckerProduct),
        ("(I + G1)*(I + G2)*U.T", sp.MatMul),
        ("A*(B - C)^2 + D", sp.MatAdd),
    ],
)
def test_text_reads_as_sympy_and_prints_back(text, kind):
    found = expression(text)
    assert isinstance(found, kind)
    again = expression(to_text(found))
    assert again == found
    assert again.shape == found.shape


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("A*B*C", ("p", "m")),
        ("vstack(A, B)", ("a+b", "n")),
        ("hstack(A, B)", ("n", "a+b")),
        ("kron(A, B)", ("a*b", "c*d")),
        ("blockdiag(A, B)", ("a+b", "c+d")),
        ("I + A*B", ("n", "n")),
        ("A.T*A", ("n", "n")),
    ],
)
def test_dimensions_are_inferred(text, shape):
    """Each letter of the expected shape stands for one dimension; equal letters are equal ones."""
    rows, cols = expression(text).shape
    names: dict[sp.Symbol, str] = {}
    for found, wanted in zip((rows, cols), shape, strict=True):
        symbols = sorted(sp.sympify(found).free_symbols, key=str)
        letters = sorted(set(wanted) - set("+*"))
        assert len(symbols) == len(letters), (found, wanted)
        assert isinstance(found, {"+": sp.Add, "*": sp.Mul}.get(wanted[1:2], sp.Symbol))
        if len(letters) == 1:
            names[symbols[0]] = letters[0]
    assert len(set(names.values())) == len(names), names


def test_sizes_of_identity_and_zero_come_from_their_neighbours():
    found = parse("rank(vstack(A, I) - vstack(O, B)) <= rows(A) + cols(A)")
    a, b = found.matrices["A"], found.matrices["B"]
    assert a[1] == b[0] == b[1]


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("rank(A*B", 8, "expected ')'"),
        ("rank(A) <= ", 10, "found 'the end'"),
        ("rank(A) $ 1", 8, "unexpected character '$'"),
        ("rank(A) <= rank(B) <= 1", 19, "unexpected '<='"),
        ("foo(A) <= 1", 0, "unknown function 'foo'"),
        ("rank(A)*rank(B) <= 1", 7, "linear"),
        ("A <= B", 2, "compared with =="),
        ("A == B", 2, "hypothesis"),
        ("rank(n) <= 1", 5, "matrix is needed"),
        ("rank(A) <= B", 11, "compared with a matrix"),
        ("rank(A) + B <= 1", 8, "compared with a matrix"),
        ("rank(A^n) <= 1", 7, "exponent"),
        ("rank(A) <= 1/0", 11, "division by zero"),
        ("rank(A, B) <= 1", 0, "rank takes 1 argument"),
        ("__import__('os')", 0, "unexpected character"),
        ("rank(A.shape) <= 1", 6, "unexpected character"),
        ("", 0, "found 'the end'"),
    ],
)
def test_a_caret_stands_under_the_error(text, at, says):
    with pytest.raises(ParseError) as error:
        parse(text)
    message, shown, caret = str(error.value).split("\n")
    assert says in message
    assert shown == f"  {text}"
    assert caret == " " * (2 + at) + "^"


def test_a_mismatch_shows_both_shapes():
    with pytest.raises(InputError) as error:
        parse("rank(A + vstack(A, A)) <= 1")
    first = str(error.value).split("\n")[0]
    assert "columns" not in first
    assert " x " in first
    assert " and " in first
    assert "+" in first


def test_nesting_is_bounded():
    deep = "(" * 300 + "A" + ")" * 300
    with pytest.raises(InputError, match="nested"):
        parse(f"rank({deep}) <= 1")


def test_nothing_but_the_grammar_is_read():
    """Python that is no grammar is refused by the parser, whatever it would do."""
    for text in (
        "rank((lambda: A)()) <= 1",
        "rank(A) <= [1][0]",
        "rank(A); import os",
        "`ls` <= 1",
    ):
        with pytest.raises(ParseError):
            parse_tree(text)


def test_values_agree_with_an_oracle_that_reads_the_text_by_itself():
    """Random expressions: the rank by our tree and elimination is the oracle's rank, else it fails."""
    rng, wrong = random.Random(5), 0
    for _ in range(150):
        writer = Writer(rng)
        text = writer.expression(writer.kind(), 2)
        sizes = {d: rng.randint(1, 3) for d in writer.dims}
        given = {}
        for name, (r, c) in writer.used.items():
            entries = [
                [rng.choice((-1, 0, 0, 1, 2)) for _ in range(sizes[c])] for _ in range(sizes[r])
            ]
            given[name] = matrix(sizes[r], sizes[c], entries)
        statement = parse(f"rank({text}) >= 0")
        term = expression(text)
        values = bind(statement, {n: (m.rows, m.cols) for n, m in given.items()}, {})
        ours = rank(substitute(term, given, values))
        oracle = {n: Sized(m.rows, m.cols, m.entries) for n, m in given.items()}
        assert holds(f"rank({text}) == {ours}", oracle), text
        wrong += not holds(f"rank({text}) == {ours + 1}", oracle)
    assert wrong == 150
