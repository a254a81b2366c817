"""The rule table: importing this package registers the linearised form of each aten operation."""

from empirical.rules import arithmetic, conv, joins, linear, masks, norms, pointwise, pool, views

__all__ = ["arithmetic", "conv", "joins", "linear", "masks", "norms", "pointwise", "pool", "views"]
