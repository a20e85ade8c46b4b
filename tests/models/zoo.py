"""Every net in a small form that a test can afford, and how to build and look at one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convclinic.kinds import Layers
from convclinic.models.alexnet import AlexNet
from convclinic.models.compact import Compact
from convclinic.models.fast import Fast
from convclinic.models.googlenet import GoogLeNet
from convclinic.models.lenet5 import LeNet5
from convclinic.models.mobilenet_v2 import MobileNetV2
from convclinic.models.nin import NIN
from convclinic.models.resnet import ResNet
from convclinic.models.resnet_cifar import ResNetCifar
from convclinic.models.squeezenet import SqueezeNet
from convclinic.models.vgg import VGG
from convclinic.tricks.activate.relu import ReLU
from convclinic.tricks.initialise.he import He

SMALL: Mapping[str, Any] = {
    "alexnet": AlexNet(width=0.125, head=16),
    "compact": Compact(widths=(8, 12, 16, 24)),
    "fast": Fast(widths=(8, 12, 16)),
    "googlenet": GoogLeNet(width=0.125),
    "lenet5": LeNet5(),
    "mobilenet_v2": MobileNetV2(width=0.25),
    "nin": NIN(width=0.125),
    "resnet": ResNet(width=0.125),
    "resnet_cifar": ResNetCifar(width=0.5),
    "squeezenet": SqueezeNet(width=0.25),
    "vgg": VGG(depth=11, width=0.125, grid=1, head=16),
}
MORE: Mapping[str, Any] = {**SMALL, "resnet50": ResNet(depth=50, width=0.0625)}
every_net = pytest.mark.parametrize("name", MORE)


def layers(activate: Any = None, norm: Any = None) -> Layers:
    activate = activate or ReLU()
    return Layers(activate.build, None if norm is None else norm.build, getattr(activate, "pieces", 1))


def build(
    net: Any,
    channels: int = 3,
    n_classes: int = 5,
    activate: Any = None,
    norm: Any = None,
    device: str = "cpu",
) -> nn.Module:
    """With torch's default weights; on the meta device there are shapes and no numbers."""
    torch.manual_seed(0)
    with torch.device(device):
        return net.build(channels, n_classes, layers(activate, norm))


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def least_images(net: Any, n: int = 2, channels: int = 3) -> Tensor:
    """The smallest that the net takes."""
    return images(n, channels, net.least, net.least)


def with_he(net: nn.Module, gain: float) -> nn.Module:
    He().apply(net, torch.Generator().manual_seed(0), torch.zeros(0), gain)
    return net


def gradients(net: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    """The gradient of each trainable parameter, for made-up classes."""
    net.zero_grad()
    torch.manual_seed(0)
    logits = net(x)
    F.cross_entropy(logits, torch.arange(len(x)) % logits.shape[1]).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.requires_grad}


def trainable(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def of_kind(net: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in net.modules() if isinstance(module, kind)]
