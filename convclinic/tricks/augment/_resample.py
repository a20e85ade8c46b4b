"""Resampling of whole batches: all of an image's geometry in one go, by the cheapest exact way.

Beyond the border an image goes on as its mirror image, and the mirror stands in the centre of the border
pixel (d c b | a b c d), on every path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor
from torch.nn import functional as F

from convclinic.tricks.augment._maps import Maps
from convclinic.tricks.augment._threads import own_threads, parts, shared_out

Resampler: TypeAlias = Callable[[slice], Tensor]
ALIAS_STEP = 1.5  # input pixels per output pixel from which two-tap interpolation would alias visibly
EXACT = 1e-6  # pixels; maps are composed in float64


def resize(images: UInt8[Tensor, "b c H W"], size: tuple[int, int]) -> UInt8[Tensor, "b c h w"]:
    """The whole image at `size` (h, w), antialiased; the very same tensor when it has that size already."""
    b, c, height, width = images.shape
    if (height, width) == size:
        return images
    images = images.contiguous(memory_format=torch.channels_last)
    out = images.new_empty((b, *size, c)).permute(0, 3, 1, 2)

    def work(share: slice) -> None:
        out[share] = _antialiased(images[share], size)

    with own_threads(images.device) as shares:
        shared_out(work, b, shares)
    return out


def resampler(images: UInt8[Tensor, "b c H W"], maps: Maps, size: tuple[int, int]) -> Resampler:
    """What gives any slice of the images, seen through `maps` at `size`, values in [0, 255].

    The way is chosen for the whole batch, so that it does not depend on how the batch is sliced:
    1 flips and whole-pixel translations, if any: copied, then antialiased to `size` if it differs (uint8);
    2 whole-pixel boxes inside the image: cut out and antialiased, the filter stops at the box's edge (uint8);
    3 other boxes: antialiased with weights of their own, the filter sees beyond the box's edge (float);
    4 anything else: two-tap interpolation, after shrinking by what every image of the batch shrinks (float).
    Images turned by a quarter go the way that they would go without the turn, and are transposed at its end.
    """
    turned = _turned(maps)
    if size[0] == size[1] and bool(turned.any()):
        straight = resampler(images, torch.where(turned[:, None, None], maps[:, :, [1, 0, 2]], maps), size)
        return lambda share: _transposed(straight(share), turned[share])
    height, width = images.shape[-2:]
    if not _axis_aligned(maps):
        mid = _shrunk(images, maps, size) if _affine(maps) else (height, width)
        return lambda share: _general(images[share], maps[share], size, mid)
    boxes = _boxes(maps, height, width)
    corners = boxes.round().long()
    if bool(((boxes - corners).abs() > EXACT).any()):
        return lambda share: _separable(images[share], boxes[share], size)
    limit = corners.new_tensor([height, height, width, width])
    if bool((corners == limit * corners.new_tensor([0, 1, 0, 1])).all()):
        return lambda share: _sized(images[share], size)
    extent = (corners[:, 1::2] - corners[:, ::2]).abs()
    if bool((extent == extent.new_tensor([height, width])).all()):
        return lambda share: _sized(_moved(images[share], corners[share]), size)
    inside = bool(((corners >= 0) & (corners <= limit)).all()) and bool((extent > 0).all())
    if inside and images.device.type == "cpu":
        return lambda share: _cropped(images[share], corners[share], size)
    return lambda share: _separable(images[share], boxes[share], size)


def mirrored(position: Int[Tensor, "*any"], n_pixels: int) -> Int[Tensor, "*any"]:
    """Positions off the image, reflected about the centres of its border pixels.

    >>> mirrored(torch.tensor([-2, -1, 0, 3, 4]), 4).tolist()
    [2, 1, 0, 3, 2]
    """
    last = n_pixels - 1
    return last - ((position % max(1, 2 * last)) - last).abs() if last else position * 0


def _affine(maps: Maps) -> bool:
    return bool((maps[:, 2] == maps.new_tensor([0, 0, 1])).all())


def _axis_aligned(maps: Maps) -> bool:
    return _affine(maps) and bool((maps[:, [0, 1], [1, 0]].abs() < 1e-9).all())


def _turned(maps: Maps) -> Bool[Tensor, " b"]:
    """Which images have the input's columns as their rows, and nothing else."""
    straight, crossed = maps[:, [0, 1], [0, 1]].abs(), maps[:, [0, 1], [1, 0]].abs()
    return ((straight < 1e-9) & (crossed > 1e-9)).all(1) & _affine(maps)


