"""Result records: one line of ``records.jsonl`` each; a rank never travels without its notion.

The schema is that of a run folder. A record is identified by what was measured (``key``): model,
weights, image, tap, notion, tolerance and settings; the same key is never measured twice.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from theory.errors import InputError

SCHEMA = 1
#: how a number is known, best first. An exact rank of the recorded element Jacobians is that of their
#: product, each taken exactly at the float64 input recorded for it (theory.md, sections 2 and 4)
KNOWN = (
    "proved",
    "proved for the recorded pattern",
    "proved for the recorded element Jacobians",
    "probable",
    "measured",
)


@dataclass(frozen=True)
class Record:
    """One measured or proved number.

    Attributes:
        measurement: which measurement, for example ``jacobian`` or ``pca``.
        model: model name; ``weights`` and ``image`` are content hashes (``-`` where none).
        tap: module path of the tap; ``tap_index`` its place in forward order.
        separator: whether all that the output knows passes through the tap.
        shape: the tap's output shape without the batch dimension.
        directions: number of input directions pushed (columns of the Jacobian).
        notion: the rank notion as text, for example ``relative(0.001)``.
        tolerance: the tolerance in the notion's own units, or None where the notion has none.
        value: the number; ``low`` and ``high`` its interval (equal to it where it is exact).
        known: one of ``KNOWN``.
        settings: whatever else changes the number (patch, background, primes, ...).
        extra: what belongs to the number but does not identify it (gap, note, peak memory, ...).
    """

    measurement: str
    model: str
    weights: str
    image: str
    tap: str
    tap_index: int
    separator: bool
    shape: tuple[int, ...]
    directions: int
    notion: str
    tolerance: float | None
    value: float | None
    low: float | None
    high: float | None
    known: str
    dtype: str
    device: str
    seconds: float
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.known not in KNOWN:
            raise InputError(f"known={self.known!r} is none of {KNOWN}")

    @property
    def key(self) -> str:
        """Identity of the record: a hash of what was measured, not of its result."""
        what = (
            self.measurement,
            self.model,
            self.weights,
            self.image,
            self.tap,
            self.notion,
            self.tolerance,
            json.dumps(self.settings, sort_keys=True, default=str),
            self.dtype,
            self.seed,
        )
        return hashlib.sha256(repr(what).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """One line of JSON with ``"schema": 1``; non-finite numbers become null."""
        data = _finite(asdict(self))
        return json.dumps({"schema": SCHEMA, **data}, sort_keys=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read one line back.

        Raises:
            InputError: the line is not a record of this schema.
        """
        try:
            data = json.loads(line)
            if data.pop("schema") != SCHEMA:
                raise KeyError("schema")
            known = {f.name for f in fields(cls)}
            record = {k: v for k, v in data.items() if k in known}
            record["shape"] = tuple(record["shape"])
            return cls(**record)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not a schema-{SCHEMA} record: {line[:80]!r} ({error})") from error


def _finite(value: Any) -> Any:
    """Plain data with None in place of every number that is not finite, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
