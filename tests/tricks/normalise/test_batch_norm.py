import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.normalise.batch_norm import BatchNorm, FrozenBatchNorm, batch_norm, freeze


def maps(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small_net():
    """A net with norms at two depths whose statistics have seen a batch."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
    )
    net(3 + 2 * maps(8, 3, 6, 6, dtype=torch.float32))
    return net


def test_formula_equals_torch():
    x, gamma, beta = maps(5, 3, 4, 2), maps(3, seed=1), maps(3, seed=2)
    wanted = F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)
    torch.testing.assert_close(batch_norm(x, gamma, beta, 1e-3), wanted)


def test_module_equals_formula_in_training():
    layer, x = BatchNorm(eps=0.01).build(3).double(), maps(5, 3, 4, 2)
    torch.testing.assert_close(layer(x), batch_norm(x, torch.ones(3), torch.zeros(3), 0.01))


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-100, 100), scale=st.floats(0.1, 100))
def test_scale_and_shift_of_the_input_do_not_matter(shift, scale):
    """Ioffe and Szegedy 2015, section 3.3: BN((a W) u) = BN(W u)."""
    x, one, zero = maps(6, 2, 3, 3), torch.ones(2).double(), torch.zeros(2).double()
    torch.testing.assert_close(
        batch_norm(scale * x + shift, one, zero, 0.0), batch_norm(x, one, zero, 0.0), rtol=1e-6, atol=1e-6
    )


def test_stored_statistics_follow_the_batches_by_hand():
    layer = BatchNorm(momentum=0.4, eps=1e-12).build(1)
    layer(torch.tensor([1.0, 2.0, 3.0, 6.0]).view(4, 1, 1, 1))
    # mean 3, variance over n - 1 is (4 + 1 + 0 + 9) / 3 = 14 / 3; they start at 0 and 1
    assert layer.running_mean.item() == pytest.approx(0.4 * 3)
    assert layer.running_var.item() == pytest.approx(0.6 + 0.4 * 14 / 3)
    tested = layer.eval()(torch.tensor(5.0).view(1, 1, 1, 1)).item()
    assert tested == pytest.approx((5 - 1.2) / math.sqrt(0.6 + 0.4 * 14 / 3))


def test_gradients_are_right():
    x = maps(3, 2, 2, 2).requires_grad_()
    gamma, beta = maps(2, seed=1).requires_grad_(), maps(2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: batch_norm(*given, 1e-3), (x, gamma, beta))


def test_a_frozen_net_gives_what_it_gave_in_testing_whatever_the_mode():
    net = small_net()
    x = maps(5, 3, 6, 6, seed=3, dtype=torch.float32)
    wanted = net.eval()(x)
    assert not torch.allclose(net.train()(x), wanted)
    net = small_net()
    assert freeze(net) == 2
    for training in (True, False):
        assert torch.equal(net.train(training)(x), wanted)


def test_training_leaves_frozen_norms_alone_and_moves_the_rest():
    net = small_net()
    freeze(net)
    net = copy.deepcopy(net).train()  # as averaging does
    before = copy.deepcopy(net.state_dict())
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    net(maps(5, 3, 6, 6, dtype=torch.float32)).square().mean().backward()
    optimiser.step()
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"0.weight", "2.0.weight", "2.0.bias"}


def test_freezing_keeps_names_and_values():
    net, same = small_net(), small_net()
    freeze(net)
    assert list(net.state_dict()) == list(same.state_dict())
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in net.state_dict().items())
    assert isinstance(net[1], FrozenBatchNorm) and not net[1].weight.requires_grad
    same.load_state_dict(net.state_dict())
    assert freeze(net) == 2  # again changes nothing


def test_frozen_norms_let_gradients_pass():
    net = small_net()
    freeze(net)
    x = maps(2, 3, 6, 6, dtype=torch.float32).requires_grad_()
    net(x).sum().backward()
    assert x.grad.any()


def test_a_net_without_batch_norm_is_not_frozen_in_silence():
    with pytest.raises(ConvclinicError, match="no batch norm"):
        freeze(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)))


@pytest.mark.parametrize(
    ("option", "value"), [("momentum", 0.0), ("momentum", 1.1), ("eps", 0.0), ("eps", math.nan)]
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ConvclinicError, match=option):
        BatchNorm(**{option: value})
