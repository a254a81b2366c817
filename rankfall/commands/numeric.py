"""``rankfall numeric``: exact ranks of matrices, property checks, barcodes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import click

#: subcommand -> (module that defines it as ``NAME``, one line for ``--help``)
_ELSEWHERE = {
    "check": ("rankfall.commands.numeric_check", "Run the catalogue's properties."),
    "barcode": ("rankfall.commands.numeric_check", "The barcode of a small random network."),
}


class _Group(click.Group):
    """``rank`` is defined here; ``check`` and ``barcode`` are imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["rank", *_ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        found: click.Command = getattr(import_module(_ELSEWHERE[cmd_name][0]), cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        texts = [("rank", "The exact rank of a matrix in a file, with a certificate.")]
        with formatter.section("Commands"):
            formatter.write_dl(texts + [(name, text) for name, (_, text) in _ELSEWHERE.items()])


@click.group(cls=_Group)
def command() -> None:
    """Exact ranks, property checks on small networks, barcodes."""


@contextmanager
def _working(text: str, *, quiet: bool) -> Iterator[None]:
    """A spinner on standard error while the work lasts, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


@command.command("rank")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--tensor", metavar="NAME", help="Which tensor of a .safetensors file.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds after which proved bounds are enough.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the witness here, as JSON.",
)
@click.option(
    "--replay",
    "witness_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Check a witness written before, instead of finding one.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def rank(
    file: Path,
    tensor: str | None,
    timeout: float,
    certificate: Path | None,
    witness_file: Path | None,
    as_json: bool,
) -> int:
    """Exact rank over the rationals of the matrix in FILE.

    FILE is .npy, .safetensors, .mtx, or text (.csv, .txt) of integers, fractions 22/7 or decimals.
    Floats are the dyadic rationals they store; decimals in text are decimal fractions. The exit
    status is 0 when the rank is proved and 3 when only bounds were reached in time.
    """
    from numeric.certificate import CertifiedRank, Witness
    from numeric.exact import certified_rank, replay
    from numeric.files import read_matrix
    from numeric.matrices import integer_rows
    from rankfall.commands.numeric_rank import as_data, as_text
    from theory.errors import InputError

    matrix = read_matrix(file, tensor=tensor)
    if witness_file is not None:
        witness = Witness.from_json(witness_file.read_text())
        rows, columns = integer_rows(matrix)
        result = CertifiedRank.from_witness(witness, len(rows), columns)
        replay(matrix, result)
    else:
        with _working(f"exact rank of {file.name}, at most {timeout:g} s", quiet=as_json):
            result = certified_rank(matrix, timeout=timeout)
    if certificate is not None:
        try:
            certificate.parent.mkdir(parents=True, exist_ok=True)
            certificate.write_text(result.witness.to_json() + "\n")
        except OSError as error:
            raise InputError(f"cannot write {str(certificate)!r}: {error.strerror}") from error
    data = as_data(file, matrix, result, replayed=witness_file is not None, limit=timeout)
    click.echo(json.dumps(data) if as_json else as_text(data))
    return 0 if result.complete else 3
