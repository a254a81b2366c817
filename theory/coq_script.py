"""One certificate as a section of a Coq script that ends with its theorem.

Equal matrices print alike, so that ``ring`` sees one rank where the certificate means one; each block
identity of a step is proved by expanding products and comparing sums of words (``coq/rules.v``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import Any

from theory import coq_print as write
from theory.blocks import Algebra, Block, Key, add, from_json, identity, multiply, transpose
from theory.errors import InputError, UnsupportedError
from theory.pool import INGLETON, pick_rows


class Section:
    """One certificate as a section of a script that ends with its theorem."""

    def __init__(self, certificate: Mapping[str, Any], number: int) -> None:
        try:
            self.number = number
            self.certificate = certificate
            self.problem = certificate["problem"]
            self.algebra = Algebra({k: (v[0], v[1]) for k, v in self.problem["maps"].items()})
            for name, let in self.problem["lets"].items():
                self.algebra.shapes[name] = (let["rows"], let["cols"])
                self.algebra.lets[name] = {
                    tuple(w.split()): Fraction(c) for w, c in let["sum"].items()
                }
            for zero in self.problem["vanishing"]:
                self.algebra.equate(from_json(zero))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the certificate is malformed: {error!r}") from error
        self.free = Algebra(self.algebra.shapes)  # neither abbreviations nor hypotheses
        self.names: dict[Key, Block] = {}
        self.lines: list[str] = []

    def term(self, m: Block) -> Block:
        """The block that stands for all blocks equal to this one, so that equal ranks print alike."""
        return self.names.setdefault(self.algebra.key(m), m)

    # ---- identities ------------------------------------------------------------------------
    def same(self, left: Block, right: Block) -> str:
        """A tactic that proves ``left = right``, the left side written as a product or a sum."""
        quick = "by rewrite ?mul1mx ?mulmx1 ?mulmxA | " if _word(left) and _word(right) else ""
        lets = self.algebra.lets
        for some in ({}, *({x: v} for x, v in lets.items()), lets):
            for rules in ([], self.algebra.rules):
                trial = Algebra(self.algebra.shapes, dict(some), rules)
                if trial.key(left) == trial.key(right):
                    unfold = "rewrite " + " ".join(f"?def_{x}" for x in reversed(some)) + "; "
                    more = ", ".join(f"rule_{k}, rule_{k}_" for k in range(len(rules)))
                    more = f"; repeat (progress rewrite ?({more}); expand_words)" if rules else ""
                    head = f"expand_blocks; split_blocks; {unfold if some else ''}"
                    return f"first [{quick}{head}expand_words{more}; compare_sums]"
        raise InputError("the certificate is refused: the matrices of a step do not fit its terms")

    # ---- steps -----------------------------------------------------------------------------
    def step(self, data: Mapping[str, Any], k: int) -> list[str]:
        """Lines that prove the step's inequality under the name ``h{k}``."""
        rule = data["rule"]
        m = [from_json(x) for x in data.get("matrices", [])]
        if rule == "hypothesis":
            form = self.problem["hypotheses"][data["index"]]
            return [f"have h{k} := hyp_{data['index']}.", *self.carry(form, f" in h{k}")]
        if rule == "dimension":
            return [f"have h{k} : (0 <= Z.of_nat {write.size(data['name'])})%Z := Zle_0_nat _."]
        t = self.term(m[0])
        facts: list[tuple[str, Block, Block]] = []
        if rule == "frobenius":
            b, ab, bc = self.term(m[1]), self.term(multiply(*m[:2])), self.term(multiply(*m[1:]))
            abc = self.term(multiply(multiply(*m[:2]), m[2]))
            facts = [self.times(m[0], b, ab), self.times(b, m[2], bc), self.times(ab, m[2], abc)]
        elif rule == "product":
            part, t = multiply(m[0], m[1]), self.term(m[1])
            facts = [
                self.times(m[0], t, part),
                self.times(part, m[2], self.term(multiply(part, m[2]))),
            ]
        elif rule == "sum":
            b = self.term(m[1])
            left = f"{write.block(t)} + {write.block(b)}"
            facts = [(left, add(t, b), self.term(add(m[0], m[1])))]
        elif rule == "transpose":
            turned = transpose(self.algebra.unfold(m[0]))
            unfolded = self.algebra.unfold(m[0])
            if self.algebra.key(unfolded) != self.free.key(t):
                raise UnsupportedError("a transposed abbreviation is not exported")
            facts = [(f"({write.block(t)})^T", transpose(t), self.term(turned))]
        elif rule == "inverse":
            facts = [self.times(t, m[1], identity(m[0].rows))]
        elif rule == "ingleton":
            for keep in (k for k in INGLETON if len(k) > 1):
                rows = [write.block(self.term(pick_rows(m[0], k))) for k in keep]
                part = pick_rows(m[0], keep)
                facts.append((write.nest("col_mx", rows)[1:-1], part, self.term(part)))
        elif rule == "zero":
            facts = [(write.block(t), t, Block(t.rows, t.cols, (({},),)))]
        elif rule not in ("rows", "columns", "positive"):
            raise InputError(f"the certificate is refused: unknown rule {rule!r}")
        lines = []
        for i, (left, value, right) in enumerate(facts):
            lines += [
                f"have e{i} : {left} = {write.block(right)}.",
                f"  {self.same(value, right)}.",
            ]
        given = (
            " ".join(f"e{i}" for i in range(len(facts))) if facts else f"(A := {write.block(t)})"
        )
        lines.append(f"have h{k} := rule_{rule} {given}.")
        if rule in ("rows", "columns", "inverse"):
            lines.append(f"rewrite ?natZ in h{k}.")
            for d in {d for d in m[0].rows + m[0].cols if d.isdigit()}:
                lines.append(f"try change (Z.of_nat {d}) with {d}%Z in h{k}.")
        return [*lines, *(f"clear e{i}." for i in range(len(facts)))]

    def times(self, a: Block, b: Block, c: Block) -> tuple[str, Block, Block]:
        """The identity ``a * b = c``: its left side as text and as a block, its right side."""
        return f"{write.block(a)} *m {write.block(b)}", multiply(a, b), c

    def carry(self, form: Mapping[str, Any], where: str) -> list[str]:
        """Rewrite a form of the problem to the terms that stand for its ranks."""
        lines = []
        for _, data in form["ranks"]:
            m = from_json(data)
            kept = self.term(m)
            if write.block(m) != write.block(kept):
                lines += [
                    f"have e : {write.block(m)} = {write.block(kept)}.",
                    f"  {self.same(m, kept)}.",
                    f"rewrite e{where}; clear e.",
                ]
        return lines

    def clause(
        self, forms: Sequence[Mapping[str, Any]], proof: Mapping[str, Any], k: int
    ) -> list[str]:
        """The lemma of one clause: its steps, added with their multipliers, give the goal."""
        goal = forms[proof["disjunct"]]
        self.names = {}
        for form in (goal, *self.problem["hypotheses"]):
            for _, m in form["ranks"]:
                self.term(from_json(m))
        # the printed goal and hypotheses are cleared of denominators
        times = [Fraction(s["times"]) * write.denominator(goal) for s in proof["steps"]]
        for i, s in enumerate(proof["steps"]):
            if s["rule"] == "hypothesis":
                times[i] /= write.denominator(self.problem["hypotheses"][s["index"]])
        slack = self.slack(goal, proof) * write.denominator(goal)
        scale = lcm(slack.denominator, *(t.denominator for t in times))
        lines = [f"Lemma clause_{k} : {write.inequality(goal)}.", "Proof."]
        for i, s in enumerate(proof["steps"]):
            lines += self.step(s, i)
        total = f"(constant (k := {write.z(scale * slack)}) erefl)"
        for i, t in reversed(list(enumerate(times))):
            total = f"(scaled (k := {write.z(scale * t)}) erefl h{i} {total})"
        lines += self.carry(goal, "")
        return [
            *lines,
            f"apply: (conclude (d := {write.z(Fraction(scale))}) erefl {total}); ring.",
            "Qed.",
        ]

    def slack(self, goal: Mapping[str, Any], proof: Mapping[str, Any]) -> Fraction:
        """The constant that the steps leave over."""
        out = Fraction(goal["dims"].get("", 0))
        for s in proof["steps"]:
            if s["rule"] == "hypothesis":
                out -= Fraction(s["times"]) * Fraction(
                    self.problem["hypotheses"][s["index"]]["dims"].get("", 0)
                )
            elif s["rule"] in ("rows", "columns", "inverse"):
                dims = s["matrices"][0]["cols" if s["rule"] == "columns" else "rows"]
                sign = -1 if s["rule"] == "inverse" else 1
                out -= Fraction(s["times"]) * sign * sum(int(d) for d in dims if d.isdigit())
        return out

    # ---- the section -----------------------------------------------------------------------
    def text(self) -> str:
        """The section: maps, hypotheses, a lemma for each clause, the theorem."""
        n, problem = self.number, self.problem
        statement = self.certificate.get("statement", {})
        said = " given ".join([statement.get("text", ""), *statement.get("given", [])])
        shapes = {name: (s[0], s[1]) for name, s in problem["maps"].items()}
        names = {d for s in self.algebra.shapes.values() for d in s} | _sizes(self.certificate)
        names |= {d for f in self._forms() for d in f["dims"] if d}
        dims = sorted(d for d in names if not d.isdigit())
        # a comment must not contain quotes or the marks that end or open comments
        said = said.replace('"', "").replace("(*", "( *").replace("*)", "* )")
        lines = [f"(* {said} *)", f"Module C{n}.", "Section Proof.", "Variable F : fieldType."]
        if dims:
            lines.append(f"Variables ({' '.join(write.size(d) for d in dims)} : nat).")
        for name, (h, w) in shapes.items():
            lines.append(
                f"Variable {write.letter(name)} : 'M[F]_({write.size(h)}, {write.size(w)})."
            )
        for name, let in problem["lets"].items():
            value = write.poly(self.algebra.lets[name], let["rows"], let["cols"])
            height, width = write.size(let["rows"]), write.size(let["cols"])
            lines += [
                f"Variable {write.letter(name)} : 'M[F]_({height}, {width}).",
                f"Hypothesis def_{name} : {write.letter(name)} = {value}.",
            ]
        lines += self.rewriting()
        for k, h in enumerate(problem["hypotheses"]):
            lines.append(f"Hypothesis hyp_{k} : {write.inequality(h)}.")
        goals, terms = [], []
        for k, (forms, proof) in enumerate(
            zip(problem["goal"], self.certificate["clauses"], strict=True)
        ):
            lines += self.clause(forms, proof, k)
            goals.append(" \\/ ".join(write.inequality(f) for f in forms))
            term, at = f"clause_{k}", proof["disjunct"]
            if at < len(forms) - 1:
                term = f"(or_introl {term})"
            for _ in range(at):
                term = f"(or_intror {term})"
            terms.append(term)
        whole = terms[-1]
        for term in reversed(terms[:-1]):
            whole = f"(conj {term} {whole})"
        goal = " /\\\n  ".join(f"({g})" for g in goals)
        lines += [f"Theorem theorem :\n  {goal}.", f"Proof. exact {whole}. Qed."]
        return "\n".join([*lines, "End Proof.", f"End C{n}.", ""])

    def _forms(self) -> list[Mapping[str, Any]]:
        return [
            *self.problem["hypotheses"],
            *(f for clause in self.problem["goal"] for f in clause),
        ]

    def rewriting(self) -> list[str]:
        """The matrix hypotheses, and as rules that rewrite the greatest word of each cell."""
        lines = []
        shape = self.algebra.shapes
        for k, (lead, rest) in enumerate(self.algebra.rules):
            first, last = lead[0].removesuffix("'"), lead[-1].removesuffix("'")
            rows = shape[first][first != lead[0]]
            cols = shape[last][last == lead[-1]]
            one, other = write.poly({lead: Fraction(1)}, rows, cols), write.poly(rest, rows, cols)
            nested = "X"
            for x in reversed(lead):
                nested = f"{write.letter(x)} *m ({nested})"
            lines += [
                f"Hypothesis rule_{k} : {one} = {other}.",
                f"Lemma rule_{k}_ p (X : 'M[F]_({write.size(cols)}, p)) : {nested} = {other} *m X.",
                f"Proof. by have := congr1 (fun Z => Z *m X) rule_{k}; rewrite ?mulmxA. Qed.",
            ]
        return lines


def _sizes(data: Any) -> set[str]:
    """Every height and width of the matrices in a certificate."""
    if isinstance(data, Mapping):
        own = {d for k in ("rows", "cols") if isinstance(data.get(k), list) for d in data[k]}
        return own.union(*map(_sizes, data.values()))
    if isinstance(data, list | tuple):
        return set().union(*map(_sizes, data))
    return set()


def _word(m: Block) -> bool:
    """Whether a block is one product of letters."""
    return len(m.rows) == len(m.cols) == 1 and [*m.cells[0][0].values()] == [1]
