"""``rankfall theory audit``: structural bounds of an architecture; the only one here that needs torch."""

from __future__ import annotations

import json
from pathlib import Path

import click

#: of every ``theory`` command
JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.command()
@click.argument("model")
@click.option("--symbolic", is_flag=True, help="Bounds in the widths instead of numbers.")
@click.option(
    "--directions", type=click.IntRange(1), help="Number of input directions [all pixels]."
)
@click.option("--proof", is_flag=True, help="Every step of every bound.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Local weights.")
@click.option("--random-weights", is_flag=True, help="Draw the weights instead of loading any.")
@JSON
def audit(
    model: str,
    symbolic: bool,
    directions: int | None,
    proof: bool,
    checkpoint: Path | None,
    random_weights: bool,
    as_json: bool,
) -> int:
    """Structural rank bounds of MODEL at every tap, each with its proof."""
    from math import prod

    from empirical.facts import facts
    from rankfall.show import load_shown, table
    from theory.audit import audit as run

    loaded = load_shown(model, checkpoint=checkpoint, random_weights=random_weights)
    shape = tuple(loaded.input_size)
    bounds = run(facts(loaded.model, shape), prod(shape), directions, symbolic=symbolic)
    if as_json:
        click.echo(json.dumps([b.to_json() for b in bounds]))
        return 0
    rows = []
    for b in bounds:
        used = [s for s in b.steps if s.bound == "upper"]
        why = next((s for s in reversed(used) if s.rule != "diminishing"), used[-1])
        lower = "-" if b.lower is None else str(b.lower)
        rows.append((b.tap, str(b.upper), lower, f"{why.rule} ({why.layer})"))
    table(f"Structural bounds of {loaded.name}", ("tap", "upper", "lower", "by"), rows, wrap=(3,))
    if proof:
        for b in bounds:
            click.echo(f"\n{b.tap}: {b.lower or 0} <= rank <= {b.upper}")
            for s in b.steps:
                click.echo(f"  {s.bound} {s.value}  {s.layer}: {s.rule}: {s.statement}")
            for note in b.notes:
                click.echo(f"  note: {note}")
    return 0
