"""A corpus of false statements, each one token away from a row of the catalogue.

It measures the prover: none may come out PROVED, and nearly all must be REFUTED with a witness.
The second list holds statements that are false only in a corner: for rectangular matrices, for
nilpotent ones, from dimension 3 on, or with rational entries.
"""

from __future__ import annotations

from dataclasses import dataclass

from theory.catalogue import CATALOGUE


@dataclass(frozen=True)
class Mutation:
    """A false statement.

    Attributes:
        row: the catalogue row it was made from.
        kind: ``flipped sign``, ``swapped order``, ``dropped term``, ``wrong token``,
            ``missing hypothesis``, ``wrong notion`` or the corner where it is false.
        text: the statement, in the grammar.
        given: its hypotheses.
        notion: the rank notion.
    """

    row: str
    kind: str
    text: str
    given: tuple[str, ...] = ()
    notion: str = "exact"


_SIGN, _ORDER, _TERM = "flipped sign", "swapped order", "dropped term"
_TOKEN, _GIVEN, _NOTION = "wrong token", "missing hypothesis", "wrong notion"
_SPAN = ("J*K == 0", "rank(K) == cols(J) - rank(J)")

_ONE_TOKEN: tuple[Mutation, ...] = (
    Mutation("composition", _SIGN, "rank(A*B) >= rank(B)"),
    Mutation("composition", _TOKEN, "rank(A*B) == rank(A)"),
    Mutation("composition", _TOKEN, "rank(A*B) < rank(A)"),
    Mutation("diminishing", _SIGN, "rank(J2*J1) >= rank(J1)"),
    Mutation("diminishing", _TOKEN, "rank(J2*J1) == rank(J1)"),
    Mutation("diminishing", _SIGN, "rank(J2*J1*P) >= rank(J1*P)"),
    Mutation("diminishing", _ORDER, "rank(J1*P) <= rank(J2*J1*P)"),
    Mutation("bottleneck", _SIGN, "rank(J2*J1) >= rows(J1)"),
    Mutation("bottleneck", _TOKEN, "rank(J2*J1) == cols(J1)"),
    Mutation("bottleneck", _ORDER, "rank(J3*J2) <= rank(J3*J2*J1)"),
    Mutation("sylvester", _SIGN, "rank(A*B) <= rank(A) + rank(B) - cols(A)"),
    Mutation("sylvester", _TOKEN, "rank(A*B) >= rank(A) + rank(B) - cols(B)"),
    Mutation("sylvester", _TOKEN, "rank(A*B) >= rank(A) + rank(A) - cols(A)"),
    Mutation("frobenius", _TOKEN, "rank(A*B) + rank(B*C) <= rank(C) + rank(A*B*C)"),
    Mutation("frobenius", _TERM, "rank(A*B) + rank(B*C) <= rank(A*B*C)"),
    Mutation("frobenius", _TERM, "rank(A*B) + rank(B*C) <= rank(B)"),
    Mutation("chain-sylvester", _SIGN, "rank(J2*J1) <= rank(J1) + rank(J2) - rows(J1)"),
    Mutation(
        "chain-sylvester",
        _TOKEN,
        "rank(J3*J2*J1) >= rank(J1) + rank(J2) + rank(J3) - rows(J2) - rows(J2)",
    ),
    Mutation("loss-law", _TERM, "rank(F) - rank(J*F) == rank(K) - rank(hstack(F, K))", _SPAN),
    Mutation(
        "loss-law",
        _GIVEN,
        "rank(F) - rank(J*F) == rank(F) + rank(K) - rank(hstack(F, K))",
        ("rank(K) == cols(J) - rank(J)",),
    ),
    Mutation("structural-impetus", _SIGN, "rank(J*F) >= rank(F) - rank(F*V)", ("J*F*V == 0",)),
    Mutation("structural-impetus", _GIVEN, "rank(J*F) <= rank(F) - rank(F*V)"),
    Mutation("residual-lower", _TOKEN, "rank(I+G) == rows(G) - rank(G)"),
    Mutation("residual-lower", _TERM, "rank(I+G) >= rows(G)"),
    Mutation("residual-lower", _SIGN, "rank(I+G) >= rows(G) + rank(G)"),
    Mutation("residual-loss", _TOKEN, "rank(F) - rank(G*F) <= rank(G*F)"),
    Mutation("residual-loss", _SIGN, "rank(F) - rank((I+G)*F) >= rank(G*F)"),
    Mutation("residual-loss", _TERM, "rank(F) - rank((I+G)*F) <= 0"),
    Mutation("residual-loss", _SIGN, "rank(U*V*F) >= cols(U)"),
    Mutation("residual-loss", _TERM, "rank(F) - rank(D*(I+G)*F) <= cols(D) - rank(D)"),
    Mutation("residual-loss", _TERM, "rank(F) - rank(D*(I+G)*F) <= rank(G*F)"),
    Mutation(
        "residual-stack",
        _SIGN,
        "rank(F) - rank((I+G2)*(I+G1)*F) >= rank(G1*F) + rank(G2*(I+G1)*F)",
    ),
    Mutation(
        "residual-stack",
        _SIGN,
        "rank(F) - rank((I+G2)*(I+G1)*F) <= rank(G1*F) - rank(G2*(I+G1)*F)",
    ),
    Mutation("partial-drop", _TOKEN, "rank(B*P) - rank(A*B*P) <= rank(B) - rank(A)"),
    Mutation("partial-drop", _TOKEN, "rank(B*P) - rank(A*B*P) == rank(B) - rank(A*B)"),
    Mutation("partial-drop", _SIGN, "rank(B*P) + rank(A*B*P) <= rank(B) - rank(A*B)"),
    Mutation("partial-drop", _TERM, "rank(B*P) - rank(A*B*P) <= rank(B) - rank(B)"),
    Mutation("partial-lower", _TERM, "rank(J*P) >= rank(J) + rank(P)"),
    Mutation("partial-lower", _TOKEN, "rank(J*P) >= rank(J) + rank(P) - rows(J)"),
    Mutation("partial-lower", _SIGN, "rank(J*P) <= rank(J) + rank(P) - cols(J)"),
    Mutation(
        "marsaglia-styan",
        _SIGN,
        "rank(A+B) <= rank(hstack(A, B)) + rank(vstack(A, B)) - rank(A) - rank(B)",
    ),
    Mutation(
        "marsaglia-styan",
        _TOKEN,
        "rank(A+B) >= rank(vstack(A, B)) + rank(vstack(A, B)) - rank(A) - rank(B)",
    ),
    Mutation(
        "marsaglia-styan",
        _TOKEN,
        "rank(A+B) >= rank(hstack(A, B)) + rank(vstack(A, B)) - rank(A) - rank(A)",
    ),
    Mutation("subadditive", _TOKEN, "rank(A+B) == rank(A) + rank(B)"),
    Mutation("subadditive", _SIGN, "rank(A+B) <= rank(A) - rank(B)"),
    Mutation("subadditive", _TERM, "rank(A+B) <= rank(A)"),
    Mutation("subadditive", _SIGN, "rank(B) - rank(A) >= rank(A-B)"),
    Mutation("stacking", _SIGN, "rank(hstack(A, B)) >= rank(A) + rank(B)"),
    Mutation("stacking", _TOKEN, "min(rank(A), rank(B)) >= rank(vstack(A, B))"),
    Mutation("stacking", _TOKEN, "rank(hstack(A, B)) <= max(rank(A), rank(B))"),
    Mutation("stacking", _TOKEN, "rank(blockdiag(A, B)) == rank(A) + rank(A)"),
    Mutation("stacking", _TERM, "rank(blockdiag(A, B)) <= max(rank(A), rank(B))"),
    Mutation("stacking", _TOKEN, "rank(hstack(A, B)) == rank(vstack(A, B))"),
    Mutation("kronecker", _TOKEN, "rank(kron(A, B)) == 3*rank(B)", ("rank(A) == 2",)),
    Mutation("kronecker", _GIVEN, "rank(kron(A, B)) == 2*rank(B)"),
    Mutation("gram", _TOKEN, "rank(A.T*A) == rows(A)"),
    Mutation("gram", _TOKEN, "rank(A.T*A) < rank(A)"),
    Mutation("powers", _TOKEN, "rank(A) + rank(A^3) == 2*rank(A^2)"),
    Mutation("powers", _SIGN, "rank(A) - rank(A^3) >= 2*rank(A^2)"),
    Mutation("powers", _TOKEN, "rank(A) + rank(A^4) >= 2*rank(A)"),
    Mutation("powers", _TOKEN, "rank(A^3) + rank(A^3) >= 2*rank(A^2)"),
    Mutation("completeness", _SIGN, "rank(J2) - rank(J2*J1) - rank(J3*J2) - rank(J3*J2*J1) >= 0"),
    Mutation("completeness", _TERM, "rank(J2) - rank(J2*J1) - rank(J3*J2) >= 0"),
    Mutation("barcode", _TERM, "rows(J1) - rank(J1) - rank(J2) >= 0"),
    Mutation("barcode", _TOKEN, "cols(J1) - rank(J1) - rank(J2) + rank(J2*J1) >= 0"),
    Mutation("logit-dependence", _TOKEN, "rows(W) - rank(W*H) >= rows(W) - cols(H) + 1"),
    Mutation("logit-dependence", _TOKEN, "rows(W) - rank(W*H) == rows(W) - rank(H)"),
    Mutation(
        "sylvester", _NOTION, "rank(A*B) >= rank(A) + rank(B) - cols(A)", (), "relative(0.001)"
    ),
    Mutation("eps-monotone", _NOTION, "rank(J3*J2*J1) <= rank(J2*J1)", (), "relative(0.001)"),
)

