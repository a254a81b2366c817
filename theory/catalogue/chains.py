"""Catalogue rows about products of maps (theory.md, section 3).

A chain of layers 1..n has Jacobians J1..Jn; the Jacobian of layers i+1..j is Jj*...*J(i+1).
Rows about n maps are generated for every n up to 8.
"""

from __future__ import annotations

from theory.catalogue.entry import DEPTH, Entry, FalseVariant, chain

_PAPER = "Feng et al., Rank Diminishing in Deep Neural Networks, NeurIPS 2022"
_BOOK = "Horn and Johnson, Matrix Analysis, 0.4.5"
_CERTIFIED = "certificate"
_ALL_N = "certificate for every n up to 8; general n by induction in Coq"


def _diminishing() -> tuple[str, ...]:
    rows = ["rank(J1) <= cols(J1)"]
    rows += [f"rank({chain(n)}) <= rank({chain(n - 1)})" for n in range(2, DEPTH + 1)]
    return (*rows, "rank(J2*J1*P) <= rank(J1*P)")


def _bottleneck() -> tuple[str, ...]:
    """For each n, the rank of the whole chain against every width and every shorter segment."""
    texts = []
    for n in range(1, DEPTH + 1):
        widths = ["cols(J1)"] + [f"rows(J{k})" for k in range(1, n + 1)]
        parts = [
            f"rank({chain(b, a)})"
            for a in range(1, n + 1)
            for b in range(a, n + 1)
            if (a, b) != (1, n)
        ]
        texts.append(f"rank({chain(n)}) <= min({', '.join(widths + parts)})")
    return tuple(texts)


def _chain_sylvester() -> tuple[str, ...]:
    texts = []
    for n in range(2, DEPTH + 1):
        ranks = " + ".join(f"rank(J{k})" for k in range(1, n + 1))
        widths = " - ".join(f"rows(J{k})" for k in range(1, n))
        texts.append(f"rank({chain(n)}) >= {ranks} - {widths}")
    return tuple(texts)


CHAIN_ROWS: tuple[Entry, ...] = (
    Entry(
        id="composition",
        title="a product has at most the rank of each factor",
        display="rank(AB) <= rank A, rank(AB) <= rank B",
        statements=("rank(A*B) <= rank(A)", "rank(A*B) <= rank(B)"),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source=f"{_BOOK}(c)",
        known=_CERTIFIED,
        proof="The columns of AB are combinations of the columns of A, its rows of the rows of B.",
        property="composition",
        false_variants=(
            FalseVariant("rank(A*B) >= rank(A)", (), "flipped sign: A = 1, B = 0"),
            FalseVariant("rank(A*B) == rank(B)", (), "== for <=: A = 0, B = 1"),
            FalseVariant(
                "rank(A*B) <= rank(B)",
                (),
                "wrong notion: diag(1e-9, 1) then diag(1, 1e-9) has relative rank 1, then 2",
                "relative(0.001)",
            ),
        ),
    ),
    Entry(
        id="diminishing",
        title="the principle of rank diminishing: rank never grows with depth",
        display="r(0,k+1) <= r(0,k)",
        statements=_diminishing(),
        given=(),
        notions=("exact", "partial"),
        status="K",
        beyond=False,
        source=f"{_PAPER}, principle of rank diminishing",
        known=_ALL_N,
        proof="composition with A = J_{k+1} and B = J_{0->k}, or B = J_{0->k} P for a subspace.",
        property="diminishing",
        false_variants=(
            FalseVariant("rank(J3*J2*J1) >= rank(J2*J1)", (), "flipped sign: J3 = 0"),
            FalseVariant("rank(J3*J2*J1) == rank(J2*J1)", (), "== for <=: J3 = 0"),
            FalseVariant(
                "rank(J2*J1) <= rank(J1)",
                (),
                "wrong notion: relative ranks rise with depth",
                "relative(0.001)",
            ),
        ),
    ),
    Entry(
        id="bottleneck",
        title="a chain has at most the rank and the width of each of its parts",
        display="r(i,j) <= d_m for i <= m <= j, and r(i,j) <= r(a,b) for i <= a <= b <= j",
        statements=_bottleneck(),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source=f"{_PAPER}, structural impetus; {_BOOK}(c)",
        known=_ALL_N,
        proof="composition twice: J_{i->j} = J_{b->j} J_{a->b} J_{i->a}; and r(m,m) = d_m.",
        property="bottleneck",
        false_variants=(
            FalseVariant("rank(J3*J2*J1) >= rows(J2)", (), "flipped sign: J1 = 0"),
            FalseVariant("rank(J2*J1) <= rank(J3*J2*J1)", (), "swapped order: J3 = 0"),
        ),
    ),
    Entry(
        id="sylvester",
        title="Sylvester's rank inequality",
        display="rank(AB) >= rank A + rank B - n",
        statements=("rank(A*B) >= rank(A) + rank(B) - cols(A)",),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source=f"{_BOOK}(c)",
        known=_CERTIFIED,
        proof="Frobenius with I in the middle: rank(A I) + rank(I B) <= n + rank(A I B).",
        property="sylvester",
        false_variants=(
            FalseVariant(
                "rank(A*B) >= rank(A) + rank(B) - rows(A)",
                (),
                "rows for cols: A = [1 0], B = [0; 1] gives 0 >= 1",
            ),
            FalseVariant("rank(A*B) >= rank(A) + rank(B)", (), "dropped dimension term: A = B = 1"),
        ),
    ),
    Entry(
        id="frobenius",
        title="the Frobenius rank inequality, from which all chain inequalities follow",
        display="rank(AB) + rank(BC) <= rank B + rank(ABC)",
        statements=("rank(A*B) + rank(B*C) <= rank(B) + rank(A*B*C)",),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source=f"Frobenius 1911; {_BOOK}(e)",
        known=_CERTIFIED,
        proof="A maps im B / im BC onto im AB / im ABC, so the second has no larger dimension.",
        property="frobenius",
        false_variants=(
            FalseVariant(
                "rank(A*B) + rank(B*C) >= rank(B) + rank(A*B*C)",
                (),
                "flipped sign: A = C = 0, B = 1",
            ),
            FalseVariant(
                "rank(A*B) + rank(B*C) <= rank(A) + rank(A*B*C)",
                (),
                "A for B: A = 0, B = C = 1",
            ),
            FalseVariant(
                "rank(A*B) + rank(B*C) <= rank(B) + rank(A*B*C)",
                (),
                "wrong notion: A = diag(1, 1e-5), B = diag(1e-5, 1), C = I",
                "relative(0.001)",
            ),
        ),
    ),
    Entry(
        id="chain-sylvester",
        title="Sylvester's inequality for a whole chain",
        display="r(0,L) >= sum_k r(k-1,k) - sum of inner d_k",
        statements=_chain_sylvester(),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source=f"{_BOOK}(c), repeated",
        known=_ALL_N,
        proof="Sylvester for J_n and J_{0->n-1}, then induction: each step costs one inner width.",
        property="chain_sylvester",
        false_variants=(
            FalseVariant(
                "rank(J3*J2*J1) >= rank(J1) + rank(J2) + rank(J3) - rows(J1)",
                (),
                "dropped dimension term: all maps 1",
            ),
            FalseVariant(
                "rank(J3*J2*J1) >= rank(J1) + rank(J2) + rank(J3) - rows(J1) - rows(J3)",
                (),
                "J3 for J2: J1 = 1 x 1, J2 = [1; 0], J3 = [0 1]",
            ),
        ),
    ),
)
