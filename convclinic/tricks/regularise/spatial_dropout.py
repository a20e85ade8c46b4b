"""Spatial dropout: in training whole feature maps are left out, since a map's pixels tell of each other.

Formula   training: y = x m / (1 - p),   m = 0 with probability p, else 1, for each map of each image;
          testing: y = x
Shapes    maps (b, c, h, w), kept: after each stage of the net that leaves a place for it
Strength  p in [0, 1); 0 is off; 0.1 to 0.2 is usual, as it acts after every stage
Helps     convolutional nets without batch normalisation; small sets
Hurts     short runs; narrow stages, where a map is much
Clashes   batch norm straight behind it (its stored statistics are those of training, with the noise);
          dropout on the last layer does nearly the same where the last stage is pooled to one pixel
Source    Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015 (2014),
          arXiv:1411.4280, section 3.2, where it stands in one place, before the first 1 x 1 convolution.
          Scaled in training, so that testing needs no change. The draws come from torch's global generator,
          which the loop scopes by name, on the device of the maps
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.models._layers import MapsPlace
from convclinic.tricks.regularise._places import check_p, fill, places


@dataclass(frozen=True)
class SpatialDropout:
    slot: ClassVar[str] = "regularise"
    kind: ClassVar[Literal["noise"]] = "noise"
    OFF: ClassVar[dict[str, object]] = {"p": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"p": (0.0, 0.5)}
    p: float = 0.1

    def __post_init__(self) -> None:
        check_p("spatial_dropout", self.p, usual="0.1")

    def install(self, net: nn.Module) -> None:
        """Put an nn.Dropout2d into each place. Raises ConvclinicError when the net has none."""
        found = places(net, MapsPlace)
        if not found:
            raise ConvclinicError(
                "spatial_dropout needs a net that leaves places for it, and this one has none",
                fix="take another net, or dropout",
            )
        fill(found, [nn.Dropout2d(self.p) for _ in found])
