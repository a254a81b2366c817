"""The rows that speak of layers, on the exact Jacobians of random small networks.

``statement_properties`` tests the text on matrices; here the same rows are read off a network at an
input: ranks tap by tap, through a random patch, across residual blocks, and affine dependencies
among logits. Each maker returns the part that is joined to the row's text.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from numeric.cases import Outcome, Property
from numeric.decoding import Builder, Bytes, decoded, network_from_bytes
from numeric.flint_eval import stack_rows
from numeric.networks import Layer, Linear, Network, ReLU, Residual, Sequential
from numeric.scalars import EXACT
from numeric.spectral_properties import fractions


def _shown(network: Network, x: Any, **more: Any) -> dict[str, Any]:
    return {"network": repr(network), "x": [str(v) for v in x], **more}


def _network_and_patch(b: Bytes) -> Any:
    network, x = network_from_bytes(b, (1, 4), (1, 5))
    n = network.input_shape[0]
    width = 1 + b.below(n)
    return network, x, b.matrix_of_rank(n, width, b.below(min(n, width) + 1))


def _along_taps(name: str, slacks: Callable[[list[int], list[int], int], list[int]]) -> Property:
    """``slacks(ranks, ranks through a patch P, n - rank P)`` over the taps of a network."""

    def check(case: Any) -> Outcome:
        network, x, patch = case
        ranks = [J.rank() for _, J in network.taps(x)]
        partial = [J.rank() for _, J in network.taps(x, EXACT, patch)]
        room = slacks(ranks, partial, patch.nrows() - patch.rank())
        shown = _shown(network, x, patch=fractions(patch), ranks=ranks, partial=partial)
        return Outcome(min(room) >= 0, float(max(sum(room), 0)), shown)

    return Property(name, decoded(400, _network_and_patch), check, True)


def diminishing() -> Property:
    """No rank grows from tap to tap, nor one seen through a patch."""

    def slacks(ranks: list[int], partial: list[int], missing: int) -> list[int]:
        return [a - b for r in (ranks, partial) for a, b in pairwise(r)]

    return _along_taps("diminishing", slacks)


def partial_drop() -> Property:
    """What the patch loses at a layer is at most what all directions lose there."""

    def slacks(ranks: list[int], partial: list[int], missing: int) -> list[int]:
        drops = zip(pairwise(ranks), pairwise(partial), strict=True)
        return [(a - b) - (p - q) for (a, b), (p, q) in drops]

    return _along_taps("partial-drop", slacks)


def partial_lower() -> Property:
    """rank(J P) >= rank J + rank P - n at every tap."""

    def slacks(ranks: list[int], partial: list[int], missing: int) -> list[int]:
        return [p - (r - missing) for r, p in zip(ranks, partial, strict=True)]

    return _along_taps("partial-lower", slacks)


def _residual_case(b: Bytes) -> Any:
    n, builder = 2 + b.below(4), Builder(b)
    layers: list[Layer] = [builder.linear(n, n)] if b.below(2) else []
    for _ in range(1 + b.below(3)):
        inner = 1 + b.below(n)
        branch = (builder.linear(inner, n), builder.unit(), builder.linear(n, inner))
        layers.append(Residual(Sequential(branch)))
        if b.below(3) == 2:
            layers.append(ReLU())
    return Network((n,), tuple(layers)), tuple(b.integers(n))


def residual_loss(stack: bool) -> Property:
    """A block loses at most rank(G J) <= inner width, plus the outputs that a ReLU after it stops.

    With ``stack`` the sum over all blocks against the sum of their bounds.
    """

    def check(case: Any) -> Outcome:
        network, x = case
        taps = network.taps(x)
        slacks, bounds, lost = [], 0, 0
        for k, layer in enumerate(network.layers):
            (value, before), (_, after) = taps[k], taps[k + 1]
            if isinstance(layer, Residual):
                flat = value.entries()
                G = Network((len(flat),), layer.branch.layers).jacobian(flat)
                last = layer.branch.layers[-1]
                inner = len(last.weight[0]) if isinstance(last, Linear) else len(flat)
                bound = (G * before).rank()
                slacks.append(inner - bound)
            elif isinstance(layer, ReLU):
                bound = sum(v < 0 for v in value.entries())
            else:
                continue
            loss = before.rank() - after.rank()
            slacks.append(bound - loss)
            bounds, lost = bounds + bound, lost + loss
        amount = bounds - lost if stack else sum(slacks)
        shown = _shown(network, x, lost=lost, bounds=bounds)
        return Outcome(min(slacks) >= 0 and amount >= 0, float(max(amount, 0)), shown)

    name = "residual-stack" if stack else "residual-loss"
    return Property(name, decoded(300, _residual_case), check, True)


def logit_dependence() -> Property:
    """Features in an r-dimensional affine subspace force C - r affine dependencies among C logits.

    A dependence is a combination of logits that is the same for every sample; they are counted as a
    null space of the sampled logits themselves. Every left null vector of W must be among them.
    """

    def decode(b: Bytes) -> Any:
        logits, width, r = 1 + b.below(4), 1 + b.below(4), b.below(4)
        r = min(r, width)
        W = b.matrix_of_rank(logits, width, b.below(min(logits, width) + 1))
        basis, samples = b.matrix_of_rank(width, max(r, 1), r), 3 + b.below(3)
        spread = EXACT.matrix(max(r, 1), samples, b.integers(max(r, 1) * samples))
        offset, bias = b.integers(width), b.integers(logits)
        return W, basis, spread, offset, bias, r

    def check(case: Any) -> Outcome:
        W, basis, spread, offset, bias, r = case
        logits, width, samples = W.nrows(), W.ncols(), spread.ncols()
        features = basis * spread + EXACT.matrix(
            width, samples, [o for o in offset for _ in range(samples)]
        )
        z = W * features + EXACT.matrix(logits, samples, [c for c in bias for _ in range(samples)])
        rows = z.tolist()
        centred = EXACT.matrix(logits, samples, [v - row[0] for row in rows for v in row])
        count = logits - centred.rank()
        left = W.transpose().numer_denom()[0].nullspace()
        kept = all(
            e == 0
            for k in range(left[1])
            for e in (
                EXACT.matrix(1, logits, [left[0].tolist()[i][k] for i in range(logits)]) * centred
            ).entries()
        )
        amount = min(count - (logits - r), count - (logits - W.rank()))
        shown = {"W": fractions(W), "features": fractions(features), "r": r, "dependencies": count}
        return Outcome(kept and amount >= 0, float(max(amount, 0)), shown)

    return Property("logit-dependence", decoded(120, decode), check, True)


def gram_of_stack() -> Property:
    """The Gram matrix of the stacked Jacobians of a network's taps has their rank."""

    def decode(b: Bytes) -> Any:
        return network_from_bytes(b, (1, 3), (1, 4))

    def check(case: Any) -> Outcome:
        network, x = case
        stacked = stack_rows([J for _, J in network.taps(x)[1:]])
        same = (stacked.transpose() * stacked).rank() == stacked.rank()
        return Outcome(same, None, _shown(network, x))

    return Property("gram", decoded(300, decode), check, False)


#: property name of the row -> the part on networks
ON_NETWORKS = {
    "diminishing": diminishing,
    "partial_drop": partial_drop,
    "partial_lower": partial_lower,
    "residual_loss": lambda: residual_loss(stack=False),
    "residual_stack": lambda: residual_loss(stack=True),
    "logit_dependence": logit_dependence,
    "gram": gram_of_stack,
}
