"""Classification dimension against the official loop, on 5,000 x 512 features.

    python benchmarks/classification.py [--samples N] [--width N] [--classes N]

The official arithmetic, re-stated: principal axes of the covariance, and for each k < n one full
projection of the features and one pass of the head, in float32. Both must name the same dimension
under the same projection; the ratio of wall times is printed.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from empirical.classification import measure
from empirical.official import classification_dimension


def sample(samples: int, width: int, classes: int, power: float) -> tuple[Tensor, ...]:
    """Clustered features with a power-law spectrum, as trained networks have, and their head."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, width + 1, dtype=torch.float64) ** -power
    rotation, _ = torch.linalg.qr(
        torch.randn(width, width, generator=generator, dtype=torch.float64)
    )
    centres = torch.randn(classes, width, generator=generator, dtype=torch.float64) * scale
    y = torch.randint(0, classes, (samples,), generator=generator)
    noise = torch.randn(samples, width, generator=generator, dtype=torch.float64) * scale
    h = (centres[y] + 0.5 * noise) @ rotation
    w = centres @ rotation  # nearest class mean, what training converges to
    b = -0.5 * (centres**2).sum(1)
    return h, w, b, y


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--power", type=float, default=0.8)
    args = parser.parse_args()
    h, w, b, y = sample(args.samples, args.width, args.classes, args.power)
    started, cpu = time.perf_counter(), time.process_time()
    ours = measure(h, w, b, y, projection="official", bootstrap=0)
    mine, mine_cpu = time.perf_counter() - started, time.process_time() - cpu
    started, cpu = time.perf_counter(), time.process_time()
    theirs = classification_dimension(h, w, b, y, 0.95)
    loop, loop_cpu = time.perf_counter() - started, time.process_time() - cpu
    print(f"official {theirs} in {loop:.1f} s, rankfall {ours.first} in {mine:.2f} s")
    print(f"processor time {loop_cpu:.1f} s and {mine_cpu:.2f} s")
    print(f"accuracy {ours.accuracy:.3f}; ratio {loop / mine:.1f} ({loop_cpu / mine_cpu:.1f})")


if __name__ == "__main__":
    main()
