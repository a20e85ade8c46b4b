"""The pipeline against Pillow, numpy and torch's own operators."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.augment._pipeline import augment, draw, in_order, replay
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.cutout import Cutout
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.resized_crop import ResizedCrop
from convclinic.tricks.augment.rotate import Rotate
from convclinic.tricks.augment.scale import Scale
from convclinic.tricks.augment.shift import Shift

LEVEL = 1 / 255
ALL = (Shift(), Flip(), Scale(), ResizedCrop(), Rotate(), ColourJitter(), Cutout())


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def noise(n: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    shape = (n, channels, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0, "noise"))
    return images.contiguous(memory_format=torch.channels_last)


def smooth(n: int, height: int, width: int) -> torch.Tensor:
    small = torch.rand((n, 3, 5, 5), generator=generator(0, "smooth"))
    large = F.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)
    return (large * 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def as_batch(images: torch.Tensor) -> Batch:
    return Batch(images, torch.eye(len(images)), torch.arange(len(images)))


def run(images: torch.Tensor, tricks: Sequence[object], size: tuple[int, int]) -> torch.Tensor:
    return augment(as_batch(images), tricks, lambda name: generator(7, name), size).images


def array(image: torch.Tensor) -> NDArray[np.uint8]:
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("tricks", [(), (Shift(pixels=0),), (Flip(p=0.0), Shift(pixels=0))])
@pytest.mark.parametrize("channels", [1, 3])
def test_without_strength_only_the_division_is_left(tricks: tuple[object, ...], channels: int) -> None:
    images = noise(4, 9, 12, channels)
    assert torch.equal(run(images, tricks, (9, 12)), images.float() / 255)


def test_shift_and_flip_copy_pixels_exactly() -> None:
    images = noise(40, 8, 11)
    batch = as_batch(images)
    drawn = draw(batch, (Shift(pixels=3), Flip()), lambda name: generator(1, name))
    out = replay(batch, drawn, (8, 11)).images
    (_, moves), (_, flips) = drawn
    for i in range(40):
        padded = np.pad(array(images[i]), ((3, 3), (3, 3), (0, 0)), mode="reflect")
        y, x = 3 + int(moves["dy"][i]), 3 + int(moves["dx"][i])
        expected = padded[y : y + 8, x : x + 11]
        if flips["flip"][i]:
            expected = expected[:, ::-1]
        assert torch.equal(out[i], torch.tensor(expected.copy()).permute(2, 0, 1).float() / 255)


def test_composition_is_one_after_another_where_no_border_is_seen() -> None:
    images = noise(16, 16, 16)
    batch = as_batch(images)
    tricks = (Shift(pixels=2), Flip(), Shift(pixels=3))
    drawn = draw(batch, tricks, lambda name: generator(2, name))
    together = replay(batch, drawn, (16, 16)).images
    one_by_one = images
    for item in drawn:
        step = replay(as_batch(one_by_one), [item], (16, 16)).images
        one_by_one = (step * 255).round().to(torch.uint8)
    inner = (..., slice(5, -5), slice(5, -5))
    assert torch.equal(together[inner], one_by_one[inner].float() / 255)


@pytest.mark.parametrize("size", [(24, 24), (40, 40), (13, 50)])
def test_crops_are_pillows(size: tuple[int, int]) -> None:
    images = noise(12, 36, 48)
    batch = as_batch(images)
    drawn = draw(batch, (ResizedCrop(), Flip()), lambda name: generator(3, name))
    out = replay(batch, drawn, size).images
    for i in range(12):
        box = drawn[0][1]["box"][i] * torch.tensor([36, 36, 48, 48])
        top, bottom, left, right = (round(v) for v in box.tolist())
        crop = Image.fromarray(array(images[i])).crop((left, top, right, bottom))
        expected = np.asarray(crop.resize(size[::-1], Image.Resampling.BILINEAR))
        if drawn[1][1]["flip"][i]:
            expected = expected[:, ::-1]
        assert np.abs(array(out[i]) - expected / 255).max() <= 2 * LEVEL


def test_colour_maps_are_applied_per_pixel_and_clipped_once() -> None:
    images = noise(5, 7, 9)
    batch = as_batch(images)
    tricks = (ColourJitter(0.5, 0.5, 0.5, 0.1), ColourJitter(0.3, 0.3, 0.3, 0.0))
    drawn = draw(batch, tricks, lambda name: generator(5, name))
    out = replay(batch, drawn, (7, 9)).images
    for i in range(5):
        pixels = array(images[i]).reshape(-1, 3) / 255
        for trick, params in drawn:
            one = {name: value[i : i + 1] for name, value in params.items()}
            mean = torch.tensor(pixels.mean(0))[None].float()
            maps = trick.matrix(one, mean)[0].double().numpy()  # type: ignore[attr-defined]
            pixels = pixels @ maps[:, :3].T + maps[:, 3]
        expected = pixels.clip(0, 1).reshape(7, 9, 3)
        np.testing.assert_allclose(array(out[i]), expected, atol=3e-6)
    assert (out == 0).any() and (out == 1).any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(20, 20), (30, 30), (24, 32)])
@pytest.mark.parametrize("trick", [*ALL, None], ids=lambda trick: type(trick).__name__)
def test_shape_type_layout_and_range(trick: object | None, size: tuple[int, int], channels: int) -> None:
    images = noise(6, 24, 32, channels)
    kept = images.clone()
    out = run(images, ALL if trick is None else (trick,), size)
    assert out.shape == (6, channels, *size)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    "tricks", [(Shift(), Flip()), ALL, (ResizedCrop(), Flip(), ColourJitter(), Cutout())]
)
def test_threads_and_slices_change_nothing(tricks: tuple[object, ...]) -> None:
    images = smooth(31, 40, 52)
    outs = []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        outs.append(run(images, tricks, (33, 33)))
        assert torch.get_num_threads() == n_threads
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])


def test_the_order_of_the_batch_does_not_matter() -> None:
    images = smooth(12, 24, 30)
    batch = as_batch(images)
    drawn = draw(batch, ALL, lambda name: generator(6, name))
    order = torch.randperm(12, generator=generator(0))
    mixed = [(trick, {name: value[order] for name, value in params.items()}) for trick, params in drawn]
    out = replay(as_batch(images[order]), mixed, (20, 20)).images
    assert torch.allclose(out, replay(batch, drawn, (20, 20)).images[order], atol=1e-5)


def test_a_failing_trick_leaves_the_number_of_threads_alone() -> None:
    torch.set_num_threads(2)
    batch = as_batch(noise(4, 8, 8))
    with pytest.raises(KeyError):
        replay(batch, [(Cutout(), {})], (8, 8))
    assert torch.get_num_threads() == 2


def test_each_trick_draws_from_its_own_stream() -> None:
    batch = as_batch(noise(8, 8, 8))
    asked: list[str] = []

    def rng_for(name: str) -> torch.Generator:
        asked.append(name)
        return generator(0, name)

    alone = draw(batch, (Flip(),), rng_for)
    among = draw(batch, (Cutout(), Shift(), Cutout(), Flip()), rng_for)
    assert sorted(asked) == ["cutout", "cutout.2", "flip", "flip", "shift"]
    assert torch.equal(alone[0][1]["flip"], among[1][1]["flip"])
    assert not torch.equal(among[2][1]["centre"], among[3][1]["centre"])


def test_kinds_run_in_order_and_strangers_are_refused() -> None:
    tricks = (Cutout(), ColourJitter(), Rotate(), Flip())
    assert in_order(tricks) == (Rotate(), Flip(), ColourJitter(), Cutout())
    with pytest.raises(ConvclinicError, match="str is no augmentation"):
        in_order((Flip(), "flip"))


def test_after_a_crop_pixels_are_those_of_the_output() -> None:
    """A rotation after a crop that changes the shape stays a rotation of the output's pixels."""
    images = smooth(1, 40, 80)
    batch = as_batch(images)
    crop = ResizedCrop(1.0, 1.0, 1.0)
    turn = {"radians": torch.tensor([math.pi / 2], dtype=torch.float64)}
    whole = {"box": torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=torch.float64)}
    out = replay(batch, [(crop, whole), (Rotate(), turn)], (40, 40)).images
    expected = replay(batch, [(crop, whole)], (40, 40)).images.rot90(1, (2, 3))
    assert torch.allclose(out, expected, atol=3 * LEVEL)


def test_an_empty_batch_stays_empty() -> None:
    assert run(noise(0, 8, 8), ALL, (8, 8)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "tricks", [(), (Shift(),), (ColourJitter(),), (Flip(), ColourJitter(), Cutout())], ids=len
)
def test_what_comes_after_may_join_the_last_pass(channels: int, tricks: tuple[object, ...]) -> None:
    """Also where a colour is clipped: the ends of the range move with the scale."""
    images = torch.randint(0, 256, (6, channels, 12, 16), dtype=torch.uint8, generator=generator(0))
    given = Batch(images, torch.zeros(6, 2), torch.arange(6))
    scale = torch.linspace(2.0, -4.0, channels)  # a negative one too
    offset = torch.linspace(0.5, -1.0, channels)
    size = (12, 16)
    apart = augment(given, tricks, lambda name: generator(1, name), size).images
    joined = augment(given, tricks, lambda name: generator(1, name), size, (scale, offset)).images
    assert torch.allclose(joined, apart * scale[:, None, None] + offset[:, None, None], atol=1e-5)
    assert joined.is_contiguous(memory_format=torch.channels_last)
