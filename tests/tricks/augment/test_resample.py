"""Every way of resampling against Pillow, numpy and torch's own operators."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from convclinic.ground.rng import generator
from convclinic.tricks.augment._maps import identity
from convclinic.tricks.augment._pipeline import resize
from convclinic.tricks.augment._resample import mirrored, resampler
from convclinic.tricks.augment.rotate import Rotate

few = settings(max_examples=25, deadline=None, derandomize=True)


def noise(n: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    shape = (n, channels, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0, "noise"))
    return images.contiguous(memory_format=torch.channels_last)


def smooth(n: int, height: int, width: int) -> torch.Tensor:
    small = torch.rand((n, 3, 5, 5), generator=generator(0, "smooth"))
    large = F.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)
    return (large * 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def array(image: torch.Tensor) -> NDArray[np.uint8]:
    return image.permute(1, 2, 0).numpy()


def seen_through(images: torch.Tensor, maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return resampler(images, maps, size)(slice(0, len(images))).float()


def box_map(top: float, bottom: float, left: float, right: float, height: int, width: int) -> torch.Tensor:
    maps = identity(1)
    maps[:, 0, 0], maps[:, 0, 2] = (right - left) / width, (right + left) / width - 1
    maps[:, 1, 1], maps[:, 1, 2] = (bottom - top) / height, (bottom + top) / height - 1
    return maps


@few
@given(st.integers(-30, 30), st.integers(1, 9))
def test_the_mirror_is_numpys(position: int, n: int) -> None:
    expected = np.pad(np.arange(n), 40, mode="reflect")[40 + position] if n > 1 else 0
    assert int(mirrored(torch.tensor([position]), n)) == expected


@pytest.mark.parametrize("size", [(10, 12), (50, 60)])
def test_boxes_between_pixels_are_pillows(size: tuple[int, int]) -> None:
    images = noise(1, 60, 72)
    left, top, right, bottom = 10.3, 8.6, 58.9, 44.2
    ours = seen_through(images, box_map(top, bottom, left, right, 60, 72), size)[0]
    picture = Image.fromarray(array(images[0]))
    expected = picture.resize(size[::-1], Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    assert np.abs(array(ours) - np.asarray(expected, dtype=float)).max() <= 2


def test_boxes_beyond_the_border_show_the_mirror_image() -> None:
    images = noise(1, 12, 12)
    padded = np.pad(array(images[0]), ((6, 6), (6, 6), (0, 0)), mode="reflect")
    ours = seen_through(images, box_map(-6, 18, -6, 18, 12, 12), (24, 24))[0]
    assert np.abs(array(ours) - padded.astype(float)).max() < 1e-3


def test_rotation_is_pillows_and_turns_the_same_way() -> None:
    images = smooth(1, 41, 61)
    angle = 17.0
    maps = Rotate().matrix({"radians": torch.tensor([math.radians(angle)])}, 41, 61)
    ours = array(seen_through(images, maps, (41, 61))[0])
    picture = Image.fromarray(array(images[0]))
    expected = np.asarray(picture.rotate(angle, Image.Resampling.BILINEAR), dtype=float)
    inner = (slice(10, -10), slice(18, -18))
    assert np.abs(ours[inner] - expected[inner]).max() <= 2
    assert np.abs(ours[inner] - array(images[0])[inner]).max() > 20


def test_a_quarter_turn_is_exact() -> None:
    images = noise(2, 15, 15)
    maps = Rotate().matrix({"radians": torch.full((2,), math.pi / 2, dtype=torch.float64)}, 15, 15)
    assert torch.allclose(seen_through(images, maps, (15, 15)), images.rot90(1, (2, 3)).float(), atol=0.01)


def test_general_maps_are_torchs_affine_grid() -> None:
    images = noise(3, 30, 40)
    maps = identity(3)
    maps[:, :2] += 0.2 * (torch.rand((3, 2, 3), generator=generator(4), dtype=torch.float64) - 0.5)
    maps[:, :2, :2] *= 0.6
    ours = seen_through(images, maps, (32, 32))
    grid = F.affine_grid(maps[:, :2].float(), [3, 3, 32, 32], align_corners=False)
    assert grid.abs().max() < 0.95
    expected = F.grid_sample(images.float(), grid, align_corners=False)
    assert torch.allclose(ours, expected, atol=0.02)


def test_perspective_divides_by_the_third_coordinate() -> None:
    maps = identity(1) * 2
    tilted = seen_through(noise(1, 9, 9), maps, (9, 9))
    assert torch.allclose(tilted, noise(1, 9, 9).float(), atol=0.01)


def test_every_path_reflects_alike() -> None:
    """The same whole-pixel shift by copying, by weights and by interpolation."""
    images = noise(1, 10, 14)
    exact = box_map(3, 13, -4, 10, 10, 14)
    nearly, tilted = exact.clone(), exact.clone()
    nearly[:, 0, 2] += 1e-5
    tilted[:, 0, 1] += 1e-6
    first = seen_through(images, exact, (10, 14))
    for other in (nearly, tilted):
        assert torch.allclose(seen_through(images, other, (10, 14)), first, atol=0.05)


@pytest.mark.parametrize("axis", [2, 3])
def test_shrinking_does_not_alias_on_any_path(axis: int) -> None:
    """Stripes one pixel wide are gray at a quarter of their size, whichever way they are resampled."""
    stripes = (torch.arange(64) % 2 * 255).to(torch.uint8)
    images = (stripes[:, None] if axis == 2 else stripes).expand(1, 3, 64, 64)
    nearly, tilted = identity(1), identity(1)
    nearly[:, :2, 2] += 1 / 64  # half a pixel, so that no two taps meet by chance
    tilted[:, :2, 2] += 1 / 64
    tilted[:, 0, 1] += 1e-4
    for maps in (identity(1), nearly, tilted):
        out = seen_through(images.contiguous(), maps, (16, 16))[..., 1:-1, 1:-1]
        assert (out - 127.5).abs().max() < 12


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (50, 70), (30, 7)])
def test_resize_is_pillows(size: tuple[int, int], channels: int) -> None:
    images = noise(3, 33, 47, channels)
    out = resize(images, size)
    assert out.dtype == torch.uint8 and out.shape == (3, channels, *size)
    for before, after in zip(images, out, strict=True):
        picture = Image.fromarray(array(before).squeeze())
        expected = np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR), dtype=int)
        assert np.abs(array(after).squeeze().astype(int) - expected).max() <= 1


def test_resize_to_the_same_size_is_the_same_tensor() -> None:
    images = noise(3, 9, 9)
    assert resize(images, (9, 9)) is images


@pytest.mark.parametrize("threads", [1, 2])
def test_images_are_resized_alike_where_nothing_is_differentiated(threads):
    """Inference mode is kept per thread: the threads that share a batch must have it too."""
    images = torch.randint(0, 256, (6, 3, 20, 14), dtype=torch.uint8)
    expected, before = resize(images, (10, 8)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            assert torch.equal(resize(images, (10, 8)), expected)
    finally:
        torch.set_num_threads(before)
