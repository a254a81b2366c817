"""``rankfall verify``: the main job on the embedded default."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("rankfall-run"),
    show_default=True,
    help="Run folder; an interrupted run in it is continued.",
)
@click.option("--fresh", is_flag=True, help="Forget what the run folder has.")
@click.option(
    "--photograph",
    "photographs",
    multiple=True,
    default=("coffee",),
    show_default=True,
    help="Embedded photograph for EfficientNet; may be repeated.",
)
@click.option(
    "--patch",
    type=click.IntRange(1, 224),
    default=8,
    show_default=True,
    help="Side of the central patch: 8 is 192 directions, 16 the paper's 768 (4.5 GB).",
)
@click.option(
    "--examples",
    type=click.IntRange(1),
    default=60,
    show_default=True,
    help="Random examples of each property.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    out: Path,
    fresh: bool,
    photographs: tuple[str, ...],
    patch: int,
    examples: int,
    seed: int,
    as_json: bool,
) -> int:
    """Prove the catalogue, test it exactly, measure real networks, judge the claims.

    Needs no network and no GPU. Exit status: 0 every expected verdict is met (a claim of the paper
    that is refuted as expected is a finding), 1 one is missed, 3 something could not be decided,
    2 bad input.
    """
    from empirical.runs import Run
    from rankfall.results import as_json as to_json
    from rankfall.results import show
    from rankfall.show import TerminalProgress
    from rankfall.steps_networks import work_list
    from rankfall.verify import Options, verify

    options = Options(tuple(dict.fromkeys(photographs)), patch, examples, seed)
    work_list(
        options.photographs, options.patch
    )  # a bad name is refused before anything is written
    with Run.open(out, options.command, seed, fresh=fresh) as run:
        before = len(run.records())
        if before:
            click.echo(f"continuing the run in {out}: {before} records are there", err=True)
        with TerminalProgress() as progress:
            outcome = verify(run, options, progress)
    facts = {
        "status": outcome.status,
        "seconds": round(outcome.seconds, 1),
        "peak_bytes": outcome.peak_bytes,
        "missed": list(outcome.missed),
        "undecided": list(outcome.undecided),
        "page": str(outcome.page),
    }
    if as_json:
        click.echo(to_json(outcome.records, outcome.verdicts, facts))
        return outcome.status
    show(outcome.records)
    for text in outcome.missed:
        click.echo(f"MISSED: {text}")
    for text in outcome.undecided:
        click.echo(f"UNDECIDED: {text}")
    met = "every expected verdict is met" if outcome.status == 0 else f"status {outcome.status}"
    click.echo(
        f"{met}; {outcome.seconds:.0f} s, peak memory {outcome.peak_bytes / 1e9:.2f} GB; "
        f"page: {outcome.page}"
    )
    return outcome.status
