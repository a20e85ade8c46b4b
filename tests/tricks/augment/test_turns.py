"""Quarter turns and vertical flips against torch's rot90 and flip, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.augment import quarter_turn, rotate
from convclinic.tricks.augment._maps import identity
from convclinic.tricks.augment._pipeline import draw, replay
from convclinic.tricks.augment._resample import resampler
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.quarter_turn import QuarterTurn
from convclinic.tricks.augment.resized_crop import ResizedCrop
from convclinic.tricks.augment.rotate import Rotate
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.augment.vertical_flip import VerticalFlip


def noise(n: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    shape = (n, channels, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0, "noise"))
    return images.contiguous(memory_format=torch.channels_last)


def run(
    images: torch.Tensor, tricks: Sequence[object], size: tuple[int, int]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The images that come out, and everything that was drawn."""
    batch = Batch(images, torch.eye(len(images)), torch.arange(len(images)))
    drawn = draw(batch, tricks, lambda name: generator(2, name))
    params = {name: value for _, own in drawn for name, value in own.items()}
    return replay(batch, drawn, size).images, params


@pytest.mark.parametrize("channels", [1, 3])
def test_square_images_are_turned_bit_for_bit(channels: int) -> None:
    images = noise(20, 9, 9, channels)
    kept = images.clone()
    out, drawn = run(images, (QuarterTurn(),), (9, 9))
    assert set(drawn["turns"].tolist()) == {0, 1, 2, 3}
    for image, ours, turns in zip(images, out, drawn["turns"].tolist(), strict=True):
        assert torch.equal(ours, image.rot90(turns, (1, 2)) / 255)
    assert torch.equal(images, kept)


def test_other_images_are_turned_by_half_or_not() -> None:
    images = noise(40, 6, 10)
    out, drawn = run(images, (QuarterTurn(),), (6, 10))
    for image, ours, turns in zip(images, out, drawn["turns"].tolist(), strict=True):
        assert torch.equal(ours, image.rot90(2 * (turns % 2), (1, 2)) / 255)


@pytest.mark.parametrize(("height", "width"), [(20, 20), (20, 36)])
def test_a_turned_crop_is_the_crop_turned(height: int, width: int) -> None:
    """The turn comes last and costs nothing: the crop is cut and antialiased as without it."""
    images = noise(16, height, width)
    crops, _ = run(images, (ResizedCrop(),), (12, 12))
    out, drawn = run(images, (ResizedCrop(), QuarterTurn()), (12, 12))
    for crop, ours, turns in zip(crops, out, drawn["turns"].tolist(), strict=True):
        assert torch.equal(ours, crop.rot90(turns, (1, 2)))


def test_with_flips_a_square_lies_in_all_eight_ways() -> None:
    images = noise(1, 5, 5).expand(200, 3, 5, 5)
    out, _ = run(images, (Flip(), VerticalFlip(), QuarterTurn()), (5, 5))
    assert len(out.flatten(1).unique(dim=0)) == 8
    again, _ = run(images, (Flip(), QuarterTurn()), (5, 5))
    assert len(again.flatten(1).unique(dim=0)) == 8


def test_a_turn_and_black_borders_go_together() -> None:
    images = noise(30, 8, 8).clamp(min=1)
    shifted, _ = run(images, (Shift(3, "zero"),), (8, 8))
    out, drawn = run(images, (Shift(3, "zero"), QuarterTurn()), (8, 8))
    assert (shifted == 0).any()
    for before, ours, turns in zip(shifted, out, drawn["turns"].tolist(), strict=True):
        assert torch.equal(ours, before.rot90(turns, (1, 2)))


def test_turns_among_rotations_still_turn() -> None:
    """A batch that needs interpolation: the turned images come from the same values."""
    images = noise(8, 15, 15)
    maps = rotate.matrix(torch.full((8,), 0.3, dtype=torch.float64), 15, 15)
    maps[1::2] = maps[1::2] @ quarter_turn.matrix(torch.ones(4, dtype=torch.int64), 15, 15)
    maps[2::4] = quarter_turn.matrix(torch.ones(2, dtype=torch.int64), 15, 15)
    out = resampler(images, maps, (15, 15))(slice(0, 8)).float()
    assert torch.allclose(out[2::4], images[2::4].float().rot90(1, (2, 3)), atol=0.01)


def test_maps_without_extent_end() -> None:
    """Nothing to see, but no endless turning either."""
    nowhere = identity(1) * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert resampler(noise(1, 4, 4), nowhere, (4, 4))(slice(0, 1)).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("turns", range(4))
def test_a_turn_is_that_rotation_and_four_are_none(turns: int) -> None:
    maps = quarter_turn.matrix(torch.tensor([turns]), 7, 7)
    angle = torch.tensor([turns * math.pi / 2], dtype=torch.float64)
    assert torch.allclose(maps, Rotate().matrix({"radians": angle}, 7, 7), atol=1e-12)
    assert torch.equal(torch.linalg.matrix_power(maps, 4), identity(1))


def test_p_is_the_share_whose_direction_is_drawn() -> None:
    turns = quarter_turn.sample(generator(0), 8000, 0.4)["turns"]
    share = torch.bincount(turns, minlength=4) / 8000
    assert torch.allclose(share, torch.tensor([0.7, 0.1, 0.1, 0.1]), atol=0.02)


def test_vertical_flips_are_torchs() -> None:
    images = noise(20, 6, 9)
    out, drawn = run(images, (VerticalFlip(0.3), ColourJitter(0, 0, 0, 0)), (6, 9))
    assert 0 < drawn["flip"].sum() < 20
    for image, ours, flipped in zip(images, out, drawn["flip"].tolist(), strict=True):
        assert torch.allclose(ours, (image.flip(1) if flipped else image) / 255, atol=1e-6)


@pytest.mark.parametrize("wrong", [lambda: VerticalFlip(p=1.1), lambda: QuarterTurn(p=math.nan)])
def test_impossible_shares_are_refused_in_words(wrong: object) -> None:
    with pytest.raises(ConvclinicError, match=r"\w+\.p is .*\("):
        wrong()
