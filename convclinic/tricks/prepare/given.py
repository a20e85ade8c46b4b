"""Given: the fixed scaling that pretrained weights were trained with. Nothing is fitted.

Formula   x' = (x - mean_c) / std_c, of pixels in [0, 1]
Shapes    images (b, c, h, w) float, kept; the state is mean and std (c,). Where images have another number of
          channels, such as 1, the average of the numbers is used for each
Strength  mean 0 and std 1 are the identity
Helps     whenever weights come from elsewhere: other numbers than theirs shift what every layer sees
Hurts     a net trained from scratch, which is better off with its own data's numbers (`standardise`)
Clashes   any other centring or scaling of the input
Source    torchvision's ImageNet numbers (2016), mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225), are
          the defaults; TensorFlow's x / 127.5 - 1 is mean 0.5, std 0.5; Caffe's 0..255 minus a mean is
          mean / 255 and std 1 / 255. Caffe's order, bgr, is turned where weights are read, and not here
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import State
from convclinic.tricks.prepare._stream import checked, expect
from convclinic.tricks.prepare.standardise import scale_and_offset, standardise


@dataclass(frozen=True)
class Given:
    """Numbers that come with the weights."""

    slot: ClassVar[str] = "prepare"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConvclinicError(
                f"prepare.given has {len(self.mean)} means and {len(self.std)} deviations",
                fix="give one of each for each channel, of pixels in [0, 1]",
            )
        if min(self.std) <= 0:
            raise ConvclinicError(f"prepare.given.std must be above zero, not {min(self.std)}")

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"mean": (c,), "std": (c,)}; of the chunks only the number of channels is used. Raises
        ConvclinicError for what no preprocessing could take, as the others do."""
        channels = {chunk.shape[1] for chunk in checked("given", chunks)}.pop()
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        if channels != len(self.mean):
            mean, std = mean.mean().repeat(channels), std.mean().repeat(channels)
        return {"mean": mean, "std": std}

    def channelwise(self, state: State) -> tuple[Tensor, Tensor]:
        """Scale (c,) and offset (c,) of each channel, for a pass that does something else as well."""
        return scale_and_offset(state["mean"], state["std"])

    def apply(self, images: Tensor, state: State) -> Tensor:
        """What the net sees: (b, c, h, w) float. Raises ConvclinicError when the channels do not match."""
        expect("given", images, tuple(state["mean"].shape))
        return standardise(images, state["mean"], state["std"])
