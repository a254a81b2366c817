"""``rankfall validate``: every measurement of each network, its random control, and the verdicts.

The unit of work is one study of one network (at one image); its last record says that it is done,
so an interrupted run continues with the next one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from empirical.records import Record
from empirical.runs import Run
from rankfall.steps_networks import PIECEWISE_LINEAR, Item, Networks, done_record
from rankfall.verify import Outcome, Progress, conclude
from theory.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from empirical.models import LoadedModel

CONTROL = "@random"


@dataclass(frozen=True)
class Options:
    """What is validated.

    Attributes:
        models: names for ``empirical.models.load``.
        images: folder of images, or None for the embedded ones.
        count: images a network for the Jacobian.
        labelled: images a network for the measurements over a data set; None for all.
        patch: side of the patch in networks with 224-pixel inputs; all pixels of small ones.
        samples: of the PCA dimension.
        checkpoint: local weights, for one network.
        random_weights: measure untrained networks.
        device: where to run.
        seed: seed of everything random.
    """

    models: tuple[str, ...]
    images: str | None = None
    count: int = 2
    labelled: int | None = None
    patch: int = 8
    samples: int = 300
    checkpoint: str | None = None
    random_weights: bool = False
    device: str = "cpu"
    seed: int = 0

    @property
    def command(self) -> str:
        """The command as text: a run folder is continued by the same command only."""
        parts = [f"validate {' '.join(self.models)} --count {self.count} --patch {self.patch}"]
        parts.append(f"--pca-samples {self.samples}")
        for key, value in (
            ("images", self.images), ("labelled", self.labelled), ("checkpoint", self.checkpoint),
            ("random-weights", self.random_weights or None),
        ):  # fmt: skip
            if value is not None:
                parts.append(f"--{key} {value}")
        return " ".join(parts)


class Validator(Networks):
    """Loads networks, controls included, and runs studies into the run folder."""

    def __init__(self, run: Run, options: Options) -> None:
        super().__init__(run, options.seed)
        self.options = options
        self._pictures: dict[tuple[str, str], Tensor] = {}

    def model(self, name: str) -> LoadedModel:
        """The network, or its control of the same architecture with random weights."""
        from empirical.models import load

        if name not in self._loaded:
            control = name.endswith(CONTROL)
            loaded = load(
                name.removesuffix(CONTROL), seed=self.seed,
                checkpoint=None if control else self.options.checkpoint,
                random_weights=control or self.options.random_weights,
            )  # fmt: skip
            self._loaded[name] = replace(loaded, name=name) if control else loaded
        return self._loaded[name]

    def image(self, item: Item, loaded: LoadedModel) -> Tensor:
        """The image of an item, as found by ``pictures``."""
        return self._pictures[item.model.removesuffix(CONTROL), item.image]

    def pictures(self, name: str) -> list[tuple[str, Tensor]]:
        """The images of a network."""
        from empirical.data import pictures

        found = pictures(self.model(name), self.options.images, self.options.count)
        for title, image in found:
            self._pictures[name, title] = image
        return found

    def patch(self, name: str) -> int | None:
        """Side of the patch: all pixels of the small networks."""
        small = self.model(name).input_size[-1] <= 16
        return None if small else self.options.patch

    def study(self, name: str, image: str, kind: str) -> None:
        """One study unless the folder has it; what cannot be done is said, not faked."""
        item = Item(name, image, self.patch(name), kind)
        if self.run.has(done_record(item, self.seed).key):
            return
        started = time.perf_counter()
        notes: list[str] = []
        try:
            for record in self._records(name, image, kind):
                self.run.append(record)
        except UnsupportedError as error:
            notes.append(f"{kind}: not applicable: {error}")
        seconds = time.perf_counter() - started
        self.run.append(done_record(item, self.seed, seconds, notes=notes))

    def _records(self, name: str, image: str, kind: str) -> list[Record]:
        from empirical import validation as v

        loaded, seed, device = self.model(name), self.seed, self.options.device
        known = [r for r in self.run.records() if r.model == name]
        if kind in ("features", "factorise"):
            try:
                data = self._labelled(loaded)
            except InputError as error:
                raise UnsupportedError(str(error)) from error
            if kind == "features":
                found = v.feature_records(loaded, data, seed, device)
                return found + v.published_records(found)
            found, table = v.factor_records(loaded, data, seed, lambda _done, _total: None)
            self.run.write(f"factorise-{name}.csv", table)
            return found
        if kind == "patch":
            side = loaded.input_size[-1]
            patch = self.options.patch if side > 16 else side // 2
            return v.jacobian_study(loaded, self.pictures(name)[:2], seed, patch, device)
        picture = self._pictures[name, image]
        if kind == "pca":
            ranks = {
                r.tap: r.value for r in known
                if r.notion == "relative(0.001)" and r.measurement == "jacobian" and r.value
                and r.extra.get("image_name") == image
            }  # fmt: skip
            return v.pca_records(loaded, picture, image, seed, self.options.samples, ranks, device)
        if kind == "depth":
            return v.depth_records(loaded, picture, image, seed, 64, device)
        own = [r for r in known if r.extra.get("image_name") == image]
        if kind == "loss":
            return v.loss_records(loaded, picture, image, seed, own)
        return v.ablation_records(loaded, picture, seed, self.patch(name), device, own)

    def _labelled(self, loaded: LoadedModel) -> Any:
        from empirical.data import labelled

        return labelled(loaded, self.options.images, count=self.options.labelled, seed=self.seed)


def validate(run: Run, options: Options, progress: Progress) -> Outcome:
    """All studies of all networks into an open run folder.

    Raises:
        InputError: a network cannot be loaded, or too few images.
    """
    started = time.perf_counter()
    validator = Validator(run, options)
    for name in options.models:
        validator.model(name)
        images = [title for title, _ in validator.pictures(name)]
        fields = ["audit", "float64", "family"]
        if name in PIECEWISE_LINEAR or "resnet" in name:
            fields.insert(2, "exact")
        names = [name] if options.random_weights else [name, name + CONTROL]
        jobs = [
            (n, i, f) for n in names for i in images for f in fields if n == name or f != "exact"
        ]
        studies = [(name, images[0], k) for k in ("pca", "depth", "loss", "ablation")]
        studies += [(name, "all", k) for k in ("features", "patch")]
        if validator.patch(name) is None:  # replacing every layer needs a small network
            studies.append((name, "all", "factorise"))
        progress.start(f"{name}: {len(images)} images", len(jobs) + len(studies))
        for model, image, field in jobs:
            progress.tell(f"{model}, {field}")
            validator.measure(Item(model, image, validator.patch(name), field), progress.tell)
            progress.tick(f"{model}, {field}")
        for model, image, kind in studies:
            progress.tell(f"{model}, {kind}")
            validator.study(model, image, kind)
            progress.tick(f"{model}, {kind}")
    outcome = conclude(run, time.perf_counter() - started)
    broken = tuple(
        f"residual-loss on {r.model} at {r.tap}: lost {r.value:g}, {r.extra['note']}"
        for r in outcome.records
        if r.measurement == "loss" and r.extra.get("broken")
    )
    return replace(outcome, missed=outcome.missed + broken) if broken else outcome


def spread_rows(records: tuple[Record, ...]) -> list[tuple[str, ...]]:
    """Rows of the table over images: median, quartiles and range, never the mean alone."""
    from empirical.validation import spreads

    return [
        (
            s.model, s.tap, s.notion, str(s.images), f"{s.median:g}",
            f"{s.quartiles[0]:g}-{s.quartiles[1]:g}", f"{s.extremes[0]:g}-{s.extremes[1]:g}",
        )
        for s in spreads(records)
        if s.notion in ("exact", "relative(0.001)")
    ]  # fmt: skip
