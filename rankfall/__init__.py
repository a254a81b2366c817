"""rankfall: what happens to rank when maps are composed, in theory and in this network.

The public names are loaded on first use, so that ``import rankfall`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: public name -> the module that defines it
_PUBLIC = {
    "prove": "theory.prover",
    "certified_rank": "numeric.exact",
    "jacobian_profile": "empirical.jacobian",
    "load": "empirical.models",
    "from_module": "empirical.models",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'rankfall' has no attribute {name!r}")
