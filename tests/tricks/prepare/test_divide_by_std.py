import numpy as np
import torch

from convclinic.tricks.prepare.divide_by_std import DivideByStd, divide_by_std


def images(n: int = 40) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers([[[0]], [[50]], [[200]]], 256, (n, 3, 5, 4), dtype=np.uint8))


def test_equals_numpy_about_the_channels_own_mean():
    x = images()
    unit = x.numpy() / np.float64(255)
    trick = DivideByStd()
    out = trick.apply(x.double() / 255, trick.fit(x.split(7)))
    np.testing.assert_allclose(out.numpy(), unit / unit.std((0, 2, 3), keepdims=True), rtol=1e-6)


def test_only_scales_so_zero_stays():
    x = torch.rand(2, 2, 3, 3)
    x[0] = 0
    out = divide_by_std(x, torch.tensor([0.25, 0.5]))
    assert not out[0].any()
    torch.testing.assert_close(out, x / torch.tensor([0.25, 0.5]).view(2, 1, 1))


def test_a_channel_that_never_varies_is_left_as_it_is():
    x = images()
    x[:, 2] = 9
    trick = DivideByStd()
    assert torch.equal(trick.apply(x / 255, trick.fit([x]))[:, 2], x[:, 2] / 255)
