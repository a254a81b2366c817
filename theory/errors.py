"""The one exception that means *bad input*: every command turns it into exit status 2."""

from __future__ import annotations


class InputError(ValueError):
    """The input cannot be used: what happened with the values, why, and what to do next."""


class UnsupportedError(InputError):
    """The input is well formed but nothing here can treat it: names what (exit status 3)."""
