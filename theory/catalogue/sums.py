"""Catalogue rows about residuals, sums, stacking, Kronecker and Gram matrices, and logits."""

from __future__ import annotations

from theory.catalogue.entry import DEPTH, Entry, FalseVariant

_PAPER = "Feng et al., Rank Diminishing in Deep Neural Networks, NeurIPS 2022"
_BOOK = "Horn and Johnson, Matrix Analysis, 0.4.5"
_CERTIFIED = "certificate"


def _residual_stack() -> tuple[str, ...]:
    """Loss over n residual blocks against the sum of the blocks' own bounds, n up to 8."""
    texts = []
    for n in range(1, DEPTH + 1):
        value, bounds = "F", []
        for k in range(1, n + 1):
            bounds.append(f"rank(G{k}*{value})")
            value = f"(I+G{k})*{value}"
        texts.append(f"rank(F) - rank({value}) <= {' + '.join(bounds)}")
    return tuple(texts)


SUM_ROWS: tuple[Entry, ...] = (
    Entry(
        id="residual-lower",
        title="a residual block keeps all but the rank of its branch",
        display="rank(I+G) >= n - rank G",
        statements=("rank(I+G) >= rows(G) - rank(G)",),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source=f"{_PAPER}; subadditivity",
        known=_CERTIFIED,
        proof="n = rank(I) = rank((I+G) - G) <= rank(I+G) + rank G.",
        property="residual_lower",
        false_variants=(
            FalseVariant("rank(I+G) >= rank(G)", (), "dropped dimension term: G = -1"),
            FalseVariant("rank(I+G) <= rows(G) - rank(G)", (), "flipped sign: G = 1"),
        ),
    ),
    Entry(
        id="residual-loss",
        title="a residual block loses at most the rank of its branch on the features",
        display="block id + g: r(0,k) - r(0,k+1) <= rank(G J_{0->k}) <= inner width of the branch; "
        "with a ReLU after the sum: plus the number of inactive outputs",
        statements=(
            "rank(F) - rank((I+G)*F) <= rank(G*F)",
            "rank(U*V*F) <= cols(U)",
            "rank(F) - rank((I+U*V)*F) <= cols(U)",
            "rank(F) - rank(D*(I+G)*F) <= rank(G*F) + cols(D) - rank(D)",
        ),
        given=(),
        notions=("exact",),
        status="K",
        beyond=True,
        source="subadditivity, composition and Sylvester",
        known=_CERTIFIED,
        proof="F = (I+G)F - GF, so rank F <= rank((I+G)F) + rank(GF); GF factors through the inner "
        "width; D loses at most n - rank D (Sylvester).",
        property="residual_loss",
        false_variants=(
            FalseVariant(
                "rank(F) - rank(D*(I+G)*F) <= rank(G*F)",
                ("D*D == D",),
                "dropped dimension term: D = 0, G = 0, F = 1 (inactive outputs after the sum)",
            ),
            FalseVariant("rank(F) - rank(F+G*F) >= rank(G*F)", (), "flipped sign: F = G = 1"),
        ),
    ),
    Entry(
        id="residual-stack",
        title="consecutive residual blocks together lose at most the sum of their bounds",
        display="r(0,k) - r(0,k+n) <= sum over the blocks of rank(G_j J_{0->j-1})",
        statements=_residual_stack(),
        given=(),
        notions=("exact",),
        status="K",
        beyond=True,
        source="residual-loss, telescoped",
        known="certificate for every n up to 8; general n by induction in Coq",
        proof="Add residual-loss over the blocks; the left sides telescope.",
        property="residual_stack",
        false_variants=(
            FalseVariant(
                "rank(F) - rank((I+G2)*(I+G1)*F) <= rank(G1*F)",
                (),
                "dropped term: G1 = 0, G2 = -1, F = 1",
            ),
            FalseVariant(
                "rank(F) - rank((I+G2)*(I+G1)*F) <= rank(G2*F)",
                (),
                "dropped term: G1 = -1, G2 = 0, F = 1",
            ),
        ),
    ),
    Entry(
        id="marsaglia-styan",
        title="a lower bound on the rank of a sum from its stacks",
        display="rank(A+B) >= rank [A B] + rank [A; B] - rank A - rank B",
        statements=("rank(A+B) >= rank(hstack(A, B)) + rank(vstack(A, B)) - rank(A) - rank(B)",),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source="Marsaglia and Styan 1974, Linear and Multilinear Algebra 2",
        known=_CERTIFIED,
        proof="Frobenius on [I I] diag(A,B) [I; I]: rank [A B] + rank [A; B] <= rank A + rank B + "
        "rank(A+B).",
        property="marsaglia_styan",
        false_variants=(
            FalseVariant(
                "rank(A+B) >= rank(hstack(A, B)) + rank(vstack(A, B)) - rank(A)",
                (),
                "dropped term: A = 0, B = 1",
            ),
            FalseVariant(
                "rank(A+B) >= rank(hstack(A, B)) + rank(hstack(A, B)) - rank(A) - rank(B)",
                (),
                "hstack for vstack: A = [1; 0], B = [0; 1] gives 1 >= 2",
            ),
        ),
    ),
    Entry(
        id="subadditive",
        title="the rank of a sum is at most the sum of the ranks",
        display="rank(A+B) <= rank A + rank B; |rank A - rank B| <= rank(A - B)",
        statements=(
            "rank(A+B) <= rank(A) + rank(B)",
            "rank(A) - rank(B) <= rank(A-B)",
            "rank(B) - rank(A) <= rank(A-B)",
        ),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source=f"{_BOOK}(d)",
        known=_CERTIFIED,
        proof="im(A+B) lies in im A + im B; apply it to A = (A-B) + B.",
        property="subadditive",
        false_variants=(
            FalseVariant("rank(A+B) >= rank(A) + rank(B)", (), "flipped sign: A = B = 1"),
            FalseVariant("rank(A+B) <= max(rank(A), rank(B))", (), "max for +: e1 e1', e2 e2'"),
            FalseVariant("rank(A) - rank(B) >= rank(A-B)", (), "flipped sign: A = 0, B = 1"),
        ),
    ),
    Entry(
        id="stacking",
        title="concatenated branches: ranks of stacks and block diagonals",
        display="max(rank A, rank B) <= rank [A; B] <= rank A + rank B, likewise [A B]; "
        "rank diag(A,B) = rank A + rank B",
        statements=(
            "max(rank(A), rank(B)) <= rank(vstack(A, B))",
            "rank(vstack(A, B)) <= rank(A) + rank(B)",
            "max(rank(A), rank(B)) <= rank(hstack(A, B))",
            "rank(hstack(A, B)) <= rank(A) + rank(B)",
            "rank(blockdiag(A, B)) == rank(A) + rank(B)",
        ),
        given=(),
        notions=("exact",),
        status="K",
        beyond=False,
        source="Horn and Johnson, Matrix Analysis, 0.9.4",
        known=_CERTIFIED,
        proof="A and B are sub-blocks; the row space of [A; B] is the sum of theirs, a direct sum "
        "for diag(A,B).",
        property="stacking",
        false_variants=(
            FalseVariant(
                "rank(vstack(A, B)) == rank(A) + rank(B)", (), "vstack for blockdiag: A = B = 1"
            ),
            FalseVariant(
                "rank(vstack(A, B)) <= max(rank(A), rank(B))", (), "max for +: [1 0] over [0 1]"
            ),
        ),
    ),
    Entry(
        id="kronecker",
        title="token mixing and channel mixing together multiply their ranks",
        display="rank(A (x) B) = rank A * rank B",
        statements=("rank(kron(A, B)) == 2*rank(B)",),
        given=("rank(A) == 2",),
        notions=("exact",),
        status="A",
        beyond=False,
        source="Horn and Johnson, Topics in Matrix Analysis, 4.2.15",
        known="hand proof; the statement here is the linear case rank A = 2",
        proof="With A = P diag(I_r, 0) Q and B = R diag(I_s, 0) S, A (x) B = (P (x) R) (diag (x) "
        "diag) (Q (x) S), outer factors invertible, and the middle has rs ones.",
        property="kronecker",
        false_variants=(
            FalseVariant(
                "rank(kron(A, B)) == rank(A) + rank(B)", (), "+ for *: A = B = 1 gives 1 == 2"
            ),
            FalseVariant(
                "rank(kron(A, B)) == 2*rank(A)", ("rank(A) == 2",), "A for B: rank A = 2, B = 1"
            ),
        ),
    ),
    Entry(
        id="gram",
        title="a Gram matrix has the rank of its factor, over the reals",
        display="rank(A^T A) = rank A",
        statements=("rank(A.T*A) == rank(A)",),
        given=(),
        notions=("exact",),
        status="A",
        beyond=False,
        source=f"{_BOOK}(g)",
        known="hand proof; false over finite fields: A = [1; 1] has A^T A = 2 = 0 mod 2",
        proof="A^T A x = 0 gives |Ax|^2 = x^T A^T A x = 0, so the kernels agree.",
        property="gram",
        false_variants=(
            FalseVariant("rank(A*A) == rank(A)", (), "dropped transpose: A = [0 1; 0 0]"),
            FalseVariant("rank(A.T*A) == cols(A)", (), "cols for rank: A = 0"),
        ),
    ),
    Entry(
        id="logit-dependence",
        title="features of low rank force affine dependencies among the logits",
        display="affine head z = W h + b: lambda^T z is constant for all h iff lambda^T W = 0; "
        "features in an r-dimensional affine subspace force at least C - r independent affine "
        "dependencies among C logits (feature-span); a Jacobian rank r < C forces them only to "
        "first order at x",
        statements=(
            "rows(W) - rank(W*H) >= rows(W) - rank(H)",
            "rows(W) - rank(W*H) >= rows(W) - rank(W)",
        ),
        given=(),
        notions=("feature-span", "exact"),
        status="K, A",
        beyond=False,
        source=f"{_PAPER}, independence deficit",
        known="certificate for the count of dependencies, H the centred features as columns; hand "
        "proof for the rest; (t, t^2) has Jacobian rank 1 and no affine dependence",
        proof="Centred logits are W H; left null vectors of W H are affine dependencies, and there "
        "are C - rank(WH) >= C - rank H of them (composition).",
        property="logit_dependence",
        false_variants=(
            FalseVariant(
                "rows(W) - rank(W*H) >= rows(H) - rank(H)",
                (),
                "rows(H) for rows(W): W = [1 0], H = [1; 0] gives 0 >= 1",
            ),
            FalseVariant(
                "rows(W) - rank(W*H) <= rows(W) - rank(H)", (), "flipped sign: W = 0, H = 1"
            ),
        ),
    ),
)
