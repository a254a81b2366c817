"""What proves the rank of a matrix: plain data, written and read as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass

from theory.errors import InputError


@dataclass(frozen=True)
class Kernel:
    """An exact kernel of the integer matrix M.

    Attributes:
        side: ``right`` for M N = 0, ``left`` for N^T M = 0.
        pivots: the coordinates that are not free, in increasing order.
        denominator: d > 0. On the free coordinates N is d times the identity.
        block: the integers of N on the pivot coordinates, one row a pivot, one column a free
            coordinate.
    """

    side: str
    pivots: tuple[int, ...]
    denominator: int
    block: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Witness:
    """What proves the two bounds; ``numeric.replay.replay`` checks it.

    Attributes:
        prime: the minor on ``pivot_rows`` x ``pivot_columns`` is non-zero modulo it.
        pivot_rows: as many as the lower bound.
        pivot_columns: as many as the lower bound.
        kernel: the proof of the upper bound, or None where the shape itself proves it.
    """

    prime: int
    pivot_rows: tuple[int, ...]
    pivot_columns: tuple[int, ...]
    kernel: Kernel | None

    def to_json(self) -> str:
        """The witness as one line of JSON (long integers as hexadecimal text)."""
        kernel = self.kernel
        data = {
            "schema": 1,
            "prime": _text(self.prime),
            "pivot_rows": self.pivot_rows,
            "pivot_columns": self.pivot_columns,
            "kernel": None
            if kernel is None
            else {
                "side": kernel.side,
                "pivots": kernel.pivots,
                "denominator": _text(kernel.denominator),
                "block": [[_text(entry) for entry in row] for row in kernel.block],
            },
        }
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Witness:
        """Read a witness back.

        Raises:
            InputError: the text is no witness of this schema.
        """
        try:
            data = json.loads(text)
            kernel = data["kernel"]
            if data["schema"] != 1:
                raise KeyError(f"schema {data['schema']}")
            return cls(
                int(data["prime"], 16),
                tuple(int(i) for i in data["pivot_rows"]),
                tuple(int(j) for j in data["pivot_columns"]),
                None
                if kernel is None
                else Kernel(
                    str(kernel["side"]),
                    tuple(int(i) for i in kernel["pivots"]),
                    int(kernel["denominator"], 16),
                    tuple(tuple(int(entry, 16) for entry in row) for row in kernel["block"]),
                ),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"not a rank witness: {text[:60]!r} ({error!r})") from error


def _text(value: int) -> str:
    return hex(value)  # decimal text of long integers is slow, and Python limits its length


@dataclass(frozen=True)
class CertifiedRank:
    """Proved bounds of the exact rank over the rationals.

    Attributes:
        lower: proved lower bound, by a minor; ``upper``: proved upper bound, by a kernel or shape.
        witness: the proof.
        rows: number of rows; ``columns``: number of columns.
        seconds: time spent.
        note: empty, or why the result is partial (lower < upper) and what to do.
    """

    lower: int
    upper: int
    witness: Witness
    rows: int
    columns: int
    seconds: float
    note: str = ""

    @classmethod
    def from_witness(cls, witness: Witness, rows: int, columns: int) -> CertifiedRank:
        """What a witness claims for a matrix of this size; ``numeric.replay`` checks the claim."""
        upper = min(rows, columns)
        if witness.kernel is not None:
            upper = min(upper, len(witness.kernel.pivots))
        return cls(len(witness.pivot_rows), upper, witness, rows, columns, seconds=0.0)

    @property
    def rank(self) -> int:
        """The rank, where the bounds meet.

        Raises:
            InputError: they do not meet.
        """
        if self.lower != self.upper:
            raise InputError(
                f"the rank is only known to lie in [{self.lower}, {self.upper}]: {self.note}"
            )
        return self.lower

    @property
    def cols(self) -> int:
        """Number of columns."""
        return self.columns

    @property
    def prime(self) -> int:
        """The prime of the lower bound."""
        return self.witness.prime

    @property
    def complete(self) -> bool:
        """Whether the two bounds meet."""
        return self.lower == self.upper
