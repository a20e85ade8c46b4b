"""Views: which pictures, with which weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from convclinic.ground.rng import generator
from convclinic.tricks.combine.flip_views import FlipViews
from convclinic.tricks.combine.none import Single
from convclinic.tricks.combine.shift_views import ShiftViews


def pictures() -> torch.Tensor:
    return torch.rand((2, 3, 7, 9), generator=generator(0, "views"))


def test_a_single_view_is_the_image() -> None:
    images = pictures()
    [(weight, view)] = Single().views(images)
    assert weight == 1 and view is images


def test_flip_views_are_symmetric() -> None:
    """The views of a mirrored image are those of the image, the other way round."""
    images = pictures()
    (a, first), (b, second) = FlipViews().views(images)
    assert (a, b) == (0.5, 0.5)
    (_, mirrored), (_, back) = FlipViews().views(images.flip(3))
    assert torch.equal(first, back) and torch.equal(second, mirrored)


def test_shift_views_are_windows_of_the_reflected_image() -> None:
    images = pictures()
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    expected = {
        "still": (0.25, images),
        "up-left": (0.125, padded[:, :, 0:7, 0:9]),
        "down-right": (0.125, padded[:, :, 2:9, 2:11]),
    }
    views = ShiftViews().views(images)
    assert len(views) == 6
    for (weight, plain), (same, mirrored), (wanted, view) in zip(
        views[::2], views[1::2], expected.values(), strict=True
    ):
        assert weight == same == wanted
        assert torch.equal(plain, view) and torch.equal(mirrored, view.flip(3))


@pytest.mark.parametrize("views", [Single(), FlipViews(), ShiftViews()])
def test_uint8_stays_uint8(views: Single | FlipViews | ShiftViews) -> None:
    images = (pictures() * 255).to(torch.uint8)
    assert all(view.dtype == torch.uint8 for _, view in views.views(images))
    assert np.isclose(sum(weight for weight, _ in views.views(images)), 1)
