"""The digits networks learn, are cached, and are trained again when the cache is damaged."""

import warnings
from pathlib import Path

import pytest
import torch

from empirical import digits
from empirical.models import weights_hash
from theory.errors import InputError


@pytest.mark.parametrize("name", digits.NAMES)
def test_test_accuracy(name: str) -> None:
    """Issue 2 asks for 95 %; measured 96.5 % to 98 %."""
    trained = digits.digits_model(name)
    assert digits.evaluate(trained.model) == trained.accuracy
    assert trained.accuracy >= 0.95


def test_split_is_fixed_disjoint_and_balanced() -> None:
    data = digits.digits_data()
    assert len(data.train_x) + len(data.test_x) == 1797
    assert torch.bincount(data.test_y).min() >= 50
    assert data.train_x.min() == -1
    assert data.train_x.max() == 1


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RANKFALL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(digits.sys, "platform", "linux")
    monkeypatch.setattr(digits, "EPOCHS", 1)
    return tmp_path / "rankfall"


def test_cache_is_used_and_the_seed_is_fixed(cache: Path) -> None:
    first = digits.digits_model("digits-resmlp")
    again = digits.digits_model("digits-resmlp")
    assert (first.cached, again.cached) == (False, True)
    assert again.accuracy == first.accuracy
    for file in cache.iterdir():
        file.unlink()
    retrained = digits.digits_model("digits-resmlp")
    assert not retrained.cached
    hashes = {weights_hash(t.model.state_dict()) for t in (first, again, retrained)}
    assert len(hashes) == 1


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "foreign"])
def test_damaged_cache_is_trained_again(cache: Path, damage: str) -> None:
    first = digits.digits_model("digits-resmlp")
    (file,) = cache.iterdir()
    data = bytearray(file.read_bytes())
    if damage == "bit":
        data[-5] ^= 1  # inside a tensor: the file still reads
    elif damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "empty":
        data.clear()
    else:
        other = digits.build("digits-mixer")
        digits._write_cache(other, file, 0.5)
        data = bytearray(file.read_bytes())
    file.write_bytes(data)
    with pytest.warns(UserWarning, match="damaged"):
        second = digits.digits_model("digits-resmlp")
    assert not second.cached
    assert weights_hash(second.model.state_dict()) == weights_hash(first.model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert digits.digits_model("digits-resmlp").cached


def test_no_place_for_a_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="trained each time"):
        assert not digits.digits_model("digits-resmlp").cached


def test_places_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANKFALL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(digits.sys, "platform", "darwin")
    assert digits.cache_dir() == Path.home() / "Library" / "Caches" / "rankfall"
    monkeypatch.setattr(digits.sys, "platform", "linux")
    assert digits.cache_dir() == Path.home() / ".cache" / "rankfall"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert digits.cache_dir() == Path.home() / ".cache" / "rankfall"
    monkeypatch.setenv("RANKFALL_CACHE", "/somewhere")
    assert digits.cache_dir() == Path("/somewhere")


def test_unknown_network() -> None:
    with pytest.raises(InputError, match="digits-resnet"):
        digits.build("digits-lstm")
