"""Each augmentation against its law or an outside formula."""

from __future__ import annotations

import colorsys
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.augment import colour_jitter, cutout, flip, resized_crop, rotate, scale, shift
from convclinic.tricks.augment.alternating_flip import AlternatingFlip
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.cutout import Cutout
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.resized_crop import ResizedCrop
from convclinic.tricks.augment.rotate import Rotate
from convclinic.tricks.augment.scale import Scale
from convclinic.tricks.augment.shift import Shift

few = settings(max_examples=30, deadline=None, derandomize=True)
LUMA = np.array([0.299, 0.587, 0.114])


def batch(n: int = 64, epoch: int = 0) -> Batch:
    images = torch.zeros((n, 3, 8, 8), dtype=torch.uint8)
    return Batch(images, torch.eye(n), torch.arange(n), epoch=epoch)


def colours(n: int) -> torch.Tensor:
    return torch.rand((n, 3), generator=generator(1, "colours"))


def through(maps: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """(b, 3): each image's colour through its own map."""
    return (maps[..., :3] @ colour[..., None])[..., 0] + maps[..., 3]


def one_step(which: int, value: float, mean: torch.Tensor) -> torch.Tensor:
    settings_ = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(len(mean), 1)
    settings_[:, which] = value
    return colour_jitter.matrix(settings_[:, :3], settings_[:, 3], mean)


def test_flip_takes_its_share_and_twice_is_nothing() -> None:
    flipped = flip.sample(generator(0, "flip"), 4000, 0.3)["flip"]
    assert 0.27 < flipped.float().mean().item() < 0.33
    maps = flip.matrix(flipped)
    assert torch.equal(maps @ maps, torch.eye(3, dtype=torch.float64).expand_as(maps))


def test_alternating_flip_shows_every_image_both_ways_in_any_two_epochs() -> None:
    seen = [AlternatingFlip(seed=3).sample(generator(0, e), batch(2000, epoch=e))["flip"] for e in range(4)]
    assert torch.equal(seen[0], ~seen[1])
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert 0.46 < seen[0].float().mean().item() < 0.54


def test_alternating_flip_goes_by_the_index_and_the_seed_alone() -> None:
    whole = batch(2000)
    order = torch.randperm(2000, generator=generator(0, "order"))
    mixed = Batch(whole.images, whole.targets, whole.indices[order])
    first = AlternatingFlip(seed=3).sample(generator(0), whole)["flip"]
    assert torch.equal(AlternatingFlip(seed=3).sample(generator(9), mixed)["flip"], first[order])
    other = AlternatingFlip(seed=4).sample(generator(0), whole)["flip"]
    assert 0.45 < (first == other).float().mean().item() < 0.55


def test_shift_draws_every_whole_move() -> None:
    moves = shift.sample(generator(0, "shift"), 2000, 2)
    pairs = {(int(a), int(b)) for a, b in zip(moves["dy"], moves["dx"], strict=True)}
    assert pairs == {(a, b) for a in range(-2, 3) for b in range(-2, 3)}


@few
@given(
    st.integers(2, 400),
    st.integers(2, 400),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.floats(1, 3),
    st.integers(0, 99),
)
def test_crops_lie_inside_on_whole_pixels(
    height: int, width: int, low: float, more: float, aspect: float, seed: int
) -> None:
    areas = (low, low + (1 - low) * more)
    box = resized_crop.sample(generator(seed), 16, (height, width), areas, aspect)["box"]
    top, bottom, left, right = box.T
    assert (box >= 0).all() and (box <= 1).all()
    assert (top < bottom).all() and (left < right).all()
    edges = box * torch.tensor([height, height, width, width])
    assert torch.allclose(edges, edges.round(), atol=1e-9, rtol=0)


def test_crops_have_the_areas_and_aspects_asked_for() -> None:
    box = resized_crop.sample(generator(0, "crop"), 5000, (1000, 1000), (0.2, 0.5), 4 / 3)["box"]
    height, width = box[:, 1] - box[:, 0], box[:, 3] - box[:, 2]
    area, aspect = height * width, width / height
    assert 0.198 < area.min() < 0.21 and 0.49 < area.max() < 0.502
    assert abs(area.mean().item() - 0.35) < 0.01
    assert 0.74 < aspect.min() < 0.77 and 1.31 < aspect.max() < 1.35
    assert abs(aspect.log().mean().item()) < 0.02
    slack = (box[:, 0] / (1 - height)).mean().item()
    assert abs(slack - 0.5) < 0.02


def test_a_crop_that_never_fits_is_cut_to_the_image() -> None:
    box = resized_crop.sample(generator(0), 200, (50, 80), (1.0, 1.0), 2.0)["box"]
    assert (box >= 0).all() and (box <= 1).all()
    assert (((box[:, 1] - box[:, 0]) == 1) | ((box[:, 3] - box[:, 2]) == 1)).all()


@few
@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(2, 99), st.integers(2, 99))
def test_rotations_add_up(a: float, b: float, height: int, width: int) -> None:
    first, second, both = (
        rotate.matrix(torch.tensor([angle], dtype=torch.float64), height, width) for angle in (a, b, a + b)
    )
    assert torch.allclose(first @ second, both, atol=1e-9)


