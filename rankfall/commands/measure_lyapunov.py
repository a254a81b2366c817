"""``rankfall measure lyapunov``: exponents of the Jacobian's singular values with depth."""

from __future__ import annotations

from typing import Any

import click

from empirical.records import Record
from rankfall.measuring import Asked, options


@click.command("lyapunov", context_settings={"help_option_names": ["-h", "--help"]})
@options
@click.option("--directions", type=click.IntRange(1), default=64, show_default=True)
def command(directions: int, **shared: Any) -> int:
    """Singular-value exponents of MODEL by the QR method over its blocks, at --count images."""
    from empirical.lyapunov import measure
    from empirical.subject import at_image
    from rankfall.show import TerminalProgress

    asked = Asked(**shared)
    loaded = asked.load()
    records: list[Record] = []
    with TerminalProgress() as progress:
        for name, image in asked.pictures(loaded):
            progress.start(f"{loaded.name} at {name}", 1)
            result = measure(
                loaded.model, image, loaded.taps, directions=min(directions, image.numel()),
                seed=asked.seed, device=asked.device,
                progress=lambda done, total: progress.tell(f"block {done} of {total}"),
            )  # fmt: skip
            subject = at_image(loaded, image, name, asked.seed, asked.device)
            records += result.records(subject)
    title = f"{loaded.name}: log singular values along {directions} directions"
    return asked.answer(records, title, asked.line("lyapunov", directions=directions))
