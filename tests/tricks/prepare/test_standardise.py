import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.tricks.prepare.standardise import Standardise, standardise

FASHION = Path(__file__).resolve().parents[3].parent / "shared/data/fashion-mnist/train-images-idx3-ubyte.gz"


def images(n: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 200, size=(1, channels, 1, 1))
    return torch.from_numpy(rng.integers(low, 256, size=(n, channels, 6, 5), dtype=np.uint8))


@pytest.mark.parametrize("as_float", [False, True])
def test_equals_numpy_in_float64(as_float):
    x = images(50)
    state = Standardise().fit((x / 255 if as_float else x).split(13))
    unit = x.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(state["mean"].numpy(), unit.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(state["std"].numpy(), unit.std((0, 2, 3)), rtol=1e-6)
    assert state["mean"].dtype == state["std"].dtype == torch.float32


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.lists(st.integers(1, 20), max_size=4))
def test_chunks_of_stored_images_do_not_matter_to_the_last_bit(cuts):
    x = images(64)
    edges = [0, *np.cumsum(cuts).clip(0, 64).tolist(), 64]
    parts = [x[a:b] for a, b in pairwise(edges)]
    whole, streamed = Standardise().fit([x]), Standardise().fit(iter(parts))
    assert torch.equal(whole["mean"], streamed["mean"]) and torch.equal(whole["std"], streamed["std"])


def test_floats_far_from_zero_keep_their_spread():
    # the mean of squares less the square of the mean has no digit left here: (1e8)^2 takes all sixteen
    x = 1e8 + torch.rand(60, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = Standardise().fit(x.split(7))
    # such a channel counts as constant; in one of another origin the same spread is told apart
    assert torch.equal(state["std"], torch.ones(2))
    near = Standardise().fit((x - 1e8 + 1e4).split(7))
    np.testing.assert_allclose(near["std"].numpy(), (x - 1e8).numpy().std((0, 2, 3)), rtol=1e-6)


def test_what_it_was_fitted_on_gets_mean_0_and_std_1():
    x = images(80)
    trick = Standardise()
    out = trick.apply(x.double() / 255, trick.fit([x]))
    assert out.mean((0, 2, 3)).abs().max() < 1e-6
    assert (out.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6


def test_a_channel_that_never_varies_becomes_zero():
    x = images(10)
    x[:, 1] = 128
    trick = Standardise()
    out = trick.apply(x / 255, trick.fit([x]))
    assert out.isfinite().all() and out[:, 1].abs().max() < 1e-6


def test_a_float_channel_that_varies_by_rounding_alone_is_not_blown_up():
    x = images(10) / 255
    x[:, 1] = 0.3
    x[::2, 1] = 0.3 + 2**-24  # one unit in the last place
    trick = Standardise()
    assert trick.apply(x, trick.fit([x]))[:, 1].abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_keeps_dtype_and_input(dtype):
    x = torch.rand(2, 3, 4, 4).to(dtype)
    before = x.clone()
    out = standardise(x, torch.full((3,), 0.5), torch.full((3,), 0.25))
    assert out.dtype == dtype and torch.equal(x, before)
    torch.testing.assert_close(out, (x - 0.5) / 0.25)


def test_fashion_mnist_has_the_published_numbers():
    # 0.2860 and 0.3530: the mean and std that are commonly given for Fashion-MNIST's training images
    if not FASHION.exists():
        pytest.skip("needs Fashion-MNIST in ../shared/data")
    with gzip.open(FASHION) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).copy()
    x = torch.from_numpy(pixels).view(-1, 1, 28, 28)
    state = Standardise().fit(x.split(10_000))
    assert round(state["mean"].item(), 4) == 0.2860
    assert round(state["std"].item(), 4) == 0.3530