def test_rotate_and_scale_stay_in_their_ranges_and_are_centred() -> None:
    angle = rotate.sample(generator(0), 4000, 30.0)["radians"]
    assert angle.abs().max() <= math.radians(30) and angle.abs().max() > math.radians(29.5)
    assert abs(angle.mean().item()) < 0.02
    factor = scale.sample(generator(0), 4000, 0.25)["factor"]
    assert factor.min() >= 0.8 - 1e-12 and factor.max() <= 1.25 + 1e-12
    assert abs(factor.log().mean().item()) < 0.01
    assert torch.allclose(scale.matrix(factor)[:, 0, 0] * factor, torch.ones(4000, dtype=torch.float64))


def test_brightness_contrast_and_saturation_are_blends() -> None:
    """The formulas of Pillow's ImageEnhance: a blend with black, with mean gray, with the pixel's gray."""
    colour, mean = colours(50), torch.rand((50, 3), generator=generator(2))
    rgb, average = colour.double().numpy(), mean.double().numpy()
    gray, mean_gray = (rgb @ LUMA)[:, None], (average @ LUMA)[:, None]
    for which, reference in (
        (0, 0.7 * rgb),
        (1, 0.7 * rgb + 0.3 * mean_gray),
        (2, 0.7 * rgb + 0.3 * gray),
    ):
        ours = through(one_step(which, 0.7, mean), colour).numpy()
        np.testing.assert_allclose(ours, reference, atol=1e-6)


@few
@given(st.floats(-0.5, 0.5))
def test_hue_turns_the_chroma_of_yiq(turn: float) -> None:
    """Python's own YIQ as reference; its coefficients are rounded to two digits, hence the tolerance."""
    colour = colours(20)
    ours = through(one_step(3, 2 * math.pi * turn, colour), colour)
    for before, after in zip(colour.tolist(), ours.tolist(), strict=True):
        y, i, q = colorsys.rgb_to_yiq(*before)
        y_after, i_after, q_after = colorsys.rgb_to_yiq(*after)
        angle = 2 * math.pi * turn
        assert y_after == pytest.approx(y, abs=0.02)
        assert i_after == pytest.approx(i * math.cos(angle) - q * math.sin(angle), abs=0.02)
        assert q_after == pytest.approx(i * math.sin(angle) + q * math.cos(angle), abs=0.02)