RECTANGULAR, NILPOTENT = "only rectangular", "only nilpotent"
DIMENSION, RATIONAL = "only from dimension 3", "only with rational entries"

#: false, but true for most matrices that a lazy search would try
CORNERS: tuple[Mutation, ...] = (
    Mutation("sylvester", RECTANGULAR, "rank(A*B) >= rank(A) + rank(B) - rows(A)"),
    Mutation("residual-lower", RECTANGULAR, "rank(I+A*B) == rank(I+B*A)"),
    Mutation("gram", RECTANGULAR, "rank(I+A.T*A) == rank(I+A*A.T)"),
    Mutation("powers", NILPOTENT, "rank(A) == 0", ("A*A == 0",)),
    Mutation("powers", NILPOTENT, "2*rank(A^2) >= rank(A)"),
    Mutation("powers", NILPOTENT, "rank(A^2) >= 1", ("rank(A) >= 1",)),
    Mutation("powers", DIMENSION, "rank(A^2) == 0", ("A^3 == 0",)),
    Mutation("powers", DIMENSION, "rank(A) <= 1", ("A^3 == 0",)),
    Mutation("composition", DIMENSION, "rank(A*B) <= 2"),
    Mutation("residual-lower", RATIONAL, "rank(A) == 0", ("2*A*A == A",)),
    Mutation("subadditive", RATIONAL, "rank(2*A-I) >= 1", ("rows(A) >= 1",)),
    Mutation("frobenius", RATIONAL, "rank(I-A*B) >= 1", ("A == 2*I", "rows(A) >= 1")),
)


def _from_catalogue() -> tuple[Mutation, ...]:
    """The catalogue's own false variants, where the row has grammar text."""
    found = []
    for row in CATALOGUE:
        for variant in row.false_variants if row.statements else ():
            kind = variant.why.partition(":")[0]
            found.append(Mutation(row.id, kind, variant.text, variant.given, variant.notion))
    return tuple(found)


def _distinct(items: tuple[Mutation, ...]) -> tuple[Mutation, ...]:
    return tuple({(m.text, m.given, m.notion): m for m in items}.values())


#: every one-token mutation, the catalogue's variants first
MUTATIONS: tuple[Mutation, ...] = _distinct((*_from_catalogue(), *_ONE_TOKEN))
