"""Any matrix to an integer matrix of the same rank, exactly.

Nested lists, NumPy arrays, torch tensors, SymPy matrices and flint's ``fmpz_mat`` and ``fmpq_mat``
are read as what they are: integers, fractions, and floats taken as the dyadic rationals they store.
Each row is multiplied by its least common denominator, which keeps the rank; nothing is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Rational
from typing import Any

import numpy as np

from theory.errors import InputError

Rows = tuple[list[list[int]], int]

_WAY_OUT = "give integers, fractions or finite floats"


def integer_rows(matrix: Any) -> tuple[list[list[int]], int]:
    """The integer matrix of the same size and rank as ``matrix``, as plain Python integers.

    Args:
        matrix: shape (rows, columns); nested lists, NumPy array, torch tensor, SymPy matrix,
            ``fmpz_mat`` or ``fmpq_mat``. ``[]`` is 0 x 0; a NumPy array may be 0 x n.

    Returns:
        (rows, number of columns): row i is row i of ``matrix`` times a positive integer.

    Raises:
        InputError: a ragged, non-numeric, complex, non-finite or not two-dimensional input.
    """
    entries, columns = entries_of(matrix)
    if isinstance(entries, np.ndarray):
        return _scale_floats(entries), columns
    if type(matrix).__name__ == "fmpq_mat":  # one denominator for all, as flint's numer_denom
        exact, _ = ratios(matrix)
        common = math.lcm(*(bottom for row in exact for _, bottom in row))
        return [[top * (common // bottom) for top, bottom in row] for row in exact], columns
    return [_scale_row(row, i) for i, row in enumerate(entries)], columns


def ratios(matrix: Any) -> tuple[list[list[tuple[int, int]]], int]:
    """The entries themselves, exactly, as (numerator, positive denominator).

    Args:
        matrix: shape (rows, columns), as for ``integer_rows``.

    Returns:
        (rows, number of columns).

    Raises:
        InputError: as ``integer_rows``.
    """
    entries, columns = entries_of(matrix)
    rows = entries.tolist() if isinstance(entries, np.ndarray) else entries
    return [
        [_ratio(entry, i, j) for j, entry in enumerate(row)] for i, row in enumerate(rows)
    ], columns


def entries_of(matrix: Any) -> tuple[list[list[Any]] | np.ndarray[Any, Any], int]:
    """Rows of scalars (or a finite float64 array), and the number of columns."""
    if type(matrix).__module__.startswith("flint") and hasattr(matrix, "nrows"):
        if type(matrix).__name__ not in ("fmpz_mat", "fmpq_mat"):
            raise InputError(f"{type(matrix).__name__} is not over the rationals; {_WAY_OUT}")
        return matrix.tolist(), matrix.ncols()
    if hasattr(matrix, "detach") and hasattr(matrix, "cpu"):
        matrix = _torch_to_numpy(matrix)
    if isinstance(matrix, np.ndarray):
        return _numpy_entries(matrix)
    if hasattr(matrix, "tolist") and hasattr(matrix, "shape"):  # SymPy, explicit
        rows, columns = (int(size) for size in matrix.shape)
        return matrix.tolist() if columns else [[] for _ in range(rows)], columns
    return _nested_entries(matrix)


def _torch_to_numpy(tensor: Any) -> np.ndarray[Any, Any]:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) in ("torch.bfloat16", "torch.float16"):
        tensor = tensor.float()  # exact: float32 holds every bfloat16 and float16
    array: np.ndarray[Any, Any] = tensor.numpy()
    return array


def _nested_entries(matrix: Any) -> tuple[list[list[Any]], int]:
    if not isinstance(matrix, Sequence) or isinstance(matrix, (str, bytes)):
        raise InputError(f"not a matrix: {type(matrix).__name__}; give a list of rows")
    rows: list[list[Any]] = []
    for i, row in enumerate(matrix):
        if isinstance(row, np.ndarray) and row.ndim == 1:
            row = row.tolist()
        if not isinstance(row, Sequence) or isinstance(row, (str, bytes)):
            raise InputError(f"row {i} is {row!r}, not a list of numbers; give a list of rows")
        if rows and len(row) != len(rows[0]):
            raise InputError(
                f"ragged matrix: row {i} has {len(row)} entries, row 0 has {len(rows[0])}; "
                "give rows of one length"
            )
        rows.append(list(row))
    return rows, len(rows[0]) if rows else 0


def _scale_row(row: list[Any], i: int) -> list[int]:
    if all(type(entry) is int for entry in row):
        return row
    exact = [_ratio(entry, i, j) for j, entry in enumerate(row)]
    common = math.lcm(*(bottom for _, bottom in exact))
    return [top * (common // bottom) for top, bottom in exact]


def _ratio(entry: Any, i: int, j: int) -> tuple[int, int]:
    """Numerator and positive denominator of one entry, exactly."""
    where = f"entry ({i}, {j}) is {entry!r}"
    if isinstance(entry, (int, Integral, np.bool_)):
        return int(entry), 1
    if isinstance(entry, Rational):
        return int(entry.numerator), int(entry.denominator)
    kind = type(entry)
    if kind.__module__.startswith("flint") and kind.__name__ in ("fmpz", "fmpq"):
        return (int(entry), 1) if kind.__name__ == "fmpz" else (int(entry.p), int(entry.q))
    if getattr(entry, "is_Rational", False):  # SymPy
        return int(entry.p), int(entry.q)
    if getattr(entry, "is_Float", False) and entry.is_finite:  # SymPy: sign, mantissa, exponent
        sign, mantissa, exponent, _ = entry._mpf_
        exact = (-1) ** sign * int(mantissa) * Fraction(2) ** int(exponent)
        return exact.numerator, exact.denominator
    if isinstance(entry, (float, Decimal, np.floating)):
        if not np.isfinite(float(entry)) and not (isinstance(entry, Decimal) and entry.is_finite()):
            raise InputError(f"{where}, which is not finite; {_WAY_OUT}")
        top, bottom = entry.as_integer_ratio()
        return int(top), int(bottom)
    if getattr(entry, "is_finite", None) is False or getattr(entry, "is_infinite", None):
        raise InputError(f"{where}, which is not finite; {_WAY_OUT}")
    raise InputError(f"{where}, of type {kind.__name__}; {_WAY_OUT}")


def _numpy_entries(
    array: np.ndarray[Any, Any],
) -> tuple[list[list[Any]] | np.ndarray[Any, Any], int]:
    if array.ndim != 2:
        raise InputError(
            f"the array has shape {array.shape}: a matrix has two dimensions; reshape it first"
        )
    rows, columns = array.shape
    if not rows or not columns:
        return [[] for _ in range(rows)], columns
    kind = array.dtype.kind
    if kind in "iub":
        return array.astype(np.int64 if kind == "b" else array.dtype).tolist(), columns
    if kind == "O" or (kind == "f" and array.dtype.itemsize > 8):
        return [list(row) for row in array], columns
    if kind != "f":
        raise InputError(f"the array's type is {array.dtype}; {_WAY_OUT}")
    if not np.isfinite(array).all():
        i, j = (int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"entry ({i}, {j}) is {array[i, j]}, which is not finite; {_WAY_OUT}")
    return array.astype(np.float64), columns


def _scale_floats(array: np.ndarray[Any, Any]) -> list[list[int]]:
    """Floats m 2^e with odd m, each row times 2^-(its smallest e)."""
    mantissa, exponent = np.frexp(array)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    low_bit = np.where(whole == 0, 1, whole & -whole)
    whole //= low_bit
    exponent = exponent - 53 + np.round(np.log2(low_bit.astype(np.float64))).astype(np.int64)
    exponent = np.where(whole == 0, np.iinfo(np.int32).max, exponent)
    shift = np.where(whole == 0, 0, exponent - exponent.min(axis=1, keepdims=True))
    pairs = zip(whole.tolist(), shift.tolist(), strict=True)
    return [[w << s for w, s in zip(*pair, strict=True)] for pair in pairs]
