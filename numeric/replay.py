"""Check a rank witness with Python's integers alone: no flint, no algorithm that found it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numeric.certificate import CertifiedRank, Kernel
from numeric.matrices import integer_rows
from theory.errors import InputError


class CertificateError(InputError):
    """The witness does not prove the bounds it comes with."""


def replay(matrix: Any, certificate: CertifiedRank) -> None:
    """Prove again that ``lower <= rank(matrix) <= upper``, from the witness alone.

    Args:
        matrix: the matrix the certificate speaks of, as for ``integer_rows``.
        certificate: the two bounds and their witness.

    Raises:
        CertificateError: a bound is not proved by the witness for this matrix.
    """
    rows, columns = integer_rows(matrix)
    if (len(rows), columns) != (certificate.rows, certificate.columns):
        raise CertificateError(
            f"the certificate is for a {certificate.rows} x {certificate.columns} matrix, "
            f"this one is {len(rows)} x {columns}"
        )
    witness = certificate.witness
    size = len(witness.pivot_rows)
    if size != len(witness.pivot_columns) or certificate.lower > size:
        raise CertificateError(f"no minor of size {certificate.lower} in the witness")
    _indices(witness.pivot_rows, len(rows))
    _indices(witness.pivot_columns, columns)
    if not _minor_is_unit(
        [[rows[i][j] for j in witness.pivot_columns] for i in witness.pivot_rows], witness.prime
    ):
        raise CertificateError(f"the minor is no unit modulo {witness.prime}")
    if certificate.upper >= min(len(rows), columns):
        return
    if witness.kernel is None:
        raise CertificateError(f"nothing proves the upper bound {certificate.upper}")
    if witness.kernel.side not in ("left", "right"):
        raise CertificateError(f"a kernel is left or right, not {witness.kernel.side!r}")
    if witness.kernel.side == "left":
        rows, columns = [list(column) for column in zip(*rows, strict=True)], len(rows)
    _check_kernel(rows, columns, witness.kernel, certificate.upper)


def _indices(chosen: Sequence[int], size: int) -> None:
    if len(set(chosen)) != len(chosen) or not all(0 <= i < size for i in chosen):
        raise CertificateError(f"not distinct indices below {size}: {tuple(chosen)}")


def _minor_is_unit(block: list[list[int]], modulus: int) -> bool:
    """Whether det(block) is a unit modulo ``modulus`` > 1, prime or not: then it is not zero."""
    if modulus < 2:
        return False
    block = [[entry % modulus for entry in row] for row in block]
    while block:
        try:
            at, inverse = next(
                (i, pow(row[0], -1, modulus)) for i, row in enumerate(block) if row[0]
            )
        except (StopIteration, ValueError):  # no pivot, or a pivot that is no unit
            return False
        block[0], block[at] = block[at], block[0]
        first = block[0]
        reduced = []
        for row in block[1:]:
            factor = row[0] * inverse % modulus
            reduced.append(
                [(x - factor * y) % modulus for x, y in zip(row[1:], first[1:], strict=True)]
            )
        block = reduced
    return True


def _check_kernel(rows: list[list[int]], columns: int, kernel: Kernel, upper: int) -> None:
    _indices(kernel.pivots, columns)
    taken = set(kernel.pivots)
    free = [j for j in range(columns) if j not in taken]
    if len(free) < columns - upper:
        raise CertificateError(f"a kernel of {len(free)} columns does not prove rank <= {upper}")
    if kernel.denominator == 0 or len(kernel.block) != len(kernel.pivots):
        raise CertificateError("the kernel's denominator is 0 or its block has the wrong height")
    if any(len(row) != len(free) for row in kernel.block):
        raise CertificateError("the kernel's block has the wrong width")
    by_column = list(zip(*kernel.block, strict=True)) if kernel.block else [()] * len(free)
    for i, row in enumerate(rows):
        at_pivots = [row[j] for j in kernel.pivots]
        for j, column in zip(free, by_column, strict=True):
            total = sum(x * y for x, y in zip(at_pivots, column, strict=True))
            if total + kernel.denominator * row[j]:
                raise CertificateError(f"row {i} times kernel column {j} is not zero")
