"""The independent checker: exact arithmetic, no solver, nothing imported from the prover.

A certificate embeds its problem. A clause's proof is a list of instances, with multipliers, of rules
that hold for all matrices (``coq/rules.v`` proves them). They name block matrices whose cells are sums
of words; what they say of ranks must sum to the goal exactly, up to a non-negative constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from theory.errors import InputError

Word = tuple[str, ...]
Cells = dict[tuple[int, int, Word], Fraction]  # block row, block column, word -> coefficient
Form = dict[Any, Fraction]  # ranks by frozen matrix, dimensions by name, "" for the constant
INGLETON = {1: ("01", "02", "03", "12", "13"), -1: ("0", "1", "23", "012", "013")}  # block rows


class CertificateError(InputError):
    """The certificate does not prove the statement that it embeds."""


class Matrix(NamedTuple):
    """Heights of the block rows, widths of the block columns, cells."""

    rows: tuple[str, ...]
    cols: tuple[str, ...]
    cells: Cells


def _need(fact: bool, what: str) -> None:
    if not fact:
        raise CertificateError(f"the certificate is refused: {what}")


def collect(terms: Iterable[tuple[Any, Fraction]]) -> dict[Any, Fraction]:
    """Add up equal terms and drop the zero ones."""
    out: dict[Any, Fraction] = {}
    for key, c in terms:
        out[key] = out.get(key, Fraction(0)) + c
    return {key: c for key, c in out.items() if c}


def size(dims: Iterable[str], sign: int) -> list[tuple[Any, Fraction]]:
    """A sum of dimensions as terms of a form; numbers go to the constant."""
    return [("", Fraction(d) * sign) if d.isdigit() else (d, Fraction(sign)) for d in dims]


class Checker:
    """The maps, abbreviations and hypotheses of one problem."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.shapes = {name: (s[0], s[1]) for name, s in problem["maps"].items()}
        _need(all(map(str.isidentifier, self.shapes)), "the name of a map is not a name")
        self.lets: dict[str, dict[Word, Fraction]] = {}
        self.rules: list[tuple[Word, dict[Word, Fraction]]] = []
        for name, let in problem["lets"].items():
            _need(name not in self.shapes and "'" not in name, f"{name} is defined twice")
            one = {"rows": [let["rows"]], "cols": [let["cols"]], "cells": [[let["sum"]]]}
            self.lets[name] = {w: c for (_, _, w), c in self.matrix(one).cells.items()}
            self.shapes[name] = (let["rows"], let["cols"])
        for zero in map(self.matrix, problem["vanishing"]):
            cells = self.reduce(zero.cells)
            for at in {(i, j) for i, j, _ in cells}:  # each cell rewrites its greatest word
                cell = {w: c for (i, j, w), c in cells.items() if (i, j) == at}
                lead = max(cell, key=lambda w: (len(w), w))
                if lead:
                    rest = {w: -c / cell[lead] for w, c in cell.items() if w != lead}
                    self.rules.append((lead, rest))
        self.hypotheses = [self.form(h) for h in problem["hypotheses"]]

    def shape(self, letter: str) -> tuple[str, str]:
        """Height and width of a letter; ``A'`` is the transpose of ``A``."""
        name = letter.removesuffix("'")
        _need(name in self.shapes, f"unknown map {letter!r}")
        return self.shapes[name] if name == letter else self.shapes[name][::-1]

    def matrix(self, data: Mapping[str, Any]) -> Matrix:
        """Read a block matrix; the letters of a word must compose to the shape of its cell."""
        rows, cols, cells = tuple(data["rows"]), tuple(data["cols"]), {}
        _need(len(data["cells"]) == len(rows), "a matrix misses a row")
        for i, line in enumerate(data["cells"]):
            _need(len(line) == len(cols), "a matrix misses a column")
            for j, cell in enumerate(line):
                for text, c in cell.items():
                    at = rows[i]
                    for letter in text.split():
                        _need(self.shape(letter)[0] == at, f"{text!r} does not compose at {letter}")
                        at = self.shape(letter)[1]
                    _need(at == cols[j], f"{text!r} is not {rows[i]} x {cols[j]}")
                    cells[i, j, tuple(text.split())] = Fraction(c)
        return Matrix(rows, cols, cells)

    def reduce(self, cells: Cells) -> Cells:
        """Unfold abbreviations and rewrite by the matrix hypotheses, until nothing changes."""
        todo, done = list(cells.items()), []
        while todo:
            (i, j, word), c = todo.pop()
            own = [((x,), self.lets[x]) for x in word if x in self.lets]
            for lead, value in [*own, *self.rules]:
                n = len(lead)
                at = next((k for k in range(len(word) - n + 1) if word[k : k + n] == lead), None)
                if at is not None:
                    head, tail = word[:at], word[at + n :]
                    todo += [((i, j, head + w + tail), c * d) for w, d in value.items()]
                    break
            else:
                done.append(((i, j, word), c))
        return collect(done)

    def times(self, *factors: Matrix) -> Matrix:
        """A product."""
        a, *others = factors
        for b in others:
            _need(a.cols == b.rows, f"a product of {a[:2]} and {b[:2]}")
            pairs = [(x, y) for x in a.cells.items() for y in b.cells.items() if x[0][1] == y[0][0]]
            terms = (((i, j, u + v), c * d) for ((i, _, u), c), ((_, j, v), d) in pairs)
            a = Matrix(a.rows, b.cols, self.reduce(collect(terms)))
        return a

    def turn(self, a: Matrix) -> Matrix:
        """The transpose."""
        flip = {x: x + "'" for x in self.shapes} | {x + "'": x for x in self.shapes}
        cells = self.reduce(a.cells).items()
        turned = {(j, i, tuple(flip[x] for x in w[::-1])): c for (i, j, w), c in cells}
        return Matrix(a.cols, a.rows, turned)

    def some(self, m: Matrix, keep: str) -> Matrix:
        """Some block rows of a matrix, by number."""
        at = {int(k): n for n, k in enumerate(keep)}
        cells = {(at[i], j, w): c for (i, j, w), c in m.cells.items() if i in at}
        return Matrix(tuple(m.rows[i] for i in at), m.cols, cells)

    def rank(self, m: Matrix, c: Fraction | int = 1) -> list[tuple[Any, Fraction]]:
        """A term of a form: ``c`` times the rank of ``m``; equal matrices have equal keys."""
        return [((m.rows, m.cols, frozenset(self.reduce(m.cells).items())), Fraction(c))]

    def form(self, data: Mapping[str, Any]) -> Form:
        """A linear form of the problem."""
        ranks = [t for c, m in data["ranks"] for t in self.rank(self.matrix(m), Fraction(c))]
        return collect([*ranks, *((d, Fraction(c)) for d, c in data["dims"].items())])

    def step(self, data: Mapping[str, Any]) -> Form:
        """The inequality ``form >= 0`` of one step, its side conditions checked."""
        rule, r = data["rule"], self.rank
        if rule == "hypothesis":
            return dict(self.hypotheses[data["index"]])
        if rule == "dimension":  # a size is not negative
            return collect(size([data["name"]], 1))
        m = [self.matrix(x) for x in data["matrices"]]
        if rule == "frobenius":
            ends = r(self.times(*m[:2]), -1) + r(self.times(*m[1:]), -1)
            return collect(r(m[1]) + r(self.times(*m)) + ends)
        if rule == "product":
            return collect(r(m[1]) + r(self.times(*m), -1))
        if rule == "sum":
            _need(m[0][:2] == m[1][:2], "a sum of matrices of different shapes")
            both = collect([*m[0].cells.items(), *m[1].cells.items()])
            return collect(r(m[0]) + r(m[1]) + r(m[0]._replace(cells=both), -1))
        if rule == "transpose":
            return collect(r(m[0]) + r(self.turn(m[0]), -1))
        if rule in ("rows", "columns"):
            return collect(size(m[0].rows if rule == "rows" else m[0].cols, 1) + r(m[0], -1))
        if rule == "inverse":
            unit: Cells = {(i, i, ()): Fraction(1) for i in range(len(m[0].rows))}
            _need(r(self.times(m[0], m[1])) == r(Matrix(m[0].rows, m[0].rows, unit)), "no inverse")
            return collect(r(m[0]) + size(m[0].rows, -1))
        if rule in ("zero", "positive"):
            _need(rule == "positive" or not self.reduce(m[0].cells), "not a zero matrix")
            return collect(r(m[0], -1 if rule == "zero" else 1))
        if rule == "ingleton":  # of the four block rows of one matrix
            _need(len(m[0].rows) == 4, "Ingleton's inequality needs four block rows")
            return collect(
                t for c, ks in INGLETON.items() for k in ks for t in r(self.some(m[0], k), c)
            )
        raise CertificateError(f"the certificate is refused: unknown rule {rule!r}")


def check(certificate: Mapping[str, Any]) -> None:
    """Accept a certificate that proves its embedded problem, or raise a CertificateError."""
    try:
        checker, goal = Checker(certificate["problem"]), certificate["problem"]["goal"]
        _need(len(goal) == len(certificate["clauses"]) > 0, "a clause has no proof")
        for clause, proof in zip(goal, certificate["clauses"], strict=True):
            left = list(checker.form(clause[proof["disjunct"]]).items())
            for data in proof["steps"]:
                times = Fraction(data["times"])
                _need(times >= 0, f"a multiplier is negative: {times}")
                left += [(key, -times * c) for key, c in checker.step(data).items()]
            slack = (rest := collect(left)).pop("", Fraction(0))
            over = f"{len(rest)} terms and {slack} left over"
            _need(not rest and slack >= 0, f"the steps do not sum to the goal: {over}")
    except CertificateError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CertificateError(f"the certificate is malformed: {error!r}") from error
