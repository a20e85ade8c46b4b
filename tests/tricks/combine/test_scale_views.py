"""Scale views: sizes, and what is seen at each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.tricks.combine.scale_views import ScaleViews


def pictures(height: int, width: int) -> torch.Tensor:
    return torch.rand((2, 3, height, width), generator=generator(0, "scales"))


def test_sizes_are_the_scales_of_the_images() -> None:
    made = ScaleViews().views(pictures(40, 60))
    assert [tuple(view.shape) for _, view in made] == [(2, 3, 32, 48), (2, 3, 40, 60), (2, 3, 50, 75)]
    assert [weight for weight, _ in made] == [1 / 3] * 3


def test_scale_one_is_the_image_itself() -> None:
    images = pictures(7, 9)
    [(weight, view)] = ScaleViews(**ScaleViews.OFF).views(images)
    assert weight == 1 and view is images


def test_flips_are_the_mirror_images_of_every_scale() -> None:
    images = pictures(12, 16)
    plain, both = ScaleViews().views(images), ScaleViews(flip=True).views(images)
    assert {weight for weight, _ in both} == {1 / 6}
    for (_, view), (_, upright), (_, mirrored) in zip(plain, both[:3], both[3:], strict=True):
        assert torch.equal(upright, view) and torch.equal(mirrored, view.flip(3))


@pytest.mark.parametrize("scale", [0.4, 0.8, 1.25, 3.0])
def test_views_are_those_of_pillow(scale: float) -> None:
    """Pillow's bilinear resize in float, antialiased where it shrinks."""
    images = pictures(20, 30)
    [(_, view)] = ScaleViews(scales=(scale,)).views(images)
    size = (round(30 * scale), round(20 * scale))
    for channel, seen in zip(images.view(6, 20, 30).numpy(), view.reshape(6, *view.shape[2:]), strict=True):
        wanted = np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BILINEAR))
        np.testing.assert_allclose(seen.numpy(), wanted, atol=1e-5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 20), st.integers(1, 20), st.lists(st.floats(0.01, 4), min_size=1, max_size=3))
def test_no_view_is_empty_and_flat_images_stay_flat(height: int, width: int, scales: list[float]) -> None:
    views = ScaleViews(scales=tuple(scales)).views(torch.full((1, 1, height, width), 0.25))
    assert sum(weight for weight, _ in views) == pytest.approx(1)
    for _, view in views:
        assert min(view.shape) >= 1
        assert torch.allclose(view, torch.tensor(0.25), atol=1e-6)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0), (5.0,), (float("nan"),)])
def test_impossible_scales_are_refused_in_words(scales: tuple[float, ...]) -> None:
    with pytest.raises(ConvclinicError, match=r"scale_views\.scales is .*\(give"):
        ScaleViews(scales=scales)
