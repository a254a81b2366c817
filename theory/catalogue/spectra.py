"""Catalogue rows about singular values, dimension, limits, and the refuted claims.

These are not linear rank inequalities: they have no grammar text. N rows take their constants
from ``theory.constants``; R rows carry explicit layers that a test replays exactly.
"""

from __future__ import annotations

from theory.catalogue.entry import Counterexample, Entry, FalseVariant

_PAPER = "Feng et al., Rank Diminishing in Deep Neural Networks, NeurIPS 2022"
_TOPICS = "Horn and Johnson, Topics in Matrix Analysis"
_HAND = "hand proof in docs/catalogue.md, with property tests"

_SMALL_FIRST = (("1/1000000000", "0"), ("0", "1"))
_SMALL_SECOND = (("1", "0"), ("0", "1/1000000000"))
_ROTATION = (("3/5", "-4/5"), ("4/5", "3/5"))

SPECTRUM_ROWS: tuple[Entry, ...] = (
    Entry(
        id="eps-calculus",
        title="the true form of numerical rank diminishing",
        display="sigma_k(AB) <= sigma_1(A) sigma_k(B); relative(eps) of AB <= relative(eps*rho) of "
        "B with rho = norm(AB) / (norm(A) norm(B)); absolute(tau) is non-increasing under "
        "contractions",
        statements=(),
        given=(),
        notions=("relative", "absolute"),
        status="A",
        beyond=True,
        source=f"{_TOPICS}, 3.3.16(d)",
        known=_HAND,
        proof="Courant-Fischer gives the first; sigma_k(AB) >= eps norm(AB) then gives sigma_k(B) "
        ">= eps rho norm(B); norm(A) <= 1 gives the last.",
        property="eps_calculus",
        false_variants=(
            FalseVariant(
                "relative(eps) of AB <= relative(eps) of B",
                (),
                "dropped rho: B = diag(1e-9, 1), A = diag(1, 1e-9)",
                "relative",
            ),
            FalseVariant(
                "absolute(tau) of AB <= absolute(tau) of B",
                (),
                "missing hypothesis norm(A) <= 1: A = 2, B = 1, tau = 2",
                "absolute",
            ),
        ),
    ),
    Entry(
        id="log-majorisation",
        title="Horn's inequalities for the singular values of a product",
        display="prod_{i<=k} sigma_i(AB) <= prod_{i<=k} sigma_i(A) sigma_i(B)",
        statements=(),
        given=(),
        notions=("spectra",),
        status="A",
        beyond=False,
        source=f"Horn 1950; {_TOPICS}, 3.3.4",
        known=_HAND,
        proof="The left side is the norm of the k-th compound of AB = C_k(A) C_k(B), which is at "
        "most the product of the two norms.",
        property="log_majorisation",
        false_variants=(
            FalseVariant(
                "sigma_k(AB) <= sigma_k(A) sigma_k(B)",
                (),
                "one factor for the product: A = diag(2, 1), B = diag(1, 2), k = 2",
                "spectra",
            ),
        ),
    ),
    Entry(
        id="weyl",
        title="a perturbation moves each singular value by at most its norm",
        display="|sigma_i(A+E) - sigma_i(A)| <= norm(E): a spectrum with error bound delta gives "
        "an interval for relative(eps), not a number",
        statements=(),
        given=(),
        notions=("spectra",),
        status="A",
        beyond=False,
        source="Weyl 1912; Horn and Johnson, Matrix Analysis, 7.3.5",
        known=_HAND,
        proof="sigma_i(A+E) = min over rank < i matrices X of norm(A+E-X) <= sigma_i(A) + norm(E).",
        property="weyl",
        false_variants=(
            FalseVariant(
                "|sigma_i(A+E) - sigma_i(A)| <= sigma_i(E)",
                (),
                "sigma_i(E) for norm(E): A = diag(1, 0), E = diag(0, 1), i = 2 gives 1 <= 0",
                "spectra",
            ),
        ),
    ),
    Entry(
        id="dimension",
        title="the dimension of the feature set never grows under locally Lipschitz layers",
        display="dim_H F_{k+1}(X) <= dim_H F_k(X); 'almost everywhere smooth' is too weak (the "
        "Cantor function)",
        statements=(),
        given=(),
        notions=("dimension",),
        status="A",
        beyond=False,
        source=f"{_PAPER}; Falconer, Fractal Geometry, 2.3",
        known=_HAND,
        proof="A Lipschitz map scales covers by its constant, so H^s(f(E)) <= c^s H^s(E); take a "
        "countable cover of X by pieces where f is Lipschitz.",
        property="dimension",
        false_variants=(
            FalseVariant(
                "dim_H f(X) <= dim_H X for f smooth almost everywhere",
                (),
                "dropped Lipschitz: the Cantor function maps the Cantor set (dimension log 2 / "
                "log 3) onto [0, 1]",
                "dimension",
            ),
        ),
    ),
    Entry(
        id="rank-is-dimension",
        title="for piecewise-analytic networks dimension is the largest almost-everywhere rank",
        display="dim F(U) = max almost-everywhere rank of F on an open U, for piecewise-analytic F",
        statements=(),
        given=(),
        notions=("almost-everywhere", "dimension"),
        status="A",
        beyond=False,
        source=f"{_PAPER}; Federer, Geometric Measure Theory, 3.2; Kaufman 1979",
        known=f"{_HAND}; false for merely C^1 maps (Kaufman's map has rank at most 1 and a square "
        "as its image)",
        proof="On each piece the set of maximal rank r is open and dense, and the constant rank "
        "theorem makes its image a countable union of r-manifolds; the rest is lower by Sard.",
        property="rank_is_dimension",
        false_variants=(
            FalseVariant(
                "dim F(U) = almost-everywhere rank of F on one piece",
                (),
                "one piece for the largest: ReLU on R has rank 0 on the left and dimension 1",
                "almost-everywhere",
            ),
        ),
    ),
    Entry(
        id="pca-limit",
        title="perturbed PCA sees J J^T in the limit of small noise only",
        display="Cov(F(x + eps z)) / eps^2 -> J J^T as eps -> 0 where F is C^1 at x and of "
        "polynomial growth; at fixed eps and n the estimate errs both ways",
        statements=(),
        given=(),
        notions=("pca",),
        status="A, N",
        beyond=False,
        source=f"{_PAPER}, perturbed PCA dimension",
        known="hand proof; rate eps^2 with constant tr(H^2)/2 for a quadratic "
        "(theory.constants.pca_limit)",
        proof="F(x + eps z) = F(x) + eps J z + o(eps); dominated convergence under polynomial "
        "growth moves the limit into the covariance.",
        property="pca_limit",
        false_variants=(
            FalseVariant(
                "rank Cov(F(x + eps z)) = rank J at fixed eps",
                (),
                "dropped limit: F(t) = (t, t^2) has rank J = 1 and a covariance of rank 2",
                "pca",
            ),
        ),
    ),
    Entry(
        id="gaussian-exponents",
        title="the gaps of a deep square Gaussian linear network",
        display="(1/L) log(sigma_k / sigma_1) -> (psi((n-k+1)/2) - psi(n/2)) / 2",
        statements=(),
        given=(),
        notions=("spectra",),
        status="N",
        beyond=False,
        source=f"{_PAPER}, implicit impetus; Newman 1986, Commun. Math. Phys. 103",
        known="constants by mpmath (theory.constants.gaussian_exponents), limit confirmed "
        "numerically",
        proof="The volume of k vectors under a Gaussian matrix multiplies by a product of chi "
        "variables; E log chi_m^2 = psi(m/2) + log 2.",
        property="gaussian_exponents",
        false_variants=(
            FalseVariant(
                "(1/L) log(sigma_k / sigma_1) -> (psi((n-k)/2) - psi(n/2)) / 2",
                (),
                "dropped + 1: k = 1 gives a negative exponent for sigma_1 / sigma_1 = 1",
                "spectra",
            ),
        ),
    ),
    Entry(
        id="iid-limit",
        title="random layers: every singular value has an exponential rate",
        display="i.i.d. layer Jacobians with finite log-moments: (1/L) log sigma_k converges; "
        "where the limits differ, relative(eps) collapses exponentially",
        statements=(),
        given=(),
        notions=("spectra",),
        status="N",
        beyond=False,
        source=f"{_PAPER}, implicit impetus; Furstenberg and Kesten 1960; Oseledets 1968",
        known="constants by mpmath for standard Gaussian and log-normal diagonal layers "
        "(theory.constants.iid_limit)",
        proof="log norm of the k-th compound is subadditive: Kingman's theorem. Contraction with "
        "strong irreducibility is sufficient for a gap after the first.",
        property="iid_limit",
        false_variants=(
            FalseVariant(
                "the limits of (1/L) log sigma_k always differ",
                (),
                "orthogonal layers: all limits are 0",
                "spectra",
            ),
        ),
    ),
    Entry(
        id="token-collapse",
        title="self-attention without skips drives the tokens to rank 1",
        display="pure self-attention: the distance of the token matrix from rank 1 shrinks doubly "
        "exponentially (cubed at each layer); skips prevent it",
        statements=(),
        given=(),
        notions=("feature-span",),
        status="N",
        beyond=True,
        source="Dong, Cordonnier and Loukas 2021, Attention is not all you need",
        known="rate 3 a layer (theory.constants.token_collapse), confirmed numerically",
        proof="Softmax of nearly equal rows is nearly uniform: the residual after a layer is at "
        "most a constant times the cube of the residual before.",
        property="token_collapse",
        false_variants=(
            FalseVariant(
                "self-attention with skips drives the token matrix to rank 1",
                (),
                "with for without: the identity path keeps the differences of tokens",
                "feature-span",
            ),
        ),
    ),
    Entry(
        id="eps-monotone",
        title="refuted: numerical rank is non-increasing with depth",
        display="relative(eps) of J_{0->k+1} <= relative(eps) of J_{0->k}",
        statements=("rank(J2*J1) <= rank(J1)",),
        given=(),
        notions=("relative(0.001)",),
        status="R",
        beyond=False,
        source=f"{_PAPER}, as usually quoted",
        known="counterexample, replayed exactly; eps-calculus is the corrected statement",
        proof="diag(1e-9, 1) then diag(1, 1e-9): the product is 1e-9 I, all singular values equal.",
        property="eps_monotone",
        false_variants=(
            FalseVariant(
                "rank(J2*J1) <= rank(J1)",
                (),
                "the claim itself, under relative rank",
                "relative(0.001)",
            ),
        ),
        counterexamples=(
            Counterexample(
                (_SMALL_FIRST, _SMALL_SECOND), "relative(1/1000)", (1, 2), "rank 1, then 2"
            ),
        ),
    ),
    Entry(
        id="collapse-is-universal",
        title="refuted: every deep network's numerical rank collapses exponentially",
        display="relative(eps) of J_{0->L} falls exponentially in L for every deep network",
        statements=(),
        given=(),
        notions=("relative",),
        status="R",
        beyond=False,
        source=f"{_PAPER}, as usually quoted",
        known="counterexamples: orthogonal layers (gap 0, replayed exactly), i.i.d. diagonal "
        "layers (gap ~ sqrt L), residual layers I + G/sqrt(nL) (bounded gap); growth constants in "
        "theory.constants.collapse_counterexamples; iid-limit is the corrected statement",
        proof="A product of orthogonal matrices is orthogonal: all its singular values are 1.",
        property="collapse_is_universal",
        false_variants=(
            FalseVariant(
                "relative(eps) of a product of orthogonal layers decreases with depth",
                (),
                "the claim itself, on orthogonal layers",
                "relative",
            ),
        ),
        counterexamples=(
            Counterexample(
                (_ROTATION,) * 12,
                "relative(1/2)",
                (2,) * 12,
                "orthogonal layers (3/5, 4/5): J^T J = I at every depth, gap 0",
            ),
            Counterexample(
                ((("2", "0"), ("0", "1")), (("1", "0"), ("0", "2"))) * 6,
                "relative(1/3)",
                (2,) * 12,
                "alternating diagonal layers: the gap returns to 0 every second layer",
            ),
        ),
    ),
)
