"""Min-max: every dimension runs from -1 to 1 over the training images.

Formula   x' = 2 (x - low) / (high - low) - 1;   0 for a dimension with low = high
Shapes    fit: chunks (n, c, h, w) uint8 or float, of one size where per is "pixel"; apply: (b, c, h, w)
          float, kept; state: low and high, (c, h, w) or (c, 1, 1), float32
Strength  per "pixel" (a dimension is a pixel of a channel) or "channel"; leave it out to switch it off
Helps     dimensions of different units or ranges that should count the same
Hurts     hardly ever helps on photos, whose pixels share one range already; one bright outlier sets the range
          of a pixel. Images from elsewhere may pass -1 and 1: they are not clipped
Clashes   standardise, zero_centre and mean_image, which scale or centre as well; with per "pixel" also
          run.sizes and views of other sizes, since it knows one size
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, section 2, after CS231n (Karpathy, 2015);
          they leave open what becomes of a dimension that never varies, and do not have per "channel"
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.kinds import State
from convclinic.tricks.prepare._stream import as_float, checked, expect, varies

AXES = {"pixel": (0,), "channel": (0, 2, 3)}


def min_max(
    images: Float[Tensor, "b c h w"], low: Float[Tensor, "c y x"], high: Float[Tensor, "c y x"]
) -> Float[Tensor, "b c h w"]:
    """The formula in the images' own dtype and on their device.

    Divided before it is doubled, and not as one factor, so that `high` gives exactly 1.

    >>> images = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    >>> min_max(images, torch.zeros(1, 1, 1), torch.ones(1, 1, 1)).flatten().tolist()
    [-1.0, 0.0, 1.0]
    """
    low, high = low.to(images), high.to(images)
    span = high - low
    share = (images - low) / torch.where(span > 0, span, 1)
    return torch.where(span > 0, 2 * share - 1, 0)


@dataclass(frozen=True)
class MinMax:
    """Least and greatest value of each dimension over the training split."""

    slot: ClassVar[str] = "prepare"
    per: str = "pixel"

    def __post_init__(self) -> None:
        if self.per not in AXES:
            raise ConvclinicError(f"min_max.per is '{self.per}'", fix=nearest(self.per, AXES))

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"low", "high"} of (c, h, w) or (c, 1, 1) from chunks (n, c, h, w), held one at a time.

        Raises ConvclinicError when there are no images, when they are neither uint8 nor float, or when they
        differ in channels or, per pixel, in size.
        """
        low, high = torch.tensor(math.inf), torch.tensor(-math.inf)
        for chunk in checked("min_max", chunks, same_size=self.per == "pixel"):
            low = torch.minimum(low, as_float(chunk.amin(AXES[self.per], keepdim=True)).cpu())
            high = torch.maximum(high, as_float(chunk.amax(AXES[self.per], keepdim=True)).cpu())
        low, high = low.squeeze(0), high.squeeze(0)
        # tricks before this one leave a constant dimension constant up to rounding only
        high = torch.where(varies(high - low, torch.maximum(low.abs(), high.abs())), high, low)
        return {"low": low.float(), "high": high.float()}

    def apply(self, images: Tensor, state: State) -> Tensor:
        """(b, c, h, w) float. Raises ConvclinicError when channels or, per pixel, size do not match."""
        expect("min_max", images, tuple(state["low"].shape))
        return min_max(images, state["low"], state["high"])
