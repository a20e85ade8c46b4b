"""HSV jitter: bend and move saturation and value, and turn the hue, of all pixels of an image alike.

Formula   S' = clip(f_S S^p_S + o_S, 0, 1)    V' = clip(f_V V^p_V + o_V, 0, 1)    H' = H + t (mod 1)
          ln p ~ U(ln low, ln high), f ~ U(low, high), o ~ U(low, high) for S and V apart, t ~ U(low, high);
          one draw of the seven for all pixels of an image
Shapes    images (b, c, h, w) float in [0, 1]; power, factor, offset (b, 2): of S and of V; turn (b,) in turns
Strength  power and factor (low, high) around 1, offset and hue around 0; (1, 1), (1, 1), (0, 0), (0, 0) are
          off; the default is the source's, which made a hundred copies of each patch: strong. A power of
          (0.67, 1.5) is about as strong as colour_jitter
Helps     photographs from several cameras or in changing light; more kinds of light than colour_jitter gives
Hurts     classes told apart by colour; nearly gray pixels, whose colour noise a power below 1 brings out
Clashes   colour_jitter (it changes the same three qualities)
Source    Dosovitskiy et al., Discriminative unsupervised feature learning with exemplar CNNs, 2014,
          arXiv:1406.6909, section 2.1; Wei, Must know tips/tricks in deep neural networks, 2015, section 1

The source says "to a power between 0.25 and 4": here the power is log-uniform, so that p and 1 / p are as
likely and half of the images get darker; a uniform power would darken four of five. A pixel without colour
has hue 0, as in Python's colorsys: an added saturation tints it red, turned with the hue. Images that have
not three channels are all value: V alone is changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.kinds import Batch
from convclinic.tricks.augment._check import span
from convclinic.tricks.augment._maps import Params
from convclinic.tricks.augment._planes import apart, together

Range = tuple[float, float]
TINY = torch.finfo(torch.float32).tiny  # a divisor that leaves 0 / 0 = 0


def sample(
    rng: torch.Generator, n: int, power: Range, factor: Range, offset: Range, hue: Range
) -> dict[str, Tensor]:
    """power, factor, offset (n, 2): of saturation and of value; turn (n,): of the hue, 1 for a whole turn."""
    unit = torch.rand((n, 7), generator=rng)
    return {
        "power": _between((math.log(power[0]), math.log(power[1])), unit[:, :2]).exp(),
        "factor": _between(factor, unit[:, 2:4]),
        "offset": _between(offset, unit[:, 4:6]),
        "turn": _between(hue, unit[:, 6]),
    }


def apply(
    images: Float[Tensor, "b c h w"],
    power: Float[Tensor, "b 2"],
    factor: Float[Tensor, "b 2"],
    offset: Float[Tensor, "b 2"],
    turn: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """To HSV, the changes, and back."""
    bends = [(power[:, k, None], factor[:, k, None], offset[:, k, None]) for k in range(2)]
    if images.shape[1] != 3:
        return _bent(images.flatten(1).clone(), *bends[1]).view(images.shape)
    red, green, blue = apart(images)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    hue = _turned(_hue(red, green, blue, value, chroma), turn[:, None])
    saturation = _bent(chroma.div_(value.clamp(min=TINY)), *bends[0])
    value = _bent(value, *bends[1])
    drop = saturation.mul_(value)  # how far the least of the three channels lies below the largest
    shares = (  # of the drop: 0 within a sixth of the circle from the channel's own hue, 1 from two sixths on
        hue.abs().sub_(1),
        (hue + 1).abs_().neg_().add_(2),
        (hue - 1).abs_().neg_().add_(2),
    )
    return together((torch.addcmul(value, drop, share.clamp_(0, 1), value=-1) for share in shares), images)


def _between(ends: Range, unit: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * unit


def _bent(x: Tensor, power: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Power, factor, offset and clip, in place; the power by logarithms, which torch computes faster."""
    return x.log2_().mul_(power).exp2_().mul_(factor).add_(offset).clamp_(0, 1)


def _hue(red: Tensor, green: Tensor, blue: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Sixths of the colour circle from red, in [-3, 3]; 0 where there is no colour.

    The usual three cases are one: |hue| = 2 + (G + B - R - V) / C, with the sign of G - B.
    """
    size = (green - value).add_(blue - red).add_(chroma, alpha=2).div_(chroma.clamp(min=TINY))
    return size.copysign_(green - blue)


def _turned(hue: Tensor, turn: Tensor) -> Tensor:
    """The hue in sixths after a turn, again in [-3, 3]."""
    hue = hue.add_(6 * turn)
    return hue.sub_((hue / 6).round_(), alpha=6)


@dataclass(frozen=True)
class HsvJitter:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["pixels"]] = "pixels"
    OFF: ClassVar[dict[str, object]] = {
        "power": (1.0, 1.0),
        "factor": (1.0, 1.0),
        "offset": (0.0, 0.0),
        "hue": (0.0, 0.0),
    }
    power: Range = (0.25, 4.0)
    factor: Range = (0.7, 1.4)
    offset: Range = (-0.1, 0.1)
    hue: Range = (-0.1, 0.1)

    def __post_init__(self) -> None:
        span("hsv_jitter.power", self.power, 0.01, 100)
        span("hsv_jitter.factor", self.factor, 0, 100)
        span("hsv_jitter.offset", self.offset, -1, 1)
        span("hsv_jitter.hue", self.hue, -0.5, 0.5)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.power, self.factor, self.offset, self.hue)

    def apply(self, images: Tensor, params: Params) -> Tensor:
        if all(getattr(self, option) == off for option, off in self.OFF.items()):
            return images  # there and back would leave rounding errors
        return apply(images, params["power"], params["factor"], params["offset"], params["turn"])
