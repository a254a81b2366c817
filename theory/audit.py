"""Structural bounds of an architecture, tap by tap, each with its proof.

The bounds need no measurement: they follow from widths, stored weights, the activation pattern and
the statements of the catalogue. Sources: theory.md, sections 3 to 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from theory.errors import InputError
from theory.layers import LayerFact, layer_rank


@dataclass(frozen=True)
class Step:
    """One step of a proof.

    Attributes:
        layer: the layer it speaks of.
        rule: the rank rule or catalogue row that is used.
        statement: the inequality, as text.
        bound: ``upper`` or ``lower``.
        value: the bound after this step (text when symbolic).
    """

    layer: str
    rule: str
    statement: str
    bound: str = "upper"
    value: int | str | None = None


@dataclass(frozen=True)
class TapBound:
    """Proved bounds on the exact rank of the Jacobian at a tap, over the chosen directions.

    Attributes:
        tap: the layer's name.
        upper: proved upper bound; text such as ``min(p, d[stem])`` when symbolic.
        lower: proved lower bound, or ``None`` where only the trivial 0 holds.
        steps: the proof, steps of the upper bound first.
        width: number of outputs at the tap.
        notes: what was assumed on the way (opaque layers).
        symbols: when symbolic, each symbol with the least and the greatest value it can have.
    """

    tap: str
    upper: int | str
    lower: int | str | None
    steps: tuple[Step, ...]
    width: int
    notes: tuple[str, ...] = ()
    symbols: tuple[tuple[str, int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The bound as plain data."""
        return {
            "tap": self.tap,
            "upper": self.upper,
            "lower": self.lower,
            "width": self.width,
            "notes": list(self.notes),
            "symbols": {name: [low, high] for name, low, high in self.symbols},
            "steps": [vars(step) for step in self.steps],
        }


@dataclass(frozen=True)
class _State:
    """Bounds so far: rank of J_{0->k} P, with proofs, and the same bounds as symbolic text."""

    width: int
    upper: int
    lower: int
    upper_steps: tuple[Step, ...]
    lower_steps: tuple[Step, ...]
    terms: tuple[str, ...]  # the symbolic upper bound is the minimum of these
    loss: tuple[str, ...]  # the symbolic lower bound is the directions minus these
    lower_known: bool = True  # whether the symbolic lower bound still holds
    notes: tuple[str, ...] = ()
    symbols: tuple[tuple[str, int, int], ...] = ()


def _minimum(terms: Sequence[str]) -> str:
    return terms[0] if len(terms) == 1 else f"min({', '.join(terms)})"


def _layer(state: _State, fact: LayerFact) -> _State:
    """One plain layer: composition from above, Sylvester from below."""
    rank = layer_rank(fact)
    upper, upper_steps = state.upper, state.upper_steps
    if rank.upper < upper:
        upper = rank.upper
        upper_steps = (Step(fact.name, rank.rule, rank.statement, "upper", upper),)
    lower, lower_steps = _sylvester(state, fact, rank.lower)
    term = f"rank[{fact.name}]" if fact.rank_upper is not None else f"d[{fact.name}]"
    narrow = fact.outputs < state.width or fact.rank_upper is not None
    if rank.upper < min(fact.inputs, fact.outputs):
        term = f"{'live' if rank.upper == fact.live else 'rank'}[{fact.name}]"
        narrow = True
    kept = rank.lower > 0
    lossless = rank.lower == fact.inputs
    loss = () if lossless else (f"(d_in[{fact.name}] - rank[{fact.name}])",)
    symbols = (
        (f"d[{fact.name}]", fact.outputs, fact.outputs),
        (f"d_in[{fact.name}]", fact.inputs, fact.inputs),
        (f"live[{fact.name}]", rank.upper, rank.upper),
        (f"rank[{fact.name}]", min(rank.lower, rank.upper), rank.upper),
    )
    return _State(
        width=fact.outputs,
        upper=upper,
        lower=lower,
        upper_steps=upper_steps,
        lower_steps=lower_steps,
        terms=(*state.terms, term) if narrow and term not in state.terms else state.terms,
        loss=(*state.loss, *loss),
        lower_known=state.lower_known and kept,
        notes=(*state.notes, *_note(fact)),
        symbols=(*state.symbols, *symbols),
    )


def _sylvester(state: _State, fact: LayerFact, rank: int) -> tuple[int, tuple[Step, ...]]:
    lower = max(state.lower + rank - fact.inputs, 0)
    if lower == 0:
        return 0, ()
    if lower == state.lower:
        return lower, state.lower_steps
    text = "rank(A*B) >= rank(A) + rank(B) - cols(A)"
    return lower, (*state.lower_steps, Step(fact.name, "sylvester", text, "lower", lower))


