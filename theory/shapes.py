"""Shapes of matrix expressions, inferred by unification of dimensions.

A shape is a pair of dimension terms: a variable, an integer, a sum (stacked matrices) or a product
(Kronecker products). Each use of a matrix fixes equations between them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from theory.errors import InputError


@dataclass(frozen=True)
class Dim:
    """A dimension term: ``var`` (a name), ``int`` (a value), ``sum`` or ``prod`` (of parts)."""

    kind: str
    name: str = ""
    value: int = 0
    parts: tuple[Dim, ...] = ()

    def __str__(self) -> str:
        if self.kind == "var":
            return self.name
        if self.kind == "int":
            return str(self.value)
        return (" + " if self.kind == "sum" else "*").join(map(str, self.parts))


class ShapeError(InputError):
    """Two dimensions that must agree cannot."""


@dataclass
class Dims:
    """The equations found so far, as bindings of variables."""

    bound: dict[str, Dim] = field(default_factory=dict)
    count: int = 0

    def fresh(self) -> Dim:
        """A new variable."""
        self.count += 1
        return Dim("var", f"_{self.count}")

    def resolve(self, dim: Dim) -> Dim:
        """The term with every binding applied; sums and products are flat."""
        if dim.kind == "var":
            return self.resolve(self.bound[dim.name]) if dim.name in self.bound else dim
        if dim.kind == "int":
            return dim
        parts: list[Dim] = []
        for part in dim.parts:
            part = self.resolve(part)
            parts.extend(part.parts if part.kind == dim.kind else (part,))
        if all(p.kind == "int" for p in parts):
            total = 0 if dim.kind == "sum" else 1
            for p in parts:
                total = total + p.value if dim.kind == "sum" else total * p.value
            return Dim("int", value=total)
        return Dim(dim.kind, parts=tuple(parts))

    def equate(self, a: Dim, b: Dim) -> None:
        """Make two dimensions equal.

        Raises:
            ShapeError: they cannot be.
        """
        a, b = self.resolve(a), self.resolve(b)
        if a == b:
            return
        if b.kind == "var":
            a, b = b, a
        if a.kind == "var":
            if a.name in _names(b):
                raise ShapeError(f"{a} cannot equal {b}")
            self.bound[a.name] = b
        elif a.kind == b.kind and a.parts and len(a.parts) == len(b.parts):
            for p, q in zip(a.parts, b.parts, strict=True):
                self.equate(p, q)
        else:
            raise ShapeError(f"{a} cannot equal {b}")


def _names(dim: Dim) -> set[str]:
    if dim.kind == "var":
        return {dim.name}
    return {name for part in dim.parts for name in _names(part)}
