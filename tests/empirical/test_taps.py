"""Separator taps are shown by exchanging outputs, never assumed from a module's name."""

import pytest
import timm
import torch
from torch import nn

from empirical.taps import default_taps, separators


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


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 64), ("resmlp_12_224", 224), ("vit_tiny_patch16_224", 224)]
)
def test_blocks_of_the_families_separate(name: str, size: int) -> None:
    model = timm.create_model(name, pretrained=False).eval()
    assert all(tap.separator for tap in default_taps(model, (3, size, size)))


def test_a_module_inside_a_branch_does_not_separate() -> None:
    model = timm.create_model("resnet18", pretrained=False, zero_init_last=False).eval()
    names = ["layer1.0", "layer1.1.bn2", "layer1.1"]
    assert separators(model, names, (3, 64, 64)) == {"layer1.0", "layer1.1"}
