"""The rule table: importing this package registers the linearised form of each aten operation."""

from empirical.rules import conv, linear, norms, pointwise, pool, views

__all__ = ["conv", "linear", "norms", "pointwise", "pool", "views"]
