"""Colour jitter: vary brightness, contrast, saturation and hue of each image.

Formula   brightness  v' = f v                        contrast  v' = f v + (1 - f) Y(mean)
          saturation  v' = Y(v) + f (v - Y(v))        hue       v' turned by an angle in the IQ plane of YIQ
          Y = 0.299 R + 0.587 G + 0.114 B; f ~ U(1 - amount, 1 + amount); angle / 2 pi ~ U(-hue, hue)
Shapes    images (b, c, h, w) in [0, 1]; factor (b, 3), angle (b,) in radians; maps (b, c, c + 1)
Strength  amounts in [0, 1], hue in [0, 0.5] of a turn; all 0 is off; 0.2 to 0.4 and hue 0.02 to 0.1 are usual
Helps     photographs from several cameras or in changing light
Hurts     classes told apart by colour: stains, ripeness, minerals, birds (leave hue and saturation at 0)
Clashes   none
Source    Howard, Some improvements on deep CNN based image classification, 2013, arXiv:1312.5402; with hue:
          Chen et al., SimCLR, 2020, arXiv:2002.05709, appendix A

Deviations: nothing is clipped between the steps, only at the end, and hue is the linear rotation in YIQ,
which keeps Y, and not the shift in HSV. All four are then affine, and they commute: the order that others
draw for each image would change nothing here, so none is drawn. Gray images (c = 1) know neither saturation
nor hue; nor do images of any other number of channels but three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.kinds import Batch
from convclinic.tricks.augment._check import within
from convclinic.tricks.augment._maps import Params

LUMA = (0.299, 0.587, 0.114)
# NTSC's I and Q in terms of R, G, B; each row sums to zero, so gray has no colour
CHROMA = ((0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def sample(
    rng: torch.Generator, n: int, amounts: tuple[float, float, float], hue: float
) -> dict[str, Tensor]:
    """factor (n, 3): of brightness, contrast and saturation; angle (n,): the hue's turn in radians."""
    unit = 2 * torch.rand((n, 4), generator=rng) - 1
    return {"factor": 1 + unit[:, :3] * torch.tensor(amounts), "angle": unit[:, 3] * (2 * math.pi * hue)}


@cache
def _quarter_turn() -> Float[Tensor, "3 3"]:
    """What a turn by 90 degrees in the IQ plane makes of the colour in RGB."""
    to_yiq = torch.tensor([LUMA, *CHROMA], dtype=torch.float64)
    turn = torch.tensor([[0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    return (torch.linalg.inv(to_yiq) @ turn @ to_yiq).float()


def matrix(
    factor: Float[Tensor, "b 3"], angle: Float[Tensor, " b"], mean: Float[Tensor, "b c"]
) -> Float[Tensor, "b c c+1"]:
    """All four steps as one map; `mean` is each image's mean colour before it."""
    b, c = mean.shape
    bright, contrast, saturation = factor.unbind(1)
    luma = torch.tensor(LUMA if c == 3 else [1 / c] * c, device=mean.device)
    linear = torch.eye(c, device=mean.device).expand(b, c, c)
    if c == 3:  # colour is what is left without the gray of equal luma; gray stays as it is
        chroma = linear - luma.expand(3, 3)
        keep, turn = saturation * angle.cos() - 1, saturation * angle.sin()
        linear = linear + keep[:, None, None] * chroma + turn[:, None, None] * _quarter_turn().to(mean.device)
    offset = bright * (1 - contrast) * (mean @ luma)
    return torch.cat([(bright * contrast)[:, None, None] * linear, offset[:, None, None].expand(b, c, 1)], 2)


@dataclass(frozen=True)
class ColourJitter:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["colour"]] = "colour"
    OFF: ClassVar[dict[str, object]] = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {
        "brightness": (0.0, 0.9),
        "contrast": (0.0, 0.9),
        "saturation": (0.0, 0.9),
        "hue": (0.0, 0.3),
    }
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02

    def __post_init__(self) -> None:
        within("colour_jitter.brightness", self.brightness, 0, 1)
        within("colour_jitter.contrast", self.contrast, 0, 1)
        within("colour_jitter.saturation", self.saturation, 0, 1)
        within("colour_jitter.hue", self.hue, 0, 0.5)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), (self.brightness, self.contrast, self.saturation), self.hue)

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        return matrix(params["factor"], params["angle"], mean)
