import numpy as np
import torch

from convclinic.tricks.prepare.divide_by_std import DivideByStd
from convclinic.tricks.prepare.standardise import Standardise
from convclinic.tricks.prepare.zero_centre import ZeroCentre, zero_centre


def images(n: int = 40) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers([[[0]], [[50]], [[200]]], 256, (n, 3, 5, 4), dtype=np.uint8))


def test_equals_numpy():
    x = images()
    unit = x.numpy() / np.float64(255)
    trick = ZeroCentre()
    out = trick.apply(x.double() / 255, trick.fit(x.split(7)))
    np.testing.assert_allclose(out.numpy(), unit - unit.mean((0, 2, 3), keepdims=True), atol=1e-7)


def test_only_moves_each_channel():
    x = torch.rand(2, 2, 3, 3)
    out = zero_centre(x, torch.tensor([0.25, 0.5]))
    assert torch.equal(out, x - torch.tensor([0.25, 0.5]).view(2, 1, 1))


def test_with_division_afterwards_it_is_standardise():
    x = images()
    unit = x.float() / 255
    centre, divide, both = ZeroCentre(), DivideByStd(), Standardise()
    centred = centre.apply(unit, centre.fit([x]))
    out = divide.apply(centred, divide.fit(centred.split(9)))
    torch.testing.assert_close(out, both.apply(unit, both.fit([x])), rtol=1e-4, atol=1e-5)
