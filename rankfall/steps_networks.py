"""Steps (c) and (d) of the main job: push tangents through real networks and measure what is left.

A work item is one network, one image and one field; items are small, independent and seeded. Its
last record says that it is done, so that a run that was killed goes on with the next item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from empirical.records import Record
from empirical.runs import Run
from theory.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from empirical.models import LoadedModel
    from empirical.profile import Profile

EFFICIENTNET = "tf_efficientnet_lite0"
#: the paper's threshold, and the resolution of the official code's float32
EPS = (1e-3, 2.0**-23)
#: the images of the measurements over a data set
HELD_OUT = "held-out digits"
FEATURES = ("classification", "dependence")
#: the short forms of the other measurements, at one digit
LAWS = ("pca", "depth")
#: samples and directions of the short forms: all 64 pixels, and more samples than they have
SAMPLES, DIRECTIONS = 300, 64
#: words of a refusal that mean: this network is smooth, no rule is missing
SMOOTH = ("not piecewise", "no exact slope")
#: layer norm and GELU have no exact slopes
PIECEWISE_LINEAR = ("digits-resnet", "digits-resmlp", EFFICIENTNET)


@dataclass(frozen=True)
class Item:
    """One network at one image over one field.

    Attributes:
        model: a name for ``empirical.models.load``.
        image: an embedded photograph, or ``digit 0`` for the first held-out digit.
        patch: side of the central patch that varies; None for all pixels.
        field: ``audit``, ``float64``, ``exact`` or ``family``; ``pca`` or ``depth``; or a
            measurement of the last features over many images: ``classification`` or
            ``dependence``.
    """

    model: str
    image: str
    patch: int | None
    field: str


def work_list(photographs: tuple[str, ...], patch: int) -> tuple[Item, ...]:
    """The embedded default: the digits networks on all pixels, EfficientNet through a patch."""
    from empirical.digits import NAMES
    from empirical.images import EMBEDDED

    for name in photographs:
        if name not in EMBEDDED:
            raise InputError(
                f"no embedded photograph is called {name!r}; there are {', '.join(EMBEDDED)}"
            )
    places: list[tuple[str, str, int | None]]
    places = [(EFFICIENTNET, name, patch) for name in photographs]
    places += [(name, "digit 0", None) for name in NAMES]
    return tuple(
        Item(model, image, side, field)
        for model, image, side in places
        for field in ("audit", "float64", "exact", "family")
        if field != "exact" or model in PIECEWISE_LINEAR
    ) + tuple(
        Item(name, image, None, field)
        for name in NAMES
        for image, fields in (("digit 0", LAWS), (HELD_OUT, FEATURES))
        for field in fields
    )


def done_record(item: Item, seed: int, seconds: float = 0.0, **extra: Any) -> Record:
    """The record that closes an item; its key is what a resumed run looks for."""
    return Record(
        measurement="item", model=item.model, weights="-", image=item.image, tap="-", tap_index=0,
        separator=False, shape=(), directions=0, notion="exact", tolerance=None, value=None,
        low=None, high=None, known="measured", dtype="-", device="cpu", seconds=round(seconds, 3),
        seed=seed, settings=asdict(item), extra=extra,
    )  # fmt: skip


class Networks:
    """Loads each network and image once and measures items into a run folder."""

    def __init__(self, run: Run, seed: int) -> None:
        self.run = run
        self.seed = seed
        self._loaded: dict[str, LoadedModel] = {}

    def measure(self, item: Item, tell: Callable[[str], None]) -> None:
        """Measure one item unless the folder has it.

        Args:
            item: the work item.
            tell: called with the name of each tap as it is done.
        """
        import time

        if self.run.has(done_record(item, self.seed).key):
            return
        loaded = self.model(item.model)
        started = time.perf_counter()
        notes: tuple[str, ...] = ()
        peak = 0
        if item.field in FEATURES:
            records = self._features(item, loaded)
        elif item.field in LAWS:
            records = self._laws(item, loaded, self.image(item, loaded))
        elif item.field == "audit":
            records = self._audit(item, loaded, self.image(item, loaded))
        else:
            image = self.image(item, loaded)
            profile = self._profile(item, loaded, image, tell)
            records, notes, peak = list(profile.records), profile.notes, profile.peak_bytes
            records += self._scopes(item, loaded, image, notes)
            if item.field == "float64":
                records += [r for r in map(_resolution(profile), _firsts(records)) if r]
                for tap, values in profile.spectra.items():
                    self.run.write_array(f"spectra/{item.model}-{item.image}-{tap}.npy", values)
        kinds = {tap.name: tap.kind for tap in loaded.taps}
        for record in records:
            named = {"kind": kinds.get(record.tap, "other"), "image_name": item.image}
            self.run.append(replace(record, extra=record.extra | named))
        seconds = time.perf_counter() - started
        self.run.append(
            done_record(
                item, self.seed, seconds, notes=list(notes), tangent_bytes=peak,
                source=loaded.source,
            )
        )  # fmt: skip

    def model(self, name: str) -> LoadedModel:
        """The network, loaded once."""
        from empirical.models import load

        if name not in self._loaded:
            self._loaded[name] = load(name, seed=self.seed)
        return self._loaded[name]

    def image(self, item: Item, loaded: LoadedModel) -> Tensor:
        """The preprocessed image, float64 [channels, height, width]."""
        from empirical.digits import digits_data
        from empirical.images import embedded, preprocess

        if item.image.startswith("digit "):
            return digits_data().test_x[int(item.image.split()[1])].double()
        return preprocess(embedded(item.image)[item.image], loaded)

    def _profile(
        self, item: Item, loaded: LoadedModel, image: Tensor, tell: Callable[[str], None]
    ) -> Profile:
        from empirical.jacobian import jacobian_profile
        from empirical.profile import Profile

        try:
            return jacobian_profile(
                loaded.model, image, field=item.field, patch=item.patch, taps=loaded.taps, eps=EPS,
                seed=self.seed, name=loaded.name, weights=loaded.weights, progress=tell,
            )  # fmt: skip
        except UnsupportedError as error:  # absent, and said so; never a number
            smooth = item.field == "exact" and any(word in str(error) for word in SMOOTH)
            word = "not applicable" if smooth else "UNSUPPORTED"
            return Profile((), {}, 0, 0.0, (f"{item.field}: {word}: {error}",))

    def _scopes(
        self, item: Item, loaded: LoadedModel, image: Tensor, notes: tuple[str, ...]
    ) -> list[Record]:
        """Which claim a refusal takes out of this network's scope."""
        from empirical.subject import at_image
        from empirical.validation import scope

        why = [n.partition(": not applicable: ")[2] for n in notes if ": not applicable: " in n]
        subject = at_image(loaded, image, item.image, self.seed)
        return [scope(subject, "exact-loss", f"no exact slopes: {text}") for text in why]

    def _laws(self, item: Item, loaded: LoadedModel, image: Tensor) -> list[Record]:
        """PCA dimension beside the Jacobian's rank, or exponents and token ranks."""
        from empirical import validation as v

        if item.field == "depth":
            return v.depth_records(loaded, image, item.image, self.seed, DIRECTIONS, "cpu")
        ranks = jacobian_ranks(self.run.records(), item.model, item.image)
        return v.pca_records(loaded, image, item.image, self.seed, SAMPLES, ranks, "cpu")

    def _features(self, item: Item, loaded: LoadedModel) -> list[Record]:
        """Step (d): classification dimension, or the sparsest logit dependence."""
        from empirical import classification, dependence
        from empirical.digits import digits_data
        from empirical.features import collect
        from empirical.images import pixel_hash
        from empirical.subject import Subject

        data = digits_data()
        seen = collect(loaded.model, data.test_x)
        kind = "pooled" if item.field == "classification" else "logits"
        tap = next(tap for tap in loaded.taps if tap.kind == kind)
        values = seen.features if item.field == "classification" else seen.logits
        subject = Subject(
            model=loaded.name, weights=loaded.weights, data=pixel_hash(data.test_x), tap=tap.name,
            tap_index=tap.index, shape=tuple(values.shape[1:]), seed=self.seed,
            extra={"classes": seen.logits.shape[1]},
        )  # fmt: skip
        if item.field == "classification":
            found = classification.measure(
                seen.features, seen.weight, seen.bias, data.test_y, seed=self.seed
            )
            return list(found.records(subject))
        train = collect(loaded.model, data.train_x)
        records: list[Record] = []
        for samples in dependence.SAMPLES:
            result = dependence.measure(
                train.logits, data.train_y, held_out=(seen.logits, data.test_y), samples=samples,
                seed=self.seed,
            )  # fmt: skip
            records += result.records(subject)
        return records

    def _audit(self, item: Item, loaded: LoadedModel, image: Tensor) -> list[Record]:
        """Structural bounds at every tap, proved by the audit for the image's own pattern."""
        import torch

        from empirical.facts import facts
        from empirical.images import pixel_hash
        from theory.audit import audit

        live = torch.ones(image.shape, dtype=torch.bool)
        if item.patch is not None:
            top, left = ((n - item.patch) // 2 for n in image.shape[1:])
            live = torch.zeros(image.shape, dtype=torch.bool)
            live[:, top : top + item.patch, left : left + item.patch] = True
        directions = int(live.sum())
        layers = facts(
            loaded.model, image.shape, image=image, live=live, taps=[t.name for t in loaded.taps]
        )
        bounds = {b.tap: b for b in audit(layers, image.numel(), directions)}
        shapes = dict(_shapes(loaded.model, image))
        records = []
        for tap in loaded.taps:
            bound = bounds.get(tap.name)
            if bound is None:
                continue
            upper = float(bound.upper)
            proof = [f"{s.layer}: {s.rule}: {s.statement}" for s in bound.steps]
            extra = {"proof": proof, "lower": bound.lower, "notes": list(bound.notes)}
            records.append(
                Record(
                    measurement="jacobian", model=loaded.name, weights=loaded.weights,
                    image=pixel_hash(image), tap=tap.name, tap_index=tap.index,
                    separator=tap.separator, shape=shapes[tap.name], directions=directions,
                    notion="structural", tolerance=None, value=upper, low=upper, high=upper,
                    known="proved for the recorded pattern", dtype="structure", device="cpu",
                    seconds=0.0, seed=self.seed, settings={"patch": item.patch, "by": "audit"},
                    extra=extra,
                )
            )  # fmt: skip
        return records


def jacobian_ranks(records: Iterable[Record], model: str, image: str) -> dict[str, float]:
    """Tap -> relative(1e-3) rank of the Jacobian over all pixels, as far as it was measured."""
    return {
        r.tap: r.value
        for r in records
        if r.notion == "relative(0.001)" and r.measurement == "jacobian" and r.value
        and r.model == model and r.extra.get("image_name") == image
        and r.settings.get("patch") is None
    }  # fmt: skip


def _shapes(model: Any, image: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    from empirical.taps import forward_order

    return forward_order(model, image.float()[None])


def _firsts(records: list[Record]) -> list[Record]:
    """One record a tap, as a pattern for further ones."""
    return list({r.tap: r for r in reversed(records)}.values())[::-1]


def _resolution(profile: Profile) -> Callable[[Record], Record | None]:
    """The rank at float64 resolution: singular values above the bound of their own error."""

    def make(pattern: Record) -> Record | None:
        values, error = profile.spectra.get(pattern.tap), pattern.extra.get("error")
        if values is None or error is None:
            return None
        rank = float((values > error).sum())
        extra = {"error": error, "smallest": float(values[int(rank) - 1]) if rank else None}
        return replace(
            pattern, notion="exact", tolerance=None, value=rank, low=rank, high=None, extra=extra,
            settings=pattern.settings | {"by": "float64 resolution"},
        )  # fmt: skip

    return make
