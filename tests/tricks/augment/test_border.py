"""The zero border against padding and cropping, Pillow's black corners, and where the image ends."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.augment._border import beyond, on_black
from convclinic.tricks.augment._maps import identity
from convclinic.tricks.augment._pipeline import draw, replay
from convclinic.tricks.augment._resample import resampler
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.resized_crop import ResizedCrop
from convclinic.tricks.augment.rotate import Rotate
from convclinic.tricks.augment.scale import Scale
from convclinic.tricks.augment.shift import Shift

CPU = torch.device("cpu")


def noise(n: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    """Without black pixels, so that black is the border."""
    shape = (n, channels, height, width)
    images = torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator(0, "noise"))
    return images.contiguous(memory_format=torch.channels_last)


def as_batch(images: torch.Tensor) -> Batch:
    return Batch(images, torch.eye(len(images)), torch.arange(len(images)))


def run(images: torch.Tensor, tricks: Sequence[object], size: tuple[int, int]) -> torch.Tensor:
    batch = as_batch(images)
    return replay(batch, draw(batch, tricks, lambda name: generator(1, name)), size).images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("flips", [0.0, 0.5])
def test_shifts_with_zeros_are_pad_and_crop(flips: float, channels: int) -> None:
    images = noise(60, 8, 11, channels)
    batch = as_batch(images)
    drawn = draw(batch, (Shift(4, "zero"), Flip(flips)), lambda name: generator(1, name))
    out = replay(batch, drawn, (8, 11)).images
    padded = F.pad(images, (4, 4, 4, 4))
    (_, moves), (_, flipped) = drawn
    for i in range(60):
        y, x = 4 + int(moves["dy"][i]), 4 + int(moves["dx"][i])
        expected = padded[i, :, y : y + 8, x : x + 11] / 255
        assert torch.equal(out[i], expected.flip(2) if flipped["flip"][i] else expected)


def test_pad_and_crop_by_more_than_the_image() -> None:
    batch = as_batch(noise(2, 6, 6))
    far = {"dy": torch.tensor([0, 5]), "dx": torch.tensor([9, -5])}
    out = replay(batch, [(Shift(9, "zero"), far)], (6, 6)).images
    assert (out[0] == 0).all()
    assert torch.equal(out[1, :, 0, 5], batch.images[1, :, 5, 0] / 255)
    assert (out[1] != 0).sum() == 3


def test_corners_are_black_where_pillows_are() -> None:
    images = torch.full((1, 3, 41, 61), 200, dtype=torch.uint8)
    for degrees in (17.0, -63.0):
        angle = {"radians": torch.tensor([math.radians(degrees)], dtype=torch.float64)}
        out = replay(as_batch(images), [(Rotate(border="zero"), angle)], (41, 61)).images[0, 0]
        white = Image.new("L", (61, 41), 255).rotate(degrees, Image.Resampling.NEAREST)
        inside = np.asarray(white) == 255
        assert 0.3 < inside.mean() < 0.95
        assert np.mean((out.numpy() > 0) == inside) > 0.999  # Pillow counts the angle in steps of its own
        assert np.allclose(out.numpy()[out.numpy() > 0], 200 / 255, atol=1e-4)


def test_zooming_out_leaves_a_black_frame() -> None:
    images = noise(1, 20, 20)
    half = {"factor": torch.tensor([0.5], dtype=torch.float64)}
    out = replay(as_batch(images), [(Scale(border="zero"), half)], (20, 20)).images[0, 0]
    assert (out[5:15, 5:15] > 0).all()
    assert (out > 0).sum() == 100


def test_one_trick_with_zeros_makes_the_border_of_all() -> None:
    images = noise(30, 12, 12)
    for tricks in ((Shift(3, "zero"), Rotate()), (Shift(3), Rotate(border="zero"))):
        corners = run(images, tricks, (12, 12))[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners == 0).float().mean() > 0.3
    assert (run(images, (Shift(3), Rotate()), (12, 12)) > 0).all()


def test_nothing_beyond_is_nothing_changed() -> None:
    """The store's own images pass through the identity, and stay as they are."""
    images = noise(4, 9, 9)
    kept = images.clone()
    seen = resampler(images, identity(4), (9, 9))
    assert on_black(seen, identity(4), (9, 9)) is seen
    assert torch.equal(run(images, (Shift(0, "zero"),), (9, 9)), images / 255)
    inside = run(images, (Shift(0, "zero"), ResizedCrop()), (9, 9))
    assert torch.equal(inside, run(images, (ResizedCrop(),), (9, 9)))
    assert torch.equal(images, kept)


@pytest.mark.parametrize("size", [(12, 16), (7, 9), (24, 24)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "zero", [Shift(5, "zero"), Scale(1.0, "zero"), Rotate(40.0, "zero")], ids=lambda t: type(t).__name__
)
def test_inside_everything_is_as_with_reflection(
    zero: Shift | Scale | Rotate, channels: int, size: tuple[int, int]
) -> None:
    """On every path of resampling, and at every size."""
    images = noise(10, 12, 16, channels)
    reflected, black = (
        run(images, (trick, Flip()), size) for trick in (dataclasses.replace(zero, border="reflect"), zero)
    )
    changed = reflected != black
    assert changed.any() and (black[changed] == 0).all()
    assert (black[~changed] > 0).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-2, 2), min_size=6, max_size=6),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
)
def test_beyond_is_where_the_centre_lies_outside(
    numbers: list[float], size: tuple[int, int], straight: bool
) -> None:
    maps = identity(1)
    maps[0, :2] = torch.tensor(numbers, dtype=torch.float64).view(2, 3)
    if straight:
        maps[0, 0, 1] = maps[0, 1, 0] = 0
    ours = beyond(maps, size, CPU)[0]
    assert torch.equal(beyond(2 * maps, size, CPU)[0], ours)
    for i in range(size[0]):
        for j in range(size[1]):
            centre = np.array([(2 * j + 1) / size[1] - 1, (2 * i + 1) / size[0] - 1, 1])
            reach = np.abs(maps[0, :2].numpy() @ centre).max()
            if abs(reach - 1) > 1e-4:
                assert bool(ours[i, j]) == (reach > 1)


@pytest.mark.parametrize("trick", [Shift, Rotate, Scale])
def test_other_borders_are_refused_in_words(trick: type) -> None:
    with pytest.raises(ConvclinicError, match=r"\.border is 'zeros' \(did you mean 'zero'"):
        trick(border="zeros")
