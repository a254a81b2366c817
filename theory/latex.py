"""LaTeX of statements, and the way back: one token table serves both directions."""

from __future__ import annotations

import re

_TABLE = (
    ("<=", r" \le "),
    (">=", r" \ge "),
    ("==", " = "),
    (".T", r"^{\mathsf T}"),
    ("rank(", r"\operatorname{rank}("),
    ("rows(", r"\operatorname{rows}("),
    ("cols(", r"\operatorname{cols}("),
    ("vstack(", r"\operatorname{vstack}("),
    ("hstack(", r"\operatorname{hstack}("),
    ("blockdiag(", r"\operatorname{blockdiag}("),
    ("kron(", r"\operatorname{kron}("),
    ("min(", r"\min("),
    ("max(", r"\max("),
    ("*", r"\,"),
)
_SEPARATOR = r",\quad "


def latex_text(text: str, given: tuple[str, ...] = ()) -> str:
    r"""LaTeX of a statement's text; hypotheses follow after ``,\quad``."""
    return _SEPARATOR.join(_one(t) for t in (text, *given))


def _one(text: str) -> str:
    out = re.sub(r"\s+", "", text).replace("**", "^")
    for plain, latex in _TABLE:
        out = out.replace(plain, latex)
    out = re.sub(r"\^(\d+)", r"^{\1}", out)
    return re.sub(r"([A-Za-z])(\d+)", r"\1_{\2}", out)


def plain_text(latex: str) -> tuple[str, tuple[str, ...]]:
    """The statement and hypotheses whose ``latex_text`` this is."""
    out = re.sub(r"_\{(\d+)\}", r"\1", latex.replace(_SEPARATOR, ";"))
    for plain, mark in reversed(_TABLE):
        out = out.replace(mark, plain)
    out = re.sub(r"\^\{(\d+)\}", r"^\1", out)
    first, *rest = (part.strip() for part in out.split(";"))
    return first, tuple(rest)
