"""``rankfall theory``: list, show, prove, check, certify, export and audit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankfall.commands.theory_audit import JSON, audit

if TYPE_CHECKING:
    from theory.catalogue import Entry
    from theory.prover import Verdict

STATUS = {"PROVED": 0, "REFUTED": 1, "UNKNOWN": 3, "UNSUPPORTED": 3}


@click.group()
def command() -> None:
    """Prove, refute, certify and audit statements about ranks of composed maps."""


command.add_command(audit)


@command.command("list")
@JSON
def list_(as_json: bool) -> int:
    """The catalogue: every statement with its notion and how it is known."""
    from rankfall.show import table
    from theory.catalogue import CATALOGUE

    if as_json:
        click.echo(json.dumps([_entry_data(e) for e in CATALOGUE], indent=1))
        return 0
    rows = [(e.id, e.status, ", ".join(e.notions), e.title) for e in CATALOGUE]
    table("Catalogue", ("id", "status", "notion", "claim"), rows, wrap=(1, 2, 3))
    click.echo(
        "K certificate; A hand proof; N limit, confirmed numerically; R refuted as usually stated"
    )
    return 0


def _entry_data(e: Entry) -> dict[str, Any]:
    fields = ("id", "title", "display", "statements", "given", "notions", "status", "beyond")
    return {k: getattr(e, k) for k in (*fields, "source", "known", "proof", "property")}


@command.command()
@click.argument("row")
@click.option("--latex", is_flag=True, help="Statements in LaTeX.")
@JSON
def show(row: str, latex: bool, as_json: bool) -> int:
    """One row: statement, proof as a short sum of named axioms, references."""
    from theory.catalogue import entry

    e = entry(row)
    if as_json:
        click.echo(json.dumps(_entry_data(e), indent=1))
        return 0
    click.echo(f"{e.id}: {e.title}\n\n  {e.display}\n")
    for text in e.statements[:4]:
        if latex:
            from theory.latex import latex_text

            text = latex_text(text, e.given)
        click.echo(f"  {text}")
    if len(e.statements) > 4:
        click.echo(f"  ... {len(e.statements) - 4} more (--json shows all)")
    for h in e.given if not latex else ():
        click.echo(f"    given {h}")
    click.echo(f"\nnotion   {', '.join(e.notions)}\nstatus   {e.status}, {e.known}")
    click.echo(f"source   {e.source}{' (beyond the paper)' if e.beyond else ''}\n\n{e.proof}\n")
    if "K" in e.status and e.statements:
        from theory.prover import prove

        verdict = prove(e.statements[0], given=e.given)
        if verdict.certificate is not None:
            click.echo(
                f"certificate of the first statement, re-proved now:\n{_proof(verdict.certificate)}"
            )
    return 0


def _proof(certificate: dict[str, Any]) -> str:
    from theory.reading import readable

    return readable(certificate)


@command.command()
@click.argument("statement")
@click.option("--given", multiple=True, metavar="H", help="A hypothesis; may be repeated.")
@click.option("--notion", default="exact", show_default=True, help="Rank notion of the statement.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True
)
@click.option("--positive", is_flag=True, help="Counterexamples with all dimensions at least 1.")
@click.option("--dims", type=click.IntRange(0, 12), help="Counterexamples with all dimensions N.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the certificate here."
)
@JSON
def prove(
    statement: str,
    given: Sequence[str],
    notion: str,
    timeout: float,
    positive: bool,
    dims: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Prove or refute STATEMENT, for example "rank(A*B) <= rank(B)".

    Exit status: 0 PROVED, 1 REFUTED, 3 UNKNOWN or UNSUPPORTED, 2 bad input.
    """
    from rich.console import Console

    from theory.notions import parse_notion
    from theory.prover import prove as run

    with Console(stderr=True).status(f"proving, at most {timeout:g} s"):  # silent when piped
        verdict = run(
            statement, given=given, notion=parse_notion(notion), timeout=timeout,
            positive=positive, dims=dims,
        )  # fmt: skip
    if out is not None and (data := verdict.certificate or verdict.witness) is not None:
        _write(out, json.dumps(data, indent=1) + "\n")
    if as_json:
        click.echo(json.dumps(verdict.to_json()))
    else:
        _print(verdict)
    return STATUS[verdict.kind]