def test_hue_keeps_gray_and_luma_and_a_whole_turn_is_nothing() -> None:
    gray, colour = torch.full((1, 3), 0.4), colours(20)
    assert torch.allclose(through(one_step(3, 1.0, gray), gray), gray, atol=1e-6)
    turned = through(one_step(3, 1.0, colour), colour)
    assert torch.allclose(turned @ torch.tensor(LUMA).float(), colour @ torch.tensor(LUMA).float(), atol=1e-6)
    assert torch.allclose(through(one_step(3, 2 * math.pi, colour), colour), colour, atol=1e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_one_map_is_the_four_steps_in_any_order(order: tuple[int, ...]) -> None:
    """One after another on whole images, in numpy: without clipping in between the order does not matter."""
    pixels = np.random.default_rng(0).random((3, 40, 3))
    drawn = ColourJitter(0.4, 0.5, 0.6, 0.1).sample(generator(5), batch(3))
    maps = colour_jitter.matrix(drawn["factor"], drawn["angle"], torch.tensor(pixels.mean(1)).float())
    yiq = np.array([LUMA, *colour_jitter.CHROMA])
    for i in range(3):
        expected = pixels[i]
        bright, contrast, saturation = drawn["factor"][i].double().tolist()
        cos, sin = math.cos(drawn["angle"][i].item()), math.sin(drawn["angle"][i].item())
        turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        for kind in order:
            gray = (expected @ LUMA)[:, None]
            expected = (
                bright * expected,
                contrast * expected + (1 - contrast) * gray.mean(),
                gray + saturation * (expected - gray),
                expected @ (np.linalg.inv(yiq) @ turn @ yiq).T,
            )[kind]
        ours = pixels[i] @ maps[i, :, :3].double().numpy().T + maps[i, :, 3].double().numpy()
        np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_colour_factors_fill_their_ranges() -> None:
    drawn = ColourJitter(0.4, 0.5, 1.0, 0.1).sample(generator(0), batch(4000))
    low, high = drawn["factor"].amin(0), drawn["factor"].amax(0)
    assert torch.allclose(low, torch.tensor([0.6, 0.5, 0.0]), atol=0.01) and (low >= 0).all()
    assert torch.allclose(high, torch.tensor([1.4, 1.5, 2.0]), atol=0.01)
    assert drawn["angle"].abs().max().item() == pytest.approx(0.2 * math.pi, abs=0.01)


def test_gray_images_know_no_saturation_and_no_hue() -> None:
    mean = torch.tensor([[0.3]])
    maps = colour_jitter.matrix(torch.tensor([[1.5, 0.5, 0.1]]), torch.tensor([2.0]), mean)
    assert torch.allclose(maps, torch.tensor([[[0.75, 0.5 * 0.45]]]))


def test_cutout_covers_one_square_and_nothing_else() -> None:
    images = torch.rand((3, 2, 20, 30), generator=generator(0))
    centre = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.99, 0.99]])
    out = cutout.apply(images, centre, 0.4, "gray")
    changed = (out != images).all(1)
    assert [int(c.sum()) for c in changed] == [64, 16, 5 * 5]
    assert changed[0, 6:14, 11:19].all()
    assert (out.permute(0, 2, 3, 1)[changed] == 0.5).all()
    filled = cutout.apply(images, centre, 0.4, "mean")
    assert torch.allclose(filled[0, :, 7, 12], images[0].mean((1, 2)))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Flip(p=2.0),
        lambda: Shift(pixels=-1),
        lambda: ResizedCrop(area_low=0.9, area_high=0.5),
        lambda: ResizedCrop(aspect_max=0.5),
        lambda: Rotate(degrees=math.nan),
        lambda: Scale(amount=-0.1),
        lambda: ColourJitter(hue=0.7),
        lambda: Cutout(size=1.5),
        lambda: Cutout(fill="grey"),
    ],
)
def test_impossible_options_are_refused_in_words(wrong: object) -> None:
    with pytest.raises(ConvclinicError, match=r"\w+\.\w+ is .*\("):
        wrong()  # type: ignore[operator]
