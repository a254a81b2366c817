"""Hypothesis profiles (``pytest --hypothesis-profile=NAME``; health checks stay on), and a seed for torch."""

import sys

import pytest
from hypothesis import settings

settings.register_profile("dev", deadline=None)  # the cores are shared
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("thorough", max_examples=10_000, deadline=None, print_blob=True)
settings.load_profile("dev")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The same numbers whichever tests ran before: many draw from torch's global generator.

    A test that is the first to import torch gets torch's own first numbers, the same every time.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
