"""Whether images reach a pretrained net as it knows them: seen by what its first batch norm remembers.

A file of weights seldom says how its images were scaled, and a wrong scaling raises no error; the features
are just worse. But the running statistics of the first norm are those of the right scaling. Images of another
kind move them as well, less than a wrong scaling does: the scalings are compared on the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convclinic.models._weights import CAFFE, HALVES, IMAGENET, ONES, Source

ZEROS, UNIT = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
USUAL = {
    "ImageNet's mean and deviation": (IMAGENET.mean, IMAGENET.std),
    "[-1, 1]": (HALVES, HALVES),
    "[0, 1]": (ZEROS, UNIT),
    "0..255": (ZEROS, ONES),
    "0..255 less the mean": (CAFFE, ONES),
}
CLEARLY = 2.0  # how many times farther than another the file's own scaling is before it is doubted


@dataclass(frozen=True)
class SourceCheck:
    """Distances in standard deviations of the first norm's maps: `own` under the file's scaling, `others`
    under the usual ones, in RGB and in BGR."""

    own: float
    others: dict[str, float]

    @property
    def best(self) -> str:
        """The nearest of the others."""
        return min(self.others, key=lambda name: self.others[name])

    @property
    def doubtful(self) -> bool:
        """Whether another scaling suits the weights clearly better."""
        return self.own > CLEARLY * self.others[self.best]

    def words(self) -> str:
        """One line for people."""
        if not self.doubtful:
            return f"pixels arrive as the weights know them (first norm {self.own:.2f} deviations off)"
        return (
            f"the weights seem to know pixels as {self.best} ({self.others[self.best]:.2f} deviations off "
            f"at the first norm, {self.own:.2f} as they come): say so in a .json beside the file"
        )


@torch.no_grad()
def check_source(net: nn.Module, source: Source, images: Float[Tensor, "b c h w"]) -> SourceCheck | None:
    """How far the statistics of `images` in [0, 1] lie from those in the first batch norm of `net`.

    Its weights are `source`'s; a few dozen images will do. None for nets without batch norm, and for images
    that are not RGB. The net is left as it was.
    """
    norm = next((module for module in net.modules() if isinstance(module, nn.BatchNorm2d)), None)
    if norm is None or norm.running_mean is None or images.shape[1] != 3:
        return None
    mode = net.training
    net.eval()
    try:
        own = _distance(net, norm, images, source.mean, source.std)
        others: dict[str, float] = {}
        for name, (mean, std) in USUAL.items():
            others[f"{name}, RGB"] = _distance(net, norm, images, mean, std)
            turned = images.flip(1)  # as if the first layer had been read in the other order
            others[f"{name}, BGR"] = _distance(net, norm, turned, mean[::-1], std[::-1])
    finally:
        net.train(mode)
    return SourceCheck(own, others)


class _Seen(Exception):
    """The first norm has been reached; the rest of the net need not run."""


def _distance(
    net: nn.Module,
    norm: Any,
    images: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> float:
    found: list[float] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance, centre = torch.var_mean(inputs[0], (0, 2, 3))
        known = norm.running_var + norm.eps
        shift = ((centre - norm.running_mean).abs() / known.sqrt()).median()
        spread = (((variance + norm.eps) / known).log() / 2).abs().median()
        found.append(float(shift + spread))
        raise _Seen

    handle = norm.register_forward_pre_hook(look)
    try:
        net((images - images.new_tensor(mean).view(3, 1, 1)) / images.new_tensor(std).view(3, 1, 1))
    except _Seen:
        pass
    finally:
        handle.remove()
    return found[0]
