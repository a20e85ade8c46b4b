"""Single view: predict from the image as it is.

Formula   p(x) = f(x)
Shapes    images (b, c, h, w); one view, weight 1
Strength  none to set: this is the value that means off
Helps     speed: one pass per image
Hurts     accuracy a little, where views of the same image would agree
Clashes   none
Source    the plain forward pass, compared with ten views in Krizhevsky, Sutskever and Hinton, ImageNet
          classification with deep CNNs, 2012, section 4.1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


def views(images: Tensor) -> list[tuple[float, Tensor]]:
    """The images themselves."""
    return [(1.0, images)]


@dataclass(frozen=True)
class Single:
    slot: ClassVar[str] = "combine"
    mean: ClassVar[str] = "logits"  # one view is its own mean

    def views(self, images: Tensor) -> list[tuple[float, Tensor]]:
        return views(images)
