"""``rankfall measure pca``: dimension of the features around an image."""

from __future__ import annotations

from typing import Any

import click

from empirical.records import Record
from rankfall.measuring import Asked, numbers, options


@click.command("pca", context_settings={"help_option_names": ["-h", "--help"]})
@options
@click.option("--noise", default="1e-3", show_default=True, metavar="E,...", help="Magnitudes.")
@click.option("--samples", type=click.IntRange(2), default=5000, show_default=True)
@click.option("--estimator", type=click.Choice(["streaming", "official"]), default="streaming")
def command(noise: str, samples: int, estimator: str, **shared: Any) -> int:
    """Perturbed PCA dimension of MODEL at every tap, around --count images (1 by default)."""
    from empirical.data import pictures
    from empirical.images import pixel_hash
    from empirical.pca import measure
    from empirical.subject import Subject
    from rankfall.show import TerminalProgress

    asked = Asked(**shared)
    magnitudes = numbers(noise, "--noise")
    loaded = asked.load()
    records: list[Record] = []
    with TerminalProgress() as progress:
        for name, image in pictures(loaded, asked.images, asked.count or 1):
            progress.start(f"{loaded.name} around {name}", 1)
            result = measure(
                loaded.model, image, loaded.taps, noises=magnitudes, samples=samples,
                estimator=estimator, seed=asked.seed, device=asked.device,
                progress=lambda done, total: progress.tell(f"pass {done} of {total}"),
            )  # fmt: skip
            subject = Subject(
                loaded.name, loaded.weights, pixel_hash(image), device=asked.device,
                seed=asked.seed, extra={"image_name": name},
            )  # fmt: skip
            records += result.records(subject)
    title = f"{loaded.name}: perturbed PCA dimension, {samples} samples"
    return asked.answer(
        records, title, asked.line("pca", noise=noise, samples=samples, estimator=estimator)
    )
