"""Folders, label files, timm data sets and streams: labels, choices, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from empirical import data
from empirical.data import Stream, labelled, pictures
from empirical.features import collect
from empirical.labels import class_index, find, read_labels, stratified
from empirical.models import LoadedModel, load
from theory.errors import InputError


@pytest.fixture(scope="module")
def digits() -> LoadedModel:
    return load("digits-resnet", random_weights=True)


@pytest.fixture(scope="module")
def imagenet() -> LoadedModel:
    return load("test_resnet", random_weights=True)


def folder(place: Path, counts: dict[str, int]) -> Path:
    """Class folders; image k of class c is grey 20 c + k, so that every image can be recognised."""
    for label, count in counts.items():
        (place / label).mkdir(parents=True)
        for k in range(count):
            Image.new("L", (8, 8), 20 * int(label) + k).save(place / label / f"{k}.png")
    return place


def greys(images: torch.Tensor) -> list[int]:
    """The grey value that each uniform preprocessed image was made of."""
    return [round((float(x[0, 0, 0]) * 0.5 + 0.5) * 255) for x in images]


def test_a_choice_without_cover_takes_classes_at_random() -> None:
    y = np.repeat(np.arange(10), 3)
    chosen = y[stratified(y, 4, 0, cover=False)]
    assert len(set(chosen.tolist())) == 4
    others = [tuple(stratified(y, 4, s, cover=False)) for s in range(5)]
    assert len(set(others)) > 1


def test_unknown_names_in_an_imagenet_folder_are_all_named(
    tmp_path: Path, imagenet: LoadedModel
) -> None:
    assert imagenet.classes is not None
    assert class_index(["n01440764", "n01443537", "5"], imagenet) == {
        "5": 5, "n01440764": 0, "n01443537": 1,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"'crane' names classes \[134, 517\]"):
        class_index(["crane"], imagenet)  # the bird and the machine
    for name in ("n01440764", "n0144353", "zebra crossing!", "1000"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
    with pytest.raises(InputError) as caught:
        labelled(imagenet, tmp_path)
    text = str(caught.value)
    assert all(repr(n) in text for n in ("n0144353", "zebra crossing!", "1000"))
    assert "'n01440764'" not in text.split("(was")[0]


def test_imagenets_own_label_files(tmp_path: Path) -> None:
    kinds = {
        "val.txt": "ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n",
        "plain.csv": "ILSVRC2012_val_00000001.JPEG,65\nILSVRC2012_val_00000002.JPEG,970\n",
    }
    for name, text in kinds.items():
        (tmp_path / name).write_text(text)
        assert read_labels(tmp_path / name) == {
            "ILSVRC2012_val_00000001.JPEG": "65", "ILSVRC2012_val_00000002.JPEG": "970",
        }  # fmt: skip
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000001,n01751748 111 108 230 366\n"
        "ILSVRC2012_val_00000002,n09193705 0 0 5 5 n09193705 1 1 2 2\n"
    )
    named = read_labels(tmp_path / "LOC_val_solution.csv")
    assert named["ILSVRC2012_val_00000001"] == "n01751748"
    flat = tmp_path / "val"
    flat.mkdir()
    Image.new("RGB", (8, 8)).save(flat / "ILSVRC2012_val_00000001.JPEG")
    assert [label for _, label in find(flat, tmp_path / "LOC_val_solution.csv")] == ["n01751748"]
    (tmp_path / "bad.txt").write_text("a.png,3\nb.png\n")
    with pytest.raises(InputError, match=r"bad\.txt, line 2: no label"):
        read_labels(tmp_path / "bad.txt")
    with pytest.raises(InputError, match="cannot read the labels"):
        read_labels(tmp_path / "absent.txt")


def test_damaged_image_among_others_is_named(tmp_path: Path, digits: LoadedModel) -> None:
    place = folder(tmp_path, {"3": 2, "7": 2})
    (place / "3" / "1.png").write_bytes(b"\x89PNG cut off")
    with pytest.raises(InputError, match=r"3/1\.png"):
        labelled(digits, place)


def test_a_set_too_large_for_memory_is_a_stream_of_the_same_images(
    tmp_path: Path, digits: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder(tmp_path, {"3": 5, "7": 4})
    whole = labelled(digits, place, count=6, seed=1)
    assert isinstance(whole.images, torch.Tensor)
    monkeypatch.setattr(data, "KEPT", 100)
    stream = labelled(digits, place, count=6, seed=1)
    assert isinstance(stream.images, Stream)
    assert len(stream.images) == 6
    assert torch.equal(stream.images[2:5], whole.images[2:5])
    assert (stream.hash, stream.labels.tolist()) == (whole.hash, whole.labels.tolist())
    by_stream, by_tensor = (collect(digits.model, d.images, batch=4) for d in (stream, whole))
    assert torch.equal(by_stream.logits, by_tensor.logits)
    Image.new("L", (8, 8), 1).save(place / "3" / "0.png")
    assert labelled(digits, place, seed=1).hash != labelled(digits, place, count=6, seed=1).hash


def test_timm_data_sets_are_stratified_too(tmp_path: Path, digits: LoadedModel) -> None:
    place = folder(tmp_path, {"3": 9, "7": 3, "9": 3})
    found = labelled(digits, "torch/image_folder", root=place, count=6, seed=0)
    # the set numbers its classes 0, 1, 2; the network knows them as 3, 7, 9
    assert np.bincount(found.labels.numpy()).tolist() == [0, 0, 0, 2, 0, 0, 0, 2, 0, 2]
    assert isinstance(found.images, torch.Tensor)
    assert [g // 20 for g in greys(found.images)] == found.labels.tolist()
    again = labelled(digits, "torch/image_folder", root=place, count=6, seed=0)
    assert torch.equal(found.images, again.images)
    other = labelled(digits, "torch/image_folder", root=place, count=6, seed=3)
    assert not torch.equal(found.images, other.images)
    with pytest.raises(InputError, match="2 images cannot cover 3 classes"):
        labelled(digits, "torch/image_folder", root=place, count=2)
    with pytest.raises(InputError, match="99 images are asked for, there are 15"):
        labelled(digits, "torch/image_folder", root=place, count=99)
    seen = pictures(
        digits, "torch/image_folder", 2, root=place
    )  # no labels: two of three classes will do
    assert [name for name, _ in seen] == ["torch/image_folder 0", "torch/image_folder 1"]
    assert all(x.dtype == torch.float64 and x.shape == (1, 8, 8) for _, x in seen)


class Iterable:
    """An iterable data set (``wds/``, ``tfds/``): no length, no index, labels only by reading."""

    transform = None

    def __iter__(self):
        for k in range(12):
            image = Image.new("L", (8, 8), 20 * (k % 3) + k // 3)
            yield (self.transform(image) if self.transform else image), k % 3


def test_iterable_data_sets(monkeypatch: pytest.MonkeyPatch, digits: LoadedModel) -> None:
    import timm.data

    monkeypatch.setattr(timm.data, "create_dataset", lambda *a, **k: Iterable())
    found = labelled(digits, "wds/some", count=6)
    assert np.bincount(found.labels.numpy()).tolist() == [2, 2, 2]
    assert isinstance(found.images, torch.Tensor)
    assert [g // 20 for g in greys(found.images)] == found.labels.tolist()


class Indexed:
    """A data set whose labels are numbers of its own."""

    transform = None
    targets = (0, 1, 2, 57)
    skips: int | None = None

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int):
        if i == self.skips:  # timm passes over what it cannot read and answers with the next item
            i += 1
        return self.transform(Image.new("L", (8, 8), i)), self.targets[i]


def test_labels_that_are_no_class_of_the_network(
    monkeypatch: pytest.MonkeyPatch, digits: LoadedModel
) -> None:
    import timm.data

    monkeypatch.setattr(timm.data, "create_dataset", lambda *a, **k: Indexed())
    with pytest.raises(InputError, match=r"labels of hfds/some run from 0 to 57.*10 classes"):
        labelled(digits, "hfds/some")


def test_an_item_that_timm_passes_over_is_no_image_of_its_class(
    monkeypatch: pytest.MonkeyPatch, digits: LoadedModel
) -> None:
    import timm.data

    class Skips(Indexed):
        targets = (0, 1, 2, 3)
        skips = 1

    monkeypatch.setattr(timm.data, "create_dataset", lambda *a, **k: Skips())
    with pytest.raises(InputError, match="item 1 of the data set hfds/some cannot be read"):
        labelled(digits, "hfds/some")


def test_interrupted_downloads_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, digits: LoadedModel, tmp_path: Path
) -> None:
    import timm
    import timm.data

    def broken(*_a: object, **_k: object) -> None:
        raise ConnectionResetError("Connection reset by peer after 12% of 3 GB")

    monkeypatch.setattr(timm.data, "create_dataset", broken)
    with pytest.raises(InputError, match=r"12% of 3 GB.*run the same command again"):
        labelled(digits, "hfds/some")

    class Half(Indexed):
        targets = (0, 1, 2, 3)

        def __getitem__(self, i: int):
            if i == 2:
                raise OSError("IncompleteRead(1000 bytes read)")
            return super().__getitem__(i)

    monkeypatch.setattr(timm.data, "create_dataset", lambda *a, **k: Half())
    with pytest.raises(InputError, match=r"item 2.*IncompleteRead"):
        labelled(digits, "hfds/some")

    from empirical import hub

    monkeypatch.setattr(hub, "resolves", lambda url: True)
    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(InputError, match=r"12% of 3 GB.*run the same command again"):
        load("resnet10t")


def test_pictures_spread_over_class_folders(tmp_path: Path, digits: LoadedModel) -> None:
    place = folder(tmp_path, {"3": 9, "7": 3, "9": 3})
    found = pictures(digits, place, 3)
    assert sorted(g // 20 for g in greys(torch.stack([x for _, x in found]))) == [3, 7, 9]
    assert len(pictures(digits, place, 2)) == 2
    (name, _), = pictures(digits, place / "3" / "0.png", 1)  # fmt: skip
    assert name == "0.png"
    (name, _), = pictures(digits, "coffee", 1)  # fmt: skip
    assert name == "coffee"
    assert len(pictures(digits, place)) == 15
    flat = [name for name, _ in pictures(digits, place / "7")]
    assert flat == ["0.png", "1.png", "2.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in"):
        pictures(digits, tmp_path / "empty")
    with pytest.raises(InputError, match=r"16 images are asked for, .* has 15"):
        pictures(digits, place, 16)
    with pytest.raises(InputError, match="the embedded photographs are coffee"):
        pictures(digits, tmp_path / "absent", 1)
    (tmp_path / "empty" / "cut.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"cut\.png"):
        pictures(digits, tmp_path / "empty")
    with pytest.raises(InputError, match="541 images are asked for, there are 540 digits"):
        pictures(digits, None, 541)


def test_an_unknown_timm_data_set(digits: LoadedModel) -> None:
    with pytest.raises(InputError, match="timm cannot open the data set torch/no_such_set"):
        labelled(digits, "torch/no_such_set")
