"""``rankfall report RUN``: a run folder as a page, plots and CSV, from its records alone."""

from __future__ import annotations

import re
from pathlib import Path

import click


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(run: Path, as_json: bool) -> int:
    """Write report.html, records.csv and plots/ into the run folder RUN and print its tables.

    Nothing is measured: what the records say is all that is shown. Exit status: 1 where a proved
    statement is contradicted or an expected verdict is missed, 3 undecided, 2 no run folder.
    """
    from empirical.expected import asks_for_claims, exit_status, shortfalls
    from empirical.report import page, table_csv
    from empirical.report.plots import rank_by_depth
    from empirical.report.rows import networks
    from empirical.runs import read_info, read_records, write_whole
    from empirical.sandwich import judge
    from rankfall.results import as_json as to_json
    from rankfall.results import show

    records, info = read_records(run), read_info(run)
    verdicts = judge(records)
    missed, undecided = shortfalls(records, verdicts, claims=asks_for_claims(info))
    failed = info.get("failed", [])
    status = exit_status(missed, undecided, failed)
    path = write_whole(run, "report.html", page(records, info).encode())
    write_whole(run, "records.csv", table_csv(records).encode())
    for network in networks(records):
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{network.model}-{network.image}")
        write_whole(run, f"plots/{name}.svg", rank_by_depth(network, network.title).encode())
    if as_json:
        facts = {
            "status": status,
            "failed": list(failed),
            "missed": list(missed),
            "undecided": list(undecided),
            "page": str(path),
        }
        click.echo(to_json(records, verdicts, facts))
        return status
    show(records)
    for text in (*failed, *missed, *undecided):
        click.echo(text)
    click.echo(f"page: {path}")
    return status
