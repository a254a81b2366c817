"""Random networks a second, exact Jacobian and rank included (target: 300 at depth 4, width 6).

Run: ``python benchmarks/network_rate.py [EXAMPLES]``. One process, so one core. The second line draws
the same number of small integers one by one, the third in one block of bytes, as the strategies do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from numeric.decoding import decoded
from numeric.strategies import networks

WEIGHTS = 4 * 6 * 7


def rate(strategy: st.SearchStrategy[Any], use: Callable[[Any], Any], examples: int) -> float:
    """Examples a second of drawing and using, Hypothesis's own overhead included."""
    count = 0

    @settings(max_examples=examples, database=None, deadline=None)
    @given(strategy)
    def run(case: Any) -> None:
        nonlocal count
        use(case)
        count += 1

    start = perf_counter()
    run()
    return count / (perf_counter() - start)


def main() -> None:
    """Print the three rates."""
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    drawn = networks(depth=4, width=6)
    nets = rate(drawn, lambda case: case[0].jacobian(case[1]).rank(), examples)
    print(f"networks, depth 4, width 6, exact Jacobian and rank: {nets:8.0f} a second, one core")
    single = st.lists(st.integers(-3, 3), min_size=WEIGHTS, max_size=WEIGHTS)
    one = rate(single, len, min(examples, 200))
    block = rate(decoded(WEIGHTS, lambda b: b.integers(WEIGHTS)), len, examples)
    print(f"{WEIGHTS} weights drawn one by one:                       {one:8.0f} a second")
    print(f"{WEIGHTS} weights from one block of bytes:                {block:8.0f} a second")
    print(f"ratio {block / one:.0f}")


if __name__ == "__main__":
    main()
