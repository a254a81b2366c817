"""The two scalar fields small networks run over: the rationals, exactly, and arb balls.

A value is a column matrix of flint type and a tangent block is a matrix of the same type, so one
line of layer code serves both fields. Over the rationals a comparison is decided; over balls it is
decided or the kink error says that the ball straddles the kink. Source: theory.md, sections 4, 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import flint

from theory.errors import InputError, UnsupportedError

#: a rational number as users write it
Rational = int | Fraction
#: a flint matrix: ``fmpq_mat`` over the rationals, ``arb_mat`` over balls
Matrix = Any
#: a flint scalar: ``fmpq`` or ``arb``
Scalar = Any


class KinkError(InputError):
    """A unit sits on its kink (or a ball straddles it) and its tangent matters there."""


def _fmpq(value: Rational | float | Scalar) -> Scalar:
    if type(value) is int:
        return value
    if isinstance(value, flint.fmpq | flint.fmpz):
        return value
    fraction = Fraction(value)
    return flint.fmpq(fraction.numerator, fraction.denominator)


@dataclass(frozen=True)
class Field:
    """One of :data:`EXACT` and :data:`BALL`.

    ``name`` is ``exact`` or ``ball``; functions that leave the rationals raise UnsupportedError in
    the exact field and name the ball field as the way out.
    """

    name: str

    def scalar(self, value: Rational | float | Scalar) -> Scalar:
        """The rational (a float is the dyadic rational it stores) as a scalar of the field."""
        exact = _fmpq(value) if not isinstance(value, flint.arb) else value
        if self.name == "exact":
            return flint.fmpq(exact)
        return flint.arb(exact) if not isinstance(exact, flint.arb) else exact

    def matrix(self, rows: int, cols: int, entries: Sequence[Any]) -> Matrix:
        """A ``rows`` x ``cols`` matrix from row-major entries."""
        if self.name == "exact":
            return flint.fmpq_mat(rows, cols, [_fmpq(e) for e in entries])
        return flint.arb_mat(
            rows, cols, [e if isinstance(e, flint.arb) else flint.arb(_fmpq(e)) for e in entries]
        )

    def identity(self, n: int) -> Matrix:
        """The ``n`` x ``n`` identity."""
        return self.matrix(n, n, [int(i == j) for i in range(n) for j in range(n)])

    def sqrt(self, value: Scalar) -> Scalar:
        """Square root; exact only for squares of rationals.

        Raises:
            UnsupportedError: the field is exact and ``value`` is no square of a rational.
        """
        if self.name == "ball":
            return value.sqrt()
        p, q = int(value.p), int(value.q)
        if p >= 0:
            a, b = flint.fmpz(p).isqrt(), flint.fmpz(q).isqrt()
            if a * a == p and b * b == q:
                return flint.fmpq(a, b)
        raise UnsupportedError(
            f"the square root of {value} is irrational, so this layer has no exact value here; "
            "use numeric.scalars.BALL"
        )

    def smooth(self, function: str, value: Scalar) -> Scalar:
        """``exp``, ``tanh`` or ``erf`` of a ball.

        Raises:
            UnsupportedError: the field is exact.
        """
        if self.name == "exact":
            raise UnsupportedError(
                f"{function} of a rational is irrational in general; use numeric.scalars.BALL"
            )
        return getattr(value, function)()


EXACT = Field("exact")
BALL = Field("ball")


def to_float(matrix: Matrix) -> list[list[float]]:
    """Rows of floats: nearest to the rational, or the midpoint of the ball."""
    table = matrix.tolist()
    if isinstance(matrix, flint.arb_mat):
        return [[float(e.mid()) for e in row] for row in table]
    return [[int(e.p) / int(e.q) for e in row] for row in table]


def is_zero(entries: Sequence[Scalar]) -> bool:
    """Whether every entry is certainly 0."""
    return all(e == 0 for e in entries)
