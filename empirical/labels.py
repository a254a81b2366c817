"""Which images a folder holds and which class each belongs to: folder names, label files, synsets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from empirical.images import SUFFIXES
from theory.errors import InputError

if TYPE_CHECKING:
    from empirical.models import LoadedModel


def stratified(
    labels: Sequence[int] | np.ndarray, count: int | None, seed: int, *, cover: bool = True
) -> np.ndarray:
    """Indices of ``count`` samples, as evenly over the classes as they allow; sorted.

    Args:
        labels: class of each sample.
        count: how many; None for all.
        seed: of the choice.
        cover: refuse a count that leaves a class out; otherwise random classes are left out.

    Raises:
        InputError: fewer samples than asked for, or fewer than one a class.
    """
    y = np.asarray(labels)
    if count is None:
        return np.arange(len(y))
    classes = np.unique(y)
    if count > len(y):
        raise InputError(f"{count} images are asked for, there are {len(y)}")
    if cover and count < len(classes):
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
        label_file: for a flat folder, as ``read_labels`` reads it.

    Raises:
        InputError: no such folder, no images, a class without images, or a file without a label.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"no folder of images at {folder}")
    if label_file is not None:
        named = read_labels(label_file)
        files = _images(folder)
        found = []
        for path in files:
            label = named.get(path.name, named.get(path.stem))
            if label is None:
                raise InputError(f"{path.name} in {folder} has no label in {label_file}")
            found.append((path, label))
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


def read_labels(label_file: str | Path) -> dict[str, str]:
    """File name (with or without suffix) -> label, from lines ``file,label`` or ``file label``.

    ImageNet's own files are read as they are: ``val.txt`` and ``LOC_val_solution.csv``, where boxes
    follow the synset.

    Raises:
        InputError: the file cannot be read, or a line has no label.
    """
    try:
        lines = Path(label_file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the labels in {label_file}: {error}") from error
    named = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, comma, label = line.partition(",")
        if not comma:
            name, _, label = line.strip().rpartition(" ")
        name, label = name.strip().strip('"'), label.strip().strip('"')
        if not name or not label:
            raise InputError(f"{label_file}, line {number}: no label in {line[:60]!r}")
        boxes = re.match(r"(n\d{8})( -?\d+)+", label)
        named[Path(name).name] = boxes[1] if boxes else label
    return named


def class_index(names: Sequence[str], loaded: LoadedModel) -> dict[str, int]:
    """Class index of each label: a number, an ImageNet synset, or a name of the network's classes.

    Raises:
        InputError: labels that the network does not know, or one that names two of its classes.
    """
    unique = sorted(set(names))
    own = {c: i for i, c in enumerate(loaded.classes or ())}
    synsets: dict[str, int] = {}
    if len(loaded.classes or ()) == 1000:
        from timm.data import ImageNetInfo

        info = ImageNetInfo("imagenet-1k")
        synsets = {info.index_to_label_name(i): i for i in range(1000)}
    found, unknown = {}, []
    for name in unique:
        twins = [i for i, c in enumerate(loaded.classes or ()) if c == name]
        if len(twins) > 1:
            raise InputError(
                f"the label {name!r} names classes {twins} of {loaded.name}; use class numbers or "
                "synsets"
            )
        if name in synsets or name in own:
            found[name] = synsets.get(name, own.get(name, -1))
        elif name.isdecimal() and (not own or int(name) < len(own)):
            found[name] = int(name)
        else:
            unknown.append(name)
    if unknown:
        shown = ", ".join(repr(n) for n in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        near = difflib.get_close_matches(unknown[0], [*synsets, *own], 1)
        hint = f" (was {unknown[0]!r} {near[0]!r}?)" if near else ""
        verb = "is" if len(unknown) == 1 else "are"
        raise InputError(
            f"the label {shown}{more} {verb} none of the classes of {loaded.name}{hint}; use its "
            "class names, class numbers, or ImageNet synsets such as n01440764"
        )
    return found


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
