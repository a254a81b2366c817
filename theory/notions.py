"""Rank notions: the part of a statement's type that says *which* rank it speaks of.

No statement proved for one notion is ever reported for another; a notion is therefore a value that
statements and results carry, and that prints and parses as text: ``exact``, ``relative(0.001)``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from theory.errors import InputError

#: name -> (number of parameters allowed, definition, monotone along separator taps?)
DEFINITIONS: dict[str, tuple[range, str, str]] = {
    "exact": (range(0, 1), "rank over the reals of the Jacobian at one point", "yes"),
    "almost-everywhere": (range(0, 1), "the exact rank's value on each analytic piece", "yes"),
    "supremum": (range(0, 1), "largest exact rank over all inputs", "yes"),
    "family": (
        range(1, 2),
        "largest rank with smooth slopes free and the weights stored",
        "no claim",
    ),
    "architecture": (range(0, 1), "largest rank with slopes and weights free", "no claim"),
    "relative": (range(0, 2), "#{i : sigma_i > 0, sigma_i >= eps * sigma_1}", "no"),
    "absolute": (range(0, 2), "#{i : sigma_i > 0, sigma_i >= tau}", "under contractions"),
    "partial": (range(0, 2), "exact rank of J P for an input subspace P", "yes"),
    "pca": (range(0, 3), "rank of the covariance of F(x + eps z) over n Gaussian z", "no"),
    "classification": (
        range(0, 2),
        "fewest principal components that keep a fraction of accuracy",
        "-",
    ),
    "feature-span": (range(0, 1), "rank of a matrix of features over a data set", "no"),
    "stable": (range(0, 1), "squared Frobenius norm over squared spectral norm", "no"),
    "effective": (
        range(0, 1),
        "exponential of the entropy of the normalised singular values",
        "no",
    ),
    "participation": (range(0, 1), "(sum sigma^2)^2 / sum sigma^4", "no"),
    "structural": (range(0, 1), "upper bound on exact that the architecture alone proves", "yes"),
    "spectra": (range(0, 1), "a statement about singular values, not about a rank", "-"),
    "dimension": (range(0, 1), "Hausdorff dimension of the feature set", "yes"),
}

_SHAPE = re.compile(r"\s*([a-z-]+)\s*(?:\(([^()]*)\))?\s*$")


@dataclass(frozen=True, order=True)
class Notion:
    """A rank notion with its parameters, for example ``Notion("relative", ("0.001",))``.

    Raises:
        InputError: the name is none of theory.md's notions, or the number of parameters is wrong.
    """

    name: str
    parameters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in DEFINITIONS:
            known = ", ".join(DEFINITIONS)
            raise InputError(f"unknown rank notion {self.name!r}; the notions are {known}")
        allowed = DEFINITIONS[self.name][0]
        if len(self.parameters) not in allowed:
            raise InputError(
                f"notion {self.name!r} takes {allowed.start} to {allowed.stop - 1} parameters, "
                f"got {len(self.parameters)}: {', '.join(self.parameters)}"
            )

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.parameters)})" if self.parameters else self.name


def parse_notion(text: str) -> Notion:
    """Read a notion from text such as ``exact`` or ``relative(0.001)``.

    Raises:
        InputError: the text is no notion.
    """
    match = _SHAPE.match(text)
    if match is None:
        raise InputError(f"cannot read the rank notion {text!r}; write for example relative(0.001)")
    name, inside = match.groups()
    parameters = tuple(p.strip() for p in inside.split(",")) if inside else ()
    return Notion(name, parameters)


EXACT = Notion("exact")
PARTIAL = Notion("partial")
STRUCTURAL = Notion("structural")
ARCHITECTURE = Notion("architecture")
FAMILY = Notion("family", ("weights",))


def relative(eps: float) -> Notion:
    """The relative rank at tolerance ``eps`` (the paper's numerical rank)."""
    return Notion("relative", (repr(float(eps)),))
