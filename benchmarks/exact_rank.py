"""Certified exact rank against flint's uncertified rank and SymPy's, as ratios within one run.

    python benchmarks/exact_rank.py [--repeats N]

Prints the Markdown table of the section "Exact rank" in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import flint
import numpy as np
from sympy import QQ
from sympy.polys.matrices import DomainMatrix

from numeric.exact import certified_rank, integer_matrix, replay


def seconds(work: Callable[[], Any], expected: int) -> float:
    """CPU time of one call, whose result is checked; the cores are shared, all is one thread."""
    start = time.process_time()
    found = work()
    elapsed = time.process_time() - start
    if found != expected:
        raise SystemExit(f"wrong rank {found}, expected {expected}")
    return elapsed


def main() -> None:
    """Run the comparisons, alternating the two sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    print("| matrix | certified, s | other, s | ratio (range) | target |")
    print("|---|---|---|---|---|")
    for n in (64, 128):
        for inner in (2, n // 8, n // 2, n - 1):
            left, right = (integer_matrix(rng.standard_normal((n, inner))) for _ in range(2))
            product = flint.fmpq_mat(left * right.transpose())
            pairs = []
            for _ in range(repeats):
                ours = seconds(lambda m=product: certified_rank(m).rank, inner)  # type: ignore[misc]
                pairs.append((ours, seconds(product.rank, inner)))
            what = f"{n} x {n}, rank {inner}, product of floats; flint `fmpq_mat.rank`"
            row(what, pairs, "<= 1.5")
    matrix = rng.standard_normal((128, 128))
    exact = [[QQ(int(entry)) for entry in line] for line in integer_matrix(matrix).tolist()]
    sympys = DomainMatrix(exact, (128, 128), QQ)
    pairs = [
        (
            statistics.median(seconds(lambda: certified_rank(matrix).rank, 128) for _ in range(9)),
            seconds(sympys.rank, 128),
        )
        for _ in range(max(1, repeats // 3))
    ]
    row("128 x 128, full rank, floats; SymPy `DomainMatrix.rank`", pairs, ">= 100 the other way")
    certificate = certified_rank(product)
    start = time.process_time()
    replay(product, certificate)
    print(
        f"\nThe certificate of rank 127: {len(certificate.witness.to_json()) / 2**20:.2f} MiB, "
        f"replayed in pure Python in {time.process_time() - start:.2f} s."
    )


def row(what: str, pairs: list[tuple[float, float]], target: str) -> None:
    """Print one line: medians, and the median and range of the paired ratios."""
    ratios = sorted(ours / other for ours, other in pairs)
    if target.startswith(">="):
        ratios = sorted(1 / ratio for ratio in ratios)
    ours, others = (statistics.median(side) for side in zip(*pairs, strict=True))
    middle = statistics.median(ratios)
    print(
        f"| {what} | {ours:.3g} | {others:.3g} | {middle:.3g} ({ratios[0]:.3g} to "
        f"{ratios[-1]:.3g}) | {target} |"
    )


if __name__ == "__main__":
    main()
