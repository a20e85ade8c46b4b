"""Fine-tuning in the loop: what is loaded, what learns and how fast, and that a resume is exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny
import torch
from making import photos
from safetensors.torch import save_file
from torch import Tensor, nn

from convclinic import checkpoint, loop
from convclinic.data.dataset import Dataset, assemble
from convclinic.data.sources import open_source
from convclinic.data.survey import survey
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Layers
from convclinic.model import Model, build_net
from convclinic.model_file import load as load_model
from convclinic.models._staged import Stage, Staged
from convclinic.models.backbone import Backbone
from convclinic.recipe import Input, Recipe, Run
from convclinic.tricks.initialise.he import He
from convclinic.tricks.transfer.pretrained import Pretrained

CPU = torch.device("cpu")
OPTIMISERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "muon")
TRICKS: dict[str, tuple[str, ...]] = {
    "pretrained": ("transfer=none",),
    "layer_decay": ("transfer=layer_decay",),
    "head_first": ("transfer=head_first", "transfer.head_first.until=0.4"),
    "gradual": ("transfer=gradual,layer_decay", "transfer.gradual.until=0.9"),
    "freeze": ("transfer=freeze,frozen_norm", "transfer.freeze.until_stage=stage2"),
    "frozen_norm": ("transfer=frozen_norm", "transfer.frozen_norm.affine=false"),
    "towards_start": ("transfer=towards_start,head_first", "transfer.towards_start.strength=5.0"),
}
RICH = ("average=ema", "run.sizes=[[0.0, 32, 32], [0.5, 40, 40]]", "combine=flip_views", "mix=mixup")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("tuning")
    source = open_source(photos(folder / "photos", per_class=24, side=40))
    (folder / "data").mkdir()
    return assemble(source, survey(source, seed=0), (40, 40, 3), folder / "data", seed=0)


@dataclass(frozen=True)
class Small:
    """Four stages as a backbone has them, for seconds instead of minutes."""

    slot: ClassVar[str] = "net"

    def build(self, channels: int, n_classes: int, layers: Layers) -> nn.Module:
        """A `Staged` of 8 maps throughout."""
        stages = [
            Stage(
                f"stage{i}",
                (
                    nn.Conv2d(channels if i == 0 else 8, 8, 3, stride=2, padding=1),
                    nn.BatchNorm2d(8),
                    nn.ReLU(),
                ),
                (f"conv{i}", f"bn{i}", ""),
                8,
            )
            for i in range(4)
        ]
        return Staged(stages, n_classes, 0.1, "", "fc")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of the small net with ten classes, whose norms have seen something."""
    torch.manual_seed(5)
    net: Any = Small().build(3, 10, Layers(lambda _: nn.ReLU()))
    net.train()(torch.rand(32, 3, 32, 32))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file({net.origin(name): v.contiguous() for name, v in net.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def recipe_with(weights: Path) -> Callable[..., Recipe]:
    base = dataclasses.replace(
        tiny.RECIPE,
        data=Input(40, 40, 3),
        net=Small(),
        initialise=(He(),),
        run=Run(steps=10, batch_size=8, evaluate_every=3),
    )

    def make(*settings: str) -> Recipe:
        loaded = f"transfer.pretrained.file={weights}"
        return base.override([*settings, loaded])

    return make


def copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def resumed_exactly(recipe: Recipe, data: Dataset, folder: Path, steps: tuple[int, ...]) -> None:
    state = loop.start(recipe, data, CPU)
    records = []
    for record in loop.fit(recipe, data, state):
        records.append(record)
        if record.step in steps:
            checkpoint.save(state, recipe, folder / f"{record.step}.safetensors")
    for step in steps:
        again = checkpoint.restore(recipe, data, CPU, folder / f"{step}.safetensors")
        assert list(loop.fit(recipe, data, again)) == records[step:]
        assert equal(copied(again.net), copied(state.net))
        assert equal(copied(again.judged), copied(state.judged))
        assert state.best is not None and again.best is not None
        assert equal(again.best, state.best)
        assert [p.requires_grad for p in again.net.parameters()] == [
            p.requires_grad for p in state.net.parameters()
        ]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_resume_is_exact_with_each_trick(
    trick: str, recipe_with: Any, data: Dataset, tmp_path: Path
) -> None:
    """With an average of weights, growing images, mixing and views beside it; saved before and after each
    stage has begun to learn."""
    resumed_exactly(recipe_with(*TRICKS[trick], *RICH), data, tmp_path, (1, 3, 4, 6, 8, 9))


@pytest.mark.parametrize("optimise", OPTIMISERS)
def test_a_resume_is_exact_with_each_optimiser(
    optimise: str, recipe_with: Any, data: Dataset, tmp_path: Path
) -> None:
    recipe = recipe_with(
        f"optimise={optimise}",
        "optimise.lr=0.001",
        "transfer=gradual,layer_decay,frozen_norm,towards_start",
        *(("optimise.head_lr=0.001", "optimise.bias_lr=0.001") if optimise == "muon" else ()),
    )
    resumed_exactly(recipe, data, tmp_path, (2, 5))


def test_a_resume_is_exact_in_low_precision(recipe_with: Any, data: Dataset, tmp_path: Path) -> None:
    recipe = recipe_with("transfer=head_first,layer_decay,towards_start", "run.precision=bfloat16")
    resumed_exactly(recipe, data, tmp_path, (2, 6))


@pytest.mark.parametrize("initialise", ["he", "lsuv", "zero", "dirac", "orthogonal"])
def test_initialisers_set_the_head_alone(
    initialise: str, recipe_with: Any, data: Dataset, weights: Path
) -> None:
    recipe = recipe_with(f"initialise={initialise}")
    state = loop.start(recipe, data, CPU)
    fresh: Any = recipe.net.build(3, len(data.classes), Layers(lambda _: nn.ReLU()))
    recipe.transfer[0].load(fresh)
    assert state.loaded is not None and set(state.loaded.fresh) == {"head.weight", "head.bias"}
    for name, value in fresh.state_dict().items():
        if not name.startswith("head.") and "num_batches" not in name:
            assert torch.equal(state.net.state_dict()[name], value), name
    head: Any = state.net.get_submodule("head")
    assert torch.equal(head.bias, torch.zeros_like(head.bias)) or initialise == "dirac"
    assert bool((head.weight == 0).all()) == (initialise == "zero")
    assert all(p.requires_grad for p in state.net.parameters())


def test_a_whitening_layer_that_was_loaded_stays(data: Dataset, tmp_path: Path) -> None:
    """It is frozen always, so freezing alone would not keep its initialiser away."""
    recipe = dataclasses.replace(tiny.RECIPE, data=Input(40, 40, 3))
    other = loop.start(dataclasses.replace(recipe, seed=9, initialise=(He(),)), data, CPU).net
    save_file({name: v.contiguous() for name, v in copied(other).items()}, tmp_path / "own.safetensors")
    tuned = recipe.override([f"transfer.pretrained.file={tmp_path / 'own.safetensors'}"])
    state = loop.start(tuned, data, CPU)
    assert state.loaded is not None and "whiten.weight" in state.loaded.loaded
    assert equal(copied(state.net), copied(other))
    assert [p.requires_grad for p in state.net.parameters()] == [p.requires_grad for p in other.parameters()]


def test_nothing_but_the_start_needs_the_file(
    recipe_with: Any, data: Dataset, weights: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.safetensors"
    gone.write_bytes(weights.read_bytes())
    recipe = recipe_with("transfer=towards_start").override([f"transfer.pretrained.file={gone}"])
    state = loop.start(recipe, data, CPU)
    run = loop.fit(recipe, data, state)
    next(run)
    checkpoint.save(state, recipe, tmp_path / "state.safetensors")
    gone.unlink()
    again = checkpoint.restore(recipe, data, CPU, tmp_path / "state.safetensors")
    assert list(loop.fit(recipe, data, again)) == list(run)
    with pytest.raises(ConvclinicError, match="no file of weights"):
        loop.start(recipe, data, CPU)


def test_a_model_predicts_without_the_file(data: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        tiny.RECIPE, data=Input(40, 40, 3), net=Backbone(model="resnet20"), transfer=(Pretrained("gone.npz"),)
    )
    net = build_net(recipe, len(data.classes)).eval()
    fitted = tuple(trick.fit([torch.zeros(2, 3, 4, 4, dtype=torch.uint8)]) for trick in recipe.prepare)
    Model(recipe, data.classes, net, fitted).save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.recipe == recipe
    assert equal(copied(loaded.net), copied(net))


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_head_first_moves_the_head_alone_and_then_everything(recipe_with: Any, data: Dataset) -> None:
    recipe = recipe_with(
        "transfer=head_first,frozen_norm", "transfer.head_first.until=0.5", "schedule=constant"
    )
    state = loop.start(recipe, data, CPU)
    begin, half = copied(state.net), {}
    for record in loop.fit(recipe, data, state):
        learning = {name for name, p in state.net.named_parameters() if p.grad is not None}
        if record.step <= 5:
            assert learning == {"head.weight", "head.bias"}
            assert record.lr == recipe.optimise.lr
        else:
            assert learning == {name for name, _ in state.net.named_parameters()}
            assert record.lr == pytest.approx(0.1 * recipe.optimise.lr)
        if record.step == 5:
            half = copied(state.net)
    assert moved(begin, half) == {"head.weight", "head.bias"}
    assert moved(half, copied(state.net)) == {name for name, _ in state.net.named_parameters()}


def test_frozen_stages_stay_bit_for_bit_with_decay_and_penalties_on(recipe_with: Any, data: Dataset) -> None:
    recipe = recipe_with(
        "transfer=freeze,frozen_norm,towards_start",
        "transfer.freeze.until_stage=stage3",
        "regularise=l2,max_norm",
        "regularise.max_norm.c=0.1",
        "average=ema",
    )
    state = loop.start(recipe, data, CPU)
    before = copied(state.net)
    list(loop.fit(recipe, data, state))
    learnt = moved(before, copied(state.net))
    assert learnt == {
        name for name, _ in state.net.named_parameters() if name.startswith(("blocks.stage3.", "head."))
    }
    assert moved(before, copied(state.judged)) == learnt


def test_statistics_follow_the_images_unless_norms_are_frozen(recipe_with: Any, data: Dataset) -> None:
    for settings, adaptive in (("transfer=freeze", True), ("transfer=freeze,frozen_norm", False)):
        recipe = recipe_with(settings)
        state = loop.start(recipe, data, CPU)
        before = copied(state.net)
        next(loop.fit(recipe, data, state))
        statistics = {name for name in moved(before, copied(state.net)) if "running" in name}
        assert bool(statistics) == adaptive


@pytest.mark.parametrize("optimise", OPTIMISERS)
def test_each_group_has_its_stages_share_of_its_own_lr(
    optimise: str, recipe_with: Any, data: Dataset
) -> None:
    recipe = recipe_with(
        f"optimise={optimise}", "transfer=layer_decay", "transfer.layer_decay.decay=0.5", "schedule=cosine"
    )
    state = loop.start(recipe, data, CPU)
    plain = {
        id(p): group["initial_lr"]
        for group in recipe.optimise.build(state.net).param_groups
        for p in group["params"]
    }
    next(loop.fit(recipe, data, state))
    next(loop.fit(recipe, data, state))
    names = {id(p): name for name, p in state.net.named_parameters()}
    seen = []
    for group in state.optimizer.param_groups:
        for p in group["params"]:
            depth = state.net.depth_of(names[id(p)])  # pyright: ignore[reportCallIssue]
            wanted = plain[id(p)] * recipe.lr_factor(recipe.progress(1)) * 0.5 ** (4 - depth)
            assert group["initial_lr"] == plain[id(p)]
            assert group["lr"] == pytest.approx(wanted)
            seen.append(id(p))
    assert sorted(seen) == sorted(plain)


@pytest.mark.parametrize("optimise", [name for name in OPTIMISERS if name != "muon"])
def test_half_of_the_lr_everywhere_is_half_of_the_lr(optimise: str, recipe_with: Any, data: Dataset) -> None:
    """Cutting groups by stage changes no bit of an update: a half is exact in floating point.

    muon multiplies filters of one shape together, so there the parts of a group differ in the last bits."""
    lr = f"optimise={optimise}", "optimise.lr=0.0078125"
    parted = recipe_with(*lr, "transfer.head_first.until=0", "transfer.head_first.then=0.5")
    whole = recipe_with(*lr, "optimise.lr=0.00390625")
    states = []
    for recipe in (parted, whole):
        states.append(loop.start(recipe, data, CPU))
        list(loop.fit(recipe, data, states[-1]))
    assert len(states[0].optimizer.param_groups) > len(states[1].optimizer.param_groups)
    assert equal(copied(states[0].net), copied(states[1].net))


def test_a_strong_pull_keeps_the_net_near_its_start(recipe_with: Any, data: Dataset) -> None:
    far = {}
    for strength in (0.0, 2.0):
        recipe = recipe_with(
            f"transfer.towards_start.strength={strength}",
            "optimise=sgd",
            "optimise.weight_decay=0",
            "optimise.lr=0.05",
            "schedule=constant",
        )
        state = loop.start(recipe, data, CPU)
        list(loop.fit(recipe, data, state))
        now = dict(state.net.named_parameters())
        assert state.reference and not any(name.startswith("head") for name in state.reference)
        far[strength] = sum(
            float((now[name].detach() - w).square().sum()) for name, w in state.reference.items()
        )
    assert far[2.0] < 0.8 * far[0.0]


def test_stages_are_needed_and_a_wrong_one_is_told(recipe_with: Any, data: Dataset) -> None:
    with pytest.raises(ConvclinicError, match=r"layer_decay.*stages"):
        loop.start(
            tiny.RECIPE.override(["transfer=layer_decay", "data.height=40", "data.width=40"]), data, CPU
        )
    with pytest.raises(ConvclinicError, match=r"no stage 'stage7'"):
        loop.start(recipe_with("transfer.freeze.until_stage=stage7"), data, CPU)


def test_a_change_of_what_learns_begins_without_memory(
    recipe_with: Any, data: Dataset, tmp_path: Path
) -> None:
    """The groups are cut otherwise, so the optimiser's memory would land on other parameters."""
    recipe = recipe_with("optimise=adamw")
    state = loop.start(recipe, data, CPU)
    next(loop.fit(recipe, data, state))
    checkpoint.save(state, recipe, tmp_path / "state.safetensors")
    changed = recipe.override(["transfer.head_first.until=0.3"])
    again = checkpoint.restore(changed, data, CPU, tmp_path / "state.safetensors", of=recipe)
    assert equal(copied(again.net), copied(state.net))
    assert again.optimizer.state_dict()["state"] == {}
    same = checkpoint.restore(
        recipe.override(["optimise.lr=0.1"]), data, CPU, tmp_path / "state.safetensors", of=recipe
    )
    assert same.optimizer.state_dict()["state"]
