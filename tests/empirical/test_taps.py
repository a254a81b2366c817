"""Separator taps are shown by exchanging outputs, never assumed from a module's name."""

from collections import Counter

import pytest
import timm
import torch
from torch import nn

import empirical.taps as taps
from empirical.facts import facts
from empirical.jacobian import jacobian_profile
from empirical.taps import default_taps, named_taps, separators


class TwoBranches(nn.Module):
    """``blocks.0`` has a branch around it; ``blocks.1`` has none."""

    def __init__(self, around: float) -> None:
        super().__init__()
        self.around = around
        self.blocks = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[1](self.blocks[0](x) + self.around * x).flatten(1)


@pytest.mark.parametrize(
    ("around", "expected"), [(0.0, {"blocks.0", "blocks.1"}), (0.01, {"blocks.1"})]
)
def test_a_branch_around_a_tap_shows(around: float, expected: set[str]) -> None:
    model = TwoBranches(around).eval()
    assert separators(model, ["blocks.0", "blocks.1"], (3, 8, 8)) == expected


def test_a_tap_named_by_hand_keeps_what_was_shown_of_it() -> None:
    """A bound of the exact rank passes from one separator to the next: one too many is a wrong bound."""
    for around, shown in ((0.0, True), (0.01, False)):
        found = named_taps(TwoBranches(around).eval(), ["blocks.0", "blocks.1"], (3, 8, 8))
        assert [tap.separator for tap in found] == [shown, True]


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 64), ("resmlp_12_224", 224), ("vit_tiny_patch16_224", 224)]
)
def test_blocks_of_the_families_separate(name: str, size: int) -> None:
    model = timm.create_model(name, pretrained=False).eval()
    assert all(tap.separator for tap in default_taps(model, (3, size, size)))


@pytest.mark.parametrize("together", [1, 2, 16])
def test_a_module_inside_a_branch_does_not_separate(monkeypatch, together: int) -> None:
    """However many taps are tested in one batch."""
    monkeypatch.setattr("empirical.taps.TOGETHER", together)
    model = timm.create_model("resnet18", pretrained=False, zero_init_last=False).eval()
    names = ["layer1.0", "layer1.1.bn2", "layer1.1"]
    assert separators(model, names, (3, 64, 64)) == {"layer1.0", "layer1.1"}


def test_separation_is_shown_once_for_a_profile_and_never_for_facts(monkeypatch) -> None:
    """The test costs a forward pass of as many samples as there are taps."""
    calls: Counter[str] = Counter()
    real = taps.separators
    monkeypatch.setattr(
        taps, "separators", lambda *args: (calls.update(["separators"]), real(*args))[1]
    )
    model = timm.create_model("resnet18", pretrained=False, zero_init_last=False).eval()
    image = torch.randn(3, 32, 32)
    assert len(facts(model, (3, 32, 32), image=image)) > 8
    assert calls["separators"] == 0
    known = default_taps(model, (3, 32, 32))
    jacobian_profile(model, image, patch=2, field="exact", primes=1, taps=known)
    assert calls["separators"] == 1
    jacobian_profile(model, image, patch=2, field="exact", primes=1)
    assert calls["separators"] == 2
