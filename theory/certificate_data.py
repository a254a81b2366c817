"""Proofs as the data that ``theory.certificates`` checks: steps, clauses, a chain's multipliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from theory.blocks import ONE, Block, identity, to_json
from theory.chains import rectangles
from theory.pool import Step, step
from theory.problem import Problem, problem

if TYPE_CHECKING:
    from theory.statements import Statement


def step_to_json(times: Fraction, s: Step) -> dict[str, Any]:
    """A step of a certificate: rule, multiplier, matrices."""
    out: dict[str, Any] = {"rule": s.rule, "times": str(times)}
    if s.index >= 0:
        out["index"] = s.index
    if s.rule == "dimension":
        out["name"] = next(iter(s.dims))
    if s.blocks:
        out["matrices"] = [to_json(b) for b in s.blocks]
    return out


def certificate(
    statement: Statement, p: Problem, clauses: list[dict[str, Any]], kind: str
) -> dict[str, Any]:
    """The JSON data of a proof: the statement, the problem in block form, the steps."""
    return {
        "schema": 1,
        "kind": kind,
        "statement": statement.to_json(),
        "problem": p.to_json(),
        "clauses": clauses,
    }


def chain_certificate(
    statement: Statement,
    clauses: Sequence[tuple[int, Sequence[str], Mapping[tuple[int, int], Fraction]]],
) -> dict[str, Any]:
    """A certificate from the multipliers of a chain's interval inequalities.

    Args:
        statement: the statement about one chain.
        clauses: for each clause of the goal the inequality proved, the maps with the first applied
            first, and the multiplier of each interval ``(i, j)``, ``0 <= i <= j <= n``: it stands for
            ``r(i,j) - r(i-1,j) - r(i,j+1) + r(i-1,j+1) >= 0``, terms outside the chain being 0.

    Returns:
        A certificate in the format of ``prove_dag``.
    """
    p = problem(statement)
    out = []
    for disjunct, maps, multipliers in clauses:
        shapes = [p.maps[name] for name in maps]
        sizes = [shapes[0][1], *(s[0] for s in shapes)]

        def word(i: int, j: int, maps: Sequence[str] = maps, d: Sequence[str] = sizes) -> Block:
            return Block(
                (d[j],), (d[i],), (({tuple(maps[k] for k in range(j - 1, i - 1, -1)): ONE},),)
            )

        steps: list[tuple[Fraction, Step]] = []
        for (a, i, j, b), times in rectangles(multipliers).items():
            middle, first, last = word(i, j), a > 0, b < len(maps)
            before = word(a - 1, i) if first else identity(middle.cols)
            after = word(j, b + 1) if last else identity(middle.rows)
            if first and last:
                s = step("frobenius", after, middle, before)
            elif first or last:
                s = step("product", after, middle, before)
            else:
                s = step("positive", middle)
            steps.append((times, s))
        # rank of an identity is its size: carry the balance the right way
        for d, unit in ((d, identity((d,))) for d in dict.fromkeys(sizes)):
            net = sum((x * c for x, s in steps for b, c in s.ranks if _is_unit(b, d)), Fraction(0))
            if net > 0:
                steps.append((net, step("rows", unit)))
            elif net < 0:
                steps.append((-net, step("inverse", unit, unit)))
        out.append({"disjunct": disjunct, "steps": [step_to_json(x, s) for x, s in steps]})
    return certificate(statement, p, out, "chain")


def _is_unit(b: Block, d: str) -> bool:
    return b.rows == b.cols == (d,) and set(b.cells[0][0]) == {()}
