"""Catalogue rows about products of maps (theory.md, section 3).

A chain of layers 1..n has Jacobians J1..Jn; the Jacobian of layers i+1..j is Jj*...*J(i+1).
Rows about n maps are generated for every n up to 8.
"""

from __future__ import annotations

from theory.catalogue.entry import Entry, FalseVariant, chain

DEPTH = 8  # theory.md: a row about n maps is certified for every n up to this
_PAPER = "Feng et al., Rank Diminishing in Deep Neural Networks, NeurIPS 2022"
_BOOK = "Horn and Johnson, Matrix Analysis, 0.4.5"
_CERTIFIED = "certificate"
_ALL_N = "certificate for every n up to 8; general n is A: induction in docs/catalogue.md"


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


def _powers() -> tuple[str, ...]:
    def rank(k: int) -> str:
        return "rows(A)" if k == 0 else "rank(A)" if k == 1 else f"rank(A^{k})"

    return tuple(f"{rank(k - 1)} + {rank(k + 1)} >= 2*{rank(k)}" for k in range(1, DEPTH))


def _completeness() -> tuple[str, ...]:
    """Non-negative bars: Frobenius at every inner segment of a chain of three segments."""
    return (
        "rank(J2) - rank(J2*J1) - rank(J3*J2) + rank(J3*J2*J1) >= 0",
        "rank(J3*J2) - rank(J3*J2*J1) - rank(J4*J3*J2) + rank(J4*J3*J2*J1) >= 0",
    )


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
    Entry(
        id="loss-law",
        title="what a layer loses, exactly: the kernel directions inside the feature tangent space",
        display="r(0,k) - r(0,k+1) = dim(ker J_{k+1} ∩ im J_{0->k})",
        statements=("rank(F) - rank(J*F) == rank(F) + rank(K) - rank(hstack(F, K))",),
        given=("J*K == 0", "rank(K) == cols(J) - rank(J)"),
        notions=("exact",),
        status="K",
        beyond=False,
        source=f"{_PAPER}, structural impetus; rank and nullity on im J_{{0->k}}",
        known=f"{_CERTIFIED}; the columns of K span ker J, so the right side is "
        "dim(im F) + dim(ker J) - dim(im F + ker J)",
        proof="Restrict J to im F: its kernel is ker J ∩ im F, its image im JF (rank and nullity).",
        property="loss_law",
        false_variants=(
            FalseVariant(
                "rank(F) - rank(J*F) == rank(F) + rank(K) - rank(hstack(F, K))",
                ("J*K == 0",),
                "missing hypothesis (K spans the kernel): J = 0, F = 1, K = 0",
            ),
            FalseVariant(
                "rank(F) - rank(J*F) == rank(F) + rank(J) - rank(hstack(F, K))",
                ("J*K == 0", "rank(K) == cols(J) - rank(J)"),
                "J for K: J = [1 0], F = I",
            ),
            FalseVariant(
                "rank(F) - rank(J*F) == rank(K)",
                ("J*K == 0", "rank(K) == cols(J) - rank(J)"),
                "the whole kernel for its part in im F: J = F = 0",
            ),
        ),
    ),
    Entry(
        id="structural-impetus",
        title="a layer loses rank exactly when it kills a direction tangent to the features",
        display="some nonzero v in im J_{0->k} with J_{k+1} v = 0 <=> r(0,k+1) < r(0,k)",
        statements=("rank(J*F) <= rank(F) - rank(F*V)",),
        given=("J*F*V == 0",),
        notions=("exact",),
        status="A",
        beyond=False,
        source=f"{_PAPER}, structural impetus",
        known="hand proof from loss-law; the direction from a killed tangent to a loss of rank is "
        "the statement here, and it is certified",
        proof="By loss-law the loss is dim(ker J ∩ im F), positive iff a non-zero v lies in both.",
        property="structural_impetus",
        false_variants=(
            FalseVariant(
                "rank(J*F) <= rank(F) - rank(V)",
                ("J*V == 0",),
                "an invariance off the tangent space loses nothing: J = [1 0], F = [1; 0], "
                "V = [0; 1]",
            ),
        ),
    ),
    Entry(
        id="partial-drop",
        title="the drop seen through a patch is a lower bound on the true drop",
        display="rank(BP) - rank(ABP) <= rank B - rank(AB)",
        statements=("rank(B*P) - rank(A*B*P) <= rank(B) - rank(A*B)",),
        given=(),
        notions=("exact", "partial"),
        status="K",
        beyond=True,
        source="Frobenius' inequality, rearranged",
        known=_CERTIFIED,
        proof="Frobenius(A, B, P): kernel directions inside im BP are also inside im B.",
        property="partial_drop",
        false_variants=(
            FalseVariant(
                "rank(B*P) - rank(A*B*P) >= rank(B) - rank(A*B)",
                (),
                "flipped sign: P = A = 0, B = 1",
            ),
            FalseVariant(
                "rank(B*P) - rank(A*B*P) <= rank(B) - rank(A*B)",
                (),
                "wrong notion: B = diag(1e5,1,1), A = diag(1e-5,1,1e-4), P = [e2 e3], eps 1e-3",
                "relative(0.001)",
            ),
        ),
    ),
    Entry(
        id="partial-lower",
        title="a patch sees at least the full rank less the directions it leaves out",
        display="rank(JP) >= rank J + dim P - n",
        statements=("rank(J*P) >= rank(J) + rank(P) - cols(J)",),
        given=(),
        notions=("partial",),
        status="K",
        beyond=True,
        source="Sylvester's inequality",
        known=_CERTIFIED,
        proof="Sylvester(J, P).",
        property="partial_lower",
        false_variants=(
            FalseVariant(
                "rank(J*P) >= rank(J) + rank(P) - cols(P)",
                (),
                "cols(P) for cols(J): J = [1 0], P = [0; 1]",
            ),
        ),
    ),
    Entry(
        id="powers",
        title="the ranks of the powers of one matrix are convex (shared weights)",
        display="rank A^{k-1} + rank A^{k+1} >= 2 rank A^k",
        statements=_powers(),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source="Frobenius' inequality; Horn and Johnson, Matrix Analysis, 3.1",
        known="certificate for every k + 1 up to 8; general k is A: one Frobenius inequality",
        proof="Frobenius(A, A^{k-1}, A).",
        property="powers",
        false_variants=(
            FalseVariant(
                "rank(A) + rank(A^3) <= 2*rank(A^2)", (), "flipped sign: A nilpotent of order 2"
            ),
            FalseVariant(
                "rank(A) + rank(A^3) >= 2*rank(A)", (), "A for A^2: A nilpotent of order 2"
            ),
        ),
    ),
    Entry(
        id="completeness",
        title="exactly which integers are the ranks of a chain",
        display="integers r(i,j) are the ranks of some chain of linear maps iff every "
        "r(i,j) - r(i-1,j) - r(i,j+1) + r(i-1,j+1) >= 0 (terms outside the chain are 0)",
        statements=_completeness(),
        given=(),
        notions=("exact",),
        status="A",
        beyond=True,
        source="Gabriel 1972 (representations of a line); Abeasis and Del Fra 1985",
        known="hand proof; decided by program for each chain (a direct sum of intervals realises "
        "the ranks); necessity, the statements here, is certified",
        proof="Necessity is Frobenius. For sufficiency take the direct sum of that many copies of "
        "each interval module: its ranks are the r(i,j) by inclusion and exclusion.",
        property="completeness",
        false_variants=(
            FalseVariant(
                "rank(J2) - rank(J2*J1) - rank(J3*J2) + rank(J3*J2*J1) <= 0",
                (),
                "flipped sign: J1 = J3 = 0, J2 = 1",
            ),
        ),
    ),
    Entry(
        id="barcode",
        title="the barcode of a network at a point: where directions are born and die",
        display="bar [i,j] = r(i,j) - r(i-1,j) - r(i,j+1) + r(i-1,j+1) counts the directions born "
        "at layer i that die after layer j; r(a,b) is the number of bars that contain [a,b]",
        statements=("rows(J1) - rank(J1) - rank(J2) + rank(J2*J1) >= 0",),
        given=(),
        notions=("exact",),
        status="A",
        beyond=True,
        source="Carlsson and Zomorodian 2005 (barcodes); Gabriel 1972",
        known="hand proof; the statement here (a bar of length 1 is counted by a non-negative "
        "number, which is Sylvester) is certified",
        proof="Every chain is a direct sum of interval modules (Gabriel); ranks add over the sum.",
        property="barcode",
        false_variants=(
            FalseVariant(
                "rows(J1) - rank(J1) - rank(J2) + rank(J2*J1) <= 0",
                (),
                "flipped sign: J1 = J2 = 0",
            ),
        ),
    ),
)