def _boxes(maps: Maps, height: int, width: int) -> Float[Tensor, "b 4"]:
    """Edges in input pixels of what each image shows: y of output row 0, of its end, the same for x."""
    scale, move = maps[:, [1, 0], [1, 0]], maps[:, [1, 0], [2, 2]]
    side = maps.new_tensor([height, width]) / 2
    start, end = (move - scale + 1) * side, (move + scale + 1) * side
    return torch.stack([start, end], 2).flatten(1)


def _transposed(images: Num[Tensor, "b c n n"], turned: Bool[Tensor, " b"]) -> Num[Tensor, "b c n n"]:
    where = turned.nonzero()[:, 0].to(images.device)
    out = images.clone()
    out[where] = images[where].transpose(2, 3)
    return out


def _sized(images: UInt8[Tensor, "b c H W"], size: tuple[int, int]) -> UInt8[Tensor, "b c h w"]:
    return images if tuple(images.shape[-2:]) == size else _antialiased(images, size)


def _antialiased(images: UInt8[Tensor, "b c H W"], size: tuple[int, int]) -> UInt8[Tensor, "b c h w"]:
    """Triangle filter as wide as the shrinking asks for; rounds to whole levels, as Pillow does."""
    if images.device.type == "cpu":
        return F.interpolate(images, size=size, mode="bilinear", antialias=True)
    real = F.interpolate(images.float(), size=size, mode="bilinear", antialias=True)
    return real.round_().clamp_(0, 255).to(torch.uint8)


def _moved(images: UInt8[Tensor, "b c H W"], boxes: Int[Tensor, "b 4"]) -> UInt8[Tensor, "b c H W"]:
    """Whole images translated and flipped: every output pixel is a copy of one input pixel.

    One flat selection of pixels: several times faster than indexing by image, row and column.
    """
    b, c, height, width = images.shape
    boxes = boxes.to(images.device)
    rows, columns = _seen(boxes[:, :2], height), _seen(boxes[:, 2:], width)
    row = torch.arange(b, device=images.device)[:, None] * height + rows
    where = (row[:, :, None] * width + columns[:, None, :]).flatten()
    pixels = images.permute(0, 2, 3, 1).reshape(-1, c).index_select(0, where)
    return pixels.view(b, height, width, c).permute(0, 3, 1, 2)


def _seen(edges: Int[Tensor, "b 2"], n_pixels: int) -> Int[Tensor, "b n"]:
    """The input pixel behind each output pixel of one axis; backwards where the edges are swapped."""
    there = torch.arange(n_pixels, device=edges.device)
    start, end = edges[:, :1], edges[:, 1:]
    return mirrored(torch.where(start < end, start + there, start - 1 - there), n_pixels)


def _cropped(
    images: UInt8[Tensor, "b c H W"], boxes: Int[Tensor, "b 4"], size: tuple[int, int]
) -> UInt8[Tensor, "b c h w"]:
    corners: list[list[int]] = boxes.tolist()
    done: list[Tensor] = []
    for i, (top, bottom, left, right) in enumerate(corners):
        rows, columns = slice(*sorted((top, bottom))), slice(*sorted((left, right)))
        piece = _antialiased(images[i : i + 1, :, rows, columns], size)
        axes = [axis for axis, flip in ((2, top > bottom), (3, left > right)) if flip]
        done.append(piece.flip(axes) if axes else piece)
    return torch.cat(done)


