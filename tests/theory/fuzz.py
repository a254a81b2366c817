"""Random statements and random exact matrices for the soundness tests.

Statements are sums of true lemma instances on random typed expressions; most are then damaged by
one token. So both kinds come: many that are true for a reason, many that are nearly true.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.theory.oracle import Sized

Type = tuple[str, str]


@dataclass
class Draw:
    """A random statement with the types of its matrices."""

    text: str
    given: tuple[str, ...]
    types: dict[str, Type]


@dataclass
class Writer:
    """Writes random expressions; remembers which matrices it used."""

    rng: random.Random
    used: dict[str, Type] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dims = ["n"] if self.rng.random() < 0.4 else ["n", "m"]
        self.dims = dims
        self.atoms = {name: (self.rng.choice(dims), self.rng.choice(dims)) for name in "ABCD"}

    def atom(self, kind: Type) -> str:
        fitting = [name for name, shape in self.atoms.items() if shape == kind]
        if fitting:
            name = self.rng.choice(fitting)
        else:
            name = f"{'XY'[kind[0] == 'm']}{self.dims.index(kind[1]) + 1}"
        self.used[name] = kind
        return name

    def expression(self, kind: Type, depth: int) -> str:
        roll = self.rng.random()
        if depth == 0 or roll < 0.35:
            return self.atom(kind)
        if roll < 0.6:
            middle = self.rng.choice(self.dims)
            left = self.expression((kind[0], middle), depth - 1)
            return f"{left}*{self.expression((middle, kind[1]), depth - 1)}"
        if roll < 0.85:
            sign = self.rng.choice("+-")
            left = self.expression(kind, depth - 1)
            if kind[0] == kind[1] and self.rng.random() < 0.5:
                return f"(I{sign}{self.atom(kind)})"
            return f"({left}{sign}{self.expression(kind, depth - 1)})"
        if roll < 0.9:
            return f"2*{self.atom(kind)}"
        if roll < 0.95:
            return f"{self.atom((kind[1], kind[0]))}.T"
        return f"({self.atom(kind)})"

    def kind(self) -> Type:
        return self.rng.choice(self.dims), self.rng.choice(self.dims)

    def lemma(self) -> list[tuple[int, str]]:
        """Terms whose sum is at least 0 for all matrices."""
        (a, b), (c, d) = self.kind(), self.kind()
        x, y = self.expression((a, b), 1), self.expression((b, c), 1)
        which = self.rng.randrange(7)
        if which == 0:
            return [(1, f"rank({x})"), (-1, f"rank({x}*{y})")]
        if which == 1:
            z = self.expression((c, d), 1)
            return [(1, f"rank({y})"), (1, f"rank({x}*{y}*{z})"), (-1, f"rank({x}*{y})"),
                    (-1, f"rank({y}*{z})")]  # fmt: skip
        if which == 2:
            size = self.atom((a, b))
            x = self.expression((a, b), 1)
            return [(1, f"rank({x}*{y})"), (1, f"cols({size})"), (-1, f"rank({x})"),
                    (-1, f"rank({y})")]  # fmt: skip
        other = self.expression((a, b), 1)
        if which == 3:
            return [(1, f"rank({x})"), (1, f"rank({other})"), (-1, f"rank({x}+{other})")]
        if which == 4:
            return [(1, f"rank({x}-{other})"), (1, f"rank({other})"), (-1, f"rank({x})")]
        if which == 5:
            return [(1, f"rank({x})"), (1, f"rank({other})"), (-1, f"rank(hstack({x}, {other}))")]
        return [(1, f"rank(vstack({x}, {other}))"), (-1, f"rank({other})")]


def statement(rng: random.Random) -> Draw:
    """A random statement: true by construction one time in three, else damaged."""
    if rng.random() < 0.2:
        return chain(rng)
    writer = Writer(rng)
    terms = writer.lemma()
    if rng.random() < 0.4:
        terms += writer.lemma()
    damage = rng.random()
    if damage < 0.25:
        i = rng.randrange(len(terms))
        terms[i] = (-terms[i][0], terms[i][1])
    elif damage < 0.45 and len(terms) > 2:
        terms.pop(rng.randrange(len(terms)))
    elif damage < 0.67:
        i = rng.randrange(len(terms))
        terms[i] = (terms[i][0], f"rank({writer.expression(writer.kind(), 1)})")
    left = " + ".join(t for c, t in terms if c > 0) or "0"
    right = " + ".join(t for c, t in terms if c < 0) or "0"
    given: tuple[str, ...] = ()
    if rng.random() < 0.1 and len(terms) > 2:
        side = [t for c, t in terms if c < 0]
        right = f"{rng.choice(['min', 'max'])}({', '.join(side)})" if len(side) > 1 else right
    squares = [name for name, (r, c) in writer.used.items() if r == c]
    if squares and rng.random() < 0.2:
        name = rng.choice(squares)
        texts = [f"{name}*{name} == {name}", f"{name}*{name} == 0", f"rank({name}) <= 1"]
        given = (rng.choice(texts),)
    names = {n: t for n, t in writer.used.items() if n in f"{left} {right} {given}"}
    return Draw(f"{left} >= {right}", given, names)


def chain(rng: random.Random) -> Draw:
    """A random linear inequality in the ranks of a chain of three maps, some with min or max."""
    types: dict[str, Type] = {"J1": ("m", "n"), "J2": ("n", "m"), "J3": ("m", "n")}
    pieces = ["J1", "J2", "J3", "J2*J1", "J3*J2", "J3*J2*J1"]
    size = rng.choice(["rows(J1)", "cols(J1)", "rows(J3)"])
    count = rng.randint(1, 3)
    left = rng.sample([f"rank({p})" for p in pieces] + [size], count)
    right = rng.sample([f"rank({p})" for p in pieces], count)
    if rng.random() < 0.3 and count > 1:
        ends = [f"{rng.choice(['min', 'max'])}({', '.join(side)})" for side in (left, right)]
    else:
        ends = [" + ".join(side) for side in (left, right)]
    text = f"{ends[0]} {rng.choice(['>=', '>=', '<=', '=='])} {ends[1]}"
    return Draw(text, (), {n: t for n, t in types.items() if n in text})


def matrices(rng: random.Random, draw: Draw) -> dict[str, Sized]:
    """Random small exact matrices of the statement's types, the hypothesis respected."""
    dims = {"n": rng.randint(1, 3), "m": rng.randint(1, 4)}
    found = {n: matrix(rng, dims[r], dims[c]) for n, (r, c) in draw.types.items()}
    for text in draw.given:
        if text.startswith("rank("):
            name = text[5 : text.index(")")]
            found[name] = rank_one(rng, found[name].rows, found[name].cols)
            continue
        name, size = text.partition("*")[0], found[text.partition("*")[0]].rows
        found[name] = (nilpotent if text.endswith("0") else idempotent)(rng, size)
    return found


