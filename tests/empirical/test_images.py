"""Photographs ship with the wheels; damaged files are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from empirical.images import EMBEDDED, embedded, load_image, pixel_hash, preprocess
from empirical.models import load
from theory.errors import InputError


def test_five_photographs_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*args: object) -> None:
        raise AssertionError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = embedded()
    assert list(found) == list(EMBEDDED)
    assert len({p.hash for p in found.values()}) == 5
    assert embedded("coffee")["coffee"].hash == found["coffee"].hash


def test_unknown_photograph() -> None:
    with pytest.raises(InputError, match="coffee, rocket"):
        embedded("tea")


def test_damaged_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:1500])
    (tmp_path / "junk.jpg").write_bytes(b"not an image")
    for name in ("cut.png", "junk.jpg", "absent.png"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            load_image(tmp_path / name)
    assert load_image(whole).image.size == (40, 40)


def test_pixels_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    pixels = np.ones((8, 8), np.float32)
    pixels[2, 3] = np.nan
    Image.fromarray(pixels).save(tmp_path / "nan.tiff")
    with pytest.raises(InputError, match=r"nan\.tiff has 1 pixels"):
        load_image(tmp_path / "nan.tiff")


def test_preprocessing_of_a_grey_network() -> None:
    loaded = load("digits-resmlp", random_weights=True)
    white = preprocess(Image.new("RGB", (50, 30), "white"), loaded)
    assert white.shape == (1, 8, 8)
    assert torch.equal(white, torch.ones(1, 8, 8, dtype=torch.float64))  # (1 - 0.5) / 0.5


def test_hash_sees_shape_type_and_pixels() -> None:
    zeros = np.zeros((2, 3), np.uint8)
    hashes = {pixel_hash(a) for a in (zeros, zeros.T, zeros.astype(np.int16), zeros + 1)}
    assert len(hashes) == 4
    assert pixel_hash(torch.zeros(2)) == pixel_hash(np.zeros(2, np.float32))
