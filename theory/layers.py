"""Rank rules of the layers (theory.md, section 4), free of torch.

A layer fact says what is known of a layer at one input: its widths, its kind, and where known the
rank of its Jacobian and the number of outputs that can depend on the input at all. The rules turn
a fact into bounds on the rank of its Jacobian; `theory.audit` composes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from theory.errors import InputError, UnsupportedError


@dataclass(frozen=True)
class LayerFact:
    """What is known of one layer at one input.

    Attributes:
        name: the module's path, or any unique name.
        kind: a key of ``RULES``, or ``residual`` (shortcut + branch).
        inputs: number of inputs of the layer (all positions and channels of one sample).
        outputs: number of outputs.
        rank_upper: a proved upper bound of the Jacobian's rank, where the adapter knows one
            (rank of the stored weights, non-zero gammas, active units).
        rank_lower: a proved lower bound of the Jacobian's rank, or ``None``.
        live: outputs whose row of the Jacobian can be non-zero by activation pattern and receptive
            field of the chosen directions; ``None`` where that was not recorded.
        copies: independent copies of the layer (tokens of a layer norm, rows of a softmax).
        eps: for norms, whether the stabiliser is positive.
        branch: for ``residual``, the layers of the branch g.
        shortcut: for ``residual``, the layers of a projection shortcut; ``None`` is the identity.
        tap: whether the audit reports the bound after this layer.
        from_input: the layer is everything between the network's input and here; the chain starts
            again (a model of which only the taps' widths are known).
        note: what the adapter had to assume, shown to the reader.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    rank_upper: int | None = None
    rank_lower: int | None = None
    live: int | None = None
    copies: int = 1
    eps: bool = True
    branch: tuple[LayerFact, ...] = ()
    shortcut: tuple[LayerFact, ...] | None = None
    tap: bool = False
    from_input: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.inputs < 0 or self.outputs < 0:
            raise InputError(
                f"layer {self.name!r} has negative widths: {self.inputs} -> {self.outputs}"
            )
        if self.kind != "residual" and self.kind not in RULES:
            raise UnsupportedError(
                f"layer {self.name!r} has kind {self.kind!r}, which has no rank rule; "
                f"the kinds are residual, {', '.join(RULES)}; use 'opaque' for an unknown layer"
            )
        if self.copies < 1 or (self.copies > 1 and self.inputs % self.copies):
            raise InputError(
                f"layer {self.name!r}: {self.inputs} inputs are no {self.copies} equal copies"
            )
        low, high = self.rank_lower, self.rank_upper
        if low is not None and high is not None and low > high:
            raise InputError(f"layer {self.name!r}: rank_lower {low} exceeds rank_upper {high}")


@dataclass(frozen=True)
class LayerRank:
    """Bounds on the rank of one layer's Jacobian.

    Attributes:
        upper: proved upper bound of the rank after this layer, whatever comes before it.
        lower: proved lower bound of the layer's own Jacobian; 0 where nothing better holds.
        rule: the rule of theory.md, section 4, in words.
        statement: the inequality that gives the upper bound.
    """

    upper: int
    lower: int
    rule: str
    statement: str


def _known(fact: LayerFact, rule: str, statement: str) -> LayerRank:
    """Width bound, sharpened by what the adapter knows."""
    return LayerRank(min(fact.inputs, fact.outputs), 0, rule, statement)


def _diagonal(fact: LayerFact) -> LayerRank:
    return _known(fact, "diagonal: number of non-zero gammas", "rank(D) = #{i : D_ii != 0}")


def _activation(fact: LayerFact) -> LayerRank:
    return _known(fact, "number of units with non-zero slope", "rank(D) = #{i : slope_i != 0}")


def _norm(fact: LayerFact, lost: int, generic: bool, rule: str) -> LayerRank:
    """A norm over each copy: ``lost`` directions of each copy are killed."""
    width = fact.inputs // fact.copies
    each = max(width - lost, 0)
    upper = min(fact.copies * each, fact.outputs)
    lower = 0 if generic else upper
    return LayerRank(upper, lower, rule, f"rank(J) <= copies*(n - {lost})")


def _layer_norm(fact: LayerFact) -> LayerRank:
    if fact.eps:
        return _norm(fact, 1, False, "layer norm, eps > 0: n - 1 per token")
    return _norm(fact, 2, True, "layer norm, eps = 0: n - 2 per token (ones and radial direction)")


def _rms_norm(fact: LayerFact) -> LayerRank:
    if fact.eps:
        return _norm(fact, 0, False, "RMS norm, eps > 0: n per token")
    return _norm(fact, 1, True, "RMS norm, eps = 0: n - 1 per token (radial direction)")


def _l2_normalise(fact: LayerFact) -> LayerRank:
    """``eps`` here says that the norm is below its clamp, where the map is linear."""
    if fact.eps:
        return _norm(fact, 0, False, "L2 normalise below its clamp: n")
    return _norm(fact, 1, False, "L2 normalise above its clamp: n - 1 (radial direction)")


def _softmax(fact: LayerFact) -> LayerRank:
    return _norm(fact, 1, False, "softmax: n - 1 per row (the outputs sum to 1)")


#: kind of layer -> rule; each takes a fact and bounds the rank of the layer's Jacobian
RULES: dict[str, Callable[[LayerFact], LayerRank]] = {
    "linear": lambda f: _known(f, "linear: rank of the weight matrix", "rank(W) <= min(in, out)"),
    "convolution": lambda f: _known(
        f, "convolution: inputs read and outputs written per group", "rank(W) <= min(read, out)"
    ),
    "average-pool": lambda f: _known(f, "average pool: linear operator", "rank(W) <= min(in, out)"),
    "global-pool": lambda f: _known(f, "global average pool: channels", "rank(W) <= channels"),
    "max-pool": lambda f: _known(f, "max pool: distinct winners", "rank(S) <= outputs"),
    "diagonal": _diagonal,
    "activation": _activation,
    "layer-norm": _layer_norm,
    "rms-norm": _rms_norm,
    "l2-normalise": _l2_normalise,
    "softmax": _softmax,
    "attention": lambda f: _known(
        f, "attention: heads' value paths plus the path through the softmax", "subadditive"
    ),
    "centred": lambda f: _known(
        f,
        "token or mean of tokens after a layer norm: outputs over gamma sum to a constant, n - 1",
        "rank(J) <= n - 1",
    ),
    "gate": lambda f: _known(f, "product of two halves", "rank(J) <= min(in, out)"),
    "select": lambda f: LayerRank(
        min(f.inputs, f.outputs),
        min(f.inputs, f.outputs),
        "selection of coordinates, or constants beside all of them",
        "rank(S) = min(in, out)",
    ),
    "opaque": lambda f: _known(
        f, "opaque: nothing known but the widths", "rank(J) <= min(in, out)"
    ),
}


def layer_rank(fact: LayerFact) -> LayerRank:
    """Bounds on the rank of one layer's Jacobian, from its rule and what the fact knows.

    Args:
        fact: any kind but ``residual`` (whose bound depends on what comes in; see theory.audit).

    Raises:
        UnsupportedError: the fact is a residual block.
        InputError: the fact's own lower bound contradicts the rule's upper bound.
    """
    if fact.kind == "residual":
        raise UnsupportedError(f"{fact.name!r} is a residual block; audit its branch instead")
    rule = RULES[fact.kind](fact)
    upper, lower, text, statement = rule.upper, rule.lower, rule.rule, rule.statement
    if fact.rank_upper is not None and fact.rank_upper < upper:
        # a known deficit is also a deficit of the rule's lower bound (gammas that are 0)
        lower = max(lower - (upper - fact.rank_upper), 0) if lower else 0
        upper = fact.rank_upper
    if fact.rank_lower is not None:
        lower = max(lower, fact.rank_lower)
    if lower > upper:
        raise InputError(
            f"layer {fact.name!r}: lower bound {lower} exceeds the rule's upper bound {upper} "
            f"({text}); the fact contradicts itself"
        )
    if fact.live is not None and fact.live < upper:
        # of the whole product up to here, not of this layer alone: the lower bound stays
        upper, text = fact.live, "outputs that can depend on the input"
        statement = "rank(J) <= #non-zero rows"
    return LayerRank(upper, lower, text, statement)


def attention_rank(
    tokens: int, head_width: int, weights_rank: list[int], value_rank: list[int]
) -> int:
    """Upper bound of the Jacobian's rank of multi-head attention before its output projection.

    Each head is A_h V_h with A_h = softmax(...): its differential is A_h dV_h (rank at most
    rank A_h * rank W_h, a Kronecker product) plus dA_h V_h, which maps into matrices whose rows
    lie in the row space of V_h: at most tokens * min(tokens - 1, head_width) dimensions because
    each row of dA_h sums to 0. Heads add (subadditive).

    Args:
        tokens: number of tokens.
        head_width: width of one head's values.
        weights_rank: rank of A_h for each head.
        value_rank: rank of the value map for each head.

    Raises:
        InputError: the lists differ in length.
    """
    if len(weights_rank) != len(value_rank):
        raise InputError(
            f"attention_rank needs one rank per head, got {len(weights_rank)} attention ranks and "
            f"{len(value_rank)} value ranks"
        )
    through_softmax = tokens * min(tokens - 1, head_width)
    return sum(
        min(a * v + through_softmax, tokens * head_width)
        for a, v in zip(weights_rank, value_rank, strict=True)
    )
