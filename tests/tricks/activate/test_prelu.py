import torch
from torch.nn import functional as F

from convclinic.tricks.activate.prelu import PReLU, prelu


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_formula_equals_torch_for_maps_and_for_features():
    slope = torch.tensor([0.1, -0.4, 2.0], dtype=torch.float64)
    for x in (drawn(4, 3, 5, 5), drawn(4, 3)):
        torch.testing.assert_close(prelu(x, slope), F.prelu(x, slope))


def test_each_channel_has_one_slope_of_one_axis_that_starts_at_a_quarter():
    # one axis keeps it out of weight decay, as He et al. 2015 ask
    (slope,) = PReLU().build(7).parameters()
    assert slope.requires_grad and slope.tolist() == [0.25] * 7


def test_gradients_of_the_slopes_are_right():
    x = drawn(3, 2, 2, 2) + 0.05
    slope = torch.tensor([0.25, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(prelu, (x.requires_grad_(), slope))
    # equation 10 of the paper: the sum of the inputs that are not positive, over a channel's positions
    prelu(x.detach(), slope).sum().backward()
    torch.testing.assert_close(slope.grad, x.detach().clamp_max(0).sum((0, 2, 3)))
