"""The shape of a catalogue row: plain strings, so that listing the catalogue costs nothing."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

DEPTH = 8  # theory.md: a row about n maps is certified for every n up to this


@dataclass(frozen=True)
class FalseVariant:
    """A statement one token away from its row, and false.

    Attributes:
        text: the false statement; grammar text when the row has statements, prose otherwise.
        given: its hypotheses, as grammar text.
        why: which token was changed and a case that breaks it.
        notion: the rank notion under which it is false (``wrong notion`` variants differ here).
    """

    text: str
    given: tuple[str, ...]
    why: str
    notion: str = "exact"


@dataclass(frozen=True)
class Counterexample:
    """Explicit layers that refute an R row, replayed exactly by a test.

    Attributes:
        layers: matrices in the order they are applied, entries as text of integers or fractions.
        notion: the rank notion that is counted, for example ``relative(1/1000)``.
        values: the rank after 1, 2, ... layers.
        why: what the numbers show.
    """

    layers: tuple[tuple[tuple[str, ...], ...], ...]
    notion: str
    values: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue (theory.md, section 3).

    Attributes:
        id: the row's name.
        title: one line that says what the row claims.
        display: the claim as a reader writes it (all of it, also what the grammar cannot say).
        statements: grammar text, each an exact rank statement; empty for rows about spectra.
        given: hypotheses common to the statements, as grammar text.
        notions: the rank notions the row holds for.
        status: letters of K (certificate), A (hand proof), N (numerical limit), R (refuted).
        beyond: whether the row is not in Feng et al. 2022.
        source: paper or textbook.
        known: how the row is known here, general n included.
        proof: a short readable proof; docs/catalogue.md has the long ones.
        property: name of the property in ``numeric.properties``.
        false_variants: statements one token away that must be refuted.
        counterexamples: for R rows, the explicit layers that refute the usual claim.
    """

    id: str
    title: str
    display: str
    statements: tuple[str, ...]
    given: tuple[str, ...]
    notions: tuple[str, ...]
    status: str
    beyond: bool
    source: str
    known: str
    proof: str
    property: str
    false_variants: tuple[FalseVariant, ...]
    counterexamples: tuple[Counterexample, ...] = ()

    @builtins.property
    def counterexample(self) -> Counterexample | None:
        """The first counterexample, or ``None`` for a row that is not refuted."""
        return self.counterexamples[0] if self.counterexamples else None


def product(*names: str) -> str:
    """The text of a product: ``product("A", "B")`` is ``A*B``."""
    return "*".join(names)


def chain(last: int, first: int = 1, name: str = "J") -> str:
    """Text of J_last * ... * J_first, the Jacobian of layers ``first`` to ``last``."""
    return product(*(f"{name}{k}" for k in range(last, first - 1, -1)))
