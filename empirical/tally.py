"""One row of the catalogue held against measured numbers: how many checks, how many tight."""

from __future__ import annotations

from dataclasses import dataclass

from empirical.records import Record
from empirical.subject import Subject
from empirical.verdicts import CONFIRMED, CONTRADICTED, INAPPLICABLE


@dataclass
class Tally:
    """Counts the instances of one inequality.

    Attributes:
        row: the catalogue's id.
        notion: of the numbers that are compared.
        checks: instances compared; ``tight`` of them are equalities.
        broken: the first instance that fails, in words; empty if none.
        tap: where that is.
        why: why the row does not apply, where it does not.
    """

    row: str
    notion: str = "exact"
    checks: int = 0
    tight: int = 0
    broken: str = ""
    tap: str = "-"
    why: str = ""

    def at_most(self, left: float, right: float, where: str, tap: str, slack: float = 0.0) -> None:
        """One instance of ``left <= right``; ``slack`` is the error that both carry together."""
        self.checks += 1
        self.tight += abs(left - right) <= slack
        if left > right + slack and not self.broken:
            self.broken, self.tap = f"{where}: {left:g} > {right:g}", tap

    @property
    def verdict(self) -> str:
        """CONFIRMED, CONTRADICTED, or NOT APPLICABLE where nothing was compared."""
        if not self.checks:
            return INAPPLICABLE
        return CONTRADICTED if self.broken else CONFIRMED

    def record(self, subject: Subject) -> Record:
        """The row as a record; its value is the number of checks."""
        note = self.broken or f"{self.checks} instances hold, {self.tight} with equality"
        if not self.checks:
            note = self.why or "nothing was measured that it speaks of"
        return subject.record(
            "bound", self.notion, float(self.checks), settings={"row": self.row},
            extra={
                "verdict": self.verdict, "broken": bool(self.broken), "tight": self.tight,
                "where": self.tap, "note": note,
            },
        )  # fmt: skip
