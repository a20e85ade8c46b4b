"""Maps of the plane as (b, 3, 3) float64 matrices: output to input coordinates, both in [-1, 1].

-1 and 1 are the outer edges of the border pixels, as in torch's `align_corners=False`, so a map means the
same at every resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Maps: TypeAlias = Float[Tensor, "b 3 3"]
Params: TypeAlias = Mapping[str, Tensor]  # kinds.Params, for files that have torch at hand anyway
BORDERS = ("reflect", "zero")  # what an image shows beyond its border: its mirror image, or black


def identity(n: int) -> Maps:
    """n maps that move nothing."""
    return torch.eye(3, dtype=torch.float64).repeat(n, 1, 1)


def scale_and_move(
    scale_x: Float[Tensor, " b"],
    scale_y: Float[Tensor, " b"],
    move_x: Float[Tensor, " b"],
    move_y: Float[Tensor, " b"],
) -> Maps:
    """x_in = scale_x * x_out + move_x, and likewise y: flips, translations, crops and zooms."""
    maps = identity(len(scale_x))
    maps[:, 0, 0], maps[:, 1, 1] = scale_x.double(), scale_y.double()
    maps[:, 0, 2], maps[:, 1, 2] = move_x.double(), move_y.double()
    return maps
