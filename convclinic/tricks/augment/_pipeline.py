"""From a batch of stored uint8 images to what `prepare` takes: the augmentation of a whole batch.

The order is the written one within each kind, and geometry, colour, pixels between the kinds: all geometry
is one resampling, all colour one affine map of each pixel together with the division by 255, one clamp to
[0, 1] ends them, and tricks of pixels such as cutout follow; a policy such as RandAugment is taken apart into
the three kinds. Everything random is drawn first, on the CPU from each trick's own generator, so the draws
are the same on every device and with any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Batch, Colour, Geometry, Pixels, Policy
from convclinic.tricks.augment._border import on_black
from convclinic.tricks.augment._maps import identity
from convclinic.tricks.augment._resample import Resampler, resampler, resize
from convclinic.tricks.augment._threads import own_threads, parts, shared_out

__all__ = ["augment", "draw", "in_order", "replay", "resize"]

Drawn: TypeAlias = "tuple[object, Mapping[str, Tensor]]"
Affine: TypeAlias = "tuple[Tensor, Tensor]"  # scale and offset of each channel
KINDS = ("geometry", "colour", "pixels")
RANK = {"policy": 0} | {kind: place for place, kind in enumerate(KINDS)}  # a policy begins with geometry
BLOCK = 8  # pixels per row of the colour product: a 3x3 matrix alone is too small for a matrix library


def augment(
    batch: Batch,
    tricks: Sequence[object],
    rng_for: Callable[[str], torch.Generator],
    size: tuple[int, int],
    then: Affine | None = None,
) -> Batch:
    """Images uint8 (b, c, H, W) in; float32 in [0, 1] (b, c, h, w), channels last, out, at `size` (h, w).

    `rng_for(name)` gives the CPU generator of the trick in the file `name`; a second trick of that file
    asks for "name.2". `then` is what comes after the last trick, scale (c,) and offset (c,), such as a
    standardisation: here it costs no pass of its own. Raises ConvclinicError for a trick that is no
    augmentation.
    """
    return replay(batch, draw(batch, tricks, rng_for), size, then)


def in_order(tricks: Sequence[object]) -> tuple[object, ...]:
    """The tricks in the order in which they begin to work: by kind, and as written within a kind."""
    return tuple(sorted(_known(tricks), key=lambda trick: RANK[_kind(trick)]))


def draw(
    batch: Batch, tricks: Sequence[object], rng_for: Callable[[str], torch.Generator]
) -> tuple[Drawn, ...]:
    """Everything random about this batch: each trick or part of a policy, in order of work, and how."""
    drawn: list[Drawn] = []
    seen: dict[str, int] = {}
    with own_threads(torch.device("cpu")):
        for trick in _known(tricks):
            name = type(trick).__module__.rpartition(".")[2]
            seen[name] = seen.get(name, 0) + 1
            rng = rng_for(name if seen[name] == 1 else f"{name}.{seen[name]}")
            params = cast(Any, trick).sample(rng, batch)
            policy = _kind(trick) == "policy"
            drawn.extend(cast(Policy, trick).parts(params) if policy else [(trick, params)])
    return tuple(sorted(drawn, key=lambda item: RANK[_kind(item[0])]))


def replay(batch: Batch, drawn: Sequence[Drawn], size: tuple[int, int], then: Affine | None = None) -> Batch:
    """Apply what was drawn; deterministic. Every parameter has the images along its first axis."""
    images = batch.images.contiguous(memory_format=torch.channels_last)
    b, c = images.shape[:2]
    out = torch.empty((b, *size, c), device=images.device).permute(0, 3, 1, 2)
    last = None if then is None else (then[0].to(out), then[1].to(out))
    covered = any(_kind(trick) == "pixels" for trick, _ in drawn)

    def work(share: slice) -> None:
        mine = [(trick, {k: v[share] for k, v in params.items()}) for trick, params in drawn]
        colours = [item for item in mine if _kind(item[0]) == "colour"]
        _colour(moved(share), colours, out[share], None if covered else last)
        for trick, params in mine:
            if _kind(trick) == "pixels":
                _cover(trick, _on(params, images.device), out[share])
        if covered and last is not None:
            _channelwise(out[share], last)

    if b == 0:
        return replace(batch, images=out)
    with own_threads(images.device) as shares:
        moved = _mover(images, [item for item in drawn if _kind(item[0]) == "geometry"], size)
        shared_out(work, b, shares)
    return replace(batch, images=out)


def _known(tricks: Sequence[object]) -> Sequence[object]:
    for trick in tricks:
        if getattr(trick, "kind", None) not in RANK:
            raise ConvclinicError(
                f"{type(trick).__name__} is no augmentation: its kind must be one of {', '.join(RANK)}",
                fix="take one that `convclinic tricks` lists under augment",
            )
    return tricks


def _kind(trick: object) -> str:
    return cast(Any, trick).kind


def _on(params: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in params.items()}


def _mover(images: UInt8[Tensor, "b c H W"], drawn: Sequence[Drawn], size: tuple[int, int]) -> Resampler:
    """Compose the maps on the CPU, where their form can be read without waiting for the device."""
    maps = identity(len(images))
    frame = (images.shape[2], images.shape[3])
    for trick, params in drawn:
        maps = maps @ cast(Geometry, trick).matrix(params, *frame).double()
        if getattr(trick, "reframes", False):  # a crop fills the output: what follows counts its pixels
            frame = size
    seen = resampler(images, maps, size)
    zero = any(getattr(trick, "border", None) == "zero" for trick, _ in drawn)
    return on_black(seen, maps, size) if zero else seen


def _colour(
    images: Num[Tensor, "b c h w"],
    drawn: Sequence[Drawn],
    out: Float[Tensor, "b c h w"],
    then: Affine | None,
) -> None:
    """Levels in [0, 255] to [0, 1] through all colour maps, and through `then`, in one pass, into `out`."""
    b, c, h, w = images.shape
    pixels, target = images.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1)
    slices = list(parts(slice(0, b), c * h * w, images.device))
    if not drawn:
        for part in slices:
            target[part].copy_(pixels[part]).div_(255)
            if images.dtype != torch.uint8:  # interpolation may pass 255 by a rounding error
                target[part].clamp_(0, 1)
            if then is not None:
                _channelwise(out[part], then)
        return
    scale, offset = then or (out.new_ones(c), out.new_zeros(c))
    block = math.gcd(h * w, BLOCK)
    ones, shape = out.new_ones(1, h * w // block), (-1, h * w // block, block * c)
    sums = torch.cat([ones @ pixels[part].float().reshape(shape) for part in slices])
    means = sums.view(b, block, c).sum(1) / (255 * h * w)
    maps = _composed(means, drawn) * scale[:, None]
    maps[..., c] += offset
    linear, constant = _blocks(maps, block)
    ends = torch.stack([offset, scale + offset])  # where 0 and 1 come to lie
    low, high = ends.amin(0).repeat(w), ends.amax(0).repeat(w)
    for part in slices:
        rows = pixels[part].float().reshape(shape)
        torch.baddbmm(constant[part], rows, linear[part], out=target[part].view(rows.shape))
        if then is None:
            target[part].clamp_(0, 1)
        else:
            lines = target[part].view(-1, w * c)
            torch.clamp(lines, low, high, out=lines)


def _channelwise(images: Float[Tensor, "b c h w"], by: Affine) -> None:
    """scale_c x + offset_c in place, over whole rows: with channels last, one pixel has but c numbers."""
    b, c, h, w = images.shape
    for part in parts(slice(0, b), c * h * w, images.device):
        lines = images[part].permute(0, 2, 3, 1).view(-1, w * c)
        torch.addcmul(by[1].repeat(w), lines, by[0].repeat(w), out=lines)


def _cover(trick: object, params: Mapping[str, Tensor], images: Float[Tensor, "b c h w"]) -> None:
    """A trick of pixels, in place."""
    for part in parts(slice(0, len(images)), images[0].numel(), images.device):
        images[part] = cast(Pixels, trick).apply(images[part], {k: v[part] for k, v in params.items()})


def _composed(means: Float[Tensor, "b c"], drawn: Sequence[Drawn]) -> Float[Tensor, "b c c+1"]:
    """One map [A | t] per image; each trick is told the mean colour that the ones before it leave."""
    c = means.shape[1]
    linear, offset = torch.eye(c, device=means.device).expand(len(means), c, c), torch.zeros_like(means)
    for trick, params in drawn:
        now = (linear @ means[..., None])[..., 0] + offset
        step = cast(Colour, trick).matrix(_on(params, means.device), now)
        linear = step[..., :c] @ linear
        offset = (step[..., :c] @ offset[..., None])[..., 0] + step[..., c]
    return torch.cat([linear, offset[..., None]], 2)


def _blocks(
    maps: Float[Tensor, "b c c+1"], block: int
) -> tuple[Float[Tensor, "b n n"], Float[Tensor, "b 1 n"]]:
    """The map of levels in [0, 255] for `block` pixels side by side: the same matrix along a diagonal."""
    b, c = maps.shape[:2]
    diagonal = torch.zeros((b, block, c, block, c), device=maps.device)
    for k in range(block):
        diagonal[:, k, :, k] = maps[..., :c].transpose(1, 2) / 255
    return diagonal.view(b, block * c, block * c), maps[..., c].repeat(1, block)[:, None]
