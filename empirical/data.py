"""Images for a network, with or without labels: folders, timm data sets, photographs, digits.

Subsampling is seeded and stratified by class, so that a smaller study sees every class. Images are
read with the network's own preprocessing; a set too large for memory is read batch by batch, anew
each time it is passed over.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from empirical.images import EMBEDDED, SUFFIXES, embedded, load_image, pixel_hash, preprocess
from empirical.labels import class_index, find, stratified
from theory.errors import InputError

if TYPE_CHECKING:
    from empirical.models import LoadedModel

#: bytes of preprocessed images that are kept in memory; larger sets are streams
KEPT = 1 << 29
#: prefixes of ``timm.data.create_dataset`` names
DATASETS = ("hfds", "hfids", "tfds", "wds", "torch")


@dataclass(frozen=True, eq=False)
class Stream:
    """Images that are read when a slice is asked for, on as many threads as there are cores.

    Attributes:
        count: how many.
        read: index -> preprocessed image [channels, height, width].
    """

    count: int
    read: Callable[[int], Tensor]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Tensor:
        indices = range(self.count)[part]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return torch.stack(list(pool.map(self.read, indices)))


@dataclass(frozen=True, eq=False)
class Labelled:
    """Preprocessed images [samples, channels, height, width], labels [samples], their hash.

    Attributes:
        images: a tensor, or a stream whose slices are tensors.
        labels: class indices of the network.
        hash: of the pixels (tensor) or of the files' bytes (stream).
        source: where they came from, in words.
    """

    images: Tensor | Stream
    labels: Tensor
    hash: str
    source: str


def labelled(
    loaded: LoadedModel,
    source: str | Path | None = None,
    *,
    label_file: str | Path | None = None,
    root: str | Path | None = None,
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
        root: folder of a timm data set.
        count: seeded stratified subsample of so many; all by default.
        seed: of the subsample.
        progress: called with (done, total) while a set that fits memory is read.

    Raises:
        InputError: no labelled images for this network, too few, or one that cannot be read.
    """
    if source is None:
        return _digits(loaded, count, seed)
    text = str(source)
    if _is_dataset(source):
        from empirical.datasets import open_dataset

        return open_dataset(loaded, text, root, count, seed, progress)
    pairs = find(source, label_file)
    index = class_index([label for _, label in pairs], loaded)
    y = np.array([index[label] for _, label in pairs])
    chosen = stratified(y, count, seed)
    paths = [pairs[i][0] for i in chosen]
    images = read_all(
        lambda i: preprocess(load_image(paths[i]), loaded).float(), len(paths), loaded, progress
    )
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Labelled(images, torch.from_numpy(y[chosen]), digest.hexdigest()[:16], text)


def read_all(
    read: Callable[[int], Tensor], count: int, loaded: LoadedModel,
    progress: Callable[[int, int], None] | None,
) -> Tensor | Stream:  # fmt: skip
    """All images where they fit ``KEPT`` bytes, else a stream of them."""
    stream = Stream(count, read)
    if 4 * count * int(np.prod(loaded.input_size)) > KEPT:
        return stream
    parts = []
    for start in range(0, count, 64):
        parts.append(stream[start : start + 64])
        if progress is not None:
            progress(min(start + 64, count), count)
    return torch.cat(parts)


def pictures(
    loaded: LoadedModel, source: str | Path | None, count: int | None = None, seed: int = 0, *,
    root: str | Path | None = None,
) -> list[tuple[str, Tensor]]:  # fmt: skip
    """(name, preprocessed image) of images without labels: a folder, digits, or photographs.

    Args:
        loaded: the network.
        source: a folder (class folders or flat), an image file, the name of an embedded
            photograph, a ``timm.data.create_dataset`` name; None for the digits or the
            embedded photographs.
        count: how many, all by default; of a folder, a seeded choice spread over its class
            folders.
        seed: of the choice.
        root: folder of a timm data set.

    Raises:
        InputError: there are fewer than ``count``, or none.
    """
    if source is not None and str(source) in EMBEDDED:
        return [(p.name, preprocess(p, loaded)) for p in embedded(str(source)).values()]
    if source is not None and Path(source).is_file():
        photograph = load_image(source)
        return [(photograph.name, preprocess(photograph, loaded))]
    if source is not None and _is_dataset(source):
        from empirical.datasets import open_dataset

        found = open_dataset(loaded, str(source), root, count, seed, None, classify=False)
        return [(f"{source} {i}", found.images[i : i + 1][0].double())
                for i in range(len(found.images))]  # fmt: skip
    if source is not None:
        folder = Path(source)
        if not folder.is_dir():
            raise InputError(
                f"no folder of images at {folder}; the embedded photographs are "
                f"{', '.join(EMBEDDED)}"
            )
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"no images in {folder}; looked for {', '.join(SUFFIXES)}")
        if len(files) < (count or 0):
            raise InputError(f"{count} images are asked for, {folder} has {len(files)}")
        classes = np.unique([str(p.parent) for p in files], return_inverse=True)[1]
        chosen = [files[i] for i in stratified(classes, count, seed, cover=False)]
        return [(p.name, preprocess(load_image(p), loaded)) for p in chosen]
    if loaded.input_size == (1, 8, 8):
        from empirical.digits import digits_data

        test = digits_data().test_x
        if (count or 0) > len(test):
            raise InputError(f"{count} images are asked for, there are {len(test)} digits")
        return [(f"digit {i}", x.double()) for i, x in enumerate(test[:count])]
    photographs = list(embedded().values())
    if (count or 0) > len(photographs):
        raise InputError(
            f"{count} images are asked for, {len(photographs)} photographs are embedded; "
            "give a folder with --images"
        )
    return [(p.name, preprocess(p, loaded)) for p in photographs[:count]]


def _is_dataset(source: str | Path) -> bool:
    return not Path(source).exists() and str(source).split("/")[0].lower() in DATASETS


def _digits(loaded: LoadedModel, count: int | None, seed: int) -> Labelled:
    if loaded.input_size != (1, 8, 8):
        raise InputError(
            f"{loaded.name} needs labelled images: give a folder of class folders with --images"
        )
    from empirical.digits import digits_data

    data = digits_data()
    chosen = torch.from_numpy(stratified(data.test_y.numpy(), count, seed))
    images = data.test_x[chosen]
    return Labelled(images, data.test_y[chosen], pixel_hash(images), "held-out digits")
