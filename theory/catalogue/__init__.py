"""The catalogue: every statement of theory.md, section 3, as plain data.

Importing it costs nothing (no sympy, scipy or torch): ``rankfall theory list`` reads it. Statements
are text of the grammar in ``theory.grammar``; a row about n maps has one text for each n up to 8.
"""

from __future__ import annotations

from difflib import get_close_matches

from theory.catalogue.chains import CHAIN_ROWS
from theory.catalogue.entry import Counterexample, Entry, FalseVariant
from theory.catalogue.spectra import SPECTRUM_ROWS
from theory.catalogue.structure import STRUCTURE_ROWS
from theory.catalogue.sums import SUM_ROWS
from theory.errors import InputError

#: the order of theory.md's table
_ORDER = """
    composition diminishing bottleneck sylvester frobenius chain-sylvester loss-law
    structural-impetus residual-lower residual-loss residual-stack partial-drop partial-lower
    marsaglia-styan subadditive stacking kronecker gram powers completeness barcode eps-calculus
    log-majorisation weyl dimension rank-is-dimension pca-limit gaussian-exponents iid-limit
    collapse-is-universal eps-monotone logit-dependence token-collapse
"""

_BY_ID = {row.id: row for row in (*CHAIN_ROWS, *STRUCTURE_ROWS, *SUM_ROWS, *SPECTRUM_ROWS)}

CATALOGUE: tuple[Entry, ...] = tuple(_BY_ID[name] for name in _ORDER.split())


def entry(name: str) -> Entry:
    """The row with this id.

    Raises:
        InputError: there is no such row; the message lists the closest ids.
    """
    if name in _BY_ID:
        return _BY_ID[name]
    close = get_close_matches(name, _ORDER.split(), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else "`rankfall theory list` shows all ids"
    raise InputError(f"no catalogue row {name!r}; {hint}")


__all__ = ["CATALOGUE", "Counterexample", "Entry", "FalseVariant", "entry"]
