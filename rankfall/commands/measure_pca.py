"""``rankfall measure pca``: dimension of the features around an image."""

from __future__ import annotations

from typing import Any

import click

from empirical.records import Record
from rankfall.measuring import Asked, numbers, options

#: directions whose Jacobian is measured unasked
MOST = 800


@click.command("pca", context_settings={"help_option_names": ["-h", "--help"]})
@options
@click.option("--noise", default="1e-3", show_default=True, metavar="E,...", help="Magnitudes.")
@click.option("--samples", type=click.IntRange(2), default=5000, show_default=True)
@click.option("--estimator", type=click.Choice(["streaming", "official"]), default="streaming")
@click.option("--patch", type=click.IntRange(1), help="Perturb a central square only.")
@click.option(
    "--jacobian/--no-jacobian", default=None,
    help=f"Set the Jacobian's rank beside it; by default up to {MOST} directions.",
)  # fmt: skip
def command(
    noise: str,
    samples: int,
    estimator: str,
    patch: int | None,
    jacobian: bool | None,
    **shared: Any,
) -> int:
    """Perturbed PCA dimension of MODEL at every tap, around --count images (1 by default)."""
    from empirical.jacobian import jacobian_profile
    from empirical.pca import measure, window
    from empirical.subject import at_image
    from rankfall.show import TerminalProgress

    asked = Asked(**shared)
    line = asked.line("pca", noise=noise, samples=samples, estimator=estimator, patch=patch)
    magnitudes = numbers(noise, "--noise")
    loaded = asked.load()
    records: list[Record] = []
    with TerminalProgress() as progress:
        for name, image in asked.pictures(loaded):
            progress.start(f"{loaded.name} around {name}", 1)
            directions = int(window(tuple(image.shape), patch).sum())
            spectra = None
            if jacobian or (jacobian is None and directions <= MOST):
                spectra = jacobian_profile(
                    loaded.model, image, patch=patch, taps=loaded.taps, seed=asked.seed,
                    device=asked.device, name=loaded.name, weights=loaded.weights,
                ).spectra  # fmt: skip
            result = measure(
                loaded.model, image, loaded.taps, noises=magnitudes, samples=samples,
                estimator=estimator, seed=asked.seed, device=asked.device, jacobian=spectra, patch=patch,
                progress=lambda done, total: progress.tell(f"pass {done} of {total}"),
            )  # fmt: skip
            subject = at_image(loaded, image, name, asked.seed, asked.device)
            records += result.records(subject)
            asked.keep(records, line)
    title = f"{loaded.name}: perturbed PCA dimension, {samples} samples"
    return asked.answer(records, title, line)