def _residual(state: _State, fact: LayerFact) -> _State:
    """Shortcut plus branch: subadditive from above, residual-loss from below."""
    branch = _walk(state, fact.branch, f"branch of {fact.name}")
    identity = fact.shortcut is None
    short = state if fact.shortcut is None else _walk(state, fact.shortcut, f"{fact.name} shortcut")
    for part, width in (("branch", branch.width), ("shortcut", short.width)):
        if width != fact.outputs:
            raise InputError(
                f"residual block {fact.name!r}: its {part} ends with width {width}, "
                f"the block with {fact.outputs}"
            )
    upper, upper_steps = state.upper, state.upper_steps
    total = short.upper + branch.upper
    if total < upper:
        upper = total
        join = Step(fact.name, "subadditive", "rank(A+B) <= rank(A) + rank(B)", "upper", total)
        upper_steps = (*short.upper_steps, *branch.upper_steps, join)
    cap = fact.outputs if fact.live is None else min(fact.live, fact.outputs)
    if cap < upper:
        upper = cap
        rule = "width" if fact.live is None else "outputs that can depend on the input"
        upper_steps = (Step(fact.name, rule, "rank(J) <= rows(J)", "upper", upper),)
    lower = max(short.lower - branch.upper, 0)
    lower_steps: tuple[Step, ...] = ()
    if lower:
        name = "residual-loss" if identity else "subadditive"
        text = (
            "rank(F) - rank((I+G)*F) <= rank(G*F)" if identity else "rank(A) - rank(B) <= rank(A-B)"
        )
        last = Step(fact.name, name, text, "lower", lower)
        proof = tuple(replace(s, rule=f"branch: {s.rule}") for s in branch.upper_steps)
        lower_steps = (*short.lower_steps, *proof, last)
    inner = _minimum(branch.terms[len(state.terms) :] or (f"d[{fact.name}]",))
    term = f"d[{fact.name}]"
    narrow = fact.outputs < state.width and term not in state.terms
    return _State(
        width=fact.outputs,
        upper=upper,
        lower=lower,
        upper_steps=upper_steps,
        lower_steps=lower_steps,
        terms=(*state.terms, term) if narrow else state.terms,
        loss=(*short.loss, inner),
        lower_known=short.lower_known,
        notes=tuple(dict.fromkeys((*short.notes, *branch.notes, *_note(fact)))),
        symbols=tuple(
            dict.fromkeys((*short.symbols, *branch.symbols, (term, fact.outputs, fact.outputs)))
        ),
    )


def _note(fact: LayerFact) -> tuple[str, ...]:
    return (f"{fact.name}: {fact.note}",) if fact.note else ()


def _advance(state: _State, fact: LayerFact, where: str) -> _State:
    if fact.inputs != state.width:
        raise InputError(
            f"layer {fact.name!r} ({where}) takes {fact.inputs} inputs, but {state.width} come in"
        )
    return _residual(state, fact) if fact.kind == "residual" else _layer(state, fact)


def _walk(state: _State, facts: Sequence[LayerFact], where: str) -> _State:
    for fact in facts:
        state = _advance(state, fact, where)
    return state


def _bound(state: _State, fact: LayerFact, symbolic: bool) -> TapBound:
    last = state.upper_steps[-1]
    steps = state.upper_steps
    if last.layer != fact.name:
        link = f"r(0, {fact.name}) <= r(0, {last.layer})"
        steps = (*steps, Step(fact.name, "diminishing", link, "upper", state.upper))
    lower: int | str | None = state.lower or None
    lower_steps = state.lower_steps if state.lower else ()
    if not symbolic:
        return TapBound(
            fact.name, state.upper, lower, (*steps, *lower_steps), state.width, state.notes
        )
    upper_text = _minimum(state.terms)
    lower_text = " - ".join(("p", *state.loss)) if state.lower_known else None
    proof = [Step("input", "directions", "rank(J*P) <= cols(P)", "upper", "p")]
    proof += [
        Step(
            term.partition("[")[2].rstrip("]"),
            "bottleneck",
            f"r(0, {fact.name}) <= {term}",
            "upper",
            term,
        )
        for term in state.terms[1:]
    ]
    if lower_text is not None and state.loss:
        text = f"r(0, {fact.name}) >= {lower_text}"
        proof.append(Step(fact.name, "residual-stack and sylvester", text, "lower", lower_text))
    everything = f"{upper_text} {lower_text}"
    symbols = tuple({s[0]: s for s in state.symbols if s[0] in everything}.values())
    return TapBound(
        fact.name, upper_text, lower_text, tuple(proof), state.width, state.notes, symbols
    )


def audit(
    facts: Sequence[LayerFact],
    input_dim: int,
    directions: int | None = None,
    *,
    symbolic: bool = False,
) -> tuple[TapBound, ...]:
    """Bounds on the rank of J_{0->k} P at every tap, with the proof of each.

    Args:
        facts: the layers from input to output; each takes what the one before gives.
        input_dim: number of inputs of the network.
        directions: number of independent input directions P; all inputs when ``None``.
        symbolic: bounds as text in the widths (``p`` directions, ``d[layer]`` widths,
            ``rank[layer]`` ranks of layers) instead of numbers.

    Returns:
        One bound for each fact marked as tap; for the last layer when none is marked.

    Raises:
        InputError: no facts, widths that do not fit, or more directions than inputs.
    """
    if not facts:
        raise InputError("there is nothing to audit: the list of layer facts is empty")
    count = input_dim if directions is None else directions
    if not 0 <= count <= input_dim:
        raise InputError(
            f"{count} directions do not fit into {input_dim} inputs; choose 0 to {input_dim}"
        )
    start = Step("input", "directions", "rank(J*P) <= cols(P)", "upper", count)
    ground = Step("input", "directions", "rank(P) == cols(P)", "lower", count)
    p = (("p", count, count),)
    ground_state = _State(input_dim, count, count, (start,), (ground,), ("p",), (), symbols=p)
    state = ground_state
    any_tap = any(fact.tap for fact in facts)
    bounds = []
    for fact in facts:
        state = _advance(ground_state if fact.from_input else state, fact, "chain")
        if fact.tap or (not any_tap and fact is facts[-1]):
            bounds.append(_bound(state, fact, symbolic))
    return tuple(bounds)
