"""Maps, sizes, blocks and inequalities as they stand in a Coq script with MathComp."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import lcm
from typing import Any

from theory.blocks import Block, Poly, from_json
from theory.errors import UnsupportedError


def letter(x: str) -> str:
    """A map in the script."""
    return f"m_{x[:-1]}^T" if x.endswith("'") else f"m_{x}"


def size(d: str) -> str:
    """A dimension in the script."""
    return d if d.isdigit() else f"d_{d}"


def poly(p: Poly, rows: str, cols: str) -> str:
    """A cell.

    Raises:
        UnsupportedError: a coefficient is no integer, and has no meaning over every field.
    """
    kind = f"'M[F]_({size(rows)}, {size(cols)})"
    out = ""
    for word, c in sorted(p.items()):
        if c.denominator != 1:
            raise UnsupportedError(f"the coefficient {c} has no meaning over every field")
        text = f"(1%:M : {kind})" if not word else letter(word[-1])
        for x in reversed(word[:-1]):
            text = f"{letter(x)} *m ({text})" if "*m" in text else f"{letter(x)} *m {text}"
        text = f"({text})" if "*m" in text else text
        text = text if abs(c) == 1 else f"({text} *+ {abs(c)})"
        out += (f" - {text}" if out else f"- {text}") if c < 0 else (f" + {text}" if out else text)
    return f"({out})" if out else f"(0 : {kind})"


def block(m: Block) -> str:
    """A block matrix: a column of rows, nested to the right.

    Raises:
        UnsupportedError: a coefficient is no integer, and has no meaning over every field.
    """
    lines = []
    for height, row in zip(m.rows, m.cells, strict=True):
        cells = [poly(p, height, w) for p, w in zip(row, m.cols, strict=True)]
        lines.append(nest("row_mx", cells))
    return nest("col_mx", lines)


def inequality(form: Mapping[str, Any]) -> str:
    """``0 <= form`` over Z, its ranks and sizes carried there.

    Raises:
        UnsupportedError: a coefficient is no integer, and has no meaning over every field.
    """
    scale = denominator(form)
    out = [f"{z(scale * Fraction(c))} * rk {block(from_json(m))}" for c, m in form["ranks"]]
    for d, c in form["dims"].items():
        out.append(f"{z(scale * Fraction(c))}" + (f" * Z.of_nat {size(d)}" if d else ""))
    return f"(0 <= {' + '.join(out or ['0'])})%Z"


def nest(join: str, parts: list[str]) -> str:
    """Parts joined in pairs, nested to the right."""
    out = parts[-1]
    for part in reversed(parts[:-1]):
        out = f"({join} {part} {out})"
    return out


def z(c: Fraction) -> str:
    """An integer of Z."""
    return f"({c})%Z"


def denominator(form: Mapping[str, Any]) -> int:
    """The least common denominator of a form's coefficients."""
    coefficients = [*(c for c, _ in form["ranks"]), *form["dims"].values()]
    return lcm(1, *(Fraction(c).denominator for c in coefficients))
