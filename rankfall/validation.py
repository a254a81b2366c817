"""``rankfall validate``: every measurement of each network, its random control, and the verdicts.

The unit of work is one study of one network (at one image); its last record says that it is done,
so an interrupted run continues with the next one. A study that fails is reported and leaves the
others alone: what was measured is kept, and the same command tries it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from empirical.records import Record
from empirical.runs import Run
from rankfall.studies import CONTROL, Studies
from rankfall.verify import Outcome, Progress, conclude
from theory.errors import InputError

if TYPE_CHECKING:
    from empirical.models import LoadedModel

#: images a network: as many as there are embedded photographs
COUNT = 5
#: fields of the Jacobian at every image; a family contains every input, so one image draws it
FIELDS = ("audit", "float64", "exact")


@dataclass(frozen=True)
class Options:
    """What is validated.

    Attributes:
        models: names for ``empirical.models.load``.
        images: folder of images, or None for the embedded ones.
        count: images a network for the Jacobian; None for five, or as many as the folder has.
        labelled: images a network for the measurements over a data set; None for all.
        patch: side of the patch in networks with 224-pixel inputs; all pixels of small ones.
        samples: of the PCA dimension; None for 2000 on small networks, where they do not saturate
            the estimate, and 64 elsewhere, where 300 saturated every tap of EfficientNet alike.
        directions: of the exponents; None for 64 on small networks (all pixels) and 32 elsewhere.
        checkpoint: local weights, for one network.
        random_weights: measure untrained networks.
        device: where to run.
        seed: seed of everything random.
    """

    models: tuple[str, ...]
    images: str | None = None
    count: int | None = None
    labelled: int | None = None
    patch: int = 8
    samples: int | None = None
    directions: int | None = None
    checkpoint: str | None = None
    random_weights: bool = False
    device: str = "cpu"
    seed: int = 0

    @property
    def command(self) -> str:
        """The command as text: a run folder is continued by the same command only."""
        parts = [f"validate {' '.join(self.models)} --patch {self.patch}"]
        for key, value in (
            ("images", self.images), ("count", self.count), ("labelled", self.labelled),
            ("pca-samples", self.samples), ("checkpoint", self.checkpoint),
            ("random-weights", self.random_weights or None), ("device", self.device),
        ):  # fmt: skip
            if value is not None and (key, value) != ("device", "cpu"):
                parts.append(f"--{key}" if value is True else f"--{key} {value}")
        return " ".join(parts)

    def pictures(self) -> int:
        """How many images of each network."""
        if self.count is not None or self.images is None:
            return self.count or COUNT
        from empirical.images import SUFFIXES

        files = (p for p in Path(self.images).rglob("*") if p.suffix.lower() in SUFFIXES)
        return max(1, min(COUNT, sum(1 for _ in files)))


@dataclass
class Loaded:
    """The networks that could be loaded, by name, and why the others could not."""

    models: dict[str, LoadedModel] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def load_all(options: Options) -> Loaded:
    """Load every network before anything is written.

    Raises:
        InputError: none can be loaded, or there is no such device.
    """
    from empirical.machine import device_of
    from rankfall.show import load_shown

    device_of(options.device)  # before a network is loaded
    found = Loaded()
    errors: list[InputError] = []
    for name in options.models:
        try:
            found.models[name] = load_shown(
                name, seed=options.seed, checkpoint=options.checkpoint,
                random_weights=options.random_weights,
            )  # fmt: skip
        except InputError as error:
            errors.append(error)
            found.failed.append(f"{name}: {error}")
    if not found.models and errors:
        raise errors[0]
    return found


def validate(
    run: Run, options: Options, progress: Progress, loaded: Loaded | None = None
) -> Outcome:
    """All studies of all networks into an open run folder.

    Args:
        run: the folder.
        options: what is validated.
        progress: told of each study.
        loaded: the networks, if they are there already.

    Raises:
        InputError: no network can be loaded, or the folder cannot be written.
    """
    started = time.perf_counter()
    loaded = load_all(options) if loaded is None else loaded
    failed = list(loaded.failed)
    studies = Studies(run, options, loaded.models)
    for name in loaded.models:
        try:
            images = [title for title, _ in studies.pictures(name)]
        except InputError as error:
            failed.append(f"{name}: {error}")
            continue
        plan = work_list(studies, name, images, control=not options.random_weights)
        progress.start(f"{name}: {len(images)} images", len(plan))
        for model, image, kind in plan:
            what = f"{model}, {kind}"
            progress.tell(what)
            why = studies.attempt(model, image, kind, progress.tell)
            if why:
                failed.append(f"{model}, {kind}, {image}: {why}")
            progress.tick(what)
        studies.forget(name + CONTROL)
    studies.conclude()
    return conclude(run, time.perf_counter() - started, tuple(failed))


def work_list(
    studies: Studies, name: str, images: list[str], *, control: bool
) -> list[tuple[str, str, str]]:
    """(network, image, study) in the order they are done; each may use what came before.

    The control, the same architecture with random weights, has every study but the table of
    factorised layers: it has no accuracy to keep.
    """
    found = []
    for model in (name, name + CONTROL) if control else (name,):
        found += [(model, i, f) for i in images for f in FIELDS]
        found += [(model, images[0], "family")]
        found += [(model, i, "laws") for i in images]
        found += [(model, images[0], k) for k in ("pca", "depth", "bounds", "ablation")]
        found += [(model, "all", k) for k in ("features", "patch", "images")]
    if studies.small(name):  # replacing every layer at every rank needs a small network
        found.append((name, "all", "factorise"))
    return found


def spread_rows(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """Rows of the table over images: median, quartiles and range, never the mean alone."""
    from empirical.aggregate import spreads

    return [
        (
            s.model, s.tap, s.notion, str(s.images), f"{s.median:g}",
            f"{s.quartiles[0]:g}-{s.quartiles[1]:g}", f"{s.extremes[0]:g}-{s.extremes[1]:g}",
        )
        for s in spreads(records)
        if s.notion in ("exact", "relative(0.001)")
    ]  # fmt: skip
