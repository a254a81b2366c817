"""The main job on a corner of the embedded default, small enough for a test."""

import sys
from pathlib import Path

from empirical.runs import Run
from rankfall import steps_networks, steps_theory, verify
from rankfall.show import TerminalProgress
from theory.catalogue import entry

ROWS = ("composition", "frobenius", "partial-drop", "weyl", "eps-monotone")
MODELS = ("digits-resnet", "digits-vit")


def small_job(out: Path, fresh: bool = False) -> verify.Outcome:
    """Five rows of the catalogue and two digits networks."""
    everything = steps_networks.work_list
    steps_theory.CATALOGUE = tuple(entry(name) for name in ROWS)
    steps_networks.work_list = lambda photographs, patch: tuple(  # type: ignore[assignment]
        item for item in everything((), patch) if item.model in MODELS
    )
    try:
        options = verify.Options(examples=5)
        with Run.open(out, "small", 0, fresh=fresh) as run, TerminalProgress() as progress:
            return verify.verify(run, options, progress)
    finally:
        steps_networks.work_list = everything


if __name__ == "__main__":
    small_job(Path(sys.argv[1]))
