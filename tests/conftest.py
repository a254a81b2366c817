"""Hypothesis profiles (``pytest --hypothesis-profile=NAME``); health checks stay on."""

from hypothesis import settings

settings.register_profile("dev")
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("thorough", max_examples=10_000, deadline=None, print_blob=True)
settings.load_profile("dev")
