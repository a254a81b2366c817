"""Hypothesis profiles (``pytest --hypothesis-profile=NAME``; health checks stay on), and a seed for torch."""

import sys

import pytest
from hypothesis import settings

settings.register_profile("dev")
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("thorough", max_examples=10_000, deadline=None, print_blob=True)
settings.load_profile("dev")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The same numbers whichever tests ran before: many draw from torch's global generator."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
