"""RandAugment: each image goes through a few operations drawn from fourteen, all at one magnitude.

Formula   n_ops operations, each drawn from `ops` with equal probability; with m = magnitude / 10 and a sign
          drawn at random for each:
          rotate by +-30 m degrees; shear_x, shear_y by +-0.3 m; translate_x, translate_y by +-(150/331) m of
          the side; brightness, contrast, colour (saturation), sharpness by the factor max(0, 1 +- 0.9 m);
          posterize to max(1, 8 - round(4 m)) bits; solarize levels from 256 max(0, 1 - m) on; autocontrast,
          equalize and identity have no magnitude
Shapes    images (b, c, h, w); op (b, n_ops) int64, places in OPS; sign (b, n_ops) of -1 and 1
Strength  n_ops >= 0, 0 is off; magnitude in [0, 30], where 10 is the end of AutoAugment's ranges, past which
          they go on; 2 operations at 9 for ResNet-50 and at 28 for EfficientNet-B7 on ImageNet (the source's)
Helps     long runs of large nets on photographs
Hurts     short runs; small nets; classes told apart by colour, tone or direction (leave out such `ops`)
Clashes   colour_jitter, rotate, shift, scale (it draws all of them already)
Source    Cubuk, Zoph, Shlens and Le, RandAugment, 2020, arXiv:1909.13719; ranges: Cubuk et al., AutoAugment,
          2018, arXiv:1805.09501; operations: Pillow's

Deviations: an image's operations work in the order geometry, colour, pixels and as drawn within each, so that
all geometry is one resampling and all colour one map, clipped once at its end. Geometry is about the image's
centre, and its border is the mirror image (the source's is gray). Every operation grows with the magnitude,
as the source's text has it; its program lets solarize and posterize fade, and takes factors from 0.1 to 1.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Batch
from convclinic.tricks.augment._check import one_of, within
from convclinic.tricks.augment._maps import Maps, Params, identity
from convclinic.tricks.augment._retouch import autocontrast, equalize, posterize, sharpen, solarize
from convclinic.tricks.augment.colour_jitter import matrix as colour_map
from convclinic.tricks.augment.rotate import matrix as rotation

OPS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "colour",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
MAXIMUM = 10.0  # the magnitude at which AutoAugment's ranges end
ROTATE, SHEAR, TRANSLATE, ENHANCE, POSTERIZE = math.radians(30), 0.3, 150 / 331, 0.9, 4.0

Draws = Int[Tensor, "b n"]


def sample(rng: torch.Generator, n: int, n_ops: int, ops: Sequence[str]) -> dict[str, Tensor]:
    """op (n, n_ops): each operation's place in OPS; sign (n, n_ops): -1 or 1."""
    places = torch.tensor([OPS.index(name) for name in ops])
    return {
        "op": places[torch.randint(len(ops), (n, n_ops), generator=rng)],
        "sign": 2 * torch.randint(2, (n, n_ops), generator=rng) - 1,
    }


def moves(op: Draws, sign: Draws, m: float, height: int, width: int) -> Maps:
    """All that an image's draws move, as one map."""
    maps = identity(len(op))
    for drawn, amount in zip(op.T, (sign.double() * m).T, strict=True):
        names = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
        turn, shear_x, shear_y, x, y = (torch.where(drawn == OPS.index(name), amount, 0.0) for name in names)
        step = rotation(ROTATE * turn, height, width)
        step[:, 0, 1] += SHEAR * shear_x * height / width
        step[:, 1, 0] += SHEAR * shear_y * width / height
        step[:, :2, 2] += 2 * TRANSLATE * torch.stack([x, y], 1)
        maps = maps @ step
    return maps


def enhanced(sign: Int[Tensor, "*any"], m: float) -> Float[Tensor, "*any"]:
    """The factor of brightness, contrast, colour or sharpness: 1 changes nothing."""
    return (1 + ENHANCE * m * sign).clamp(min=0)


def colour_factors(op: Draws, sign: Draws, m: float) -> Float[Tensor, "b 3"]:
    """Of brightness, contrast and saturation; nothing is clipped in between, so several draws multiply."""
    factor = enhanced(sign, m)
    names = ("brightness", "contrast", "colour")
    return torch.stack([torch.where(op == OPS.index(name), factor, 1.0).prod(1) for name in names], 1)


def retouch(images: Float[Tensor, "b c h w"], op: Draws, sign: Draws, m: float) -> Float[Tensor, "b c h w"]:
    """The draws of pixels, each on a copy of the images that drew it."""
    changes: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "autocontrast": lambda chosen, _: autocontrast(chosen),
        "equalize": lambda chosen, _: equalize(chosen),
        "posterize": lambda chosen, _: posterize(chosen, max(1, 8 - round(POSTERIZE * m))),
        "solarize": lambda chosen, _: solarize(chosen, 256 * max(0.0, 1 - m)),
        "sharpness": lambda chosen, drawn: sharpen(chosen, enhanced(drawn, m)),
    }
    op, sign = op.cpu(), sign.cpu()  # what to choose is read here: one wait for an accelerator, not many
    out = images.clone()
    for k in range(op.shape[1]):
        for name, change in changes.items():
            where = (op[:, k] == OPS.index(name)).nonzero()[:, 0]
            if len(where):
                drawn, where = sign[where, k].to(images.device), where.to(images.device)
                out[where] = change(out[where], drawn)
    return out


@dataclass(frozen=True)
class Moves:
    kind: ClassVar[Literal["geometry"]] = "geometry"
    m: float

    def matrix(self, params: Params, height: int, width: int) -> Tensor:
        return moves(params["op"], params["sign"], self.m, height, width)


@dataclass(frozen=True)
class Enhancements:
    kind: ClassVar[Literal["colour"]] = "colour"
    m: float

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        factor = colour_factors(params["op"], params["sign"], self.m)
        return colour_map(factor, torch.zeros_like(factor[:, 0]), mean)


@dataclass(frozen=True)
class Retouches:
    kind: ClassVar[Literal["pixels"]] = "pixels"
    m: float

    def apply(self, images: Tensor, params: Params) -> Tensor:
        return retouch(images, params["op"], params["sign"], self.m)


@dataclass(frozen=True)
class RandAugment:
    slot: ClassVar[str] = "augment"
    kind: ClassVar[Literal["policy"]] = "policy"
    OFF: ClassVar[dict[str, object]] = {"n_ops": 0}
    n_ops: int = 2
    magnitude: float = 9.0
    ops: tuple[str, ...] = OPS

    def __post_init__(self) -> None:
        within("rand_augment.n_ops", self.n_ops, 0, 20)
        within("rand_augment.magnitude", self.magnitude, 0, 30)
        if not self.ops:
            raise ConvclinicError("rand_augment.ops is empty", fix="name some, or set n_ops to 0 for none")
        for name in self.ops:
            one_of("rand_augment.ops", name, OPS)

    def sample(self, rng: torch.Generator, batch: Batch) -> Params:
        return sample(rng, len(batch.images), self.n_ops, self.ops)

    def parts(self, params: Params) -> Sequence[tuple[object, Params]]:
        """What was drawn by kind: each part takes from the draws what is its own."""
        m = self.magnitude / MAXIMUM
        return [(Moves(m), params), (Enhancements(m), params), (Retouches(m), params)]
