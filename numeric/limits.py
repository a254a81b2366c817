"""How long an exact rank will take, and holding it to a limit.

flint's calls cannot be interrupted: the long one runs in a process of its own, which is ended at
the limit. The estimate scales a small solve with the matrix's own entries: a p-adic solve of size
r against f columns costs about r^2.5 f (the exponent measured for r = 30 to 250, where the estimate
is right within a factor of 3: ``benchmarks/exact_rank.py``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import flint

from numeric.certificate import Kernel, Witness
from theory.errors import UnsupportedError

_SMALL = 32
_BLOCK = 128


def kernel_estimate(integers: flint.fmpz_mat, rows: Sequence[int], columns: Sequence[int]) -> float:
    """Estimated seconds of ``exact_kernel`` on this machine (itself well below a second).

    Args:
        integers: shape (m, n).
        rows: pivot rows.
        columns: pivot columns, as many.
    """
    if integers.nrows() < integers.ncols():
        integers, rows, columns = integers.transpose(), columns, rows
    size = min(_SMALL, len(rows))
    if not size:
        return 0.0
    taken = set(columns)
    free = [j for j in range(integers.ncols()) if j not in taken]
    some = free[:_SMALL]
    square = flint.fmpz_mat([[integers[i, j] for j in columns[:size]] for i in rows[:size]])
    right = flint.fmpz_mat([[integers[i, j] for j in some] for i in rows[:size]])
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        try:
            square.solve(right)
        except ZeroDivisionError:  # this corner is singular; the time is the right size anyway
            square = square + _identity(size)
            square.solve(right)
        best = min(best, time.perf_counter() - start)
    return float(best * (len(rows) / size) ** 2.5 * len(free) / len(some))


def _identity(size: int) -> flint.fmpz_mat:
    big = 1 << 40
    return flint.fmpz_mat([[big * (i == j) for j in range(size)] for i in range(size)])


def affordable_size(integers: flint.fmpz_mat, prime: int, seconds: float) -> tuple[int, int]:
    """Largest leading block (rows, columns) whose rank mod ``prime`` takes about ``seconds``.

    The rank of a block is a lower bound of the rank.
    """
    m, n = integers.nrows(), integers.ncols()
    if max(m, n) <= _BLOCK:
        return m, n
    a, b = min(m, _BLOCK), min(n, _BLOCK)
    corner = flint.nmod_mat(
        flint.fmpz_mat([[integers[i, j] for j in range(b)] for i in range(a)]), prime
    )
    once = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        corner.rref()
        once = min(once, time.perf_counter() - start)
    predicted = 2 * once * (m * n * min(m, n)) / (a * b * min(a, b))
    shrink = min(1.0, (max(seconds, 1e-3) / max(predicted, 1e-9)) ** (1 / 3))
    return max(a, int(m * shrink)), max(b, int(n * shrink))


def kernel_within(
    integers: flint.fmpz_mat, rows: Sequence[int], columns: Sequence[int], seconds: float
) -> tuple[Kernel | None, bool]:
    """``exact_kernel`` in a process of its own, ended after ``seconds``.

    Returns:
        (kernel or None, whether it finished in time).

    Raises:
        UnsupportedError: the process was ended by something else, such as want of memory.
    """
    task = {
        "rows": list(rows),
        "columns": list(columns),
        "matrix": [[hex(int(entry)) for entry in row] for row in integers.tolist()],
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "numeric.limits"],
            input=json.dumps(task).encode(),
            stdout=subprocess.PIPE,
            env=environment,
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return None, False
    except subprocess.CalledProcessError as error:
        raise UnsupportedError(
            f"the exact solve of size {len(rows)} ended with status {error.returncode}, most likely "
            "for want of memory; take a part of the matrix"
        ) from error
    return Witness.from_json(done.stdout.decode()).kernel, True


def _main() -> None:
    from numeric.exact import exact_kernel

    task = json.load(sys.stdin)
    integers = flint.fmpz_mat([[int(entry, 16) for entry in row] for row in task["matrix"]])
    kernel = exact_kernel(integers, tuple(task["rows"]), tuple(task["columns"]))
    sys.stdout.write(Witness(2, (), (), kernel).to_json())


if __name__ == "__main__":
    _main()