def _separable(
    images: UInt8[Tensor, "b c H W"], boxes: Float[Tensor, "b 4"], size: tuple[int, int]
) -> Float[Tensor, "b c h w"]:
    b, c, height, width = images.shape
    out = torch.empty((b, *size, c), device=images.device).permute(0, 3, 1, 2)
    for part in parts(slice(0, b), images[0].numel(), images.device):
        down = _weights(boxes[part, 0], boxes[part, 1], height, size[0], images.device)
        across = _weights(boxes[part, 2], boxes[part, 3], width, size[1], images.device)
        out[part] = down[:, None] @ (images[part].float() @ across[:, None].transpose(2, 3))
    return out


def _weights(
    start: Float[Tensor, " b"], end: Float[Tensor, " b"], n_in: int, n_out: int, device: torch.device
) -> Float[Tensor, "b n_out n_in"]:
    """What each output pixel takes from each input pixel along one axis; rows sum to one."""
    step = ((end - start) / n_out)[:, None]
    half_width = step.abs().clamp(min=1)
    centre = start[:, None] + (torch.arange(n_out) + 0.5) * step
    beyond = torch.stack([-centre, centre - n_in]).amax().clamp(min=0) + half_width.max()
    reach = int(beyond.ceil())
    taps = torch.arange(-reach, n_in + reach, device=device)
    distance = (taps + 0.5 - centre[..., None].float().to(device)).abs()
    weights = (1 - distance / half_width[..., None].float().to(device)).clamp(min=0)
    weights = weights / weights.sum(2, keepdim=True)
    return weights.new_zeros(len(start), n_out, n_in).index_add_(2, mirrored(taps, n_in), weights)


def _general(
    images: UInt8[Tensor, "b c H W"], maps: Maps, size: tuple[int, int], mid: tuple[int, int]
) -> Float[Tensor, "b c h w"]:
    images = _sized(images, mid)
    b, c, height, width = images.shape
    # where corners are aligned, +-1 are the centres of the border pixels, and so is the mirror
    aligned = maps.new_tensor([width / max(1, width - 1), height / max(1, height - 1), 1])
    affine = _affine(maps)
    maps = (aligned[:, None] * maps).float().transpose(1, 2)
    maps = maps.to(images.device)
    grid = _grid(size).to(images.device)
    out = torch.empty((b, *size, c), device=images.device).permute(0, 3, 1, 2)
    for part in parts(slice(0, b), images[0].numel() + grid.numel(), images.device):
        seen = grid @ maps[part, None, :, :2]
        if not affine:
            seen = seen / (grid @ maps[part, None, :, 2:])
        pixels = images[part].float().contiguous()
        out[part] = F.grid_sample(pixels, seen, padding_mode="reflection", align_corners=True)
    return out


def _shrunk(images: Tensor, maps: Maps, size: tuple[int, int]) -> tuple[int, int]:
    """The size at which no image of the batch would be enlarged, where shrinking to it is worth the pass."""
    height, width = images.shape[-2:]
    per_output = 1 / maps.new_tensor([size[1], size[0]])
    step_x, step_y = (torch.linalg.norm(maps[:, k, :2] * per_output, dim=1).amin() for k in (0, 1))
    factors = float(step_y * height), float(step_x * width)
    return (
        round(height / factors[0]) if factors[0] > ALIAS_STEP else height,
        round(width / factors[1]) if factors[1] > ALIAS_STEP else width,
    )


def _grid(size: tuple[int, int]) -> Float[Tensor, "h w 3"]:
    """(x, y, 1) of each output pixel's centre."""
    y, x = (torch.arange(n) * (2 / n) + (1 / n - 1) for n in size)
    return torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(size)], 2)
