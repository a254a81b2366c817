"""``rankfall numeric check`` and ``rankfall numeric barcode``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from theory.catalogue import Entry
from theory.errors import InputError


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """A bar on standard error over all examples; silent when it is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda name, done: lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        def label(name: str, done: int) -> Callable[[], None]:
            bar.update(task, description=name, completed=done)
            return lambda: bar.advance(task)

        yield label


def _verdict(row: dict[str, Any]) -> str:
    if row["variant"] is None:
        if row["counterexample"] is not None:
            return "REFUTED"
        missing = [k for k in ("tight", "strict") if row["inequality"] and not row[k]]
        return f"holds, none {missing[0]}: use more examples" if missing else "holds"
    return "refuted, as it must be" if row["counterexample"] is not None else "NOT REFUTED"


def _print(rows: list[dict[str, Any]]) -> None:
    from rankfall.show import table

    def counted(row: dict[str, Any], what: str) -> str:
        return str(row[what]) if row["inequality"] else "-"

    cells = [
        (row["id"], str(row["examples"]), counted(row, "tight"), counted(row, "strict"),
         f"{row['seconds']:.1f}", _verdict(row))
        for row in rows
    ]  # fmt: skip
    table("Properties", ("row", "examples", "tight", "strict", "s", "verdict"), cells, wrap=(5,))


def _replay(path: Path, as_json: bool) -> int:
    from numeric.counterexamples import read, replay

    data = read(path)
    refuted, how = replay(data)
    if as_json:
        click.echo(json.dumps({"row": data["row"], "refutes": refuted, "how": how}))
    else:
        click.echo(f"{data['row']}: {'still refutes' if refuted else 'does NOT refute'} ({how})")
    return 0 if refuted else 1


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option(
    "--examples", type=click.IntRange(1, 10_000_000), default=200, show_default=True, help="Cases."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every row's cases.")
@click.option("--variants", is_flag=True, help="Also run each row's false variants (up to 1,000).")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    help="Folder for counterexample files (the current one).",
)
@click.option(
    "--replay",
    "replay_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Replay a counterexample file instead.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    ids: tuple[str, ...],
    examples: int,
    seed: int,
    variants: bool,
    out: Path,
    replay_file: Path | None,
    as_json: bool,
) -> int:
    """Run the properties of catalogue rows (all of them by default) on random exact cases.

    Exit status 0 when every row holds (and every false variant run was refuted), 1 otherwise. The
    smallest counterexample of a row that fails is printed and written to a file for --replay.
    """
    if replay_file is not None:
        return _replay(replay_file, as_json)
    from numeric import counterexamples
    from numeric.cases import search
    from numeric.properties import property_for
    from theory.catalogue import CATALOGUE, entry

    chosen = [entry(name) for name in dict.fromkeys(ids)] if ids else list(CATALOGUE)
    runs: list[tuple[Entry, int | None, int]] = [(row, None, examples) for row in chosen]
    if variants:
        runs += [
            (row, k, max(1000, examples)) for row in chosen for k in range(len(row.false_variants))
        ]
    rows: list[dict[str, Any]] = []
    with _progress(sum(r[2] for r in runs), as_json) as label:
        done = 0
        for row, variant, count in runs:
            prop = property_for(row, variant)
            result = search(prop, count, seed, label(row.id, done))
            done += count
            line = result.to_json() | {"variant": variant, "inequality": prop.inequality}
            if variant is None and result.counterexample is not None:
                path = counterexamples.write(out, row.id, variant, seed, count, result)
                line["file"] = str(path)
            rows.append(line)
    bad = [r for r in rows if (r["counterexample"] is None) != (r["variant"] is None)]
    if as_json:
        click.echo(json.dumps({"seed": seed, "rows": rows, "failed": [r["id"] for r in bad]}))
        return 1 if bad else 0
    _print(rows)
    for line in (r for r in bad if r["counterexample"] is not None):
        click.echo(f"\n{line['id']}: smallest counterexample, written to {line['file']}")
        click.echo(json.dumps(line["counterexample"], indent=1))
        click.echo(f"replay it: rankfall numeric check --replay {line['file']}")
    total = sum(r["examples"] for r in rows)
    click.echo(f"{len(rows)} properties, {total} examples, {len(bad)} unexpected (seed {seed})")
    return 1 if bad else 0


def _maps(path: Path) -> list[Any]:
    """Rational matrices from a JSON file: a list of maps, first applied first."""
    from fractions import Fraction

    from numeric.scalars import EXACT

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read the chain {path}: {error}") from error
    maps = []
    for k, rows in enumerate(data if isinstance(data, list) else []):
        try:
            if len({len(row) for row in rows}) != 1 or isinstance(rows, str):
                raise InputError(f"map {k + 1} of {path} has no rows, or rows of several lengths")
            entries = [Fraction(e) if isinstance(e, int | str) else None for r in rows for e in r]
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(f"map {k + 1} of {path} is no rational matrix: {error}") from error
        if None in entries or not entries:
            raise InputError(f'map {k + 1} of {path} must hold integers or fractions like "1/3"')
        maps.append(EXACT.matrix(len(rows), len(rows[0]), entries))
    if not maps:
        raise InputError(f"{path} must hold a list of matrices, such as [[[1,0]],[[2],[3]]]")
    return maps


def _random_maps(seed: int, depth: int, width: int) -> tuple[list[Any], str]:
    """Layer Jacobians of a random network of the strategies' grammar, and the network's text."""
    import random

    from numeric.decoding import Bytes, network_from_bytes

    data = random.Random(seed).randbytes(64 + depth * (16 + 3 * width * (width + 1)))
    network, x = network_from_bytes(Bytes(data), (depth, depth), (width, width))
    return network.elements(
        x
    ), f"random network, depth {depth}, width {width}, seed {seed}, x = {x}"


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--bars", help='Realise a barcode as 0/1 matrices, for example "0-2x3,1-1".')
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of a random network.")
@click.option("--depth", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--width", type=click.IntRange(1, 64), default=6, show_default=True)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the bars (.svg or .png)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def barcode(
    file: Path | None,
    bars: str | None,
    seed: int,
    depth: int,
    width: int,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Which directions are born and die at which layer, from exact ranks.

    The chain is that of FILE (a JSON list of matrices, first applied first, integers or "p/q"), or
    is realised from --bars, or is the path of a small random network at an input (the default).
    """
    from numeric import barcode as codes

    if file is not None and bars is not None:
        raise InputError("give either a FILE or --bars, not both")
    if file is not None:
        maps, source = _maps(file), str(file)
    elif bars is not None:
        maps, source = codes.realise(codes.parse_bars(bars)), f"0/1 realisation of {bars}"
    else:
        maps, source = _random_maps(seed, depth, width)
    code = codes.barcode(maps)
    if plot is not None:
        codes.plot(code, str(plot))
    if as_json:
        data = code.to_json() | {"notion": "exact", "source": source}
        data["dimensions"] = list(code.dimensions)
        data["ranks"] = [[i, j, r] for (i, j), r in sorted(codes.rank_table(maps).items())]
        data["maps"] = [[[str(e) for e in row] for row in m.tolist()] for m in maps]
        click.echo(json.dumps(data))
        return 0
    click.echo(source)
    click.echo(f"dimensions {' -> '.join(map(str, code.dimensions))}, notion exact")
    for line in code.lines():
        click.echo(line)
    alive = [code.rank(0, k) for k in range(code.depth + 1)]
    click.echo(f"rank of the first k layers: {', '.join(map(str, alive))}")
    if plot is not None:
        click.echo(f"plot written to {plot}")
    return 0
