"""From a parse tree to SymPy matrix expressions with inferred dimensions, and back to text.

Matrices are ``MatrixSymbol``s; the rank of an expression is the SymPy atom ``Rank(expr)``.
SymPy's own classes are the only expression tree: MatMul, MatAdd, MatPow, Transpose, BlockMatrix,
KroneckerProduct, Identity, ZeroMatrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import sympy as sp
from sympy.matrices.expressions.kronecker import KroneckerProduct

from theory.errors import InputError
from theory.grammar import Node, ParseError
from theory.shapes import Dim, Dims, ShapeError

Shape = tuple[Dim, Dim]
_LETTERS = "nmpqrstuvwxyzabcdefghijkl"
_SHAPED = {"vstack", "hstack", "blockdiag", "kron", "T"}


class Rank(sp.Expr):  # type: ignore[misc]
    """The rank of a matrix expression, an integer atom of linear statements."""

    is_integer = True
    is_nonnegative = True
    is_commutative = True

    def __new__(cls, matrix: sp.MatrixExpr) -> Rank:
        """Hold the matrix unevaluated."""
        return sp.Expr.__new__(cls, matrix)  # type: ignore[no-any-return]

    @property
    def matrix(self) -> sp.MatrixExpr:
        """The expression whose rank this is."""
        return self.args[0]

    def _latex(self, printer: object) -> str:
        return rf"\operatorname{{rank}}\left({printer._print(self.matrix)}\right)"  # type: ignore[attr-defined]


def is_matrix(node: Node) -> bool:
    """Whether a node of the parse tree denotes a matrix, not a number."""
    if node.kind == "name":
        return node.value[0].isupper()
    if node.kind in _SHAPED:
        return True
    if node.kind in ("rank", "rows", "cols"):
        return False
    return any(is_matrix(p) for p in node.parts)


class Typer:
    """Shapes of all matrices of one statement and its hypotheses; then their SymPy expressions."""

    def __init__(self) -> None:
        self.dims = Dims()
        self.shapes: dict[str, Shape] = {}
        self.scalars: list[str] = []
        self._own: dict[int, Shape] = {}
        self._symbols: dict[str, sp.Symbol] = {}
        self._keep: list[Node] = []

    # ---- shapes ----------------------------------------------------------------------------
    def shape(self, node: Node, text: str) -> Shape:
        """The shape of a matrix node; equations are added on the way.

        Raises:
            ParseError: the node is no matrix, or shapes do not fit (both are shown).
        """
        if id(node) in self._own:
            return self._own[id(node)]
        self._keep.append(node)  # ids stay unique while the nodes live
        shape = self._shape(node, text)
        self._own[id(node)] = shape
        return shape

    def _shape(self, node: Node, text: str) -> Shape:
        kind = node.kind
        if kind == "name" and node.value == "I":
            n = self.dims.fresh()
            return n, n
        if kind == "name" and node.value == "O":
            return self.dims.fresh(), self.dims.fresh()
        if kind == "name" and node.value[0].isupper():
            if node.value not in self.shapes:
                self.shapes[node.value] = (self.dims.fresh(), self.dims.fresh())
            return self.shapes[node.value]
        if kind == "number" and Fraction(node.value) == 0:
            return self.dims.fresh(), self.dims.fresh()
        if kind in ("number", "name", "rank", "rows", "cols", "min", "max"):
            raise ParseError(text, node.place, f"a matrix is needed here, not {node.value or kind}")
        if kind == "*":
            return self._product(node, text)
        shapes = [self.shape(p, text) for p in node.parts]
        first = shapes[0]
        if kind == "neg":
            return first
        if kind == "T":
            return first[1], first[0]
        if kind == "^":
            self._equate(first[0], first[1], node, text, "a power needs a square matrix", shapes)
            return first
        if kind == "kron":
            return tuple(  # type: ignore[return-value]
                self.dims.resolve(Dim("prod", parts=tuple(s[i] for s in shapes))) for i in (0, 1)
            )
        for other in shapes[1:]:
            if kind in ("+", "-", "hstack"):
                self._equate(first[0], other[0], node, text, f"{kind}: rows differ", [first, other])
            if kind in ("+", "-", "vstack"):
                self._equate(
                    first[1], other[1], node, text, f"{kind}: columns differ", [first, other]
                )
        rows = Dim("sum", parts=tuple(s[0] for s in shapes))
        cols = Dim("sum", parts=tuple(s[1] for s in shapes))
        return (
            rows if kind in ("vstack", "blockdiag") else first[0],
            cols if kind in ("hstack", "blockdiag") else first[1],
        )

    def _product(self, node: Node, text: str) -> Shape:
        left, right = node.parts
        if not is_matrix(left) and scalar_value(left) is not None:
            return self.shape(right, text)
        if not is_matrix(right) and scalar_value(right) is not None:
            return self.shape(left, text)
        a, b = self.shape(left, text), self.shape(right, text)
        self._equate(a[1], b[0], node, text, "the shapes of a product do not fit", [a, b])
        return a[0], b[1]

    def _equate(
        self, a: Dim, b: Dim, node: Node, text: str, what: str, shapes: list[Shape]
    ) -> None:
        try:
            self.dims.equate(a, b)
        except ShapeError as error:
            shown = " and ".join(f"{self._text(s[0])} x {self._text(s[1])}" for s in shapes)
            raise ParseError(text, node.place, f"{what}: {shown} ({error})") from error

    def _text(self, dim: Dim) -> str:
        return str(self.dims.resolve(dim)).replace("_", "d")

    def equate_shapes(self, a: Shape, b: Shape, node: Node, text: str) -> None:
        """Make the sides of a matrix equation the same shape."""
        for i in (0, 1):
            self._equate(a[i], b[i], node, text, "the sides differ in shape", [a, b])

    # ---- SymPy -----------------------------------------------------------------------------
    def dim(self, dim: Dim) -> sp.Expr:
        """A resolved dimension as a SymPy expression; each free variable gets a letter."""
        dim = self.dims.resolve(dim)
        if dim.kind == "int":
            return sp.Integer(dim.value)
        if dim.kind == "var":
            if dim.name not in self._symbols:
                used = {s.name for s in self._symbols.values()} | set(self.scalars)
                free = (x for x in _letters() if x not in used)
                self._symbols[dim.name] = scalar_symbol(next(free))
            return self._symbols[dim.name]
        parts = [self.dim(p) for p in dim.parts]
        return sp.Add(*parts) if dim.kind == "sum" else sp.Mul(*parts)

    def matrix(self, node: Node, text: str) -> sp.MatrixExpr:
        """The SymPy expression of a matrix node (after all shapes are known)."""
        rows, cols = (self.dim(d) for d in self.shape(node, text))
        kind = node.kind
        if kind == "name" and node.value == "I":
            return sp.Identity(rows)
        if kind == "number" or (kind == "name" and node.value == "O"):
            return sp.ZeroMatrix(rows, cols)
        if kind == "name":
            return sp.MatrixSymbol(node.value, rows, cols)
        if kind == "*":
            for one, other in (node.parts, node.parts[::-1]):
                value = None if is_matrix(one) else scalar_value(one)
                if value is not None:
                    return sp.MatMul(_rational(value), self.matrix(other, text))
        parts = [self.matrix(p, text) for p in node.parts]
        if kind == "*":
            return sp.MatMul(*(f for p in parts for f in _factors(p)))
        if kind == "+":
            return sp.MatAdd(*(f for p in parts for f in _summands(p)))
        if kind == "-":
            return sp.MatAdd(*_summands(parts[0]), _negative(parts[1]))
        if kind == "neg":
            return _negative(parts[0])
        if kind == "T":
            return sp.Transpose(parts[0])
        if kind == "^":
            return sp.MatPow(parts[0], sp.Integer(int(node.value)))
        if kind == "kron":
            return KroneckerProduct(*parts)
        if kind == "vstack":
            return sp.BlockMatrix([[p] for p in parts])
        if kind == "hstack":
            return sp.BlockMatrix([parts])
        grid = [
            [
                p if i == j else sp.ZeroMatrix(parts[i].rows, parts[j].cols)
                for j, _ in enumerate(parts)
            ]
            for i, p in enumerate(parts)
        ]
        return sp.BlockMatrix(grid)


def scalar_symbol(name: str) -> sp.Symbol:
    """The symbol of a dimension or an integer constant."""
    return sp.Symbol(name, integer=True, nonnegative=True)


def scalar_value(node: Node) -> Fraction | None:
    """The value of a constant node such as ``-2/3``; None if it is not constant."""
    if node.kind == "number":
        return Fraction(node.value)
    values = [scalar_value(p) for p in node.parts]
    if any(v is None for v in values) or node.kind not in ("neg", "+", "-", "*"):
        return None
    a = values[0] or Fraction(0)
    if node.kind == "neg":
        return -a
    b = values[1] or Fraction(0)
    return a + b if node.kind == "+" else a - b if node.kind == "-" else a * b


def to_text(matrix: sp.MatrixExpr) -> str:
    """A matrix expression in the grammar's text.

    Raises:
        InputError: the expression has a part that the grammar cannot write.
    """
    if isinstance(matrix, sp.Identity):
        return "I"
    if isinstance(matrix, sp.ZeroMatrix):
        return "O"
    if isinstance(matrix, sp.MatrixSymbol):
        return str(matrix.name)
    if isinstance(matrix, sp.MatMul):
        return "*".join(
            _bracket(f) if isinstance(f, sp.MatrixExpr) else f"({f})" if f < 0 else str(f)
            for f in matrix.args
        )
    if isinstance(matrix, sp.MatAdd):
        out = ""
        for term in matrix.args:
            piece = to_text(term)
            if piece.startswith("(-1)*"):
                out += f" - {piece[5:]}" if out else f"-{piece[5:]}"
            else:
                out += f" + {piece}" if out else piece
        return out
    if isinstance(matrix, sp.Transpose):
        return f"{_bracket(matrix.arg)}.T"
    if isinstance(matrix, sp.MatPow):
        return f"{_bracket(matrix.base)}^{matrix.exp}"
    if isinstance(matrix, KroneckerProduct):
        return f"kron({', '.join(map(to_text, matrix.args))})"
    if isinstance(matrix, sp.BlockMatrix):
        return _block_text(matrix)
    raise InputError(f"the grammar cannot write {type(matrix).__name__}: {matrix}")


def _block_text(matrix: sp.BlockMatrix) -> str:
    height, width = matrix.blockshape
    blocks = matrix.blocks
    if height == 1:
        return f"hstack({', '.join(to_text(b) for b in blocks)})"
    if width == 1:
        return f"vstack({', '.join(to_text(b) for b in blocks)})"
    return f"blockdiag({', '.join(to_text(blocks[i, i]) for i in range(height))})"


def _bracket(matrix: sp.MatrixExpr) -> str:
    text = to_text(matrix)
    return f"({text})" if isinstance(matrix, sp.MatAdd | sp.MatMul | sp.MatPow) else text


def _factors(m: sp.MatrixExpr) -> tuple[sp.Expr, ...]:
    return tuple(m.args) if isinstance(m, sp.MatMul) else (m,)


def _summands(m: sp.MatrixExpr) -> tuple[sp.Expr, ...]:
    return tuple(m.args) if isinstance(m, sp.MatAdd) else (m,)


def _negative(m: sp.MatrixExpr) -> sp.MatrixExpr:
    return sp.MatMul(sp.Integer(-1), *_factors(m))


def _rational(value: Fraction) -> sp.Rational:
    return sp.Rational(value.numerator, value.denominator)


def _letters() -> Iterator[str]:
    yield from _LETTERS
    for i in range(1, 10**6):
        for letter in _LETTERS:
            yield f"{letter}{i}"
