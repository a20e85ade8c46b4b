"""Five and ten crops: which parts of the picture, and at which size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.tricks.combine.five_crop import FiveCrop, crops
from convclinic.tricks.combine.ten_crop import TenCrop


def pictures(height: int, width: int) -> torch.Tensor:
    return torch.rand((2, 3, height, width), generator=generator(0, "crops"))


def by_pillow(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Every channel resized by Pillow, bilinear with its antialiasing, in float."""
    flat = images.reshape(-1, *images.shape[2:]).numpy()
    made = [Image.fromarray(c).resize((width, height), Image.Resampling.BILINEAR) for c in flat]
    return torch.from_numpy(np.stack([np.asarray(c) for c in made])).view(*images.shape[:2], height, width)


def test_five_are_the_corners_and_the_centre_in_torchvisions_order() -> None:
    images = pictures(16, 24)
    expected = [
        images[:, :, 0:12, 0:18],
        images[:, :, 0:12, 6:24],
        images[:, :, 4:16, 0:18],
        images[:, :, 4:16, 6:24],
        images[:, :, 2:14, 3:21],
    ]
    made = crops(images, 0.75)
    assert len(made) == 5
    assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))


def test_the_sources_crops_of_224_out_of_256_pixels() -> None:
    """Corners 32 pixels apart and the centre 16 from either side."""
    rows = torch.arange(256.0).view(1, 1, 256, 1).expand(1, 1, 256, 256)
    found = crops(rows + rows.mT / 1000, FiveCrop().share)
    assert {tuple(crop.shape[2:]) for crop in found} == {(224, 224)}
    starts = [(int(crop[0, 0, 0, 0]), round(1000 * (crop[0, 0, 0, 0].item() % 1))) for crop in found]
    assert starts == [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]


@pytest.mark.parametrize(("share", "top"), [(7 / 8, 0), (6 / 8, 1), (5 / 8, 2), (3 / 8, 2)])
def test_an_odd_margin_is_halved_as_torchvision_does(share: float, top: int) -> None:
    """int(round(margin / 2)): of 1, 2, 3 and 5 pixels."""
    images, side = pictures(8, 8), round(8 * share)
    assert torch.equal(crops(images, share)[4], images[:, :, top : top + side, top : top + side])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.001, 1))
def test_crops_share_a_size_and_reach_their_corners(height: int, width: int, share: float) -> None:
    images = pictures(height, width)
    found = crops(images, share)
    assert {crop.shape for crop in found} == {found[0].shape}
    assert found[0].shape[2:] == (max(1, round(share * height)), max(1, round(share * width)))
    ends = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    for crop, (y, x) in zip(found, ends, strict=False):
        assert torch.equal(crop[:, :, y, x], images[:, :, y, x])


def test_crops_are_enlarged_as_by_pillow() -> None:
    images = pictures(16, 24)
    made = FiveCrop(share=0.75).views(images)
    for (weight, view), crop in zip(made, crops(images, 0.75), strict=True):
        assert weight == 1 / 5
        torch.testing.assert_close(view, by_pillow(crop, 16, 24), atol=1e-5, rtol=0)


def test_the_whole_image_is_five_times_itself() -> None:
    images = pictures(7, 9)
    assert all(torch.equal(view, images) for _, view in FiveCrop(**FiveCrop.OFF).views(images))


def test_ten_are_the_five_and_their_mirror_images() -> None:
    images = pictures(16, 24)
    five, ten = FiveCrop().views(images), TenCrop().views(images)
    assert len(ten) == 10 and {weight for weight, _ in ten} == {1 / 10}
    for (_, view), (_, upright), (_, mirrored) in zip(five, ten[:5], ten[5:], strict=True):
        assert torch.equal(upright, view) and torch.equal(mirrored, view.flip(3))


def test_ten_crops_see_a_mirrored_image_as_the_image() -> None:
    """Where the margin is even, the ten views are the same ones in another order."""
    images = pictures(16, 32)
    seen = [view for _, view in TenCrop().views(images)]
    for _, view in TenCrop().views(images.flip(3)):
        assert any(torch.allclose(view, other, atol=1e-5) for other in seen)


@pytest.mark.parametrize("kind", [FiveCrop, TenCrop])
@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_impossible_shares_are_refused_in_words(kind: type[FiveCrop | TenCrop], share: float) -> None:
    with pytest.raises(ConvclinicError, match=r"_crop\.share is .*\(give"):
        kind(share=share)
