"""The pytest plugin: rankfall's strategies and properties in other projects' tests.

Installed through the entry point ``pytest11``; importing it costs nothing, the strategies load when
a test asks for them.

    def test_my_rank(rankfall_property):
        rankfall_property("frobenius")          # runs the catalogue row, asserts that it holds

    def test_mine(rankfall_strategies):
        matrices = rankfall_strategies.matrices(rank=2)

``pytest --rankfall-examples N`` sets the number of examples of ``rankfall_property`` and of every
Hypothesis test that does not set its own.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

_OPTION = "--rankfall-examples"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--rankfall-examples``."""
    group = parser.getgroup("rankfall", "rank properties")
    group.addoption(
        _OPTION, type=int, default=None, metavar="N", help="examples of rank properties (100)"
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give Hypothesis the number of examples, on top of the profile in force.

    Raises:
        pytest.UsageError: the number is below 1.
    """
    number = config.getoption(_OPTION)
    if number is None:
        return
    if number < 1:
        raise pytest.UsageError(f"{_OPTION} must be at least 1, got {number}")
    from hypothesis import settings

    settings.register_profile("rankfall-examples", settings(max_examples=number))
    settings.load_profile("rankfall-examples")


@pytest.fixture(scope="session")
def rankfall_examples(pytestconfig: pytest.Config) -> int:
    """Examples of a rank property: ``--rankfall-examples``, or 100."""
    return int(pytestconfig.getoption(_OPTION) or 100)


@pytest.fixture(scope="session")
def rankfall_strategies() -> Any:
    """The module :mod:`numeric.strategies`."""
    return import_module("numeric.strategies")


@pytest.fixture(scope="session")
def rankfall_property(rankfall_examples: int) -> Callable[..., Any]:
    """A function ``(entry_id, examples=None, seed=0)`` that runs a catalogue row and asserts it."""
    from numeric.properties import run_property

    def run(entry_id: str, examples: int | None = None, seed: int = 0) -> Any:
        result = run_property(entry_id, examples or rankfall_examples, seed)
        assert result.counterexample is None, f"{entry_id} is refuted by {result.counterexample}"
        return result

    return run
