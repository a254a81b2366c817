"""The exact rank of a matrix over the rationals, with a two-sided certificate.

Lower bound: the minor on some pivot rows and columns is non-zero modulo a 62-bit prime, so it is
non-zero. Upper bound: a kernel, verified exactly: M N = 0 where N contains a non-zero multiple of
the identity, so rank M <= columns - width of N (or the same from the left). theory.md, section 5.4.
python-flint does the arithmetic; ``numeric.replay`` checks the witness without it.
"""

from __future__ import annotations

import secrets
import time
from functools import cache
from typing import Any

import flint

from numeric.certificate import CertifiedRank, Kernel, Witness
from numeric.limits import affordable_size, kernel_estimate, kernel_within
from numeric.matrices import integer_rows
from numeric.replay import replay
from theory.errors import InputError

__all__ = ["CertifiedRank", "certified_rank", "integer_matrix", "rank", "replay"]


def integer_matrix(matrix: Any) -> flint.fmpz_mat:
    """Flint's matrix of ``numeric.matrices.integer_rows``: the same size and rank, exactly.

    Raises:
        InputError: the matrix cannot be read.
    """
    if isinstance(matrix, flint.fmpz_mat):
        return matrix
    if isinstance(matrix, flint.fmpq_mat):
        integers: flint.fmpz_mat = matrix.numer_denom()[0]
        return integers
    rows, columns = integer_rows(matrix)
    return flint.fmpz_mat(rows) if rows and columns else flint.fmpz_mat(len(rows), columns)


def rank(matrix: Any) -> int:
    """Exact rank over the rationals by flint, without a certificate: for properties and tests.

    Args:
        matrix: as for ``integer_matrix``, shape (rows, columns).

    Raises:
        InputError: the matrix cannot be read (see ``integer_matrix``).
    """
    integers = integer_matrix(matrix)
    return int(integers.rank()) if integers.nrows() and integers.ncols() else 0


def certified_rank(
    matrix: Any, *, prime: int | None = None, timeout: float | None = None
) -> CertifiedRank:
    """Exact rank over the rationals with a witness for both bounds.

    Args:
        matrix: shape (rows, columns), as for ``numeric.matrices.integer_rows``.
        prime: a prime below 2^63 for the lower bound; a random 62-bit one by default.
        timeout: seconds after which a partial result (lower < upper, with a note) is enough; None
            for no limit. The estimate is made first: what cannot be reached is not begun.

    Returns:
        Bounds that meet, unless ``timeout`` ran out or a given ``prime`` divides every largest
        minor; then ``note`` says so. (A random prime that does is drawn again.)

    Raises:
        InputError: the matrix cannot be read, or ``prime`` is no prime.
    """
    start = time.perf_counter()
    integers = integer_matrix(matrix)
    most = min(integers.nrows(), integers.ncols())
    while True:
        modulus = random_prime() if prime is None else _checked(prime)
        part = integers
        if timeout is not None:
            third = (timeout - (time.perf_counter() - start)) / 3
            part = _leading(integers, *affordable_size(integers, modulus, third))
        rows, columns = pivots(part, modulus)
        kernel, note = None, ""
        if part is not integers:
            note = (
                f"partial: within {timeout:g} s only the leading {part.nrows()} x {part.ncols()} "
                "block was eliminated; give a longer timeout"
            )
        elif len(rows) < most:
            left = None if timeout is None else timeout - (time.perf_counter() - start)
            kernel, note = _kernel_or_note(integers, rows, columns, left)
            if kernel is None and not note:
                if prime is None:
                    continue  # this prime divides every largest minor
                note = f"partial: the prime {prime} divides every largest minor; draw another"
        return CertifiedRank(
            lower=len(rows),
            upper=len(rows) if kernel is not None else most,
            witness=Witness(modulus, rows, columns, kernel),
            rows=integers.nrows(),
            columns=integers.ncols(),
            seconds=time.perf_counter() - start,
            note=note if len(rows) < most else "",
        )


