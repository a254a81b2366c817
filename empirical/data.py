"""Labelled images: an ImageNet-style folder, a flat folder with a label file, timm data sets, digits.

Subsampling is seeded and stratified by class, so that a smaller study sees every class. Images are
read with the network's own preprocessing, one file at a time.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from empirical.images import SUFFIXES, embedded, load_image, preprocess
from theory.errors import InputError

if TYPE_CHECKING:
    from empirical.models import LoadedModel


@dataclass(frozen=True, eq=False)
class Labelled:
    """Preprocessed images [samples, channels, height, width], labels [samples], their hash."""

    images: Tensor
    labels: Tensor
    hash: str
    source: str


def stratified(labels: Sequence[int] | np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """Indices of ``count`` samples, as evenly over the classes as they allow; sorted.

    Raises:
        InputError: fewer samples than asked for, or fewer than one a class.
    """
    y = np.asarray(labels)
    if count is None:
        return np.arange(len(y))
    classes = np.unique(y)
    if count > len(y):
        raise InputError(f"{count} images are asked for, there are {len(y)}")
    if count < len(classes):
        raise InputError(f"{count} images cannot cover {len(classes)} classes; ask for more")
    rng = np.random.default_rng(seed)
    own = {c: rng.permutation(np.flatnonzero(y == c)) for c in classes}
    order = sorted(
        ((place, tie, index) for c in classes for place, (tie, index) in
         enumerate(zip(rng.random(len(own[c])), own[c], strict=True))),
    )  # fmt: skip
    return np.sort(np.array([index for _, _, index in order[:count]]))


def find(source: str | Path, label_file: str | Path | None = None) -> list[tuple[Path, str]]:
    """(path, label) of every image of a folder.

    Args:
        source: a folder of class folders, or a flat one when ``label_file`` is given.
        label_file: CSV lines ``file,label`` for a flat folder.

    Raises:
        InputError: no such folder, no images, a class without images, or a file without a label.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"no folder of images at {folder}")
    if label_file is not None:
        try:
            with Path(label_file).open(newline="") as lines:
                named = {
                    row[0].strip(): row[1].strip() for row in csv.reader(lines) if len(row) > 1
                }
        except OSError as error:
            raise InputError(f"cannot read the labels in {label_file}: {error}") from error
        files = _images(folder)
        for path in files:
            if path.name not in named:
                raise InputError(f"{path.name} in {folder} has no label in {label_file}")
        found = [(path, named[path.name]) for path in files]
    else:
        found = []
        for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
            files = _images(sub)
            if not files:
                raise InputError(f"the class {sub.name!r} in {folder} has no images")
            found += [(path, sub.name) for path in files]
    if not found:
        raise InputError(
            f"no labelled images in {folder}: labels are the names of its folders, or the lines "
            "file,label of --labels FILE"
        )
    return found


def class_index(names: Sequence[str], loaded: LoadedModel) -> dict[str, int]:
    """Class index of each label: a number, an ImageNet synset, or a name of the network's classes.

    Raises:
        InputError: a label that the network does not know.
    """
    unique = sorted(set(names))
    own = {c: i for i, c in enumerate(loaded.classes or ())}
    synsets: dict[str, int] = {}
    if len(own) == 1000:
        from timm.data import ImageNetInfo

        info = ImageNetInfo("imagenet-1k")
        synsets = {info.index_to_label_name(i): i for i in range(1000)}
    found = {}
    for name in unique:
        if name in synsets or name in own:
            found[name] = synsets.get(name, own.get(name, -1))
        elif name.isdecimal() and (not own or int(name) < len(own)):
            found[name] = int(name)
        else:
            raise InputError(
                f"the label {name!r} is none of the classes of {loaded.name}; use its class "
                "names, class numbers, or ImageNet synsets such as n01440764"
            )
    return found


