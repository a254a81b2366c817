"""Labelled images from the data sets that ``timm.data.create_dataset`` opens.

Labels are read first, without decoding an image where the set can say them, so that the subsample is
stratified here too. They are the network's classes by the set's class names, or by its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from empirical.data import Labelled, read_all
from empirical.images import pixel_hash, preprocess
from empirical.labels import class_index, stratified
from theory.errors import InputError

if TYPE_CHECKING:
    from empirical.models import LoadedModel


def open_dataset(
    loaded: LoadedModel, name: str, root: str | Path | None, count: int | None, seed: int,
    progress: Callable[[int, int], None] | None, *, classify: bool = True,
) -> Labelled:  # fmt: skip
    """A ``timm.data.create_dataset`` data set, its validation split, with the network's preprocessing.

    Args:
        loaded: the network.
        name: as timm writes it, such as ``hfds/name`` or ``torch/cifar10``.
        root: its folder, where it has one.
        count: seeded stratified subsample of so many; all by default.
        seed: of the subsample.
        progress: called with (done, total) while it is read.
        classify: the labels have to be the network's, and the subsample to cover them all.

    Raises:
        InputError: it cannot be opened or read, or its labels are not the network's.
    """
    from timm.data import create_dataset

    try:
        dataset: Any = create_dataset(
            name, root=None if root is None else str(root), split="validation", is_training=False
        )
        stated = _labels(dataset)
    except Exception as error:  # each backend raises its own types
        raise _broken(name, error) from error
    y = _as_classes(stated, dataset, loaded, name) if classify else stated
    chosen = stratified(y, count, seed, cover=classify)
    indexed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    dataset.transform = lambda image: preprocess(image, loaded).float()

    def read(i: int) -> Tensor:
        try:
            image, target, *_ = dataset[int(chosen[i])]
        except InputError:
            raise
        except Exception as error:  # a damaged or half-downloaded item
            raise _broken(f"{name}, item {chosen[i]}", error) from error
        if int(target) != int(stated[chosen[i]]):  # timm passes over what it cannot read
            raise InputError(
                f"item {chosen[i]} of the data set {name} cannot be read; is it damaged?"
            )
        read_image: Tensor = image
        return read_image

    if indexed:
        images = read_all(read, len(chosen), loaded, progress)
    else:  # an iterable set is passed over once more, keeping what was chosen
        wanted = set(chosen.tolist())
        try:
            images = torch.stack([x for i, (x, *_) in enumerate(dataset) if i in wanted])
        except Exception as error:
            raise _broken(name, error) from error
    key = pixel_hash(images) if isinstance(images, Tensor) else pixel_hash(chosen)
    return Labelled(images, torch.from_numpy(y[chosen]), key, name)


def _broken(what: str, error: Exception) -> InputError:
    first = (str(error).strip() or repr(error)).splitlines()[0][:160]
    return InputError(
        f"timm cannot open the data set {what}: {type(error).__name__}: {first}; if a download was "
        "interrupted, run the same command again: finished files and measured records are kept. "
        "A data set in a folder needs --data-root DIR"
    )


def _labels(dataset: Any) -> np.ndarray:
    """Labels of a whole data set, without decoding its images where it can say them."""
    reader = getattr(dataset, "reader", None)
    samples = getattr(reader, "samples", None)
    for stated in (getattr(dataset, "targets", None), getattr(dataset, "labels", None)):
        if stated is not None:
            return np.asarray(stated, dtype=np.int64)
    if samples is not None:
        return np.array([target for _, target in samples], dtype=np.int64)
    key = getattr(reader, "label_key", None)
    if reader is not None and key and hasattr(dataset, "__len__"):
        return np.asarray(reader.dataset[key], dtype=np.int64)
    kept, dataset.transform = dataset.transform, lambda image: 0
    try:
        items = (
            dataset
            if not hasattr(dataset, "__len__")
            else map(dataset.__getitem__, range(len(dataset)))
        )
        return np.array([target for _, target, *_ in items], dtype=np.int64)
    finally:
        dataset.transform = kept


def _as_classes(y: np.ndarray, dataset: Any, loaded: LoadedModel, name: str) -> np.ndarray:
    """Classes of the network: by the data set's class names where the network knows them all.

    Raises:
        InputError: no images, or numbers that are no class of the network.
    """
    if not len(y):
        raise InputError(f"the data set {name} has no images")
    reader = getattr(dataset, "reader", None)
    named = getattr(dataset, "class_to_idx", None) or getattr(reader, "class_to_idx", None)
    if named:
        try:
            index = class_index([str(n) for n in named], loaded)
        except InputError:
            index = None  # its own numbers then have to be the network's
        if index is not None:
            table = {number: index[str(n)] for n, number in named.items()}
            return np.array([table[int(v)] for v in y], dtype=np.int64)
    from empirical.features import head_of

    classes = head_of(loaded.model)[1].out_features
    if y.min() < 0 or y.max() >= classes:
        raise InputError(
            f"labels of {name} run from {y.min()} to {y.max()}, {loaded.name} has {classes} "
            "classes; is it a network for this data set?"
        )
    return y
