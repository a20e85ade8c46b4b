"""Backbone: a net as it was pretrained, as stages with a fresh linear head on top.

Layers    those of the net named by `model`, with its own activation and norm whatever the recipe says, since
          its weights know no others; global average pool, dropout, linear. `cut` ends it behind an earlier
          stage: features of early stages are more general (Yosinski et al. 2014)
Models    mobilenet_v2, squeezenet1_1, resnet18, resnet34, resnet50, resnet20 to resnet110 (for 32 x 32), and
          every net of timm as timm:NAME, with the extra [pretrained]
Shapes    (b, c, h, w) to logits (b, k). MobileNetV2 from TensorFlow wants sides of 32 n + 1: there symmetric
          padding and TensorFlow's are the same
Params    those of the net without its classifier, and (maps + 1) k for the head
Source    Yosinski et al., How transferable are features in deep neural networks?, 2014, arXiv:1411.1792
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.kinds import Layers
from convclinic.models._layers import check_dropout
from convclinic.models._staged import Stage, Staged
from convclinic.models._timm import TIMM, timm_staged
from convclinic.models.mobilenet_v2 import MobileNetV2
from convclinic.models.resnet import BLOCKS, ResNet
from convclinic.models.resnet_cifar import DEPTHS, ResNetCifar
from convclinic.models.squeezenet import SqueezeNet

MOBILENET_ENDS = (1, 3, 6, 10, 13, 16, 17, 18)  # blocks behind which a stage ends
SQUEEZENET_ENDS = (1, 4, 7, 10, 12)
Parts = tuple[list[Stage], str | None]


def _sequence(features: nn.Sequential, ends: tuple[int, ...], maps: list[int]) -> list[Stage]:
    """Stages of a net whose features are one sequence."""
    begins = (0, *(end + 1 for end in ends))
    return [
        Stage(
            f"features{end}",
            tuple(list(features)[begin : end + 1]),
            tuple(f"features.{i}" for i in range(begin, end + 1)),
            width,
        )
        for begin, end, width in zip(begins, ends, maps, strict=False)
    ]


def _mobilenet_v2(channels: int) -> Parts:
    net: Any = MobileNetV2().build(channels, 1, Layers(lambda _: nn.ReLU6(inplace=True)))
    return _sequence(net.features, MOBILENET_ENDS, [16, 24, 32, 64, 96, 160, 320, 1280]), "classifier.1"


def _squeezenet1_1(channels: int) -> Parts:
    net: Any = SqueezeNet().build(channels, 1, Layers(lambda _: nn.ReLU(inplace=True)))
    return _sequence(net.features, SQUEEZENET_ENDS, [64, 128, 256, 384, 512]), None


def _resnet(depth: int) -> Callable[[int], Parts]:
    def parts(channels: int) -> Parts:
        net: Any = ResNet(depth=depth).build(channels, 1, Layers(lambda _: nn.ReLU(inplace=True)))
        stem = (net.conv1, net.bn1, net.act, nn.MaxPool2d(3, 2, padding=1))
        widen = 4 if depth >= 50 else 1
        stages = [Stage("stem", stem, ("conv1", "bn1", "", ""), 64)]
        for number in range(1, 5):
            layer = f"layer{number}"
            stages.append(Stage(layer, (getattr(net, layer),), (layer,), widen * 64 * 2 ** (number - 1)))
        return stages, "fc"

    return parts


def _resnet_cifar(depth: int) -> Callable[[int], Parts]:
    def parts(channels: int) -> Parts:
        net: Any = ResNetCifar(depth=depth).build(channels, 1, Layers(lambda _: nn.ReLU(inplace=True)))
        stages = [Stage("stem", (net.conv1, net.bn1, net.act), ("conv1", "bn1", ""), 16)]
        for number in range(1, 4):
            layer = f"layer{number}"
            stages.append(Stage(layer, (getattr(net, layer),), (layer,), 16 * 2 ** (number - 1)))
        return stages, "linear"

    return parts


OURS: dict[str, Callable[[int], Parts]] = {
    "mobilenet_v2": _mobilenet_v2,
    "squeezenet1_1": _squeezenet1_1,
    **{f"resnet{depth}": _resnet(depth) for depth in BLOCKS},
    **{f"resnet{depth}": _resnet_cifar(depth) for depth in DEPTHS},
}


@dataclass(frozen=True)
class Backbone:
    slot: ClassVar[str] = "net"
    least: ClassVar[int] = 32
    model: str = "mobilenet_v2"
    cut: str = ""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        if self.model not in OURS and not self.model.startswith(TIMM):
            raise ConvclinicError(
                f"no backbone '{self.model}'",
                fix=f"{nearest(self.model, OURS)}; nets of timm are written timm:NAME",
            )

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        """A `Staged`. The recipe's `layers` are left aside: the weights were made with the net's own."""
        if self.model.startswith(TIMM):
            return timm_staged(self.model[len(TIMM) :], channels, n_classes, self.dropout, self.cut)
        stages, head = OURS[self.model](channels)
        return Staged(stages, n_classes, self.dropout, self.cut, head)
