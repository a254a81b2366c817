"""Certificates as Coq scripts over MathComp, and ``coqc`` where it is installed.

The script begins with ``coq/rules.v``, where each rule of the certificates is proved once from
MathComp's matrix algebra. A certificate becomes a theorem about all matrices over any field: each step
is an instance of a rule, its block identities proved by expansion, and the steps' multipliers are
written out, so that a wrong multiplier leaves a polynomial identity that ``ring`` cannot prove.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theory.coq_script import Section
from theory.errors import UnsupportedError

RULES = Path(__file__).parent / "coq" / "rules.v"
INDUCTION = Path(__file__).parent / "coq" / "induction.v"
CLOSED = "Closed under the global context"


@dataclass(frozen=True)
class CoqResult:
    """What ``coqc`` said.

    Attributes:
        ok: it accepted the script and every theorem is closed under the global context.
        assumptions: what ``Print Assumptions`` printed, one text for each theorem.
        output: all of its output.
    """

    ok: bool
    assumptions: tuple[str, ...]
    output: str


def available() -> bool:
    """Whether ``coqc`` is on the path and MathComp where it looks for libraries."""
    if shutil.which("coqc") is None:
        return False
    where = subprocess.run(["coqc", "-where"], capture_output=True, text=True, check=False)
    return (Path(where.stdout.strip()) / "user-contrib" / "mathcomp" / "algebra").is_dir()


def run(script: str, timeout: float = 600.0) -> CoqResult:
    """Have ``coqc`` check a script.

    Args:
        script: the text of ``export`` or ``export_many``.
        timeout: seconds.

    Raises:
        UnsupportedError: ``coqc`` is not installed, or ran out of time.
    """
    if not available():
        raise UnsupportedError(
            "coqc with MathComp is not installed; on Debian: apt install coq libcoq-mathcomp-algebra"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "certificate.v"
        path.write_text(script)
        try:
            done = subprocess.run(
                ["coqc", "-w", "none", path.name],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnsupportedError(f"coqc did not finish in {timeout:g} s") from error
    output = done.stdout + done.stderr
    wanted = len(re.findall(r"^Print Assumptions", script, re.MULTILINE))
    said = tuple(
        part.strip()
        for part in re.split(rf"(?<={CLOSED})\n|\n(?=Axioms:)", done.stdout)
        if part.strip()
    )
    closed = done.stdout.count(CLOSED)
    ok = done.returncode == 0 and wanted > 0 and closed == wanted and "Axioms:" not in done.stdout
    return CoqResult(ok, said, output)


def export(certificate: Mapping[str, Any]) -> str:
    """One certificate as a complete script.

    Raises:
        InputError: the certificate is malformed.
        UnsupportedError: a matrix has a fractional coefficient (the theorem is about any field).
    """
    return export_many([certificate])


def export_many(certificates: Sequence[Mapping[str, Any]]) -> str:
    """Several certificates as one script: MathComp is loaded once."""
    sections = [Section(c, n).text() for n, c in enumerate(certificates, 1)]
    names = [f"(@C{n}.theorem)" for n in range(1, len(sections) + 1)]
    whole = names[-1]
    for name in reversed(names[:-1]):
        whole = f"(conj {name} {whole})"
    # one question for all theorems: each walks through all of MathComp that it rests on
    last = f"Definition certified := {whole}.\nPrint Assumptions certified.\n"
    return "\n".join([RULES.read_text(), *sections, last])
