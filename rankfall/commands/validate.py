"""``rankfall validate``: all measurements, the sandwich and the verdicts, for any networks."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("validate", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("models", nargs=-1)
@click.option("--preset", type=click.Choice(["demo", "paper"]), help="A list of networks.")
@click.option("--images", metavar="DIR", help="Class folders of images; the embedded ones.")
@click.option("--count", type=click.IntRange(1), help="Images a network; five by default.")
@click.option("--labelled", type=click.IntRange(1), help="Images of the data-set studies.")
@click.option("--patch", type=click.IntRange(1), default=8, show_default=True)
@click.option("--pca-samples", "samples", type=click.IntRange(2), help="2000 small, 64 else.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Weights of one network.")
@click.option("--random-weights", is_flag=True, help="Untrained networks.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("rankfall-validate"))
@click.option("--fresh", is_flag=True, help="Forget what the run folder has.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    models: tuple[str, ...],
    preset: str | None,
    images: str | None,
    count: int | None,
    labelled: int | None,
    patch: int,
    samples: int | None,
    checkpoint: str | None,
    random_weights: bool,
    device: str,
    seed: int,
    out: Path,
    fresh: bool,
    as_json: bool,
) -> int:
    """Measure MODELS (or a preset) in every way, beside their random-weights controls.

    Exit status: 0 every claim got a verdict, 1 something proved is contradicted, 3 a claim is not
    decidable at this precision, 2 bad input (the rest is measured and kept). An interrupted run is
    continued by the same command.
    """
    from empirical.report.sections import whole_run
    from empirical.runs import Run
    from empirical.validation import preset as networks
    from rankfall.results import as_json as to_json
    from rankfall.results import show
    from rankfall.show import TerminalProgress, table
    from rankfall.validation import Options, load_all, spread_rows, validate
    from theory.errors import InputError

    chosen = models + (networks(preset) if preset else ())
    if not chosen:
        raise InputError("no network is named; give MODEL... or --preset demo|paper")
    if checkpoint and len(chosen) != 1:
        raise InputError(f"--checkpoint fits one network, {len(chosen)} are named")
    options = Options(
        tuple(dict.fromkeys(chosen)), images, count, labelled, patch, samples,
        checkpoint=checkpoint, random_weights=random_weights, device=device, seed=seed,
    )  # fmt: skip
    loaded = load_all(options)  # a bad name is refused before anything is written
    with Run.open(out, options.command, seed, fresh=fresh) as run, TerminalProgress() as progress:
        outcome = validate(run, options, progress, loaded)
    if as_json:
        facts = {
            "status": outcome.status, "seconds": round(outcome.seconds, 1),
            "failed": list(outcome.failed), "missed": list(outcome.missed),
            "undecided": list(outcome.undecided),
            "page": str(outcome.page),
        }  # fmt: skip
        click.echo(to_json(outcome.records, outcome.verdicts, facts))
        return outcome.status
    show(outcome.records)
    rows = spread_rows(outcome.records)
    if rows:
        columns = ("network", "tap", "notion", "images", "median", "quartiles", "range")
        table("Ranks over images", columns, rows, wrap=(1, 2))
    for section in whole_run(outcome.records):
        table(section.title, section.columns, section.rows, wrap=section.text)
    for text in outcome.failed:
        click.echo(f"FAILED: {text}")
    for text in outcome.missed:
        click.echo(f"MISSED: {text}")
    for text in outcome.undecided:
        click.echo(f"UNDECIDED: {text}")
    click.echo(f"status {outcome.status}; {outcome.seconds:.0f} s; page: {outcome.page}")
    return outcome.status
