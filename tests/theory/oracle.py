"""An independent evaluator of statement texts on explicit matrices, exact over the rationals.

It shares no code with `theory.grammar` or `theory.evaluate`: texts are read by Python's own parser
(`ast`, never executed) and ranks come from plain elimination on Fractions. So a wrong precedence, a
wrong shape or a wrong rank over there shows here.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping, Sequence
from fractions import Fraction

Matrix = tuple[tuple[Fraction, ...], ...]
Value = object


class Sized:
    """A matrix with its shape (also with no rows or no columns)."""

    def __init__(self, rows: int, cols: int, entries: Sequence[Sequence[Fraction | int]]) -> None:
        self.rows, self.cols = rows, cols
        self.entries = [[Fraction(x) for x in row] for row in entries]


class Scale:
    """A multiple of the identity (or 0) whose size is not known yet."""

    def __init__(self, factor: Fraction) -> None:
        self.factor = factor


class Misfit(ValueError):
    """The shapes do not fit: the statement does not apply to these matrices."""


def rank(entries: Sequence[Sequence[Fraction]]) -> int:
    """Exact rank by elimination."""
    rows, found = [list(r) for r in entries], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(found, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        for i in range(found + 1, len(rows)):
            factor = rows[i][column] / rows[found][column]
            if factor:
                rows[i] = [x - factor * y for x, y in zip(rows[i], rows[found], strict=True)]
        found += 1
    return found


def holds(text: str, matrices: Mapping[str, Sized]) -> bool:
    """Whether the statement (or hypothesis) is true for these matrices.

    Raises:
        Misfit: the shapes do not fit.
    """
    tree = ast.parse(text.replace("^", "**"), mode="eval").body
    return bool(_Reader(matrices).read(tree))


_COMPARE = {
    ast.LtE: operator.le, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.Gt: operator.gt,
    ast.Eq: operator.eq,
}  # fmt: skip


class _Reader:
    def __init__(self, matrices: Mapping[str, Sized]) -> None:
        self.matrices = matrices

    def read(self, node: ast.AST) -> Value:
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        if isinstance(node, ast.Name):
            return Scale(Fraction(node.id == "I")) if node.id in "IO" else self.matrices[node.id]
        if isinstance(node, ast.Attribute) and node.attr == "T":
            m = self.read(node.value)
            return Sized(m.cols, m.rows, [[r[j] for r in m.entries] for j in range(m.cols)])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return _times(Fraction(-1), self.read(node.operand))
        if isinstance(node, ast.BinOp):
            return self.binary(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.Compare):
            values = [self.read(n) for n in (node.left, *node.comparators)]
            return all(
                _compare(op, a, b) for op, a, b in zip(node.ops, values, values[1:], strict=False)
            )
        raise NotImplementedError(ast.dump(node))

    def binary(self, node: ast.BinOp) -> Value:
        a, b = self.read(node.left), self.read(node.right)
        if isinstance(node.op, ast.Mult):
            return _times(a, b)
        if isinstance(node.op, ast.Add):
            return _plus(a, b)
        if isinstance(node.op, ast.Sub):
            return _plus(a, _times(Fraction(-1), b))
        if isinstance(node.op, ast.Div):
            return _times(1 / b, a)
        if isinstance(node.op, ast.Pow):
            result = a
            for _ in range(int(b) - 1):
                result = _times(result, a)
            return result
        raise NotImplementedError(ast.dump(node))

    def call(self, node: ast.Call) -> Value:
        name, args = node.func.id, [self.read(a) for a in node.args]
        if name == "rank":
            return Fraction(rank(args[0].entries))
        if name in ("rows", "cols"):
            return Fraction(getattr(args[0], name))
        if name in ("min", "max"):
            return (min if name == "min" else max)(args)
        a, b = args
        if name == "hstack":
            _same(a.rows, b.rows)
            joined = [r + s for r, s in zip(a.entries, b.entries, strict=True)]
            return Sized(a.rows, a.cols + b.cols, joined)
        if name == "vstack":
            _same(a.cols, b.cols)
            return Sized(a.rows + b.rows, a.cols, a.entries + b.entries)
        if name == "blockdiag":
            top = [r + [Fraction(0)] * b.cols for r in a.entries]
            low = [[Fraction(0)] * a.cols + r for r in b.entries]
            return Sized(a.rows + b.rows, a.cols + b.cols, top + low)
        if name == "kron":
            product = [[x * y for x in r for y in s] for r in a.entries for s in b.entries]
            return Sized(a.rows * b.rows, a.cols * b.cols, product)
        raise NotImplementedError(name)


def _same(a: int, b: int) -> None:
    if a != b:
        raise Misfit(f"{a} and {b}")


def _identity(scale: Scale, rows: int, cols: int) -> Sized:
    if scale.factor:
        _same(rows, cols)
    return Sized(rows, cols, [[scale.factor * (i == j) for j in range(cols)] for i in range(rows)])


def _times(a: Value, b: Value) -> Value:
    if isinstance(a, Scale):
        a = a.factor  # a multiple of the identity multiplies like a number
    if isinstance(b, Scale):
        b = b.factor
        return Scale(a * b) if isinstance(a, Fraction) else _times(b, a)
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a * b
    if isinstance(b, Fraction):
        a, b = b, a
    if isinstance(a, Fraction):
        return Sized(b.rows, b.cols, [[a * x for x in r] for r in b.entries])
    _same(a.cols, b.rows)
    columns = [[r[j] for r in b.entries] for j in range(b.cols)]
    dots = [[sum((x * y for x, y in zip(r, c, strict=True)), Fraction(0)) for c in columns]
            for r in a.entries]  # fmt: skip
    return Sized(a.rows, b.cols, dots)


def _plus(a: Value, b: Value) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a + b
    if isinstance(a, Scale) and isinstance(b, Scale):
        return Scale(a.factor + b.factor)
    if isinstance(a, Scale):
        a = _identity(a, b.rows, b.cols)
    if isinstance(b, Scale):
        b = _identity(b, a.rows, a.cols)
    _same(a.rows, b.rows)
    _same(a.cols, b.cols)
    rows = [[x + y for x, y in zip(r, s, strict=True)]
            for r, s in zip(a.entries, b.entries, strict=True)]  # fmt: skip
    return Sized(a.rows, a.cols, rows)


def _compare(op: ast.cmpop, a: Value, b: Value) -> bool:
    if isinstance(a, Sized) or isinstance(b, Sized):
        if b == 0 and isinstance(b, Fraction):
            b = Scale(Fraction(0))
        difference = _plus(a, _times(Fraction(-1), b))
        return not any(any(r) for r in difference.entries)
    return bool(_COMPARE[type(op)](a, b))
