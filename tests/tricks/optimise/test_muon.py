import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.optimise.muon import Muon, normalised, orthogonalise, working_dtype


def matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(30, 60), st.booleans(), st.floats(1e-3, 1e3))
def test_keeps_the_singular_vectors_and_brings_the_values_near_1(seed, rows, cols, tall, scale):
    g = matrix(rows, cols, seed=seed) * scale
    g = g.T.contiguous() if tall else g
    out = orthogonalise(g, steps=5, dtype=torch.float64)
    u, _, v = torch.linalg.svd(g, full_matrices=False)
    inner = u.T @ out @ v.T  # diagonal when the singular vectors are g's
    values = inner.diagonal()
    assert (inner - values.diag()).abs().max() < 1e-6
    assert values.min() > 0.5 and values.max() < 1.5


@pytest.mark.parametrize(("dtype", "slack"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_three_steps_are_near_the_polar_factor_of_the_svd(dtype, slack):
    g = matrix(16, 144)
    u, _, v = torch.linalg.svd(g, full_matrices=False)
    values = torch.linalg.svdvals(orthogonalise(g, 3, dtype))
    assert values.min() > 0.5 and values.max() < 1.5
    # two matrices of norm 4: the angle between them is small
    out = orthogonalise(g, 3, dtype)
    assert F.cosine_similarity(out.flatten(), (u @ v).flatten(), dim=0) > 0.97
    torch.testing.assert_close(out, orthogonalise(g, 3, torch.float64), atol=slack, rtol=0)
    assert out.dtype == g.dtype


def test_one_step_by_hand():
    # g = diag(3, 4) / 5 has norm 1: each value s goes to 3.4445 s - 4.7750 s^3 + 2.0315 s^5
    # (Jordan et al. 2024): 0.6 -> 1.19327, 0.8 -> 0.97648
    out = orthogonalise(torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64), 1, torch.float64)
    expected = torch.tensor([[1.1932694, 0.0], [0.0, 0.9764819]], dtype=torch.float64)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)


def test_zero_stays_zero_and_batches_equal_single_ones():
    assert not orthogonalise(torch.zeros(3, 5), 3, torch.float32).any()
    g = matrix(4, 6, 9)
    singles = torch.stack([orthogonalise(one, 3, torch.float64) for one in g])
    torch.testing.assert_close(orthogonalise(g, 3, torch.float64), singles)


def test_filters_get_norm_root_out():
    assert normalised(matrix(9, 4, 3, 3)).norm().item() == pytest.approx(3.0)
    assert not normalised(torch.zeros(4, 2, 3, 3)).any()


def test_cpu_works_in_the_parameters_precision():
    assert working_dtype(torch.zeros(1)) == torch.float32
    assert working_dtype(torch.zeros(1, dtype=torch.float16)) == torch.float32
    assert working_dtype(torch.zeros(1, dtype=torch.float64)) == torch.float64


