from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.heads import fit_head
from convclinic.tricks.transfer import _fine_tuning as transfer
from convclinic.tricks.transfer.probed_head import LOWEST, ProbedHead
from tests.staged import Tiny


def coloured(n: int = 60, n_classes: int = 3) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 16, 16) whose brightest channel is their class, in noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % n_classes
    images = torch.rand((n, 3, 16, 16), generator=generator)
    images[torch.arange(n), labels] += 1.0
    return images, labels


@pytest.mark.parametrize("head", ["logistic", "svm", "linear"])
def test_the_head_is_the_solution_on_the_features(head: str):
    net = Tiny(n_classes=3)
    images, labels = coloured()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ProbedHead(head=head).solve(net, images.split(25), labels, seed=3)
    assert all(
        torch.equal(before[name], value)
        for name, value in net.state_dict().items()
        if not name.startswith("head.")
    ), "nothing but the head is set, statistics of batch norm neither"
    net.eval()
    with torch.no_grad():
        features = net.pooled(net.stages(images, ("high",))["high"])
        logits = net(images)
    expected = fit_head(head, features.numpy(), labels.numpy(), 3, seed=3)
    np.testing.assert_allclose(net.head.weight.detach().numpy(), expected.weight, rtol=1e-2, atol=1e-1)
    assert (logits.argmax(1) == labels).float().mean() > 0.9
    assert nn.functional.cross_entropy(logits, labels) < 0.6, "calibrated, not only right"


def test_a_class_without_images_can_still_be_learnt():
    net = Tiny(n_classes=4)
    images, labels = coloured()
    ProbedHead().solve(net, [images], labels, seed=0)
    bias = net.head.bias.detach()
    assert (
        float(bias[3]) == pytest.approx(float(bias.max()) - LOWEST, abs=1e-3)
        and net.head.weight[3].abs().max() == 0
    )


def test_images_are_drawn_in_proportion_and_no_class_is_left_out():
    labels = torch.tensor([0] * 900 + [1] * 97 + [2] * 3)
    chosen = transfer.solved_on([ProbedHead(images=100)], labels, seed=5)
    assert torch.bincount(labels[chosen]).tolist() == [90, 10, 2]
    assert len(chosen.unique()) == len(chosen)
    assert not torch.equal(chosen, transfer.solved_on([ProbedHead(images=100)], labels, seed=6))
    everything = transfer.solved_on([ProbedHead()], labels, seed=5)
    assert everything.sort().values.tolist() == list(range(1000))
    assert len(transfer.solved_on([], labels, seed=5)) == 0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConvclinicError, match="logistic"):
        ProbedHead(head="logistik")
    with pytest.raises(ConvclinicError, match="images"):
        ProbedHead(images=1)
    with pytest.raises(ConvclinicError, match="stages"):
        ProbedHead().solve(nn.Linear(3, 2), [torch.zeros(2, 3, 4, 4)], torch.tensor([0, 1]), seed=0)
