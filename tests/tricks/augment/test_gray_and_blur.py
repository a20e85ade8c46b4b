"""Grayscale against Pillow, Gaussian blur against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.augment import gaussian_blur, grayscale
from convclinic.tricks.augment._pipeline import draw, replay
from convclinic.tricks.augment.gaussian_blur import GaussianBlur
from convclinic.tricks.augment.grayscale import Grayscale


def noise(n: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    shape = (n, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0, "noise"))


def test_gray_is_pillows_and_the_others_keep_their_colour() -> None:
    images = noise(20, 6, 7)
    batch = Batch(images, torch.eye(20), torch.arange(20))
    drawn = draw(batch, (Grayscale(0.5),), lambda name: generator(0, name))
    out = replay(batch, drawn, (6, 7)).images
    gray = drawn[0][1]["gray"]
    assert 0 < gray.sum() < 20
    assert torch.allclose(out[~gray], images[~gray] / 255, atol=1e-6)
    for image, ours in zip(images[gray], out[gray], strict=True):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"), dtype=float)
        for channel in ours:
            assert np.abs(channel.numpy() * 255 - expected).max() <= 0.51


def test_p_is_the_share_that_loses_its_colour_or_sharpness() -> None:
    gray = grayscale.sample(generator(0), 4000, 0.2)["gray"]
    assert gray.float().mean().item() == pytest.approx(0.2, abs=0.02)
    sigma = gaussian_blur.sample(generator(0), 4000, 0.3, (0.5, 1.5))["sigma"]
    drawn = sigma[sigma > 0]
    assert len(drawn) / 4000 == pytest.approx(0.3, abs=0.03)
    assert 0.5 <= drawn.min() < 0.51 and 1.49 < drawn.max() <= 1.5
    assert drawn.mean().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("size", [(20, 31), (6, 4), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_blur_is_scipys(size: tuple[int, int], channels: int) -> None:
    """Each image by its own sigma, also where the filter is wider than the image."""
    images = noise(5, *size, channels) / 255
    sigmas = [0.0, 0.1, 0.7, 1.3, 2.0]
    out = GaussianBlur().apply(images, {"sigma": torch.tensor(sigmas)})
    for image, ours, sigma in zip(images, out, sigmas, strict=True):
        expected = image.double().numpy()
        if sigma:
            expected = gaussian_filter(expected, (0, sigma, sigma), mode="mirror", truncate=4.0)
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Grayscale(p=-0.1),
        lambda: GaussianBlur(p=2.0),
        lambda: GaussianBlur(sigma=(0.0, 1.0)),
        lambda: GaussianBlur(sigma=(math.nan, 1.0)),
    ],
)
def test_impossible_options_are_refused_in_words(wrong: object) -> None:
    with pytest.raises(ConvclinicError, match=r"\w+\.\w+ is .*\("):
        wrong()
