"""What an image shows beyond its border: its mirror image, as resampling leaves it, or black.

The centre of each output pixel decides, so whole-pixel moves give what padding with zeros and cropping
give, and otherwise the image ends in a hard edge.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from convclinic.tricks.augment._maps import Maps
from convclinic.tricks.augment._resample import Resampler
from convclinic.tricks.augment._threads import parts

EDGE = 1 + 1e-5  # a centre on the very edge is inside, whichever way it was rounded


def on_black(seen: Resampler, maps: Maps, size: tuple[int, int]) -> Resampler:
    """`seen`, with zero where the image has ended; `seen` itself when no image of the batch ends.

    Writes into what `seen` gives. That is a tensor of its own whenever there is anything to write: only the
    identity hands on the stored images, and it shows nothing beyond them.
    """
    if not _any_beyond(maps, size):
        return seen

    def blackened(share: slice) -> Tensor:
        images, own = seen(share), maps[share]
        for part in parts(slice(0, len(images)), images[0].numel(), images.device):
            mask = beyond(own[part], size, images.device)
            if images.device.type == "cpu":  # twice as fast as filling by a mask
                pixels = images[part].permute(0, 2, 3, 1).view(-1, images.shape[1])
                pixels.index_fill_(0, mask.flatten().nonzero()[:, 0], 0)
            else:
                images[part].masked_fill_(mask[:, None], 0)
        return images

    return blackened


def beyond(maps: Maps, size: tuple[int, int], device: torch.device) -> Bool[Tensor, "b h w"]:
    """Which output pixels have their centre outside the input, whose edges lie at -1 and 1."""
    separable = not bool(maps[:, [0, 1, 2, 2], [1, 0, 0, 1]].any())
    maps = maps.float().to(device)
    y, x = ((2 * torch.arange(n, device=device) + 1) / n - 1 for n in size)
    if separable:
        depth = EDGE * maps[:, 2, 2:].abs()
        columns = (maps[:, 0, :1] * x + maps[:, 0, 2:]).abs() > depth
        rows = (maps[:, 1, 1:2] * y + maps[:, 1, 2:]).abs() > depth
        return rows[:, :, None] | columns[:, None, :]
    across, down, depth = (
        maps[:, k, :1, None] * x + maps[:, k, 1:2, None] * y[:, None] + maps[:, k, 2:, None] for k in range(3)
    )
    return torch.maximum(across.abs(), down.abs()) > EDGE * depth.abs()


def _any_beyond(maps: Maps, size: tuple[int, int]) -> bool:
    """Straight lines stay straight, so the four corners of the output tell."""
    reach_y, reach_x = (1 - 1 / n for n in size)
    corners = maps.new_tensor([(x, y, 1) for x in (-reach_x, reach_x) for y in (-reach_y, reach_y)])
    seen = corners @ maps.transpose(1, 2)
    return bool((seen[..., :2].abs() > EDGE * seen[..., 2:].abs()).any())
