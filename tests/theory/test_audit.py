"""The audit's bounds against exact ranks of small explicit networks (no torch)."""

import ast
import random
from fractions import Fraction

import pytest

from theory.audit import audit
from theory.errors import InputError, UnsupportedError
from theory.layers import LayerFact, attention_rank, layer_rank

Matrix = list[list[Fraction]]


def matmul(a: Matrix, b: Matrix) -> Matrix:
    columns = list(zip(*b, strict=True))
    return [[sum((x * y for x, y in zip(r, c, strict=True)), Fraction(0)) for c in columns]
            for r in a]  # fmt: skip


def add(a: Matrix, b: Matrix) -> Matrix:
    return [[x + y for x, y in zip(r, s, strict=True)] for r, s in zip(a, b, strict=True)]


def identity(n: int) -> Matrix:
    return [[Fraction(i == j) for j in range(n)] for i in range(n)]


def rank(matrix: Matrix) -> int:
    """Exact rank by elimination over the rationals: the oracle."""
    rows, found = [list(r) for r in matrix], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(found, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        for i in range(found + 1, len(rows)):
            factor = rows[i][column] / rows[found][column]
            if factor:
                rows[i] = [x - factor * y for x, y in zip(rows[i], rows[found], strict=True)]
        found += 1
    return found


def draw(rng: random.Random, rows: int, cols: int, most: int | None = None) -> Matrix:
    """A random integer matrix, of rank at most ``most`` when given."""
    if most is None:
        return [[Fraction(rng.randint(-2, 2)) for _ in range(cols)] for _ in range(rows)]
    return matmul(draw(rng, rows, most), draw(rng, most, cols)) if most else [
        [Fraction(0)] * cols for _ in range(rows)
    ]  # fmt: skip


def layer(rng: random.Random, name: str, n: int) -> tuple[LayerFact, Matrix]:
    """A random layer on n inputs: its fact and its exact Jacobian."""
    kind = rng.choice(
        ["linear", "known", "relu", "live", "residual", "resnet", "projection", "norm", "norm0",
         "softmax"]
    )  # fmt: skip
    if kind in ("linear", "known"):
        out = rng.randint(1, 6)
        J = draw(rng, out, n, rng.randint(0, min(n, out)))
        r = rank(J)
        known = {"rank_upper": r, "rank_lower": r} if kind == "known" else {}
        return LayerFact(name, "linear", n, out, tap=True, **known), J
    if kind in ("relu", "live"):
        slopes = [rng.random() < 0.7 for _ in range(n)]
        J = [[Fraction(i == j and slopes[i]) for j in range(n)] for i in range(n)]
        on = sum(slopes)
        if kind == "live":
            return LayerFact(name, "activation", n, n, live=on, tap=True), J
        fact = LayerFact(name, "activation", n, n, rank_upper=on, rank_lower=on, tap=True)
        return fact, J
    if kind in ("residual", "resnet", "projection"):
        inner = rng.randint(1, 2)
        down, up = draw(rng, inner, n), draw(rng, n, inner)
        branch = (LayerFact(f"{name}.d", "linear", n, inner), LayerFact(f"{name}.u", "linear",
                  inner, n))  # fmt: skip
        if kind == "projection":
            S = draw(rng, n, n, rng.randint(0, n))
            short = (LayerFact(f"{name}.s", "linear", n, n, rank_upper=rank(S),
                               rank_lower=rank(S)),)  # fmt: skip
            fact = LayerFact(name, "residual", n, n, branch=branch, shortcut=short, tap=True)
            return fact, add(S, matmul(up, down))
        fact = LayerFact(name, "residual", n, n, branch=branch, tap=True)
        # often the branch cancels the identity in one direction, so that the bound is tight
        if rng.random() < 0.5:
            down, up = [[Fraction(0)] * n], [[Fraction(0)] for _ in range(n)]
            down[0][0], up[0][0] = Fraction(1), Fraction(-1)
        return fact, add(identity(n), matmul(up, down))
    if kind == "softmax":
        weights = [Fraction(rng.randint(1, 5)) for _ in range(n)]
        p = [w / sum(weights) for w in weights]
        J = [[p[i] * ((i == j) - p[j]) for j in range(n)] for i in range(n)]
        return LayerFact(name, "softmax", n, n, tap=True), J
    # layer norm up to its positive scale: (var + eps) (I - 11'/n) - c c'/n
    x = [Fraction(rng.randint(-3, 3)) for _ in range(n)]
    x[0] += 1 if len(set(x)) == 1 else 0
    mean = sum(x) / n
    c = [v - mean for v in x]
    eps = Fraction(1, 7) if kind == "norm" else Fraction(0)
    scale = sum(v * v for v in c) / n + eps
    J = [[scale * ((i == j) - Fraction(1, n)) - c[i] * c[j] / n for j in range(n)]
         for i in range(n)]  # fmt: skip
    return LayerFact(name, "layer-norm", n, n, eps=kind == "norm", tap=True), J


def test_bounds_are_sound_on_random_exact_networks():
    """Lower <= exact rank <= upper at every tap; tight somewhere, strict elsewhere."""
    rng = random.Random(7)
    seen = {"upper tight": 0, "upper strict": 0, "lower tight": 0, "lower strict": 0}
    for _ in range(400):
        n = rng.randint(2, 6)
        p = rng.randint(1, n)
        P = [[Fraction(i == j) for j in range(p)] for i in range(n)]
        facts, ranks, J, width = [], [], P, n
        for k in range(rng.randint(1, 5)):
            fact, step = layer(rng, f"f{k}", width)
            facts.append(fact)
            J = matmul(step, J)
            width = fact.outputs
            ranks.append(rank(J))
        for bound, exact in zip(audit(facts, n, p), ranks, strict=True):
            assert exact <= bound.upper, (facts, bound, exact)
            seen["upper tight" if exact == bound.upper else "upper strict"] += 1
            if bound.lower is not None:
                assert bound.lower <= exact, (facts, bound, exact)
                seen["lower tight" if exact == bound.lower else "lower strict"] += 1
    assert min(seen.values()) > 20, seen


def test_relu_after_the_sum_loses_more_than_the_branch():
    """theory.md: branch width 1 can lose 4 of 6; without the activation's fact the bound is 5."""
    branch = (LayerFact("d", "linear", 6, 1), LayerFact("u", "linear", 1, 6))
    block = LayerFact("b", "residual", 6, 6, branch=branch, tap=True)
    relu = LayerFact("a", "activation", 6, 6, rank_upper=3, rank_lower=3, tap=True)
    before, after = audit([block, relu], 6)
    assert (before.lower, before.upper) == (5, 6)
    assert (after.lower, after.upper) == (2, 3)  # 6 - 1 (branch) - 3 (inactive outputs)
    assert [s.rule for s in before.steps if s.bound == "lower"][-1] == "residual-loss"
    assert [s.rule for s in after.steps if s.bound == "lower"][-1] == "sylvester"


def test_steps_name_layer_rule_and_statement():
    facts = [
        LayerFact("stem", "linear", 8, 3),
        LayerFact("head", "linear", 3, 5, tap=True),
    ]
    (bound,) = audit(facts, 8, 6)
    assert bound.upper == 3
    assert [(s.layer, s.rule) for s in bound.steps] == [
        ("stem", "linear: rank of the weight matrix"),
        ("head", "diminishing"),
    ]
    assert bound.lower is None
    assert bound.to_json()["steps"][0]["statement"] == "rank(W) <= min(in, out)"


def test_symbolic_bounds_name_their_widths():
    branch = (LayerFact("b.d", "linear", 4, 1), LayerFact("b.u", "linear", 1, 4))
    facts = [
        LayerFact("l", "linear", 6, 4, rank_upper=4, rank_lower=4),
        LayerFact("b", "residual", 4, 4, branch=branch, tap=True),
        LayerFact("head", "linear", 4, 3, tap=True),
    ]
    block, head = audit(facts, 6, symbolic=True)
    assert block.upper == "min(p, rank[l])"
    assert block.lower == "p - (d_in[l] - rank[l]) - d[b.d]"
    assert head.upper == "min(p, rank[l], d[head])"
    assert head.lower is None  # nothing is known of the head's weights
    assert {n: (a, b) for n, a, b in block.symbols} == {
        "p": (6, 6), "rank[l]": (4, 4), "d_in[l]": (6, 6), "d[b.d]": (1, 1),
    }  # fmt: skip


def test_symbolic_bounds_are_sound_where_numbers_are_put_in():
    """With every symbol at its extreme, symbolic bounds hold for the exact rank too."""
    rng = random.Random(8)
    lowers = 0
    for _ in range(150):
        n = rng.randint(2, 6)
        facts, J, width, ranks = [], identity(n), n, []
        for k in range(rng.randint(1, 4)):
            fact, step = layer(rng, f"f{k}", width)
            facts.append(fact)
            J, width = matmul(step, J), fact.outputs
            ranks.append(rank(J))
        for bound, exact in zip(audit(facts, n, symbolic=True), ranks, strict=True):
            high = {name: top for name, _, top in bound.symbols}
            low = {name: bottom for name, bottom, _ in bound.symbols}
            assert exact <= value(bound.upper, high), (facts, bound)
            if bound.lower is not None:
                lowers += 1
                # ranks at their least and losses at their most: the least the text can say
                spent = {k: low[k] if k.startswith("rank") else high[k] for k in high}
                assert value(bound.lower, spent) <= exact, (facts, bound)
    assert lowers > 30


def value(text: str, symbols: dict[str, int]) -> int:
    """Evaluate ``min``, ``+``, ``-`` and parentheses over integers, without executing anything."""
    for name in sorted(symbols, key=len, reverse=True):
        text = text.replace(name, str(symbols[name]))

    def read(node: ast.AST) -> int:
        if isinstance(node, ast.Constant):
            return int(node.value)
        if isinstance(node, ast.BinOp):
            sign = 1 if isinstance(node.op, ast.Add) else -1
            return read(node.left) + sign * read(node.right)
        if isinstance(node, ast.Call) and node.func.id == "min":
            return min(read(a) for a in node.args)
        raise NotImplementedError(ast.dump(node))

    return read(ast.parse(text, mode="eval").body)


def test_two_normal_layers_disagree_only_by_the_radial_direction():
    with_eps = layer_rank(LayerFact("n", "layer-norm", 12, 12, copies=2))
    without = layer_rank(LayerFact("n", "layer-norm", 12, 12, copies=2, eps=False))
    assert (with_eps.upper, with_eps.lower) == (10, 10)
    assert (without.upper, without.lower) == (8, 0)
    rms = layer_rank(LayerFact("n", "rms-norm", 12, 12, copies=2, eps=False))
    assert rms.upper == 10
    gammas = layer_rank(LayerFact("n", "layer-norm", 6, 6, rank_upper=3))
    assert (gammas.upper, gammas.lower) == (3, 3)


def test_a_tap_of_an_unknown_model_starts_from_the_input():
    facts = [
        LayerFact("narrow", "opaque", 10, 2, tap=True, from_input=True, note="widths only"),
        LayerFact("wide", "opaque", 10, 8, tap=True, from_input=True, note="widths only"),
    ]
    narrow, wide = audit(facts, 10, 9)
    assert (narrow.upper, wide.upper) == (2, 8)  # no chain: 'wide' may not pass through 'narrow'
    assert wide.notes == ("wide: widths only",)


def test_attention_rank_is_an_upper_bound_and_capped_by_the_width():
    assert attention_rank(5, 4, [1, 1], [1, 1]) == 2 * min(1 + 5 * 4, 20)
    assert attention_rank(1, 4, [1], [3]) == 3  # one token: the softmax is constant
    with pytest.raises(InputError, match="one rank per head"):
        attention_rank(5, 4, [1], [1, 1])


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: audit([], 3), InputError, "nothing to audit"),
        (lambda: audit([LayerFact("a", "linear", 3, 2)], 3, 4), InputError, "4 directions"),
        (lambda: audit([LayerFact("a", "linear", 3, 2)], 5), InputError, "takes 3 inputs, but 5"),
        (lambda: LayerFact("a", "mystery", 3, 2), UnsupportedError, "no rank rule"),
        (lambda: LayerFact("a", "linear", -1, 2), InputError, "negative widths"),
        (lambda: LayerFact("a", "softmax", 7, 7, copies=2), InputError, "no 2 equal copies"),
        (
            lambda: LayerFact("a", "linear", 3, 3, rank_upper=1, rank_lower=2),
            InputError,
            "rank_lower 2 exceeds",
        ),
        (
            lambda: layer_rank(LayerFact("a", "softmax", 3, 3, rank_lower=3)),
            InputError,
            "contradicts itself",
        ),
        (
            lambda: audit(
                [LayerFact("r", "residual", 3, 3, branch=(LayerFact("b", "linear", 3, 2),))], 3
            ),
            InputError,
            "its branch ends with width 2",
        ),
    ],
)
def test_bad_facts_are_refused_with_their_numbers(make, error, text):
    with pytest.raises(error, match=text):
        make()
