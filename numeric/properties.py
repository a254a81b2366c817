"""One property for each row of the catalogue, and the runs of them outside pytest.

A row with grammar text gets its property from the text; rows about spectra, dimension and limits
have one by hand under the name that the row states. A row with neither is an error, so that a new
row without a property fails the suite. Every false variant runs through the same code as its row.
"""

from __future__ import annotations

from collections.abc import Callable

from numeric import dimension_properties as dimensions
from numeric import limit_properties as limits
from numeric import refuted_properties as refuted
from numeric import spectral_properties as spectral
from numeric.cases import Outcome, Property, PropertyResult, search
from numeric.network_properties import ON_NETWORKS
from theory.catalogue import CATALOGUE, Entry, entry
from theory.errors import InputError

__all__ = [
    "Outcome",
    "Property",
    "PropertyResult",
    "property_for",
    "run_false_variant",
    "run_property",
]

Maker = Callable[[Entry, int | None], Property]

#: properties by hand: the row's ``property`` name -> maker
BY_HAND: dict[str, Maker] = {
    "eps_calculus": spectral.eps_calculus,
    "log_majorisation": spectral.log_majorisation,
    "weyl": spectral.weyl,
    "dimension": dimensions.dimension,
    "rank_is_dimension": dimensions.rank_is_dimension,
    "pca_limit": dimensions.pca_limit,
    "gaussian_exponents": limits.gaussian_limit,
    "iid_limit": limits.iid,
    "collapse_is_universal": refuted.collapse_is_universal,
    "eps_monotone": refuted.eps_monotone,
    "token_collapse": limits.token_collapse,
}


def property_for(row: Entry, variant: int | None = None) -> Property:
    """The property of a row, or of its false variant number ``variant``.

    Raises:
        InputError: the row has no property (neither text nor one by hand), or no such variant.
    """
    if variant is not None and not 0 <= variant < len(row.false_variants):
        raise InputError(
            f"row {row.id!r} has {len(row.false_variants)} false variants, asked for {variant + 1}"
        )
    if row.property in BY_HAND:
        return BY_HAND[row.property](row, variant)
    if not row.statements:
        raise InputError(
            f"row {row.id!r} has no grammar text and no property named {row.property!r} in "
            "numeric.properties.BY_HAND: write one"
        )
    from numeric import statement_properties as statements

    makers: dict[str, Maker] = {
        "completeness": statements.completeness,
        "barcode": statements.completeness,
        "kronecker": statements.kronecker,
        "loss_law": statements.loss_law,
        "structural_impetus": statements.loss_law,
    }
    made = makers.get(row.property, statements.from_entry)(row, variant)
    if variant is None and row.property in ON_NETWORKS:
        return statements.joined(made, ON_NETWORKS[row.property]())
    return made


def run_property(
    entry_id: str, examples: int, seed: int = 0, tick: Callable[[], None] | None = None
) -> PropertyResult:
    """Run a row's property on random cases.

    Args:
        entry_id: catalogue id.
        examples: number of cases (limit rows stop at their own smaller number).
        seed: the same seed gives the same cases.
        tick: called after every example.

    Returns:
        Examples run, tight and strict counts, and the smallest counterexample (None is expected).

    Raises:
        InputError: no such row, or fewer than 1 example.
    """
    if examples < 1:
        raise InputError(f"examples must be at least 1, got {examples}")
    return search(property_for(entry(entry_id)), examples, seed, tick)


def run_false_variant(
    entry_id: str, variant: int, examples: int = 1000, seed: int = 0
) -> PropertyResult:
    """Run the property on a false variant; a counterexample is expected."""
    return search(property_for(entry(entry_id), variant), examples, seed)


def ids() -> tuple[str, ...]:
    """All catalogue ids, in order."""
    return tuple(row.id for row in CATALOGUE)