def labelled(
    loaded: LoadedModel,
    source: str | Path | None = None,
    *,
    label_file: str | Path | None = None,
    count: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """Images with labels for a network.

    Args:
        loaded: the network.
        source: a folder, a ``timm.data.create_dataset`` name such as ``hfds/name`` or
            ``torch/cifar10``; None for the held-out digits of a digits network.
        label_file: labels of a flat folder.
        count: seeded stratified subsample of so many; all by default.
        seed: of the subsample.
        progress: called with (done, total).

    Raises:
        InputError: no labelled images for this network, too few, or one that cannot be read.
    """
    if source is None:
        return _digits(loaded, count, seed)
    text = str(source)
    if not Path(source).exists() and text.split("/")[0] in (
        "hfds",
        "hfids",
        "tfds",
        "wds",
        "torch",
    ):
        return _timm(loaded, text, count, seed)
    pairs = find(source, label_file)
    index = class_index([label for _, label in pairs], loaded)
    y = np.array([index[label] for _, label in pairs])
    chosen = stratified(y, count, seed)
    digest = hashlib.sha256()
    images = []
    for done, i in enumerate(chosen, 1):
        photograph = load_image(pairs[i][0])
        digest.update(photograph.hash.encode())
        images.append(preprocess(photograph, loaded).float())
        if progress is not None:
            progress(done, len(chosen))
    labels = torch.from_numpy(y[chosen])
    return Labelled(torch.stack(images), labels, digest.hexdigest()[:16], text)


def pictures(
    loaded: LoadedModel, source: str | Path | None, count: int
) -> list[tuple[str, Tensor]]:
    """(name, preprocessed image) of images without labels: a folder, digits, or photographs.

    Raises:
        InputError: there are fewer than ``count``.
    """
    if source is not None:
        folder = Path(source)
        if not folder.is_dir():
            raise InputError(f"no folder of images at {folder}")
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if len(files) < count:
            raise InputError(f"{count} images are asked for, {folder} has {len(files)}")
        step = len(files) / count
        chosen = [files[int(i * step)] for i in range(count)]
        return [(p.name, preprocess(load_image(p), loaded)) for p in chosen]
    if loaded.input_size == (1, 8, 8):
        from empirical.digits import digits_data

        test = digits_data().test_x
        if count > len(test):
            raise InputError(f"{count} images are asked for, there are {len(test)} digits")
        return [(f"digit {i}", test[i].double()) for i in range(count)]
    photographs = list(embedded().values())
    if count > len(photographs):
        raise InputError(
            f"{count} images are asked for, {len(photographs)} photographs are embedded; "
            "give a folder with --images"
        )
    return [(p.name, preprocess(p, loaded)) for p in photographs[:count]]


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def _digits(loaded: LoadedModel, count: int | None, seed: int) -> Labelled:
    if loaded.input_size != (1, 8, 8):
        raise InputError(
            f"{loaded.name} needs labelled images: give a folder of class folders with --images"
        )
    from empirical.digits import digits_data
    from empirical.images import pixel_hash

    data = digits_data()
    chosen = torch.from_numpy(stratified(data.test_y.numpy(), count, seed))
    images = data.test_x[chosen]
    return Labelled(images, data.test_y[chosen], pixel_hash(images), "held-out digits")


def _timm(loaded: LoadedModel, name: str, count: int | None, seed: int) -> Labelled:
    from timm.data import create_dataset, create_transform, resolve_model_data_config

    from empirical.images import pixel_hash

    try:
        dataset: Any = create_dataset(name, root=None, split="validation", is_training=False)
    except Exception as error:  # each backend raises its own types
        first = (str(error).strip() or repr(error)).splitlines()[0][:160]
        raise InputError(f"timm cannot open the data set {name!r}: {first}") from error
    dataset.transform = create_transform(
        **resolve_model_data_config(loaded.model), is_training=False
    )
    size = len(dataset)
    if count is not None and count > size:
        raise InputError(f"{count} images are asked for, {name} has {size}")
    # labels are only known after reading, so the subsample is uniform here
    chosen = np.random.default_rng(seed).permutation(size)[: count or size]
    pairs = [dataset[int(i)] for i in np.sort(chosen)]
    images = torch.stack([image for image, _ in pairs])
    labels = torch.tensor([int(label) for _, label in pairs])
    return Labelled(images, labels, pixel_hash(images), name)
