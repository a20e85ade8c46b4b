"""A tiny net with stages, for tests of what is done with features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """Three stages of 4, 8 and 8 maps with batch norm, then a linear head."""

    stage_names = ("low", "middle", "high")

    def __init__(self, channels: int = 3, n_classes: int = 2, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        widths = (channels, 4, 8, 8)
        self.blocks = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()
                )
                for name, before, after in zip(self.stage_names, widths, widths[1:], strict=False)
            }
        )
        self.head = nn.Linear(8, n_classes)
        self.passes = 0

    def stages(self, images: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        self.passes += len(images)
        out: dict[str, Tensor] = {}
        for name in self.stage_names[: max(map(self.stage_names.index, wanted)) + 1]:
            images = self.blocks[name](images)
            if name in wanted:
                out[name] = images
        return out

    def pooled(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pooled(self.stages(images, ("high",))["high"]))
