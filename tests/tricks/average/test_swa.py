import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.average.swa import SWA, share_at


def copied(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def shaken(net: nn.Module, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=rng))
    net(torch.randn(4, 3, 5, 5, generator=rng))  # moves the buffers of batch norm


@pytest.mark.parametrize("every", [1, 3])
def test_equals_torch_averaged_model(every):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    theirs = AveragedModel(net, use_buffers=True)  # without a function of its own it averages equally
    averaged, trick = copied(net), SWA(after=4, every=every)
    for step in range(20):
        shaken(net, step)
        trick.update(averaged, net.state_dict(), step)
        if step >= 4 and (step - 4) % every == 0:
            theirs.update_parameters(net)
    for name, tensor in theirs.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(averaged[name], tensor)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 30), st.integers(0, 20), st.integers(1, 5), st.integers(0, 9))
def test_is_the_mean_of_what_was_seen_since(last, after, every, seed):
    weights = torch.randn(31, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    averaged = {"w": torch.zeros(4, dtype=torch.float64)}
    for step in range(last + 1):
        SWA(after, every).update(averaged, {"w": weights[step]}, step)
    seen = weights[after : last + 1 : every] if last >= after else weights[last : last + 1]
    torch.testing.assert_close(averaged["w"], seen.mean(0))


def test_golden_shares():
    # Izmailov et al. 2018, algorithm 1: n models averaged, so the next one counts 1 / (n + 1)
    assert [share_at(step, 10, 1) for step in (9, 10, 11, 12)] == pytest.approx([1, 1, 1 / 2, 1 / 3])
    assert [share_at(step, 10, 4) for step in (10, 11, 14, 18)] == pytest.approx([1, 0, 1 / 2, 1 / 3])


def test_before_it_begins_it_is_the_trained_net_bit_for_bit():
    current = {"w": torch.randn(5), "n": torch.tensor(7)}
    averaged = {"w": torch.randn(5), "n": torch.tensor(0)}
    SWA(after=100).update(averaged, current, 99)
    assert torch.equal(averaged["w"], current["w"]) and averaged["n"].item() == 7


def test_works_in_place_and_leaves_the_current_weights():
    tensor, current = torch.zeros(3), nn.Parameter(torch.ones(3))
    averaged = {"w": tensor, "n": torch.tensor(0)}
    SWA(after=0).update(averaged, {"w": current, "n": torch.tensor(2)}, 1)
    assert averaged["w"] is tensor and not tensor.requires_grad
    assert tensor.tolist() == [0.5] * 3 and averaged["n"].item() == 2
    assert current.tolist() == [1.0] * 3


def test_outside_is_refused():
    with pytest.raises(ConvclinicError, match="swa's after"):
        SWA(after=-1)
    with pytest.raises(ConvclinicError, match="swa's every"):
        SWA(every=0)