class Tiny(nn.Module):
    """All kinds of parameters: frozen whitening, filters of equal shape, norms, slopes, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.whiten = nn.Conv2d(3, 6, 2)
            self.whiten.weight.requires_grad = False
            self.conv1 = nn.Conv2d(6, 6, 3, bias=False)
            self.norm1 = nn.BatchNorm2d(6)
            self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
            self.slope = nn.PReLU(6)
            self.hidden = nn.Linear(6, 5)
            self.head = nn.Linear(5, 3, bias=False)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.slope(self.conv2(self.norm1(self.conv1(self.whiten(x)))))
        return self.head(self.hidden(x.amax((2, 3))).tanh()) / 5


def backward(net: nn.Module, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 3, 7, 7, generator=rng, dtype=torch.float64)
    net.zero_grad()
    F.cross_entropy(net(images), torch.randint(3, (8,), generator=rng)).backward()


def test_every_parameter_has_its_group():
    net = Tiny()
    names = {id(p): name for name, p in net.named_parameters()}
    groups = Muon().build(net).param_groups
    held = [{names[id(p)] for p in group["params"]} for group in groups]
    assert held == [
        {"conv1.weight", "conv2.weight", "hidden.weight"},
        {"head.weight"},
        {"whiten.bias"},
        {"norm1.bias", "hidden.bias"},
        {"norm1.weight", "slope.weight"},
    ]
    assert [group["initial_lr"] for group in groups] == [0.24, 1340.0, 106.0, 106.0, 106.0]
    assert [group.get("until") for group in groups] == [None, None, 0.375, None, None]
    assert all(group["lr"] == group["initial_lr"] for group in groups)


def test_defaults_are_those_of_the_source_for_a_mean_loss():
    # cifar10-airbench, airbench94_muon.py (2024): batch 2000, summed loss, bias_lr 0.053, head_lr 0.67,
    # wd = 2e-6 * 2000, each group's weight_decay = wd / lr
    head, bias = Muon().build(Tiny()).param_groups[1:3]
    assert head["lr"] == pytest.approx(0.67 * 2000) and bias["lr"] == pytest.approx(0.053 * 2000)
    for group in (head, bias):
        assert group["lr"] * group["weight_decay"] == pytest.approx(2e-6 * 2000)
    assert (Muon().lr, Muon().momentum, Muon().momentum_rest, Muon().steps) == (0.24, 0.6, 0.85, 3)


def quintic(g: np.ndarray, steps: int) -> np.ndarray:
    """Through the SVD: each singular value goes through the polynomial, the vectors stay."""
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    s = s / (np.linalg.norm(g) + 1e-7)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ vt


def reference(net: nn.Module, steps: int, factors: list[float]) -> dict[str, np.ndarray]:
    """The update of airbench94_muon.py written out in numpy, float64, on the same gradients."""
    filters = {"conv1.weight", "conv2.weight", "hidden.weight"}
    lrs = {"head.weight": 1.3}
    decay = {name: 0.004 for name in ("head.weight", "whiten.bias", "norm1.bias", "hidden.bias")}
    velocity: dict[str, np.ndarray] = {}
    for step in range(steps):
        backward(net, step)
        for name, p in net.named_parameters():
            if not p.requires_grad:
                continue
            g, w = p.grad.numpy().copy(), p.detach().numpy().copy()
            lr = 0.24 if name in filters else lrs.get(name, 0.1)
            mu = 0.6 if name in filters else 0.85
            if name not in filters:
                g = g + decay.get(name, 0.0) / lr * w
            velocity[name] = mu * velocity.get(name, np.zeros_like(g)) + g
            push = g + mu * velocity[name]
            if name in filters:
                w = w * math.sqrt(len(w)) / np.linalg.norm(w)
                push = quintic(push.reshape(len(w), -1), 3).reshape(w.shape)
            p.data.copy_(torch.from_numpy(w - factors[step] * lr * push))
    return {name: p.detach().numpy() for name, p in net.named_parameters()}


def test_four_updates_equal_numpy_written_by_hand():
    factors = [1.0, 0.75, 0.5, 0.25]
    expected = reference(Tiny(), 4, factors)
    net = Tiny()
    optimiser = Muon(head_lr=1.3, bias_lr=0.1).build(net)
    for step in range(4):
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factors[step]
        backward(net, step)
        optimiser.step()
    for name, p in net.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), expected[name], rtol=1e-8, atol=1e-10, err_msg=name)


def test_a_summed_loss_with_the_sources_numbers_takes_the_same_step():
    """Plain torch.optim.SGD on 2000 times the gradient, lr / 2000 and wd / lr: airbench's own setting."""
    net, theirs = Tiny(), Tiny()
    ours = Muon().build(net)
    wd = 2e-6 * 2000
    head = torch.optim.SGD(
        [{"params": [theirs.head.weight], "lr": 0.67, "weight_decay": wd / 0.67}],
        momentum=0.85,
        nesterov=True,
    )
    for step in range(3):
        g = matrix(3, 5, seed=step) * 1e-3
        net.head.weight.grad, theirs.head.weight.grad = g, 2000 * g
        ours.step()
        head.step()
    torch.testing.assert_close(net.head.weight, theirs.head.weight)


def test_resume_from_the_state_dict_is_bit_identical(tmp_path):
    whole = Tiny()
    optimiser = Muon(head_lr=1.0, bias_lr=0.1).build(whole)
    for step in range(3):
        backward(whole, step)
        optimiser.step()
    torch.save({"net": whole.state_dict(), "optimiser": optimiser.state_dict()}, tmp_path / "state.pt")
    for step in range(3, 6):
        backward(whole, step)
        optimiser.step()

    resumed, state = Tiny(), torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(state["net"])
    again = Muon(head_lr=1.0, bias_lr=0.1).build(resumed)
    again.load_state_dict(state["optimiser"])
    for step in range(3, 6):
        backward(resumed, step)
        again.step()
    assert all(map(torch.equal, whole.parameters(), resumed.parameters()))
    assert again.param_groups[2]["until"] == 0.375


def test_parameters_without_gradient_and_frozen_ones_stay():
    net = Tiny()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = Muon().build(net)
    optimiser.step()
    net.conv1.weight.grad = torch.ones_like(net.conv1.weight)
    optimiser.step()
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"conv1.weight"}


def test_it_learns_and_channels_last_takes_the_same_steps():
    plain, last = Tiny(), Tiny().to(memory_format=torch.channels_last)
    losses = []
    for net in (plain, last):
        optimiser = Muon(lr=0.05, head_lr=1.0, bias_lr=0.1).build(net)
        images = matrix(24, 3, 7, 7)
        classes = torch.arange(24) % 3
        run = []
        for _ in range(40):
            optimiser.zero_grad()
            loss = F.cross_entropy(net(images), classes)
            loss.backward()
            optimiser.step()
            run.append(loss.item())
        losses.append(run)
    assert losses[0][-1] < 0.5 * losses[0][0]
    assert losses[1][:5] == pytest.approx(losses[0][:5], rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"lr": -1.0}, {"momentum": 1.0}, {"steps": 0}, {"weight_decay": math.nan}, {"head_lr": math.inf}],
)
def test_outside_is_refused(options):
    with pytest.raises(ConvclinicError, match=f"muon's {next(iter(options))}"):
        Muon(**options)


def test_a_frozen_net_is_refused_and_an_lr_of_zero_is_not():
    with pytest.raises(ConvclinicError, match="frozen"):
        Muon().build(Tiny().requires_grad_(False))
    assert Muon(head_lr=0.0).build(Tiny()).param_groups[1]["weight_decay"] == 0.0
