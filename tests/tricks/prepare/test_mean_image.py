import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from convclinic.tricks.prepare.mean_image import MeanImage


def images(n: int = 60, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 200, (1, 3, 5, 4))
    return torch.from_numpy(rng.integers(low, 256, (n, 3, 5, 4), dtype=np.uint8))


@pytest.mark.parametrize("divide", [False, True])
def test_equals_scikit_learn_on_flattened_images(divide):
    x, unseen = images(), images(20, seed=1)
    trick = MeanImage(divide=divide)
    out = trick.apply(unseen.double() / 255, trick.fit(x.split(11)))
    theirs = StandardScaler(with_std=divide).fit(x.flatten(1).double().numpy() / 255)
    expected = theirs.transform(unseen.flatten(1).double().numpy() / 255)
    np.testing.assert_allclose(out.flatten(1).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_pixel_that_never_varies_is_only_centred():
    x = images()
    x[:, 1, 2, 3] = 51
    trick = MeanImage(divide=True)
    state = trick.fit([x])
    assert state["std"][1, 2, 3] == 1
    other = torch.full((1, 3, 5, 4), 0.7)
    torch.testing.assert_close(trick.apply(other, state)[0, 1, 2, 3].item(), 0.5, rtol=0, atol=1e-6)


def test_one_white_pixel_among_n_dark_ones_becomes_root_n():
    # as the card says: mean 1/n, std sqrt(n - 1) / n, so (1 - 1/n) / std = sqrt(n - 1)
    x = torch.zeros(101, 1, 2, 2, dtype=torch.uint8)
    x[5, 0, 1, 1] = 255
    trick = MeanImage(divide=True)
    out = trick.apply(x.float() / 255, trick.fit(x.split(10)))
    torch.testing.assert_close(out[5, 0, 1, 1].item(), 10.0, rtol=1e-5, atol=0)


def test_only_what_is_needed_is_kept():
    assert MeanImage().fit([images()]).keys() == {"mean"}
    assert MeanImage(divide=True).fit([images()]).keys() == {"mean", "std"}
