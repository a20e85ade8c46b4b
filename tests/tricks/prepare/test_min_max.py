import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.prepare.min_max import MinMax


def images(n: int = 60, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 200, (1, 3, 5, 4))
    return torch.from_numpy(rng.integers(low, 256, (n, 3, 5, 4), dtype=np.uint8))


def test_per_pixel_equals_scikit_learn_on_flattened_images():
    x, unseen = images(), images(20, seed=1)
    trick = MinMax()
    out = trick.apply(unseen.double() / 255, trick.fit(x.split(11)))
    theirs = MinMaxScaler(feature_range=(-1, 1)).fit(x.flatten(1).double().numpy() / 255)
    expected = theirs.transform(unseen.flatten(1).double().numpy() / 255)
    np.testing.assert_allclose(out.flatten(1).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_per_channel_equals_scikit_learn_on_pixels():
    x = images()
    x[:, 2] = x[:, 2] // 3
    trick = MinMax(per="channel")
    out = trick.apply(x.double() / 255, trick.fit(x.split(11)))
    pixels = x.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy() / 255
    expected = MinMaxScaler(feature_range=(-1, 1)).fit_transform(pixels)
    np.testing.assert_allclose(out.permute(0, 2, 3, 1).reshape(-1, 3).numpy(), expected, atol=1e-6)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from(["pixel", "channel"]), st.integers(2, 12))
def test_training_images_end_at_minus_1_and_1_exactly(seed, per, n):
    x = torch.randn(n, 2, 3, 3, generator=torch.Generator().manual_seed(seed))
    trick = MinMax(per=per)
    out = trick.apply(x, trick.fit(x.split(2)))
    axes = (0,) if per == "pixel" else (0, 2, 3)
    assert (out.amin(axes) == -1).all() and (out.amax(axes) == 1).all()


def test_a_dimension_that_never_varies_becomes_zero_whatever_comes():
    x = images()
    x[:, 1, 2, 3] = 128
    trick = MinMax()
    state = trick.fit([x])
    assert trick.apply(x / 255, state)[:, 1, 2, 3].eq(0).all()
    assert trick.apply(torch.ones(1, 3, 5, 4), state)[0, 1, 2, 3] == 0


def test_images_beyond_the_training_range_are_not_clipped():
    trick = MinMax(per="channel")
    state = trick.fit([torch.tensor([51, 102], dtype=torch.uint8).view(2, 1, 1, 1)])
    out = trick.apply(torch.tensor([0.0, 0.3, 1.0]).view(3, 1, 1, 1), state)
    torch.testing.assert_close(out.flatten(), torch.tensor([-3.0, 0.0, 7.0]), rtol=0, atol=1e-5)


def test_an_unknown_kind_of_dimension_is_explained():
    with pytest.raises(ConvclinicError, match="did you mean 'pixel'"):
        MinMax(per="pixels")
