"""What numpy and torch say of a matrix's rank, and why they differ from the exact rank."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from numeric.exact import certified_rank
from theory.errors import InputError


@dataclass(frozen=True)
class FloatRank:
    """One library's numerical rank at its default tolerance.

    Attributes:
        library: ``numpy`` or ``torch``.
        notion: ``relative(eps)``, the notion that the library's default really is.
        dtype: the float type it computed in.
        rank: its answer, or None where the entries do not fit that type.
        why: empty where it agrees with the exact rank, else the reason.
    """

    library: str
    notion: str
    dtype: str
    rank: int | None
    why: str


def float_matrix(matrix: Any) -> np.ndarray[Any, Any] | None:
    """The matrix as numpy sees it: float arrays as stored, all else rounded to float64.

    Returns:
        shape (rows, columns), or None where an entry overflows float64.
    """
    if isinstance(matrix, np.ndarray) and matrix.dtype.kind == "f":
        return matrix.astype(np.float32) if matrix.dtype.itemsize == 2 else np.asarray(matrix)
    if isinstance(matrix, np.ndarray) and matrix.dtype.kind != "O":
        return matrix.astype(np.float64)
    try:
        rows = [[float(entry) for entry in row] for row in matrix]
    except OverflowError:
        return None
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows and rows[0] else 0)


def float_ranks(matrix: Any, lower: int, upper: int, *, limit: float = 60.0) -> list[FloatRank]:
    """Numpy's and torch's answers at their defaults, each explained where it is not exact.

    Args:
        matrix: as ``numeric.files.read_matrix`` returns it, shape (rows, columns).
        lower: proved lower bound of the exact rank.
        upper: proved upper bound of the exact rank.
        limit: seconds that an SVD may take by estimate; beyond it no answer is given.
    """
    import torch

    array = float_matrix(matrix)
    if array is None:
        why = "an entry is larger than float64 can hold"
        return [FloatRank(name, "relative", "float64", None, why) for name in ("numpy", "torch")]
    estimate = _svd_estimate(array)
    if estimate > limit:
        why = f"not asked: an SVD would take about {estimate:.2g} s (estimate), the limit is {limit:g}"
        kind = str(array.dtype)
        return [FloatRank(name, "relative", kind, None, why) for name in ("numpy", "torch")]
    eps = float(np.finfo(array.dtype).eps)
    notion = f"relative({max(array.shape, default=0) * eps:.3g})"
    found = []
    for library in ("numpy", "torch"):
        if not array.size:
            answer = 0
        elif library == "numpy":
            answer = int(np.linalg.matrix_rank(array))
        else:
            answer = int(torch.linalg.matrix_rank(torch.from_numpy(np.array(array))))
        why = "" if lower <= answer <= upper else _why(matrix, array, answer, lower, upper)
        found.append(FloatRank(library, notion, str(array.dtype), answer, why))
    return found


def _svd_estimate(array: np.ndarray[Any, Any]) -> float:
    """Seconds of an SVD, scaled from a corner's by rows * columns * min(rows, columns)."""
    corner = array[:256, :256]
    if corner.shape == array.shape:
        return 0.0
    once = math.inf
    for _ in range(3):  # the first call also loads the library
        start = time.perf_counter()
        np.linalg.svd(corner, compute_uv=False)
        once = min(once, time.perf_counter() - start)
    work = [
        float(rows * columns * min(rows, columns)) for rows, columns in (array.shape, corner.shape)
    ]
    return once * work[0] / work[1]


def _why(matrix: Any, array: np.ndarray[Any, Any], answer: int, lower: int, upper: int) -> str:
    rounded = _rank_after_rounding(matrix, array)
    if rounded is not None and not lower <= rounded <= upper:
        return f"rounding the entries to {array.dtype} changed the exact rank to {rounded}"
    values = np.linalg.svd(array.astype(np.float64), compute_uv=False)
    cut = max(array.shape) * float(np.finfo(array.dtype).eps)
    if answer < lower:
        return (
            f"singular values {answer + 1} to {lower} are not zero but below the cut-off "
            f"{cut:.2g} of the largest (number {answer + 1}: {values[answer] / values[0]:.1g}, as far "
            "as float64 can tell)"
        )
    return (
        f"singular values {upper + 1} to {answer} are exactly zero; rounding within the "
        f"{array.dtype} decomposition lifts them above the cut-off {cut:.2g} of the largest"
    )


def _rank_after_rounding(matrix: Any, array: np.ndarray[Any, Any]) -> int | None:
    """Exact rank of the rounded entries, or None where nothing was rounded."""
    if isinstance(matrix, np.ndarray) and matrix.dtype.kind == "f":
        return None
    exact = matrix.tolist() if isinstance(matrix, np.ndarray) else matrix
    same = all(
        Fraction(x) == Fraction(y)
        for rounded, row in zip(array.tolist(), exact, strict=True)
        for x, y in zip(rounded, row, strict=True)
    )
    if same:
        return None
    try:
        return certified_rank(array, timeout=10.0).rank
    except InputError:
        return None
