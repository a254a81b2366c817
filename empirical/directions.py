"""What a pass pushes: unit directions of a patch, and freely drawn weights for an architecture."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Request:
    """What is asked of one image: the directions, and where they are placed."""

    patch: int | None
    corner: tuple[int, int]
    directions: int
    background: str


def directions(
    image: Tensor, request: Request, part: range, dtype: torch.dtype
) -> tuple[Tensor, tuple[int, ...]]:
    """Unit directions ``part`` of the patch as [K, 1, C, h, w] and the patch's place."""
    channels = image.shape[0]
    h, w = (request.patch, request.patch) if request.patch else tuple(image.shape[1:])
    data = torch.zeros(len(part), channels * h * w, dtype=dtype)
    data[torch.arange(len(part)), torch.tensor(list(part))] = 1
    # channels last, as every window after it
    block = data.view(len(part), h, w, channels).permute(0, 3, 1, 2)[:, None]
    return block, (0, 0, *request.corner)


def with_random_weights(model: nn.Module, seed: int) -> nn.Module:
    """A float64 copy whose parameters and running statistics are random: a free architecture."""
    generator = torch.Generator().manual_seed(seed)
    free = copy.deepcopy(model).double().requires_grad_(False)
    for parameter in free.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    for key, buffer in free.named_buffers():
        if key.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=torch.float64) + 0.5)
        elif key.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
    return free
