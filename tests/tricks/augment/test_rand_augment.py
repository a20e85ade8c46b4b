"""RandAugment: each operation against Pillow's, and the way they are drawn, taken apart and put together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.augment import _retouch
from convclinic.tricks.augment._pipeline import draw, in_order, replay
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.cutout import Cutout
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.rand_augment import OPS, RandAugment, colour_factors
from convclinic.tricks.augment.shift import Shift


def noise(n: int, height: int, width: int, channels: int = 3, low: int = 0, high: int = 256) -> torch.Tensor:
    shape = (n, channels, height, width)
    return torch.randint(low, high, shape, dtype=torch.uint8, generator=generator(0, "noise"))


def smooth(n: int, height: int, width: int) -> torch.Tensor:
    small = torch.rand((n, 3, 5, 5), generator=generator(0, "smooth"))
    large = F.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)
    return (large * 255).to(torch.uint8)


def picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy().squeeze())


def levels(image: torch.Tensor) -> NDArray[np.float64]:
    return (image.permute(1, 2, 0).double().numpy() * 255).squeeze()


def as_batch(images: torch.Tensor) -> Batch:
    return Batch(images, torch.eye(len(images)), torch.arange(len(images)))


def once(images: torch.Tensor, op: str, magnitude: float) -> tuple[torch.Tensor, list[int]]:
    """The images after one operation, through the pipeline, and the signs that were drawn."""
    batch = as_batch(images)
    trick = RandAugment(n_ops=1, magnitude=magnitude, ops=(op,))
    drawn = draw(batch, (trick,), lambda name: generator(0, name))
    signs = drawn[0][1]["sign"][:, 0].tolist()
    assert set(signs) == {-1, 1}
    return replay(batch, drawn, (images.shape[2], images.shape[3])).images, signs


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bounds", [(0, 256), (90, 140), (7, 8)])
def test_autocontrast_is_pillows(bounds: tuple[int, int], channels: int) -> None:
    """Pillow rounds down; a flat channel stays."""
    images = noise(2, 9, 13, channels, *bounds)
    for image, ours in zip(images, _retouch.autocontrast(images / 255), strict=True):
        above = levels(ours) - np.asarray(ImageOps.autocontrast(picture(image)), dtype=float)
        assert above.min() > -1e-3 and above.max() < 1 + 1e-3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("images", [(0, 256, 40, 30), (90, 140, 40, 30), (7, 8, 40, 30), (0, 256, 5, 6)])
def test_equalize_is_pillows(images: tuple[int, int, int, int], channels: int) -> None:
    """Also of a flat channel and of one with too few pixels, which both stay."""
    low, high, height, width = images
    given = noise(2, height, width, channels, low, high)
    for image, ours in zip(given, _retouch.equalize(given / 255), strict=True):
        expected = np.asarray(ImageOps.equalize(picture(image)), dtype=float)
        np.testing.assert_allclose(levels(ours), expected, atol=1e-3)


def test_equalize_of_a_photograph_like_image_is_pillows() -> None:
    given = smooth(2, 64, 48)
    for image, ours in zip(given, _retouch.equalize(given / 255), strict=True):
        expected = np.asarray(ImageOps.equalize(picture(image)), dtype=float)
        np.testing.assert_allclose(levels(ours), expected, atol=1e-3)


@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8])
def test_posterize_is_pillows(bits: int) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    expected = np.asarray(ImageOps.posterize(picture(every[0]), bits), dtype=float)
    np.testing.assert_allclose(levels(_retouch.posterize(every / 255, bits)[0]), expected, atol=1e-3)


@pytest.mark.parametrize("threshold", [0, 1, 100, 128, 255, 256])
def test_solarize_is_pillows(threshold: int) -> None:
    """Also of levels that earlier steps have left a rounding error beside their place."""
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    expected = np.asarray(ImageOps.solarize(picture(every[0]), threshold), dtype=float)
    for error in (-1e-6, 0, 1e-6):
        ours = _retouch.solarize(every / 255 + error, threshold)
        np.testing.assert_allclose(levels(ours[0]), expected, atol=1e-3)


@pytest.mark.parametrize("size", [(11, 14), (3, 3), (2, 5), (1, 1)])
def test_sharpness_is_pillows(size: tuple[int, int]) -> None:
    """Pillow rounds the smoothed image, and rounds down what it blends: up to 1.5 levels apart."""
    images = noise(4, *size)
    factors = [0.0, 0.3, 1.0, 1.9]
    ours = _retouch.sharpen(images / 255, torch.tensor(factors))
    for image, factor, out in zip(images, factors, ours, strict=True):
        expected = np.asarray(ImageEnhance.Sharpness(picture(image)).enhance(factor), dtype=float)
        assert np.abs(levels(out).reshape(expected.shape) - expected).max() < 1.51


@pytest.mark.parametrize(
    ("op", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("colour", ImageEnhance.Color),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_pillows_by_factors_on_both_sides_of_one(op: str, enhancer: type) -> None:
    images = smooth(8, 20, 30)
    out, signs = once(images, op, 6.0)
    for image, ours, sign in zip(images, out, signs, strict=True):
        expected = np.asarray(enhancer(picture(image)).enhance(1 + sign * 0.9 * 0.6), dtype=float)
        assert np.abs(levels(ours) - expected).max() <= 2
        assert np.abs(expected - image.permute(1, 2, 0).numpy()).max() > (5 if op == "sharpness" else 15)


@pytest.mark.parametrize(
    ("op", "magnitude", "expected"),
    [
        ("posterize", 10.0, lambda image: ImageOps.posterize(image, 4)),
        ("posterize", 9.0, lambda image: ImageOps.posterize(image, 4)),
        ("posterize", 5.0, lambda image: ImageOps.posterize(image, 6)),
        ("posterize", 30.0, lambda image: ImageOps.posterize(image, 1)),
        ("solarize", 5.0, lambda image: ImageOps.solarize(image, 128)),
        ("solarize", 10.0, ImageOps.invert),
        ("solarize", 30.0, ImageOps.invert),
        ("equalize", 3.0, ImageOps.equalize),
        ("identity", 9.0, lambda image: image),
    ],
)
def test_pixel_operations_by_magnitude(op: str, magnitude: float, expected: object) -> None:
    images = noise(6, 40, 30)
    out, _ = once(images, op, magnitude)
    for image, ours in zip(images, out, strict=True):
        wanted = np.asarray(expected(picture(image)), dtype=float)
        np.testing.assert_allclose(levels(ours), wanted, atol=1e-3)


def test_rotation_is_pillows() -> None:
    images = smooth(6, 41, 61)
    out, signs = once(images, "rotate", 5.0)
    inner = (slice(12, -12), slice(12, -12))
    for image, ours, sign in zip(images, out, signs, strict=True):
        expected = picture(image).rotate(15 * sign, Image.Resampling.BILINEAR)
        assert np.abs(levels(ours)[inner] - np.asarray(expected, dtype=float)[inner]).max() <= 2


@pytest.mark.parametrize(
    ("op", "affine"),
    [
        ("shear_x", lambda amount: (1, 0.3 * amount, 0, 0, 1, 0)),
        ("shear_y", lambda amount: (1, 0, 0, 0.3 * amount, 1, 0)),
        ("translate_x", lambda amount: (1, 0, 150 / 331 * amount * 61, 0, 1, 0)),
        ("translate_y", lambda amount: (1, 0, 0, 0, 1, 150 / 331 * amount * 41)),
    ],
)
def test_shears_and_translations_are_pillows_about_the_centre(op: str, affine: object) -> None:
    """Pillow's coefficients (a, b, c, d, e, f) map output to input pixels counted from the corner."""
    images = smooth(6, 41, 61)
    out, signs = once(images, op, 5.0)
    for image, ours, sign in zip(images, out, signs, strict=True):
        a, b, c, d, e, f = affine(0.5 * sign)
        c, f = c + (1 - a) * 30.5 - b * 20.5, f - d * 30.5 + (1 - e) * 20.5
        coefficients = (a, b, c, d, e, f)
        arguments = (Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        expected = np.asarray(picture(image).transform((61, 41), *arguments), dtype=float)
        frame = Image.new("L", (61, 41))
        frame.paste(255, (1, 1, 60, 40))  # at the very edge Pillow repeats a pixel and we reflect
        inside = np.asarray(frame.transform((61, 41), *arguments)) == 255
        assert 0.5 < inside.mean() < 1
        assert np.abs(levels(ours) - expected)[inside].max() <= 2


def test_operations_are_drawn_alike_and_only_from_those_allowed() -> None:
    batch = Batch(torch.zeros(14_000, 3, 1, 1), torch.zeros(14_000, 1), torch.arange(14_000))
    drawn = RandAugment(n_ops=2).sample(generator(0), batch)
    for k in range(2):
        share = torch.bincount(drawn["op"][:, k], minlength=len(OPS)) / 14_000
        assert len(share) == len(OPS) == 14
        assert torch.allclose(share, torch.full((14,), 1 / 14), atol=0.01)
    assert abs(drawn["sign"].float().mean().item()) < 0.02
    few = RandAugment(ops=("shear_x", "equalize")).sample(generator(0), batch)
    assert set(few["op"].flatten().tolist()) == {OPS.index("shear_x"), OPS.index("equalize")}


def test_an_image_is_changed_by_what_it_drew_alone() -> None:
    images = smooth(40, 24, 24)
    batch = as_batch(images)
    trick = RandAugment(ops=("identity", "solarize", "equalize", "autocontrast", "brightness"))
    drawn = draw(batch, (trick,), lambda name: generator(3, name))
    together = replay(batch, drawn, (24, 24)).images
    for i in range(40):
        mine = [(part, {name: value[i : i + 1] for name, value in params.items()}) for part, params in drawn]
        alone = replay(as_batch(images[i : i + 1]), mine, (24, 24)).images
        assert torch.allclose(together[i : i + 1], alone, atol=1e-6)
    still = (drawn[0][1]["op"] == OPS.index("identity")).all(1)
    assert 0 < still.sum() < 40
    assert torch.allclose(together[still], images[still] / 255, atol=1e-6)


def test_retouches_follow_each_other_as_drawn() -> None:
    images = smooth(1, 24, 24) / 255
    steps = {"equalize": _retouch.equalize, "solarize": lambda x: _retouch.solarize(x, 128)}
    for first, second in (("solarize", "equalize"), ("equalize", "solarize")):
        op = torch.tensor([[OPS.index(first), OPS.index(second)]])
        *_, (part, own) = RandAugment(magnitude=5.0).parts({"op": op, "sign": torch.ones_like(op)})
        assert torch.equal(part.apply(images, own), steps[second](steps[first](images)))
    assert not torch.allclose(steps["equalize"](steps["solarize"](images)), part.apply(images, own))


def test_every_draw_has_a_sign_of_its_own() -> None:
    images = noise(1, 9, 9) / 255
    op = torch.tensor([[OPS.index("sharpness")] * 2])
    *_, (part, own) = RandAugment(magnitude=5.0).parts({"op": op, "sign": torch.tensor([[1, -1]])})
    once = _retouch.sharpen(images, torch.tensor([1.45]))
    assert torch.allclose(part.apply(images, own), _retouch.sharpen(once, torch.tensor([0.55])), atol=1e-6)


def test_colour_factors_of_several_draws_multiply() -> None:
    op = torch.tensor([[OPS.index(name) for name in ("brightness", "contrast", "brightness", "colour")]])
    factors = colour_factors(op, torch.tensor([[1, -1, -1, 1]]), 0.5)
    assert factors[0].tolist() == pytest.approx([1.45 * 0.55, 0.55, 1.45])


def test_geometry_drawn_twice_is_one_map() -> None:
    params = {
        "op": torch.tensor([[OPS.index("rotate"), OPS.index("rotate")], [OPS.index("shear_x")] * 2]),
        "sign": torch.tensor([[1, 1], [1, 1]]),
    }
    (part, own), *_ = RandAugment(magnitude=10.0).parts(params)
    turned, sheared = part.matrix(own, 20, 20)
    assert turned[0, 0].item() == pytest.approx(math.cos(math.radians(60)))
    assert sheared[0, 1].item() == pytest.approx(0.6)


def test_no_magnitude_moves_and_tints_nothing() -> None:
    trick = RandAugment(n_ops=4, magnitude=0.0)
    batch = as_batch(noise(30, 8, 8))
    (moves, own), (enhancements, _), _ = trick.parts(trick.sample(generator(0), batch))
    assert torch.equal(moves.matrix(own, 8, 8), torch.eye(3, dtype=torch.float64).expand(30, 3, 3))
    maps = enhancements.matrix(own, torch.rand((30, 3), generator=generator(1)))
    assert torch.equal(maps, torch.eye(3, 4).expand(30, 3, 4))


def test_a_policy_keeps_its_written_place_within_each_kind() -> None:
    tricks = (Cutout(), ColourJitter(), Shift(), RandAugment(), Flip())
    assert in_order(tricks) == (Shift(), RandAugment(), Flip(), ColourJitter(), Cutout())
    drawn = draw(as_batch(noise(4, 8, 8)), tricks, lambda name: generator(0, name))
    names = [type(part).__name__ for part, _ in drawn]
    assert names == ["Shift", "Moves", "Flip", "ColourJitter", "Enhancements", "Cutout", "Retouches"]


@pytest.mark.parametrize("channels", [1, 3])
def test_it_works_on_small_gray_and_large_batches_alike(channels: int) -> None:
    images = noise(64, 12, 9, channels)
    kept = images.clone()
    batch = as_batch(images)
    out = replay(batch, draw(batch, (RandAugment(n_ops=3),), lambda name: generator(0, name)), (12, 9)).images
    assert out.shape == images.shape and out.min() >= 0 and out.max() <= 1
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RandAugment(n_ops=-1),
        lambda: RandAugment(magnitude=31.0),
        lambda: RandAugment(ops=()),
        lambda: RandAugment(ops=("rotat",)),
    ],
)
def test_impossible_options_are_refused_in_words(wrong: object) -> None:
    with pytest.raises(ConvclinicError, match=r"rand_augment\.\w+ is .*\("):
        wrong()
