"""HSV jitter against Python's own colorsys, pixel by pixel."""

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
from convclinic.tricks.augment.hsv_jitter import HsvJitter, apply

LEVELS = (0, 1, 64, 127, 128, 200, 255)


def palette() -> torch.Tensor:
    """(1, 3, 7, 49): every mixture of seven levels, so gray, black, white and every tie of two channels."""
    colours = torch.tensor(list(itertools.product(LEVELS, repeat=3))) / 255
    return colours.T.reshape(1, 3, 7, 49).contiguous(memory_format=torch.channels_last)


def changed(
    images: torch.Tensor, power: float = 1, factor: float = 1, offset: float = 0, turn: float = 0
) -> torch.Tensor:
    n = len(images)
    both = [torch.full((n, 2), float(value)) for value in (power, factor, offset)]
    return apply(images, *both, torch.full((n,), float(turn)))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.tuples(st.floats(0.25, 4), st.floats(0.25, 4)),
    st.tuples(st.floats(0.7, 1.4), st.floats(0.7, 1.4)),
    st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    st.floats(-0.5, 0.5),
)
def test_every_pixel_is_what_colorsys_makes_of_it(
    power: tuple[float, float], factor: tuple[float, float], offset: tuple[float, float], turn: float
) -> None:
    images = palette()
    given_ = [torch.tensor([values], dtype=torch.float32) for values in (power, factor, offset)]
    ours = apply(images, *given_, torch.tensor([turn], dtype=torch.float32))
    powers, factors, offsets = (values[0].tolist() for values in given_)
    turned = float(np.float32(turn))
    for before, after in zip(images[0].flatten(1).T.tolist(), ours[0].flatten(1).T.tolist(), strict=True):
        hue, *rest = colorsys.rgb_to_hsv(*before)
        bent = [
            min(1.0, max(0.0, f * x**p + o))
            for x, p, f, o in zip(rest, powers, factors, offsets, strict=True)
        ]
        assert after == pytest.approx(colorsys.hsv_to_rgb((hue + turned) % 1, *bent), abs=1e-5)


def test_a_third_of_a_turn_passes_the_channels_on() -> None:
    images = palette()
    assert torch.allclose(changed(images, turn=1 / 3), images[:, [2, 0, 1]], atol=1e-6)
    assert torch.allclose(changed(images, turn=-1 / 3), images[:, [1, 2, 0]], atol=1e-6)


def test_without_change_there_and_back_is_the_image() -> None:
    assert torch.allclose(changed(palette()), palette(), atol=1e-6)


def test_saturation_added_to_gray_is_red() -> None:
    gray = torch.full((1, 3, 2, 2), 0.5)
    saturation_alone = torch.tensor([[0.1, 0.0]])
    ones = torch.ones(1, 2)
    out = apply(gray, ones, ones, saturation_alone, torch.zeros(1))
    assert torch.allclose(out[0, :, 0, 0], torch.tensor([0.5, 0.45, 0.45]))


def test_gray_images_change_in_value_alone() -> None:
    images = torch.rand((4, 1, 5, 6), generator=generator(0))
    drawn = HsvJitter().sample(generator(1), Batch(images, torch.eye(4), torch.arange(4)))
    ours = HsvJitter().apply(images, drawn)
    power, factor, offset = (drawn[name][:, 1, None, None, None] for name in ("power", "factor", "offset"))
    assert torch.allclose(ours, (factor * images**power + offset).clamp(0, 1), atol=1e-6)


def test_draws_fill_their_ranges_and_the_power_is_log_uniform() -> None:
    batch = Batch(torch.zeros(6000, 3, 1, 1), torch.zeros(6000, 1), torch.arange(6000))
    drawn = HsvJitter().sample(generator(0), batch)
    for name, low, high in (("power", 0.25, 4), ("factor", 0.7, 1.4), ("offset", -0.1, 0.1)):
        assert drawn[name].amin().item() == pytest.approx(low, abs=0.01)
        assert drawn[name].amax().item() == pytest.approx(high, abs=0.01)
        saturation, value = drawn[name].T
        assert abs(np.corrcoef(saturation, value)[0, 1]) < 0.05
    assert drawn["turn"].abs().max().item() == pytest.approx(0.1, abs=1e-3)
    share = (drawn["power"] < 1).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.02)
    assert (drawn["power"] < 2).float().mean().item() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_given_images_stay_as_they_are_in_either_layout(layout: torch.memory_format) -> None:
    images = torch.rand((1, 3, 4, 4), generator=generator(0)).contiguous(memory_format=layout)
    kept = images.clone()
    assert not torch.equal(changed(images, power=2, turn=0.2), kept)
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: HsvJitter(power=(0.0, 1.0)),
        lambda: HsvJitter(factor=(1.4, 0.7)),
        lambda: HsvJitter(offset=(-2.0, 0.0)),
        lambda: HsvJitter(hue=(0.0, math.nan)),
    ],
)
def test_impossible_options_are_refused_in_words(wrong: object) -> None:
    with pytest.raises(ConvclinicError, match=r"hsv_jitter\.\w+ is .*\("):
        wrong()
