"""A certificate for a reader: the proof as a short sum of named inequalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from theory.errors import InputError
from theory.pool import RULES

_SILENT = {"dimension"}


def readable(certificate: Mapping[str, Any]) -> str:
    """The steps of a certificate, one line each: multiplier, rule, the matrices it is used on.

    Raises:
        InputError: the certificate is malformed.
    """
    try:
        lines = []
        clauses = certificate["clauses"]
        for number, clause in enumerate(clauses, 1):
            if len(clauses) > 1:
                lines.append(f"part {number}:")
            for step in clause["steps"]:
                if step["rule"] not in _SILENT:
                    used = ", ".join(_matrix(m) for m in step.get("matrices", ()))
                    lines.append(f"  {step['times']:>3} x {step['rule']}({used})")
        names = sorted({s["rule"] for c in clauses for s in c["steps"]} - _SILENT)
        for name, let in certificate["problem"]["lets"].items():
            lines.append(f"  where {name} = {_sum(let['sum'])}")
        lines += [f"  {name}: {RULES[name]}" for name in names if name in RULES]
    except (KeyError, TypeError) as error:
        raise InputError(f"the certificate is malformed: {error!r}") from error
    return "\n".join(lines)


def _sum(poly: Mapping[str, str]) -> str:
    out = ""
    for word, c in poly.items():
        name = "*".join(word.split()) or "I"
        size = c.lstrip("-")
        text = name if size == "1" else f"{size}*{name}"
        sign = "-" if c.startswith("-") else "+"
        out += f" {sign} {text}" if out else (f"-{text}" if sign == "-" else text)
    return out or "O"


def _matrix(block: Mapping[str, Any]) -> str:
    rows = [", ".join(_sum(cell) for cell in row) for row in block["cells"]]
    if len(rows) == 1 and len(block["cells"][0]) == 1:
        return rows[0]
    return "[" + "; ".join(rows) + "]"
