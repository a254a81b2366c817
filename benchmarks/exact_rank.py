"""Certified exact rank against flint's uncertified rank and SymPy's, as ratios within one run.

    python benchmarks/exact_rank.py [--repeats N]

Prints the Markdown table of the section "Exact rank" in benchmarks/README.md, and how far the estimate
that ``--timeout`` goes by is from the time that the kernel then takes. Status 1 when a ratio is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import flint
import numpy as np
from sympy import QQ
from sympy.polys.matrices import DomainMatrix

from numeric.exact import certified_rank, exact_kernel, integer_matrix, pivots, random_prime, replay
from numeric.limits import kernel_estimate


def seconds(work: Callable[[], Any], expected: int) -> float:
    """CPU time of one call, whose result is checked; the cores are shared, all is one thread."""
    start = time.process_time()
    found = work()
    elapsed = time.process_time() - start
    if found != expected:
        raise SystemExit(f"wrong rank {found}, expected {expected}")
    return elapsed


def product(n: int, inner: int) -> flint.fmpz_mat:
    """An exact product of two float64 matrices: rank ``inner``, entries of about 135 bits."""
    rng = np.random.default_rng(0)
    left, right = (integer_matrix(rng.standard_normal((n, inner))) for _ in range(2))
    return left * right.transpose()


def main() -> int:
    """Run the comparisons, alternating the two sides; 1 when a ratio is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    met = True
    print("| matrix | certified, s | other, s | ratio (range) | target |")
    print("|---|---|---|---|---|")
    for n in (64, 128):
        for inner in (2, n // 8, n // 2, n - 1):
            deficient = flint.fmpq_mat(product(n, inner))
            pairs = []
            for _ in range(repeats):
                ours = seconds(lambda m=deficient: certified_rank(m).rank, inner)  # type: ignore[misc]
                pairs.append((ours, seconds(deficient.rank, inner)))
            what = f"{n} x {n}, rank {inner}, product of floats; flint `fmpq_mat.rank`"
            met &= row(what, pairs, "<= 1.5") <= 1.5
    matrix = np.random.default_rng(0).standard_normal((128, 128))
    exact = [[QQ(int(entry)) for entry in line] for line in integer_matrix(matrix).tolist()]
    sympys = DomainMatrix(exact, (128, 128), QQ)
    pairs = [
        (
            statistics.median(seconds(lambda: certified_rank(matrix).rank, 128) for _ in range(9)),
            seconds(sympys.rank, 128),
        )
        for _ in range(max(1, repeats // 3))
    ]
    what = "128 x 128, full rank, floats; SymPy `DomainMatrix.rank`"
    met &= row(what, pairs, ">= 100 the other way") >= 100
    print("\nThe kernel's estimated time over its time:", ", ".join(estimates()))
    certificate = certified_rank(deficient)
    start = time.process_time()
    replay(deficient, certificate)
    print(
        f"\nThe certificate of rank 127: {len(certificate.witness.to_json()) / 2**20:.2f} MiB, "
        f"replayed in pure Python in {time.process_time() - start:.2f} s."
    )
    return not met


def estimates() -> Iterator[str]:
    """Sizes, ranks and ratios of ``numeric.limits.kernel_estimate`` to what it estimates."""
    for n, inner in ((96, 48), (90, 75), (150, 20), (192, 96)):
        matrix = product(n, inner)
        at = pivots(matrix, random_prime())
        estimate = kernel_estimate(matrix, *at)
        start = time.perf_counter()
        exact_kernel(matrix, *at)
        yield f"{estimate / (time.perf_counter() - start):.2g} (n = {n}, rank {inner})"


def row(what: str, pairs: list[tuple[float, float]], target: str) -> float:
    """Print one line: medians, and the median and range of the paired ratios; the median ratio."""
    ratios = sorted(ours / other for ours, other in pairs)
    if target.startswith(">="):
        ratios = sorted(1 / ratio for ratio in ratios)
    ours, others = (statistics.median(side) for side in zip(*pairs, strict=True))
    middle = statistics.median(ratios)
    print(
        f"| {what} | {ours:.3g} | {others:.3g} | {middle:.3g} ({ratios[0]:.3g} to "
        f"{ratios[-1]:.3g}) | {target} |"
    )
    return middle


if __name__ == "__main__":
    sys.exit(main())
