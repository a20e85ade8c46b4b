import math

import pytest
import torch
import torch.nn.functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.models._local_response import local_response
from convclinic.tricks.normalise.local_response import LocalResponseNorm


def maps(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("size", "channels"), [(1, 4), (3, 4), (5, 7), (5, 3), (9, 2)])
def test_equals_torch_which_divides_alpha_by_size(size, channels):
    x = 10 * maps(2, channels, 3, 4)
    wanted = F.local_response_norm(x, size, alpha=size * 1e-2, beta=0.75, k=2.0)
    torch.testing.assert_close(local_response(x, size, 1e-2, 0.75, 2.0), wanted)


def test_by_hand():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
    # size 3, alpha 1, beta 1, k 1: x / (1 + sum of the squares of it and its neighbours)
    wanted = [1 / (1 + 1 + 4), 2 / (1 + 1 + 4 + 9), 3 / (1 + 4 + 9 + 16), 4 / (1 + 9 + 16)]
    assert local_response(x, 3, 1.0, 1.0, 1.0).flatten().tolist() == pytest.approx(wanted)


def test_the_defaults_are_the_papers():
    # Krizhevsky et al. 2012, section 3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75
    layer, x = LocalResponseNorm().build(7).double(), 100 * maps(2, 7, 3, 3)
    torch.testing.assert_close(layer(x), local_response(x, 5, 1e-4, 0.75, 2.0))
    assert not list(layer.parameters())


def test_gradients_are_right():
    x = maps(2, 4, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: local_response(x, 3, 0.5, 0.75, 2.0), (x,))


def test_beta_0_is_off():
    x = maps(2, 6, 3, 3)
    assert torch.equal(LocalResponseNorm(**LocalResponseNorm.OFF).build(6)(x), x)


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", 4), ("size", -1), ("alpha", -1.0), ("beta", math.nan), ("k", 0.0), ("k", math.inf)],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ConvclinicError, match=option):
        LocalResponseNorm(**{option: value})
