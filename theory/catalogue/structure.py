"""Catalogue rows about what a layer loses, what a patch sees, and the structure of chains."""

from __future__ import annotations

from theory.catalogue.entry import DEPTH, Entry, FalseVariant

_PAPER = "Feng et al., Rank Diminishing in Deep Neural Networks, NeurIPS 2022"
_CERTIFIED = "certificate"


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


STRUCTURE_ROWS: tuple[Entry, ...] = (
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
        known="certificate for every k + 1 up to 8; general k in Coq",
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
