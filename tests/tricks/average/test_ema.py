import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.average.ema import EMA, decay_at


def copied(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def shaken(net: nn.Module, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=rng))
    net(torch.randn(4, 3, 5, 5, generator=rng))  # moves the buffers of batch norm


def test_equals_torch_averaged_model():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    theirs.update_parameters(net)
    averaged = copied(net)
    for step in range(1000, 1020):  # late enough that the warm-up is over
        shaken(net, step)
        theirs.update_parameters(net)
        EMA(decay=0.9).update(averaged, net.state_dict(), step)
    for name, tensor in theirs.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(averaged[name], tensor)
    assert averaged["1.num_batches_tracked"].item() == 20


def test_golden_values():
    # by hand: step 0 has decay 1/10, step 1 has 2/11; from 0 towards 1
    averaged, current = {"w": torch.zeros(1, dtype=torch.float64)}, {"w": torch.ones(1, dtype=torch.float64)}
    EMA().update(averaged, current, 0)
    assert averaged["w"].item() == pytest.approx(0.9)
    EMA().update(averaged, current, 1)
    assert averaged["w"].item() == pytest.approx(0.9 + (1 - 2 / 11) * 0.1)
    assert decay_at(8990, 0.9999) == pytest.approx(0.999)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0, 0.9999), st.integers(0, 10))
def test_average_lies_between_the_two(step, decay, seed):
    rng = torch.Generator().manual_seed(seed)
    old, new = torch.randn(5, generator=rng, dtype=torch.float64), torch.randn(5, generator=rng).double()
    averaged = {"w": old.clone()}
    EMA(decay).update(averaged, {"w": new}, step)
    low, high = torch.minimum(old, new), torch.maximum(old, new)
    assert ((averaged["w"] >= low - 1e-12) & (averaged["w"] <= high + 1e-12)).all()
    torch.testing.assert_close(averaged["w"], old + (1 - decay_at(step, decay)) * (new - old))


def test_works_in_place_and_leaves_the_current_weights():
    tensor, current = torch.zeros(3), nn.Parameter(torch.ones(3))
    averaged = {"w": tensor, "n": torch.tensor(0)}
    EMA(0.5).update(averaged, {"w": current, "n": torch.tensor(7)}, 100)
    assert averaged["w"] is tensor and not tensor.requires_grad
    assert tensor.tolist() == [0.5] * 3 and averaged["n"].item() == 7
    assert current.tolist() == [1.0] * 3


def test_zero_is_off_and_one_is_refused():
    averaged, current = {"w": torch.zeros(3)}, {"w": torch.randn(3)}
    EMA(**EMA.OFF).update(averaged, current, 50)
    assert torch.equal(averaged["w"], current["w"])
    with pytest.raises(ConvclinicError, match="decay"):
        EMA(1.0)
