"""The nets of the fault bench: the styles in which people write small convolutional nets."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """Modules in a row, ReLU, a hidden linear layer; no normalisation, PyTorch's own initialisation."""

    def __init__(self, channels: int, side: int, classes: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 12, 3, padding=1), activation(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), activation(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(24 * (side // 4) ** 2, 64), activation(),
        )  # fmt: skip
        self.drop = nn.Dropout(0.0)
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.body(x)))


class Normed(nn.Module):
    """Batch norm, and activations as functions in `forward`."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.conv3 = nn.Conv2d(24, 32, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(32)
        self.drop = nn.Dropout(0.0)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        return self.head(self.drop(x.mean((2, 3))))


class Block(nn.Module):
    """A residual block; the shortcut is a 1 x 1 convolution where the shape changes."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        change = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.shortcut = nn.Identity() if inner == outer and stride == 1 else change

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.shortcut(x))


class Residual(nn.Module):
    """A small ResNet of three blocks."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2))
        self.drop = nn.Dropout(0.0)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.blocks(self.stem(x)).mean((2, 3))))


class Lenet(nn.Module):
    """LeNet's manner: tanh and average pooling."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 5, padding=2)
        self.conv2 = nn.Conv2d(8, 16, 5, padding=2)
        self.tanh = nn.Tanh()
        self.hidden = nn.Linear(16 * (side // 4) ** 2, 64)
        self.drop = nn.Dropout(0.0)
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(self.tanh(self.conv1(x)), 2)
        x = F.avg_pool2d(self.tanh(self.conv2(x)), 2)
        return self.head(self.drop(self.tanh(self.hidden(x.flatten(1)))))


class Vgg(nn.Module):
    """Pairs of convolutions without normalisation, He initialisation, one linear layer."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.drop = nn.Dropout(0.0)
        self.head = nn.Linear(16 * (side // 4) ** 2, classes)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.features(x).flatten(1)))


class Nin(nn.Module):
    """1 x 1 convolutions and global average pooling: the last convolution is the head."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 24, 5, 1, 2), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.drop = nn.Dropout(0.0)
        self.head = nn.Conv2d(32, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.features(x))).mean((2, 3))


class Deep(nn.Module):
    """Ten equal layers without normalisation or shortcuts: fine with care, lost without."""

    def __init__(self, channels: int, classes: int, activation: type[nn.Module], depth: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, 12, 3, 2, 1), activation()]
        for _ in range(depth - 1):
            layers += [nn.Conv2d(12, 12, 3, 1, 1), activation()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(12 * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Tiny(nn.Module):
    """One map and global average pooling: far too little for ten classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 3, padding=1)
        self.head = nn.Linear(1, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(x)).mean((2, 3)))


class Detached(nn.Module):
    """A net whose body's output is cut from the graph, as after a forgotten `.detach()`."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).detach())


NETS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "plain": Plain,
    "normed": Normed,
    "resnet": Residual,
    "lenet": Lenet,
    "vgg": Vgg,
    "nin": Nin,
}
NORMED = ("normed", "resnet", "nin")


def head_of(model: nn.Module) -> nn.Module:
    """The last layer with weights."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-1]
