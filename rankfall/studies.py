"""The studies of ``rankfall validate``, one network and kind at a time, into the run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empirical.records import Record
from empirical.runs import Run
from rankfall.steps_networks import Item, Networks, done_record, jacobian_ranks
from theory.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from empirical.models import LoadedModel
    from rankfall.validation import Options

CONTROL = "@random"
#: claims that need labelled images and a linear head
FEATURE_CLAIMS = (
    "classification-dimension", "independence-deficit", "independence-deficit-all",
)  # fmt: skip
JACOBIAN = ("audit", "float64", "exact", "family")
#: samples of the PCA dimension on small networks, and elsewhere; directions of the exponents too
MANY, FEW = 2000, 64
WIDE, NARROW = 64, 32


class Studies(Networks):
    """Loads networks, controls included, and runs studies into the run folder."""

    def __init__(self, run: Run, options: Options, loaded: dict[str, LoadedModel]) -> None:
        super().__init__(run, options.seed)
        self.options = options
        self._loaded = dict(loaded)
        self._pictures: dict[tuple[str, str], Tensor] = {}

    def model(self, name: str) -> LoadedModel:
        """The network, or its control of the same architecture with random weights."""
        from empirical.models import load

        if name not in self._loaded:
            control = load(name.removesuffix(CONTROL), seed=self.seed, random_weights=True)
            self._loaded[name] = replace(control, name=name)
        return self._loaded[name]

    def forget(self, name: str) -> None:
        """Let a network go that is not needed any more."""
        self._loaded.pop(name, None)

    def image(self, item: Item, loaded: LoadedModel) -> Tensor:
        """The image of an item, as found by ``pictures``."""
        return self._pictures[item.model.removesuffix(CONTROL), item.image]

    def pictures(self, name: str) -> list[tuple[str, Tensor]]:
        """The images of a network."""
        from empirical.data import pictures

        name = name.removesuffix(CONTROL)
        found = pictures(self.model(name), self.options.images, self.options.pictures())
        for title, image in found:
            self._pictures[name, title] = image
        return found

    def small(self, name: str) -> bool:
        """Whether all pixels can vary and every layer be replaced."""
        return self.model(name).input_size[-1] <= 16

    def patch(self, name: str) -> int | None:
        """Side of the patch: all pixels of the small networks."""
        return None if self.small(name) else self.options.patch

    def attempt(self, name: str, image: str, kind: str, tell: Callable[[str], None]) -> str:
        """One study; why it failed, or empty. A study that fails is not marked as done.

        RuntimeError and MemoryError are what torch raises where memory runs out: the other studies
        of the run are worth more than a trace.
        """
        try:
            if kind in JACOBIAN:
                self.measure(Item(name, image, self.patch(name), kind), tell)
            else:
                self.study(name, image, kind)
        except (InputError, RuntimeError, MemoryError) as error:
            if _about_the_folder(error):
                raise
            text = (str(error).strip() or repr(error)).splitlines()[0]
            return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
        return ""

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
            for claim in FEATURE_CLAIMS if kind == "features" else ():
                self.run.append(self._scope(name, claim, str(error)))
        seconds = time.perf_counter() - started
        self.run.append(done_record(item, self.seed, seconds, notes=notes))

    def _scope(self, name: str, claim: str, why: str) -> Record:
        from empirical.subject import Subject
        from empirical.validation import scope

        loaded = self.model(name)
        return scope(Subject(loaded.name, loaded.weights, seed=self.seed), claim, why)

    def _records(self, name: str, image: str, kind: str) -> Sequence[Record]:
        from empirical import factorise
        from empirical import validation as v
        from empirical.aggregate import image_records

        loaded, seed, device = self.model(name), self.seed, self.options.device
        known = [r for r in self.run.records() if r.model == name]
        if kind == "features":
            found = v.feature_records(loaded, self._labelled(loaded), seed, device)
            return [*found, *v.published_records(found)]
        if kind == "factorise":
            data = self._labelled(loaded)
            table = factorise.measure(loaded.model, data.images, data.labels)
            self.run.write(f"factorise-{name}.csv", factorise.to_csv(table))
            return factorise.records(table, loaded, data, seed)
        if kind == "patch":
            side = loaded.input_size[-1]
            patch = side // 2 if self.small(name) else self.options.patch
            return v.jacobian_study(loaded, self.pictures(name)[:2], seed, patch, device)
        if kind == "images":
            return image_records(known)
        return self._at_one_image(name, image, kind, known)

    def _at_one_image(
        self, name: str, image: str, kind: str, known: Sequence[Record]
    ) -> Sequence[Record]:
        from empirical import bounds, laws
        from empirical import validation as v
        from empirical.subject import at_image

        loaded, seed, device = self.model(name), self.seed, self.options.device
        picture = self._pictures[name.removesuffix(CONTROL), image]
        subject = at_image(loaded, picture, image, seed)
        own = [r for r in known if r.extra.get("image_name") == image]
        if kind == "pca":
            samples = self.options.samples or (MANY if self.small(name) else FEW)
            ranks = jacobian_ranks(own, name, image)
            return v.pca_records(loaded, picture, image, seed, samples, ranks, device)
        if kind == "depth":
            count = self.options.directions or (WIDE if self.small(name) else NARROW)
            return v.depth_records(loaded, picture, image, seed, count, device)
        if kind == "laws":
            return laws.law_records(loaded, picture, subject, own, self._spectra(name, image))
        if kind == "bounds":
            return bounds.bound_records(loaded, picture, subject, own, device)
        return laws.ablation_records(loaded, picture, subject, self.patch(name), device, own)

    def _spectra(self, name: str, image: str) -> dict[str, np.ndarray]:
        """The float64 spectra that the folder keeps of a network at an image."""
        folder = Path(self.run.path) / "spectra"
        found = {}
        for tap in self.model(name).taps:
            file = folder / f"{name}-{image}-{tap.name}.npy"
            if file.exists():
                found[tap.name] = np.load(file, allow_pickle=False)
        return found

    def _labelled(self, loaded: LoadedModel) -> Any:
        """The labelled images.

        Raises:
            UnsupportedError: there are none, or the head is not linear.
            InputError: there are some, and they are not usable.
        """
        from empirical.data import labelled
        from empirical.features import head_of

        head_of(loaded.model)
        if self.options.images is None and loaded.input_size != (1, 8, 8):
            raise UnsupportedError(
                f"{loaded.name} has no labelled images here: give class folders with --images"
            )
        return labelled(loaded, self.options.images, count=self.options.labelled, seed=self.seed)

    def conclude(self) -> None:
        """What is known only when all networks are done: the table of published figures."""
        from empirical.published import published_table

        found = published_table(self.run.records(), self.seed)
        self.run.extend(r for r in found if r.value is None)  # the others came with their study


def _about_the_folder(error: BaseException) -> bool:
    """Whether the run folder itself is the trouble: then nothing more can be kept."""
    text = str(error)
    return isinstance(error, InputError) and ("--out" in text or "is closed" in text)