def _leading(integers: flint.fmpz_mat, rows: int, columns: int) -> flint.fmpz_mat:
    if (rows, columns) == (integers.nrows(), integers.ncols()):
        return integers
    return flint.fmpz_mat([[integers[i, j] for j in range(columns)] for i in range(rows)])


def _kernel_or_note(
    integers: flint.fmpz_mat,
    rows: tuple[int, ...],
    columns: tuple[int, ...],
    seconds: float | None,
) -> tuple[Kernel | None, str]:
    """The kernel within ``seconds``, or why there is none (empty: the rank is larger)."""
    if seconds is None:
        return exact_kernel(integers, rows, columns), ""
    estimate = kernel_estimate(integers, rows, columns)
    if estimate > seconds:
        return None, (
            f"partial: an exact kernel for the upper bound would take about {estimate:.2g} s "
            f"(estimate) and {max(seconds, 0):.2g} s are left; give a longer timeout"
        )
    if estimate < 0.1 * seconds:
        return exact_kernel(integers, rows, columns), ""
    kernel, finished = kernel_within(integers, rows, columns, seconds)
    late = (
        f"partial: the exact kernel was estimated at {estimate:.2g} s and was not done after "
        f"{seconds:.2g} s; give a longer timeout"
    )
    return kernel, "" if finished else late


def random_prime() -> int:
    """A random 62-bit prime, in (2^61, 2^62)."""
    while True:
        candidate = (1 << 61) | secrets.randbits(61) | 1
        if flint.fmpz(candidate).is_prime():
            return candidate


@cache
def _checked(prime: int) -> int:
    if not 2 <= prime < 1 << 63 or not flint.fmpz(prime).is_prime():
        raise InputError(f"{prime} is no prime below 2^63; leave it out to draw one")
    return prime


def pivots(integers: flint.fmpz_mat, prime: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rows and columns (as many as the rank mod ``prime``) whose minor is non-zero mod ``prime``.

    Row pivots of the rows and pivots of the columns, found apart, always give a non-zero minor.
    """
    if not integers.nrows() or not integers.ncols():
        return (), ()
    reduced = flint.nmod_mat(integers, prime)
    return _pivot_columns(reduced.transpose()), _pivot_columns(reduced)


def _pivot_columns(reduced: flint.nmod_mat) -> tuple[int, ...]:
    form, count = reduced.rref()
    found: list[int] = []
    column = 0
    for row in range(count):
        while not form[row, column]:
            column += 1
        found.append(column)
        column += 1
    return tuple(found)


def exact_kernel(
    integers: flint.fmpz_mat, rows: tuple[int, ...], columns: tuple[int, ...]
) -> Kernel | None:
    """The exact kernel that proves rank <= len(rows), or None if the rank is larger.

    The square block on the pivots is solved exactly against the free columns (or rows, where they
    are fewer); the product with the whole matrix must then vanish exactly.
    """
    side = "right"
    if integers.nrows() < integers.ncols():
        side, integers, rows, columns = "left", integers.transpose(), columns, rows
    pivot_set = set(columns)
    free = [j for j in range(integers.ncols()) if j not in pivot_set]
    if not columns:
        zero = all(not entry for entry in integers.entries())
        return Kernel(side, (), 1, ()) if zero else None
    table = integers.tolist()
    block = flint.fmpz_mat([[table[i][j] for j in columns] for i in rows])
    right = flint.fmpz_mat([[table[i][j] for j in free] for i in rows])
    numerator, denominator = block.solve(right).numer_denom()
    pivot_set = set(rows)
    others = [i for i in range(integers.nrows()) if i not in pivot_set]
    if others:
        left = flint.fmpz_mat([[table[i][j] for j in columns] for i in others])
        goal = flint.fmpz_mat([[table[i][j] for j in free] for i in others])
        if left * numerator != goal * denominator:
            return None
    kernel = (-numerator).tolist()
    return Kernel(
        side,
        columns,
        int(denominator),
        tuple(tuple(int(entry) for entry in row) for row in kernel),
    )
