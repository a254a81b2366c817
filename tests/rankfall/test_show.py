"""What a user sees at a terminal of 80 columns."""

import io
import sys

import pytest
from rich.console import Console
from rich.text import Text

from rankfall import show


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 columns."""
    screen = io.StringIO()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        show, "Console", lambda **_: Console(file=screen, force_terminal=True, width=80)
    )
    return screen


def test_brackets_in_a_cell_are_text(terminal):
    show.table(
        "of [tokens, width]", ("[a]", "why"), [("x", "puts out shape (2, 3), not [tokens, width]")]
    )
    for text in ("of [tokens, width]", "[a]", "not [tokens, width]"):
        assert text in terminal.getvalue()


def test_a_name_is_not_broken(terminal):
    why = "a long reason that is folded into as many lines as it needs, word by word"
    rows = [("Rank never grows with depth: exact", "tf_efficientnet_lite0", "PROVED", why)]
    show.table("claims", ("claim", "network", "verdict", "why"), rows, wrap=(1, 2, 3))
    assert "tf_efficientnet_lite0" in terminal.getvalue()
    assert max(map(len, Text.from_ansi(terminal.getvalue()).plain.splitlines())) <= 80


def test_columns_that_do_not_fit_are_broken_not_cut_off(terminal):
    name = "a_name_of_24_characters_"
    show.table("t", ("claim", "net", "verdict", "n"), [(name, name, name, "1234567")], wrap=(1, 2))
    assert "1234567" in terminal.getvalue()


def test_a_step_with_brackets_is_text(terminal):
    with show.TerminalProgress() as progress:
        progress.start("nets[/x] on [b]", 1)
    assert "nets[/x] on [b]" in terminal.getvalue()


def test_a_progress_line_fits(terminal):
    with show.TerminalProgress() as progress:
        for step in (
            "training the digits networks, once", "proving the catalogue",
            "testing each row on exact networks", "pushing tangents through networks",
        ):  # fmt: skip
            progress.start(step, 120)
            for _ in range(120):
                progress.tick("structural-impetus [not]")
    shown = terminal.getvalue()
    assert "120/120" in shown
    assert "0:00:00" in shown
    assert "structural-impetus"[: 80 - show.BESIDE] in shown
    assert "…" not in shown
