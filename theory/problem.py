"""A statement as the problem that certificates embed: shapes, abbreviations, hypotheses, goal.

Every rank's expression becomes a block matrix of words (``theory.blocks``). A map whose dimension is
a sum is written as a stack of named parts, which loses nothing. A sum inside a product becomes an
abbreviation, so that a product of residual blocks stays one word.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.matrices.expressions.kronecker import KroneckerProduct

from theory.blocks import (
    ONE,
    Algebra,
    Block,
    Poly,
    add,
    hstack,
    identity,
    multiply,
    scale,
    to_json,
    transpose,
    vstack,
    zero,
)
from theory.errors import UnsupportedError

if TYPE_CHECKING:
    from theory.statements import LinearForm, Statement


@dataclass(frozen=True, eq=False)
class Form:
    """``sum(c * rank(M)) + sum(c * dimension) >= 0``; the empty name holds the constant."""

    ranks: tuple[tuple[Block, Fraction], ...]
    dims: dict[str, Fraction]

    def to_json(self) -> dict[str, Any]:
        """The form as certificates write it."""
        return {
            "ranks": [[str(c), to_json(m)] for m, c in self.ranks],
            "dims": {name: str(c) for name, c in self.dims.items()},
        }


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be proved, in block form.

    Attributes:
        algebra: shapes of the maps, abbreviations, rewriting rules of the matrix hypotheses.
        goal: AND of ORs of forms that must be non-negative.
        hypotheses: forms assumed non-negative.
        vanishing: blocks assumed zero.
        maps: the letters that are no abbreviations.
    """

    algebra: Algebra
    goal: tuple[tuple[Form, ...], ...]
    hypotheses: tuple[Form, ...]
    vanishing: tuple[Block, ...]
    maps: dict[str, tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        """The problem as certificates embed it."""
        shapes = self.algebra.shapes
        lets = {
            name: {
                "rows": shapes[name][0],
                "cols": shapes[name][1],
                "sum": {" ".join(w): str(c) for w, c in value.items()},
            }
            for name, value in self.algebra.lets.items()
        }
        return {
            "maps": {name: list(shape) for name, shape in self.maps.items()},
            "lets": lets,
            "vanishing": [to_json(m) for m in self.vanishing],
            "hypotheses": [h.to_json() for h in self.hypotheses],
            "goal": [[f.to_json() for f in clause] for clause in self.goal],
        }


def _partition(dim: sp.Expr) -> tuple[str, ...]:
    """A dimension as the sizes of its parts: ``a + 2*b`` is ``a, b, b``."""
    out: list[str] = []
    for part in sp.Add.make_args(dim):
        if part.is_Integer:
            out.append(str(int(part)))
            continue
        times, name = part.as_coeff_Mul()
        if not (times.is_Integer and times > 0 and name.is_Symbol):
            raise UnsupportedError(f"a dimension {dim} is not a sum of named dimensions")
        out += [name.name] * int(times)
    return tuple(out)


class _Builder:
    """SymPy matrix expressions to blocks, for one statement."""

    def __init__(self, statement: Statement) -> None:
        self.algebra = Algebra({})
        self.orders: dict[sp.Expr, tuple[str, ...]] = {}
        clauses = (*statement.goal, *statement.hypotheses)
        ranks = [m for clause in clauses for i in clause for _, m in i.form.ranks]
        for e in (*ranks, *statement.equations):
            for stack in e.atoms(sp.BlockMatrix):
                self._learn(stack)
        self.symbols: dict[str, Block] = {}
        for name, (height, width) in statement.matrices.items():
            rows, cols = self.partition(height), self.partition(width)
            whole = len(rows) == len(cols) == 1
            names = [
                [name if whole else f"{name}_{i + 1}_{j + 1}" for j in range(len(cols))]
                for i in range(len(rows))
            ]
            for r, line in zip(rows, names, strict=True):
                for c, part in zip(cols, line, strict=True):
                    self.algebra.shapes[part] = (r, c)
            cells: list[tuple[Poly, ...]] = [tuple({(x,): ONE} for x in line) for line in names]
            self.symbols[name] = Block(rows, cols, tuple(cells))
        self.maps = dict(self.algebra.shapes)

    def _learn(self, stack: sp.BlockMatrix) -> None:
        """Note in which order a stack adds up its dimensions: SymPy's sums forget it."""
        height, width = stack.blockshape
        for sizes in (
            [stack.blocks[i, 0].rows for i in range(height)],
            [stack.blocks[0, j].cols for j in range(width)],
        ):
            if all(not size.is_Add for size in sizes):
                parts = tuple(x for size in sizes for x in _partition(size))
                self.orders.setdefault(sp.Add(*sizes), parts)

    def partition(self, dim: sp.Expr) -> tuple[str, ...]:
        """A dimension as the sizes of its parts, in the order of the stacks where it occurs."""
        return self.orders.get(dim) or _partition(dim)

    def block(self, e: sp.MatrixExpr) -> Block:
        """The block matrix of an expression."""
        if isinstance(e, sp.MatrixSymbol):
            return self.symbols[e.name]
        if isinstance(e, sp.Identity):
            return identity(self.partition(e.rows))
        if isinstance(e, sp.ZeroMatrix):
            return zero(self.partition(e.rows), self.partition(e.cols))
        if isinstance(e, sp.Transpose):
            return transpose(self.algebra.unfold(self.block(e.arg)))
        if isinstance(e, sp.MatAdd):
            out, *rest = [self.block(a) for a in e.args]
            for b in rest:
                out = add(out, b)
            return out
        if isinstance(e, sp.MatPow):
            n = int(e.exp) if e.exp.is_Integer else -1
            if n < 0:
                raise UnsupportedError(f"the power {e} is not a fixed natural number")
            base = self.block(e.base)
            return self._product([base] * n) if n else identity(base.rows)
        if isinstance(e, sp.MatMul):
            factor = Fraction(1)
            blocks = []
            for a in e.args:
                if isinstance(a, sp.MatrixExpr):
                    blocks.append(self.block(a))
                else:
                    factor *= Fraction(int(a.p), int(a.q))
            return scale(self._product(blocks), factor)
        if isinstance(e, sp.BlockMatrix):
            height, width = e.blockshape
            lines = []
            for i in range(height):
                line = self.block(e.blocks[i, 0])
                for j in range(1, width):
                    line = hstack(line, self.block(e.blocks[i, j]))
                lines.append(line)
            out = lines[0]
            for line in lines[1:]:
                out = vstack(out, line)
            return out
        if isinstance(e, KroneckerProduct):
            raise UnsupportedError(f"Kronecker products are not in the calculus: {e}")
        raise UnsupportedError(f"no block form for {type(e).__name__}: {e}")

    def _product(self, factors: list[Block]) -> Block:
        out: Block | None = None
        for f in factors:
            single = len(f.rows) == len(f.cols) == 1
            if single and len(f.cells[0][0]) > 1 and len(factors) > 1:
                name = self.algebra.letter(f.cells[0][0], f.rows[0], f.cols[0])
                f = Block(f.rows, f.cols, (({(name,): ONE},),))
            out = f if out is None else multiply(out, f)
        if out is None:
            raise UnsupportedError("an empty product")
        return out

    def form(self, form: LinearForm) -> Form:
        """A linear form."""
        dims: dict[str, Fraction] = {"": form.constant} if form.constant else {}
        for c, term in form.dims:
            if not term.is_Symbol:
                raise UnsupportedError(f"the dimension {term} is not linear")
            dims[term.name] = dims.get(term.name, Fraction(0)) + c
        return Form(tuple((self.block(m), c) for c, m in form.ranks), dims)


def problem(statement: Statement) -> Problem:
    """The statement in block form.

    Hypotheses that are alternatives (``max`` and ``min``) are left out: a proof does without them.

    Raises:
        UnsupportedError: an expression has no block form.
    """
    build = _Builder(statement)
    goal = tuple(tuple(build.form(i.form) for i in clause) for clause in statement.goal)
    hypotheses = tuple(build.form(c[0].form) for c in statement.hypotheses if len(c) == 1)
    vanishing = tuple(build.block(e) for e in statement.equations)
    for z in vanishing:
        build.algebra.equate(z)
    return Problem(build.algebra, goal, hypotheses, vanishing, build.maps)
