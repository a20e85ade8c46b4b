"""Local response norm: a value is damped by how strongly neighbouring maps respond at the same place.

Formula   y_c = x_c / (k + alpha sum_j x_j^2)^beta, j over the `size` maps nearest to c, itself among them,
          fewer at the ends
Shapes    maps (b, c, h, w), kept
Strength  alpha >= 0, beta >= 0, k > 0, size odd; beta 0 is off. size 5, alpha 1e-4, beta 0.75 and k 2 are
          the source's
Helps     AlexNet a little (1.4 points of top-1 error there)
Hurts     speed; with alpha 1e-4 it hardly normalises: mostly it divides by k^beta = 1.68
Clashes   a high LR: unlike batch norm, it does not hold the scale of the maps
Source    Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012,
          section 3.3, with alpha as printed; cuda-convnet, Caffe and torch.nn.LocalResponseNorm divide it by
          size. There it follows the activation of two layers, as `own` keeps it in alexnet and googlenet;
          here it stands before every activation, like any norm that is chosen
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.models._local_response import LocalResponse


@dataclass(frozen=True)
class LocalResponseNorm:
    """The formula itself is `convclinic.models._local_response.local_response`, which two nets share."""

    slot: ClassVar[str] = "normalise"
    OFF: ClassVar[dict[str, object]] = {"beta": 0.0}
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise ConvclinicError(
                f"local_response's size must be odd, not {self.size}", fix="5 is the source's"
            )
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if not 0 <= value < math.inf:
                raise ConvclinicError(f"local_response's {name} must be 0 or more, not {value}")
        if not 0 < self.k < math.inf:
            raise ConvclinicError(
                f"local_response's k must be above 0, not {self.k}", fix="2 is the source's"
            )

    def build(self, channels: int) -> nn.Module:
        return LocalResponse(self.size, self.alpha, self.beta, self.k)
