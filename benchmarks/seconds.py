"""The times that the theory and numeric rooms aim at, in seconds of this machine, best of three.

    python benchmarks/seconds.py

Prints the Markdown table of the section "Answers at once" in benchmarks/README.md. Nothing fails here: a
time is a fact about a machine and its minute, and no test asks for one.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from numeric.balls import ball_rank, tanh_jacobian
from theory.catalogue import CATALOGUE
from theory.chains import decide
from theory.prover import prove

SEVEN = "*".join(f"(I+G{k})" for k in range(7, 0, -1))
LOSSES = " ".join(f"- rank(G{k})" for k in range(1, 8))
#: asked of the prover beside the catalogue's rows
BEYOND = {
    "seven residual blocks": f"rank({SEVEN}) >= rows(G1) {LOSSES}",
    "two behind a product, from below": "rank((I+G)*(I+H)*U*V) >= rank(U*V) - rank(G) - rank(H)",
    "two behind a product, from above": "rank((I+G)*(I+H)*U*V) <= cols(U)",
}


def best(work: Callable[[], Any]) -> float:
    """Wall time of one call in seconds, best of three: the cores are shared."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def command(*words: str) -> Callable[[], Any]:
    """``rankfall`` with these words, in a process of its own."""
    line = [sys.executable, "-m", "rankfall.cli", *words]
    return lambda: subprocess.run(line, check=True, capture_output=True)


def proof(text: str, given: tuple[str, ...] = ()) -> float:
    """How long a proof takes."""

    def once() -> None:
        found = prove(text, given=given)
        if found.kind != "PROVED":
            raise SystemExit(f"{text} is {found.kind}: {found.reason}")

    return best(once)


def rows() -> Iterator[tuple[str, float, float]]:
    """What is timed, how long it took and how long it should at most, in seconds."""
    for words in (("--help",), ("theory", "list")):
        yield f"`rankfall {' '.join(words)}`", best(command(*words)), 0.7
    yield "`rankfall theory check`", best(command("theory", "check")), 10
    n = 400
    form = {(k, k + 1): -1 for k in range(n)} | {(k, k): 1 for k in range(1, n)} | {(0, n): 1}
    yield "a chain of 400 maps, 80,601 intervals, decided", best(lambda: decide(form, n)), 0.2
    everything = {(i, j): 1 for i in range(n + 1) for j in range(i, n + 1)}
    yield "the same with every interval in the statement", best(lambda: decide(everything, n)), 0.2
    known = [row for row in CATALOGUE if row.status.startswith("K")]
    took, name = max((proof(text, row.given), row.id) for row in known for text in row.statements)
    yield f"the slowest statement of the catalogue's K rows, of `{name}`", took, 1
    for name, text in BEYOND.items():
        yield name, proof(text), 1
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((32, 32)) / np.sqrt(32) for _ in range(8)]
    point = rng.standard_normal(32)
    took = best(lambda: ball_rank(tanh_jacobian(weights, point)))
    yield "tanh, width 32, depth 8: rank 32 proved by balls", took, 0.1


def main() -> None:
    """Print the table."""
    print("| what | s | aim, s |\n|---|---|---|")
    for what, took, aim in rows():
        print(f"| {what} | {took:.2g} | {aim:g} |", flush=True)


if __name__ == "__main__":
    main()
