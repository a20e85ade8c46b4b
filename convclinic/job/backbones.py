"""A net with pretrained weights, and the preprocessing that they were trained with, from what a user
names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convclinic.data.dataset import Dataset
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Evidence, Finding, Layers, State
from convclinic.model import to_tensor
from convclinic.models._source_check import check_source
from convclinic.models._timm import TIMM
from convclinic.models._weights import Matched, Source, Weights, fit_into, hub_weights, read_weights
from convclinic.models.backbone import Backbone
from convclinic.tricks.prepare.given import Given

CHECKED_IMAGES = 48  # that are shown to the net to see whether it knows such pixels
OF_HUB = {"mobilenet_v2": "mobilenetv2_100"}  # what timm calls nets that are ours under another name


@dataclass(frozen=True)
class Loaded:
    """A `Staged` with its weights; the preprocessing with its state; where they come from, and what of the
    file found its place."""

    net: Any
    backbone: Backbone
    prepare: tuple[Given, ...]
    fitted: tuple[State, ...]
    weights: Weights
    matched: Matched

    @property
    def source(self) -> Source:
        return self.weights.source

    def size(self, side: int | None = None) -> tuple[int, int]:
        """(height, width): the side that the weights were trained with, or the nearest to `side` that suits
        them."""
        fitting = self.source.fitting(self.source.side if side is None else side)
        return fitting, fitting

    def words(self) -> tuple[str, ...]:
        """The net, its preprocessing and what was not loaded, for people."""
        source = self.source
        fresh = [name for name in self.matched.fresh if not name.startswith("head.")]
        numbers = (
            f"{what} {', '.join(f'{value:.3g}' for value in values)}"
            for what, values in (("mean", source.mean), ("std", source.std))
        )
        return (
            f"{self.backbone.model}, weights of {self.weights.path}",
            f"pixels: {'; '.join(numbers)}, {source.order} ({source.known})",
            self.matched.words() if fresh else "every tensor below the head was loaded",
        )


def load_backbone(
    weights: str | Path | None, backbone: str | None, n_classes: int = 2, channels: int = 3
) -> Loaded:
    """The net named by `backbone`, or by what is known about the file, with weights from the file or the hub.

    Raises ConvclinicError where neither is given, the file does not say which net it is of, or nothing fits.
    """
    if weights is None and backbone is None:
        raise ConvclinicError("no pretrained net was named", fix="give --weights FILE or --backbone NAME")
    read = _of_hub(str(backbone)) if weights is None else read_weights(Path(weights))
    model = backbone or read.source.model
    if not model:
        raise ConvclinicError(
            f"{weights} does not say which net it is of", fix="name it with --backbone, such as mobilenet_v2"
        )
    choice = Backbone(model=model)
    net = choice.build(channels, n_classes, Layers(lambda _: nn.ReLU()))
    matched = fit_into(net, read)
    given = Given(mean=read.source.mean, std=read.source.std)
    state = given.fit([torch.zeros(1, channels, 1, 1)])
    net = net.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    return Loaded(net, choice, (given,), (state,), read, matched)


def _of_hub(backbone: str) -> Weights:
    name = backbone.removeprefix(TIMM)
    return hub_weights(OF_HUB.get(name, name))


def wrong_pixels(loaded: Loaded, data: Dataset, device: torch.device) -> tuple[Finding, ...]:
    """A warning where the weights' own memory of their images speaks for another preprocessing."""
    few = data.indices("train")
    few = few[:: max(1, len(few) // CHECKED_IMAGES)][:CHECKED_IMAGES]
    images = to_tensor(data.images(few)).to(device).float() / 255
    checked = None if loaded.matched.folded else check_source(loaded.net.to(device), loaded.source, images)
    if checked is None or not checked.doubtful:
        return ()
    return (
        Finding(
            "preprocessing_of_the_weights",
            "warning",
            confidence=0.8,
            where="transfer.pretrained",
            summary=checked.words(),
            evidence=(
                Evidence(
                    "deviations off at the first batch norm",
                    round(checked.own, 2),
                    f"{checked.others[checked.best]:.2f}, as with {checked.best}",
                ),
            ),
            remedies=("write mean, std and order into a .json of the file's name beside it",),
            reference="docs/using.md",
        ),
    )
