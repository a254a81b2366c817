"""Matrices for a statement: sizes, ranks and relations that make every side of it happen.

Plain random matrices are generic, and nearly every inequality would be strict (or tight) on them.
The sampler prescribes ranks and mixes in nilpotent, idempotent and repeated matrices, Jacobians of
small networks, and matrices that satisfy the hypotheses by construction (a kernel, ``J*K == 0``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flint

from numeric.decoding import Builder, Bytes
from numeric.flint_eval import dimension
from numeric.scalars import Matrix
from numeric.spectral_properties import scaled

_ZERO = re.compile(r"^((?:\w+\*)+)(\w+)==0$")
_SPANS = re.compile(r"^rank\((\w+)\)==cols\(\w+\)-rank\(\w+\)$")
_IDEMPOTENT = re.compile(r"^(\w+)\*\1==\1$")
_RANK = re.compile(r"^rank\((\w+)\)==(\d+)$")


@dataclass(frozen=True)
class Plan:
    """How to draw the matrices of one statement.

    Attributes:
        shapes: name -> (rows, cols), integers or SymPy symbols.
        kernels: name -> names of the product that it must be killed by (in order).
        spanning: names that must span that whole kernel.
        idempotent: names drawn as 0/1 diagonals.
        ranks: names with a prescribed rank.
        small: draw shifted diagonals of powers of 2^-12 (relative ranks).
        chain: the maps J1, J2, ... when the statement speaks of nothing else.
    """

    shapes: Mapping[str, tuple[Any, Any]]
    kernels: Mapping[str, tuple[str, ...]]
    spanning: frozenset[str]
    idempotent: frozenset[str]
    ranks: Mapping[str, int]
    small: bool
    chain: tuple[str, ...]


def plan(shapes: Mapping[str, tuple[Any, Any]], given: Sequence[str], small: bool) -> Plan:
    """Read the hypotheses' texts; those that fit no pattern are left to rejection."""
    kernels: dict[str, tuple[str, ...]] = {}
    spanning, idempotent, ranks = set(), set(), {}
    for text in (g.replace(" ", "") for g in given):
        if match := _ZERO.match(text):
            kernels[match[2]] = tuple(match[1].rstrip("*").split("*"))
        elif match := _SPANS.match(text):
            spanning.add(match[1])
        elif match := _IDEMPOTENT.match(text):
            idempotent.add(match[1])
        elif match := _RANK.match(text):
            ranks[match[1]] = int(match[2])
    chain = tuple(f"J{k + 1}" for k in range(len(shapes)))
    return Plan(
        shapes,
        kernels,
        frozenset(spanning & set(kernels)),
        frozenset(idempotent),
        ranks,
        small,
        chain if set(chain) == set(shapes) and not given and not small else (),
    )


def size(p: Plan) -> int:
    """Bytes that :func:`draw` reads at most."""
    return 48 + 40 * len(p.shapes)


def _name(symbol: Any) -> str | None:
    return None if isinstance(symbol, int) or symbol.is_Integer else str(symbol.name)


def _bind(p: Plan, b: Bytes) -> dict[str, int]:
    span = 4 if len(p.shapes) <= 2 else 3
    dims: dict[str, int] = {}
    least = max(p.ranks.values(), default=1)
    for shape in p.shapes.values():
        for symbol in shape:
            key = _name(symbol)
            if key is not None:
                value = dims.get(key) or 1 + b.below(span)
                dims[key] = max(value, least)
    return dims


def _matrix(b: Bytes, rows: int, cols: int, earlier: Sequence[Matrix]) -> Matrix:
    kind = b.below(8)
    if kind == 4 and rows == cols:
        entries = b.integers(rows * cols)
        upper = [
            e if j > i else 0 for i in range(rows) for j, e in enumerate(entries[i * cols :][:cols])
        ]
        return flint.fmpq_mat(rows, cols, upper)
    if kind == 5:
        same = [m for m in earlier if (m.nrows(), m.ncols()) == (rows, cols)]
        if same:
            return same[b.below(len(same))] * (1 - 2 * b.below(2))
    if kind == 6:
        sign = 1 - 2 * b.below(2)
        entries = [0] * (rows * cols)
        for i, bit in enumerate(b.take(min(rows, cols))):
            entries[i * cols + i] = sign * (bit % 2)
        return flint.fmpq_mat(rows, cols, entries)
    return b.matrix_of_rank(rows, cols, b.below(min(rows, cols) + 1))


def kernel(matrix: Matrix) -> Matrix:
    """A basis of the kernel as columns, or one zero column when it is 0."""
    n = matrix.ncols()
    basis, nullity = matrix.numer_denom()[0].nullspace()
    if not nullity:
        return flint.fmpq_mat(n, 1)
    columns = basis.tolist()
    return flint.fmpq_mat(n, nullity, [columns[i][j] for i in range(n) for j in range(nullity)])


def draw(p: Plan, b: Bytes) -> tuple[dict[str, Matrix], dict[str, int]]:
    """Matrices by name and the values of the dimensions."""
    if p.chain and b.below(4) == 3:
        return _from_network(p, b)
    dims = _bind(p, b)
    matrices: dict[str, Matrix] = {}
    for name, shape in p.shapes.items():
        if name in p.kernels:
            continue
        rows, cols = (dimension(s, dims) for s in shape)
        if p.small:
            matrices[name] = scaled(b, rows, cols)
        elif name in p.idempotent:
            diagonal = [bit % 2 for bit in b.take(rows)]
            entries = [diagonal[i] if i == j else 0 for i in range(rows) for j in range(cols)]
            matrices[name] = flint.fmpq_mat(rows, cols, entries)
        elif name in p.ranks:
            matrices[name] = b.matrix_of_rank(rows, cols, p.ranks[name])
        else:
            matrices[name] = _matrix(b, rows, cols, list(matrices.values()))
    for name, factors in p.kernels.items():
        product = matrices[factors[0]]
        for factor in factors[1:]:
            product = product * matrices[factor]
        basis = kernel(product)
        wide = _name(p.shapes[name][1])
        cols = dims[wide] if wide is not None else int(p.shapes[name][1])
        mix = _matrix(b, basis.ncols(), cols, ())
        matrices[name] = basis if name in p.spanning else basis * mix
        if wide is not None:
            dims[wide] = matrices[name].ncols()
    return matrices, dims


def _from_network(p: Plan, b: Bytes) -> tuple[dict[str, Matrix], dict[str, int]]:
    """The layer Jacobians of a random network with one block for each map."""
    from numeric.networks import Network

    builder, layers = Builder(b), []
    inputs = width = 1 + b.below(3)
    for _ in p.chain:
        layer, width = builder.block(width, 1 + b.below(3))
        layers.append(layer)
    network = Network((inputs,), tuple(layers))
    elements = network.elements(tuple(b.integers(inputs, 5)))
    matrices = dict(zip(p.chain, elements, strict=True))
    dims: dict[str, int] = {}
    for name, matrix in matrices.items():
        for symbol, value in zip(p.shapes[name], (matrix.nrows(), matrix.ncols()), strict=True):
            key = _name(symbol)
            if key is not None:
                dims[key] = value
    return matrices, dims