def matrix(rng: random.Random, rows: int, cols: int) -> Sized:
    """Zero, diagonal, nilpotent, low rank, rational or plain, all in turn."""
    roll = rng.random()
    if roll < 0.1:
        return Sized(rows, cols, [[0] * cols for _ in range(rows)])
    if roll < 0.25:
        scale = rng.choice([1, -1, 2, Fraction(1, 2)])
        return Sized(rows, cols, [[scale * (i == j) for j in range(cols)] for i in range(rows)])
    if roll < 0.4:
        shift = [[int(j == i + 1) for j in range(cols)] for i in range(rows)]
        return Sized(rows, cols, shift)
    if roll < 0.6:
        return rank_one(rng, rows, cols)
    choices = [-1, 0, 0, 1, 1, 2]
    return Sized(rows, cols, [[rng.choice(choices) for _ in range(cols)] for _ in range(rows)])


def rank_one(rng: random.Random, rows: int, cols: int) -> Sized:
    """A column times a row, so rank at most 1."""
    u = [rng.randint(-1, 1) for _ in range(rows)]
    v = [rng.randint(-1, 1) for _ in range(cols)]
    return Sized(rows, cols, [[a * b for b in v] for a in u])


def idempotent(rng: random.Random, n: int) -> Sized:
    """A projection: diag(1.., 0..) with a strict block above it."""
    r = rng.randint(0, n)
    entries = [[int(i == j and i < r) for j in range(n)] for i in range(n)]
    for i in range(r):
        for j in range(r, n):
            entries[i][j] = rng.randint(-1, 1)
    return Sized(n, n, entries)


def nilpotent(rng: random.Random, n: int) -> Sized:
    """Square zero: a block from the last coordinates to the first ones."""
    r = rng.randint(0, n // 2)
    entries = [[0] * n for _ in range(n)]
    for i in range(r):
        for j in range(n - r, n):
            entries[i][j] = rng.randint(-1, 1)
    return Sized(n, n, entries)


def sized(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Sized]:
    """Matrices of a witness: rows, cols and entries as text of fractions."""
    return {
        name: Sized(m["rows"], m["cols"], [[Fraction(x) for x in row] for row in m["entries"]])
        for name, m in found.items()
    }
