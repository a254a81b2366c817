"""``prove``: a statement's verdict, PROVED, REFUTED, UNKNOWN or UNSUPPORTED, and never a guess.

The order is that of cost: the interval modules of a chain decide it, a short search refutes what is
plainly false, the expression prover proves what its rules reach, a long search has the last word.
A proof is accepted only after the independent checker (``theory.certificates``) has accepted it, and
a refutation only after its matrices were evaluated exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from theory import refute
from theory.certificate_data import chain_certificate
from theory.certificates import CertificateError, check
from theory.chains import prove_chain, read_chain
from theory.errors import InputError, UnsupportedError
from theory.notions import EXACT, Notion
from theory.polymatroid import prove_dag
from theory.statements import Statement, parse
from theory.witness import Witness, to_json

Kind = Literal["PROVED", "REFUTED", "UNKNOWN", "UNSUPPORTED"]

#: notions whose value is the exact rank of the matrices that a statement names
PROVABLE = ("exact", "partial")
AXIOMS = (
    "sizes, Frobenius, Sylvester, subadditivity, block identities, Shannon and Ingleton on stacks, "
    "equality axioms of repeated maps and hypotheses"
)
_QUICK = 150  # assignments tried before the expression prover (about 50 ms)
_LONG = 6000


@dataclass(frozen=True)
class Verdict:
    """What became of a statement.

    Attributes:
        kind: the verdict.
        statement: the statement.
        certificate: of a proof: data that ``theory.certificates.check`` accepts.
        witness: of a refutation: matrices, sizes and the ranks on them, as data.
        reason: how it was decided, or why not: the axioms used and the counterexamples tried.
        seconds: the time it took.
    """

    kind: Kind
    statement: Statement
    certificate: dict[str, Any] | None
    witness: dict[str, Any] | None
    reason: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The verdict as data."""
        out: dict[str, Any] = {
            "verdict": self.kind,
            "statement": self.statement.to_json(),
            "notion": str(self.statement.notion),
        }
        if self.certificate is not None:
            out["certificate"] = self.certificate
        if self.witness is not None:
            out["witness"] = self.witness
        return out | {"reason": self.reason, "seconds": round(self.seconds, 4)}


def prove(
    statement: Statement | str,
    *,
    given: Sequence[str] = (),
    notion: Notion = EXACT,
    timeout: float = 60.0,
    positive: bool = False,
    dims: int | None = None,
    seed: int = 0,
) -> Verdict:
    """Decide a statement as far as the procedures go.

    Args:
        statement: a statement, or its text.
        given: hypotheses, where ``statement`` is a text.
        notion: the rank notion, where ``statement`` is a text.
        timeout: seconds after which the answer is UNKNOWN.
        positive: whether a counterexample must have no dimension 0.
        dims: the value that every dimension of a counterexample must have.
        seed: of the random search.

    Raises:
        InputError: the text does not parse, the shapes do not fit, or an option is out of range.
    """
    if not timeout > 0:
        raise InputError(f"timeout is {timeout}: it must be more than 0 seconds")
    if dims is not None and not 0 <= dims <= 64:
        raise InputError(f"dims is {dims}: it must be between 0 and 64")
    if isinstance(statement, str):
        statement = parse(statement, given, notion)
    return _Attempt(statement, timeout, positive, dims, seed).run()


@dataclass
class _Attempt:
    """One statement on its way to a verdict."""

    statement: Statement
    timeout: float
    positive: bool
    dims: int | None
    seed: int
    start: float = field(default_factory=time.monotonic)
    tried: int = 0
    why: str = ""
    note: str = ""

    @property
    def deadline(self) -> float:
        return self.start + self.timeout

    def left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def verdict(self, kind: Kind, reason: str, **parts: dict[str, Any]) -> Verdict:
        return Verdict(
            kind, self.statement, parts.get("certificate"), parts.get("witness"), reason,
            time.monotonic() - self.start,
        )  # fmt: skip

    def run(self) -> Verdict:
        if self.statement.notion.name not in PROVABLE:
            return self.other_notion()
        disprove = self.search_quick if read_chain(self.statement) is None else self.refute_as_chain
        steps: tuple[Callable[[], Verdict | None], ...]
        steps = (self.prove_as_chain, disprove, self.prove_expressions)
        for attempt in (*steps, self.search_long):
            found = attempt()
            if found is not None:
                return found
            if self.left() == 0:
                break
        out = f"out of time after {self.timeout:g} s; " if self.left() == 0 else ""
        reason = f"{out}not proved ({self.why or 'axioms: ' + AXIOMS}), not refuted ({self.tried}"
        return self.verdict("UNKNOWN", f"{reason} assignments of small matrices tried{self.note})")

    def other_notion(self) -> Verdict:
        found = refute.search(
            self.statement, deadline=self.deadline, tries=_LONG, seed=self.seed,
            positive=self.positive, dims=self.dims,
        )  # fmt: skip
        self.tried = found.tried
        if found.witness is not None:
            return self.refuted(found.witness, f"monomial matrices, after {self.tried} assignments")
        return self.verdict(
            "UNSUPPORTED",
            f"proofs speak of exact ranks, and the statement of {self.statement.notion}: no proof is "
            f"carried over; {self.tried} assignments of monomial matrices do not refute it",
        )

    def prove_as_chain(self) -> Verdict | None:
        proofs = prove_chain(self.statement)
        if proofs is None:
            return None
        return self.proved(
            chain_certificate(self.statement, proofs),
            "non-negative on every interval module: a sum of Frobenius inequalities",
        )

    def refute_as_chain(self) -> Verdict | None:
        witness = None
        if not self.positive and self.dims is None:
            witness = refute.refute_interval(self.statement)
        how = "copies of one interval module"
        if witness is None:
            witness = refute.refute_chain(
                self.statement, positive=self.positive, dims=self.dims, deadline=self.deadline
            )
            how = "an integer program over the multiplicities of interval modules"
        if witness is not None:
            return self.refuted(witness, how)
        self.note = "; no chain found by the integer program over interval multiplicities"
        if self.dims is not None:
            self.note += f" with all dimensions {self.dims}"
        return None

    def search_quick(self) -> Verdict | None:
        return self.search(_QUICK, min(self.deadline, time.monotonic() + 1.0), self.seed)

    def search_long(self) -> Verdict | None:
        return self.search(_LONG, self.deadline, self.seed + 1)

    def search(self, tries: int, deadline: float, seed: int) -> Verdict | None:
        found = refute.search(
            self.statement, deadline=deadline, tries=tries, seed=seed,
            positive=self.positive, dims=self.dims,
        )  # fmt: skip
        self.tried += found.tried
        if found.witness is None:
            return None
        return self.refuted(found.witness, f"a search of {self.tried} assignments, then shrunk")

    def prove_expressions(self) -> Verdict | None:
        try:
            # a third is kept for the search: what the rules do not reach early, they seldom reach
            found = prove_dag(self.statement, self.left() * 2 / 3)
        except UnsupportedError as error:
            self.why = f"the rules do not apply: {error}"
            return None
        if found is None:
            return None
        return self.proved(found, "a non-negative sum of rank inequalities (linear program)")

    def proved(self, certificate: dict[str, Any], reason: str) -> Verdict | None:
        try:
            check(certificate)
        except CertificateError as error:
            self.why = f"a proof was found and its check failed: {error}"
            return None
        return self.verdict("PROVED", reason, certificate=certificate)

    def refuted(self, witness: Witness, how: str) -> Verdict:
        return self.verdict("REFUTED", f"by {how}", witness=to_json(self.statement, witness))