def _print(verdict: Verdict) -> None:
    click.echo(f"{verdict.kind}  {verdict.statement}  [{verdict.statement.notion}]")
    click.echo(f"{verdict.reason} ({verdict.seconds:.2f} s)")
    if verdict.certificate is not None:
        click.echo(_proof(verdict.certificate))
    if verdict.witness is not None:
        for name, m in verdict.witness["matrices"].items():
            lines = ["  ".join(row) for row in m["entries"]] if m["cols"] else []
            click.echo(f"  {name} ({m['rows']} x {m['cols']})")
            for line in lines:
                click.echo(f"      {line}")


@command.command()
@click.argument("rows", nargs=-1)
@click.option("--coq", is_flag=True, help="Have the Coq kernel check every certificate too.")
@JSON
def check(rows: Sequence[str], coq: bool, as_json: bool) -> int:
    """Re-prove the catalogue (or ROWS of it) from nothing; no stored certificate is read."""
    from rankfall.catalogue_check import check_row, kernel
    from rankfall.show import TerminalProgress, table
    from theory.catalogue import CATALOGUE, entry

    entries = [entry(r) for r in rows] or list(CATALOGUE)
    results = []
    with TerminalProgress() as progress:
        progress.start("catalogue", len(entries))
        for e in entries:
            results.append(check_row(e))
            progress.tick(e.id)
    certificates = [c for r in results for c in r.certificates]
    verdict = kernel(certificates) if coq and certificates else None
    ok = all(r.ok for r in results) and (verdict is None or verdict.ok)
    if as_json:
        data = [{"id": r.id, "ok": r.ok, "verdicts": r.verdicts, "how": r.how} for r in results]
        click.echo(json.dumps({"ok": ok, "coq": verdict and verdict.ok, "rows": data}))
    else:
        shown = [(r.id, r.status, "ok" if r.ok else "FAILED", r.how) for r in results]
        table("Catalogue, proved from nothing", ("id", "status", "", "how"), shown, wrap=(1, 2, 3))
        if verdict is not None:
            said = "closed under the global context" if verdict.ok else verdict.output[-800:]
            click.echo(f"Coq: {len(certificates)} certificates: {said}")
    return 0 if ok else 1


@command.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@JSON
def certify(file: Path, as_json: bool) -> int:
    """Check a certificate in exact arithmetic, without the prover or a solver."""
    from theory.certificates import CertificateError
    from theory.certificates import check as check_certificate

    certificate = _read(file)
    try:
        check_certificate(certificate)
        _same_statement(certificate)
    except CertificateError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "reason": str(error)}))
        else:
            click.echo(f"REJECTED  {file}: {error}")
        return 1
    text = certificate["statement"]["text"]
    given = certificate["statement"].get("given", [])
    if as_json:
        click.echo(json.dumps({"ok": True, "statement": text, "given": given}))
    else:
        click.echo(f"ACCEPTED  {text}" + "".join(f" given {h}" for h in given))
    return 0


def _same_statement(certificate: dict[str, Any]) -> None:
    """The problem that was checked must be the one that the statement's text says."""
    from theory.certificates import CertificateError
    from theory.problem import problem
    from theory.statements import Statement

    expected = problem(Statement.from_json(certificate["statement"])).to_json()
    if json.loads(json.dumps(expected)) != json.loads(json.dumps(certificate["problem"])):
        raise CertificateError("the certificate proves another statement than the one it shows")


@command.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--coq", is_flag=True, required=True, help="As a Coq/MathComp script.")
@click.option("--run", "run_it", is_flag=True, help="Have coqc check the script.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the script here."
)
def export(file: Path, coq: bool, run_it: bool, out: Path | None) -> int:
    """Turn a certificate into a Coq script that proves its statement."""
    from theory import coq as kernel

    script = kernel.export(_read(file))
    if out is not None:
        _write(out, script)
    elif not run_it:
        click.echo(script)
    if not run_it:
        return 0
    result = kernel.run(script)
    said = "\n".join(result.assumptions) if result.ok else result.output[-2000:]
    click.echo(f"{'ACCEPTED' if result.ok else 'REJECTED'} by coqc\n{said}")
    return 0 if result.ok else 1


def _read(file: Path) -> dict[str, Any]:
    from theory.errors import InputError

    try:
        data = json.loads(file.read_text())
        if not isinstance(data, dict) or "problem" not in data or "text" not in data["statement"]:
            raise InputError(f"{file} is no certificate; `rankfall theory prove --out` writes one")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{file} is no certificate: {error}") from error
    return data


def _write(path: Path, text: str) -> None:
    from theory.errors import InputError

    try:
        path.write_text(text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
