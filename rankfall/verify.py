"""The main job on the embedded default: prove, test, measure, judge, report.

Data flows one way: work list -> measurement -> record -> run folder -> page. Whatever the run
folder already has is not done again, so an interrupted run continues where it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from empirical.expected import asks_for_claims, exit_status, shortfalls
from empirical.machine import peak_bytes
from empirical.records import Record
from empirical.report import page, table_csv
from empirical.runs import Run
from empirical.sandwich import judge
from empirical.verdicts import ClaimVerdict


class Progress(Protocol):
    """What tells the user where the job is."""

    def start(self, step: str, total: int) -> None:
        """A step begins, with this many units of work."""

    def tick(self, what: str) -> None:
        """One unit is done."""

    def tell(self, what: str) -> None:
        """Something is under way inside a unit."""


@dataclass(frozen=True)
class Options:
    """What can be chosen of the main job.

    Attributes:
        photographs: embedded photographs for EfficientNet.
        patch: side of its central patch; 8 gives 192 directions within the 4 GB that the main job
            may take, 16 the paper's 768 directions in about 4.5 GB.
        examples: random examples of each property.
        seed: seed of examples, primes and draws.
    """

    photographs: tuple[str, ...] = ("coffee",)
    patch: int = 8
    examples: int = 60
    seed: int = 0

    @property
    def command(self) -> str:
        """The command as text: a run folder is continued by the same command only."""
        names = ",".join(self.photographs)
        return f"verify --photograph {names} --patch {self.patch} --examples {self.examples}"


@dataclass(frozen=True)
class Outcome:
    """What the main job found.

    Attributes:
        records: everything measured and proved.
        verdicts: the claims of the paper, judged from the records.
        missed: what was expected and did not come, in words.
        undecided: what was asked for and could not be decided, in words.
        seconds: wall time of this call, training of the digits networks excluded.
        peak_bytes: largest resident memory of the process.
        page: the HTML page.
        failed: what could not be measured as it was asked for, in words.
    """

    records: tuple[Record, ...]
    verdicts: tuple[ClaimVerdict, ...]
    missed: tuple[str, ...]
    undecided: tuple[str, ...]
    seconds: float
    peak_bytes: int
    page: Path
    failed: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """Exit status: 2 for a failure, 1 for something missed, 3 for something undecided, else 0."""
        return exit_status(self.missed, self.undecided, self.failed)


def verify(run: Run, options: Options, progress: Progress) -> Outcome:
    """Do the main job into an open run folder.

    Raises:
        InputError: a missing demo package, an unknown photograph, or no space for the run.
    """
    from rankfall.steps_networks import Networks, work_list

    items = work_list(options.photographs, options.patch)
    _train(progress)
    started = time.perf_counter()
    from rankfall import steps_theory

    progress.start("proving the catalogue", len(steps_theory.statements()))
    steps_theory.prove_all(run, progress.tick)
    progress.start("testing each row on exact networks", steps_theory.rows())
    steps_theory.check_all(run, options.examples, options.seed, progress.tick)
    progress.start("pushing tangents through networks", len(items))
    networks = Networks(run, options.seed)
    for item in items:
        progress.tell(f"{item.model}, {item.field}")
        networks.measure(item, progress.tell)
        progress.tick(item.model)
    seconds = time.perf_counter() - started
    return conclude(run, seconds)


def conclude(run: Run, seconds: float, failed: tuple[str, ...] = ()) -> Outcome:
    """Judge the records of a run and write its page and CSV."""
    records = run.records()
    verdicts = judge(records)
    missed, undecided = shortfalls(records, verdicts, claims=asks_for_claims(run.info))
    peak = peak_bytes()
    status = exit_status(missed, undecided, failed)
    # a run that is continued took the sum, as far as its earlier calls came to an end
    total = round(seconds + run.info.get("seconds", 0.0), 1)
    most = max(peak, run.info.get("peak_bytes", 0))
    run.finish(seconds=total, peak_bytes=most, status=status, failed=list(failed))
    run.write("records.csv", table_csv(records))
    path = run.write("report.html", page(records, run.info))
    return Outcome(records, verdicts, missed, undecided, seconds, peak, path, failed)


def _train(progress: Progress) -> None:
    """Train the digits networks that the cache does not have; outside the timed part."""
    from empirical.digits import NAMES, digits_model

    progress.start("training the digits networks, once", len(NAMES))
    for name in NAMES:

        def told(done: int, total: int, name: str = name) -> None:
            progress.tell(f"{name}, epoch {done} of {total}")

        digits_model(name, told)
        progress.tick(name)
