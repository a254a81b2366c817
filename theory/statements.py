"""Statements: linear inequalities between ranks and dimensions, their hypotheses and their notion.

The normal form that the provers use: ``goal`` is a conjunction of disjunctions (``min`` and ``max`` are
expanded) of inequalities ``form >= 0``; hypotheses are such inequalities and matrix equations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

import sympy as sp

from theory.errors import InputError
from theory.expressions import Rank, Typer, is_matrix, scalar_symbol, scalar_value, to_text
from theory.grammar import Node, ParseError, parse_tree
from theory.notions import EXACT, Notion, parse_notion

_ALTERNATIVES = 20_000


@dataclass(frozen=True)
class LinearForm:
    """``sum(c * term) + constant``; a matrix expression stands for its rank, a symbol for a dimension."""

    terms: tuple[tuple[Fraction, sp.MatrixExpr | sp.Expr], ...]
    constant: Fraction

    @property
    def ranks(self) -> tuple[tuple[Fraction, sp.MatrixExpr], ...]:
        """The matrices whose ranks occur, with their coefficients."""
        return tuple((c, t) for c, t in self.terms if isinstance(t, sp.MatrixExpr))

    @property
    def dims(self) -> tuple[tuple[Fraction, sp.Expr], ...]:
        """The dimensions that occur (products of symbols for Kronecker shapes), with coefficients."""
        return tuple((c, t) for c, t in self.terms if not isinstance(t, sp.MatrixExpr))

    def __str__(self) -> str:
        out = ""
        for c, term in self.terms:
            name = f"rank({to_text(term)})" if isinstance(term, sp.MatrixExpr) else str(term)
            size = "" if abs(c) == 1 else f"{abs(c)}*"
            sign = (" - " if c < 0 else " + ") if out else ("-" if c < 0 else "")
            out += f"{sign}{size}{name}"
        if self.constant or not out:
            sign = (
                (" - " if self.constant < 0 else " + ") if out else "-" if self.constant < 0 else ""
            )
            out += f"{sign}{abs(self.constant)}"
        return out


@dataclass(frozen=True)
class Inequality:
    """``form >= 0`` over the integers (strict ones are written ``form - 1 >= 0``)."""

    form: LinearForm

    def __str__(self) -> str:
        return f"{self.form} >= 0"


Clause = tuple[Inequality, ...]


@dataclass(frozen=True)
class Statement:
    """A rank statement in normal form.

    Attributes:
        text: the statement as written.
        given: its hypotheses as written.
        notion: the rank notion it speaks of.
        matrices: matrix name -> (rows, columns), SymPy expressions in ``dimensions``.
        dimensions: free dimension symbols and integer constants, all non-negative.
        goal: AND of ORs of inequalities.
        hypotheses: inequalities that are assumed (an OR of several where ``min``/``max`` occur).
        equations: matrix expressions that are assumed to be zero.
    """

    text: str
    given: tuple[str, ...]
    notion: Notion
    matrices: Mapping[str, tuple[sp.Expr, sp.Expr]]
    dimensions: tuple[sp.Symbol, ...]
    goal: tuple[Clause, ...]
    hypotheses: tuple[Clause, ...]
    equations: tuple[sp.MatrixExpr, ...]

    def __str__(self) -> str:
        return self.text + "".join(f" given {h}" for h in self.given)

    def __hash__(self) -> int:
        return hash((self.text, self.given, self.notion))

    def to_json(self) -> dict[str, Any]:
        """The statement as data; ``from_json`` reads it back."""
        shapes = {name: [str(r), str(c)] for name, (r, c) in self.matrices.items()}
        return {
            "text": self.text,
            "given": list(self.given),
            "notion": str(self.notion),
            "shapes": shapes,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any] | str) -> Statement:
        """Read a statement from ``to_json``.

        Raises:
            InputError: the data is no statement.
        """
        try:
            loaded = json.loads(data) if isinstance(data, str) else data
            text, given, notion = (
                loaded["text"],
                loaded.get("given", ()),
                loaded.get("notion", "exact"),
            )
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not a statement: {str(data)[:80]!r} ({error})") from error
        return parse(text, given, parse_notion(notion))

    def to_latex(self) -> str:
        """The statement in LaTeX, hypotheses after a comma."""
        from theory.latex import latex_text

        return latex_text(self.text, self.given)


def parse(text: str, given: Sequence[str] = (), notion: Notion = EXACT) -> Statement:
    """Read a statement and its hypotheses.

    Args:
        text: for example ``rank(A*B) <= rank(B)``.
        given: hypotheses such as ``A*B == 0`` or ``rank(A) <= 5``.
        notion: the rank notion that the statement speaks of.

    Returns:
        The statement in normal form, with dimensions inferred.

    Raises:
        InputError: the text does not parse (a caret shows where) or shapes do not fit (both are shown).
    """
    texts = [text, *given]
    trees = [parse_tree(t) for t in texts]
    typer = Typer()
    typer.scalars = sorted({n for tree in trees for n in _scalar_names(tree)})
    for tree, t in zip(trees, texts, strict=True):
        _shapes(tree, t, typer)
    if is_matrix(trees[0]):
        raise ParseError(
            text, trees[0].place, "a statement compares ranks; a matrix equation is a hypothesis"
        )
    goal = tuple(_clauses(trees[0], text, typer))
    hypotheses: list[Clause] = []
    equations: list[sp.MatrixExpr] = []
    for tree, t in zip(trees[1:], texts[1:], strict=True):
        if is_matrix(tree):
            left, right = (typer.matrix(p, t) for p in tree.parts)
            equations.append(left if right.is_ZeroMatrix else left - right)
        else:
            hypotheses.extend(_clauses(tree, t, typer))
    matrices = {name: (typer.dim(s[0]), typer.dim(s[1])) for name, s in typer.shapes.items()}
    forms = [i.form for c in (*goal, *hypotheses) for i in c]
    symbols: set[sp.Symbol] = {
        s for pair in matrices.values() for d in pair for s in d.free_symbols
    }
    for form in forms:
        for _, term in form.terms:
            shape = term.shape if isinstance(term, sp.MatrixExpr) else (term,)
            symbols |= {s for d in shape for s in sp.sympify(d).free_symbols}
    return Statement(
        text, tuple(given), notion, matrices, tuple(sorted(symbols, key=str)),
        goal, tuple(hypotheses), tuple(equations),
    )  # fmt: skip


def _scalar_names(node: Node) -> set[str]:
    if node.kind == "name":
        return set() if node.value[0].isupper() else {node.value}
    return {name for p in node.parts for name in _scalar_names(p)}


def _shapes(node: Node, text: str, typer: Typer) -> None:
    """Infer the shapes of every matrix in a statement."""
    if node.kind in ("<=", ">=", "==", "<", ">") and is_matrix(node):
        for one, other in (node.parts, node.parts[::-1]):
            if not is_matrix(one) and (node.kind != "==" or scalar_value(one) != 0):
                what = "a number is compared with a matrix: write rank(...)"
                raise ParseError(text, other.place, what)
        if node.kind != "==":
            raise ParseError(
                text, node.place, "matrices are compared with ==, ranks with <= and >="
            )
        left, right = (typer.shape(p, text) for p in node.parts)
        typer.equate_shapes(left, right, node, text)
    elif node.kind in ("rank", "rows", "cols"):
        typer.shape(node.parts[0], text)
    elif is_matrix(node):
        raise ParseError(text, node.place, "a number is needed here, not a matrix: write rank(...)")
    else:
        for part in node.parts:
            _shapes(part, text, typer)


Form = dict[sp.Expr, Fraction]


def _clauses(node: Node, text: str, typer: Typer) -> list[Clause]:
    """A relation as AND of ORs of inequalities."""
    left, right = node.parts
    if node.kind == "==":
        two = [Node(k, node.parts, "", node.place) for k in ("<=", ">=")]
        return [c for n in two for c in _clauses(n, text, typer)]
    if node.kind in ("<=", "<"):
        left, right = right, left
    slack = Fraction(-1) if node.kind in ("<", ">") else Fraction(0)
    difference = Node("-", (left, right), "", node.place)
    # the value is an AND of ORs over which of its alternatives is taken: min is an AND, max an OR
    out = []
    for options in _alternatives(difference, text, typer):
        clause = []
        for form in options:
            total = dict(form)
            total[sp.S.One] = total.get(sp.S.One, Fraction(0)) + slack
            clause.append(Inequality(_linear(total, integral=node.kind in ("<", ">"), text=text)))
        out.append(tuple(clause))
    return out


def _linear(form: Form, *, integral: bool, text: str) -> LinearForm:
    constant = form.pop(sp.S.One, Fraction(0))
    terms = tuple((c, t.matrix if isinstance(t, Rank) else t) for t, c in form.items() if c)
    if integral and any(c.denominator != 1 for c, _ in terms):
        raise InputError(f"{text}: < and > need integer coefficients; use <= and >= with fractions")
    return LinearForm(terms, constant)


def _alternatives(
    node: Node, text: str, typer: Typer, times: Fraction = Fraction(1)
) -> list[list[Form]]:
    """``times * node >= 0`` as AND (outer) of ORs (inner) of forms; a sign swaps min and max."""
    kind, parts = node.kind, node.parts
    if kind == "neg":
        return _alternatives(parts[0], text, typer, -times)
    if kind in ("+", "-"):
        a = _alternatives(parts[0], text, typer, times)
        b = _alternatives(parts[1], text, typer, times if kind == "+" else -times)
        if len(a) * len(b) * max(map(len, a)) * max(map(len, b)) > _ALTERNATIVES:
            raise ParseError(text, node.place, "too many combinations of min and max")
        return [[_sum(f, g) for f, g in product(x, y)] for x, y in product(a, b)]
    if kind in ("min", "max"):
        options = [_alternatives(p, text, typer, times) for p in parts]
        if (kind == "min") == (times >= 0):
            return [clause for o in options for clause in o]
        return [[f for clause in choice for f in clause] for choice in product(*options)]
    if kind == "*":
        one, other = parts
        value = scalar_value(one)
        if value is None:
            value, other = scalar_value(other), one
        if value is None:
            raise ParseError(text, node.place, "statements are linear: one factor must be a number")
        return _alternatives(other, text, typer, times * value)
    return [[{t: times * c for t, c in _atom(node, text, typer).items()}]]


def _atom(node: Node, text: str, typer: Typer) -> Form:
    kind, sign = node.kind, Fraction(1)
    if kind == "number":
        return {sp.S.One: Fraction(node.value)}
    if kind == "name":
        return {scalar_symbol(node.value): sign}
    if kind == "rank":
        matrix = _without_scalar(typer.matrix(node.parts[0], text))
        return {} if matrix.is_ZeroMatrix else {Rank(matrix): sign}
    if kind in ("rows", "cols"):
        shape = typer.shape(node.parts[0], text)
        return _dimension(typer.dim(shape[0 if kind == "rows" else 1]))
    raise ParseError(text, node.place, f"{kind} is not allowed in a statement about ranks here")


def _without_scalar(matrix: sp.MatrixExpr) -> sp.MatrixExpr:
    """``M`` for ``c M``, c a non-zero number: they have the same rank over the reals."""
    if not isinstance(matrix, sp.MatMul) or isinstance(matrix.args[0], sp.MatrixExpr):
        return matrix
    c, *rest = matrix.args
    if c == 0:
        return sp.ZeroMatrix(*matrix.shape)
    return _without_scalar(rest[0] if len(rest) == 1 else sp.MatMul(*rest))


def _dimension(expr: sp.Expr) -> Form:
    out: Form = {}
    for term in sp.Add.make_args(sp.expand(expr)):
        c, rest = term.as_coeff_Mul()
        key = sp.S.One if rest == 1 else rest
        out[key] = out.get(key, Fraction(0)) + Fraction(int(c.p), int(c.q))
    return out


def _sum(f: Form, g: Form) -> Form:
    out = dict(f)
    for term, c in g.items():
        out[term] = out.get(term, Fraction(0)) + c
    return out
