"""What a recipe holds is what the loop does: several tricks in a slot, and tricks that learn from images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from making import TINY

from convclinic import loop
from convclinic.data.dataset import Dataset, reopen
from convclinic.ground.errors import ConvclinicError
from convclinic.job.fitting import fit, plan
from convclinic.job.run import Run as FinishedRun
from convclinic.model import bare_net, build_net
from convclinic.model_file import load
from convclinic.models._layers import BranchPlace, MapsPlace
from convclinic.models.compact import Compact
from convclinic.recipe import Input, Recipe, Run
from convclinic.tricks.augment.fancy_pca import FancyPCA
from convclinic.tricks.balance.down_sampling import DownSampling
from convclinic.tricks.balance.up_sampling import UpSampling
from convclinic.tricks.initialise.he import He
from convclinic.tricks.initialise.zero import Zero
from convclinic.tricks.prepare.divide_by_std import DivideByStd
from convclinic.tricks.prepare.mean_image import MeanImage
from convclinic.tricks.prepare.standardise import Standardise
from convclinic.tricks.regularise.dropout import Dropout
from convclinic.tricks.regularise.l2 import L2
from convclinic.tricks.regularise.spatial_dropout import SpatialDropout
from convclinic.tricks.regularise.stochastic_depth import StochasticDepth
from convclinic.tricks.schedule.batch_scaling import BatchScaling
from convclinic.tricks.schedule.cosine import Cosine
from convclinic.tricks.schedule.plateau import Plateau
from convclinic.tricks.schedule.warm_up import WarmUp

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(finished: FinishedRun) -> Dataset:
    return reopen(finished.path)


def small(data: Dataset, **slots: Any) -> Recipe:
    shape = Input(*data.images([0]).shape[1:])
    plain = Recipe(data=shape, net=Compact(widths=(8, 16)), run=Run(steps=3, batch_size=8))
    return dataclasses.replace(plain, **slots)


def test_each_preparation_is_fitted_on_what_those_before_it_leave(data: Dataset) -> None:
    recipe = small(data, prepare=(MeanImage(), DivideByStd(), Standardise()))
    fitted = loop.start(recipe, data, CPU).fitted
    train = torch.from_numpy(data.images(data.indices("train"))).permute(0, 3, 1, 2).double() / 255
    centred = train - train.mean(0)
    scaled = centred / centred.std((0, 2, 3), correction=0)[:, None, None]
    assert torch.allclose(fitted[0]["mean"].double(), train.mean(0), atol=1e-5)
    assert torch.allclose(fitted[1]["std"].double(), centred.std((0, 2, 3), correction=0), atol=1e-5)
    assert torch.allclose(fitted[2]["mean"].double(), scaled.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(fitted[2]["std"].double(), torch.ones(3, dtype=torch.float64), atol=1e-4)


def test_an_augmentation_learns_from_the_training_split_alone(data: Dataset) -> None:
    state = loop.start(small(data, augment=(FancyPCA(),)), data, CPU)
    train = torch.from_numpy(data.images(data.indices("train"))).permute(0, 3, 1, 2)
    assert state.augment == (FancyPCA().fit([train]),)
    assert state.augment != (FancyPCA(),)


def test_schedules_are_multiplied(data: Dataset) -> None:
    warm, fall = WarmUp(share=0.5, start=0.0), Cosine()
    recipe = small(data, schedule=(warm, fall, BatchScaling(rule="linear", reference=16)))
    for progress in (0.0, 0.25, 0.5, 0.9):
        expected = warm.factor(progress) * fall.factor(progress) * 8 / 16
        assert recipe.lr_factor(progress) == pytest.approx(expected)
    assert small(data, schedule=()).lr_factor(0.7) == 1.0


def test_a_plateau_lowers_the_rate_and_is_remembered(data: Dataset) -> None:
    recipe = small(
        data,
        schedule=(Plateau(patience=1, divide_by=5.0),),
        optimise=dataclasses.replace(Recipe().optimise, lr=1e-9),  # nothing is learned: a plateau at once
        run=Run(steps=8, batch_size=8, evaluate_every=2),
    )
    state = loop.start(recipe, data, CPU)
    rates = [record.lr for record in loop.fit(recipe, data, state)]
    # the first evaluation is the best so far; each later one stalls, and the steps after it are slower
    assert rates == pytest.approx([1e-9] * 4 + [2e-10] * 2 + [4e-11] * 2)
    assert state.watch.scale == pytest.approx(1 / 125)


def test_a_sampling_policy_decides_what_is_trained_on(data: Dataset) -> None:
    """Balanced labels stay as they are; the order is the policy's own."""
    plain, balanced = small(data), small(data, balance=(UpSampling(),))
    losses = [[r.loss for r in loop.fit(one, data, loop.start(one, data, CPU))] for one in (plain, balanced)]
    assert losses[0][0] != losses[1][0]
    both = small(data, balance=(UpSampling(), DownSampling()))
    with pytest.raises(ConvclinicError, match="two sampling policies"):
        next(iter(loop.fit(both, data, loop.start(both, data, CPU))))


def test_a_penalty_moves_the_weights_and_leaves_the_recorded_loss_alone(data: Dataset) -> None:
    free, held = small(data), small(data, regularise=(L2(strength=10.0),))
    first, losses, norms = [], [], []
    for recipe in (free, held):
        state = loop.start(recipe, data, CPU)
        record = next(iter(loop.fit(recipe, data, state)))
        losses.append(record.loss)
        norms.append(record.grad_norm)
        first.append(sum(float(p.detach().square().sum()) for p in state.net.parameters()))
    assert losses[0] == losses[1]
    assert norms[1] > 2 * norms[0]
    assert first[1] < first[0]


def test_noise_is_in_the_net_that_trains_and_not_in_the_model(data: Dataset, tmp_path: Path) -> None:
    noise = (Dropout(p=0.5), SpatialDropout(p=0.2), StochasticDepth(p=0.3))
    recipe = small(data, regularise=noise)
    trained = build_net(recipe, 2)
    kinds = [type(module) for module in trained.modules()]
    assert torch.nn.Dropout2d in kinds and BranchPlace not in kinds and MapsPlace not in kinds
    assert any(isinstance(m, torch.nn.Dropout) and m.p == 0.5 for m in trained.modules())
    assert trained.state_dict().keys() == bare_net(recipe, 2).state_dict().keys()


def test_a_recipe_that_cannot_succeed_is_refused_unless_forced(bars: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(tiny.recipe(steps=3), net=Compact(widths=(8, 16)), initialise=(Zero(),))
    with pytest.raises(ConvclinicError, match=r"cannot succeed: .*--force"):
        fit(bars, recipe=recipe, out=tmp_path / "a", quiet=True)
    assert not (tmp_path / "a").exists()
    assert fit(bars, recipe=recipe, out=tmp_path / "b", quiet=True, force=True).metrics["steps"] == 3


def test_another_net_gets_what_suits_any_net(bars: Path) -> None:
    small = ("net=compact", "net.widths=[8, 16]", "run.batch_size=16")
    planned, _ = plan(bars, budget="5m", settings=small, quiet=True)
    assert planned.recipe.initialise == (He(),)
    assert planned.recipe.optimise.__class__.__name__ == "AdamW"
    said = {reason.choice: reason.value for reason in planned.reasons}
    assert said["optimise"] == "adamw" and said["initialise"] == "he"
    own, _ = plan(bars, budget="5m", settings=(*small, "optimise=sgd"), quiet=True)
    assert own.recipe.optimise.__class__.__name__ == "SGD"


def test_a_model_trained_with_everything_predicts_from_its_file(bars: Path, tmp_path: Path) -> None:
    settings = (
        *TINY,
        "net=compact",
        "net.widths=[8, 16]",
        "initialise=he",
        "activate=prelu",
        "normalise=group_norm",
        "prepare=mean_image,standardise",
        "balance=up_sampling",
        "augment=shift,fancy_pca,hsv_jitter,rand_augment",
        "regularise=dropout,spatial_dropout,stochastic_depth,max_norm,l1",
        "schedule=warm_up,cosine",
        "optimise=adam",
        "run.steps=20",
        "average=swa",
        "combine=ten_crop",
    )
    run = fit(bars, recipe=tiny.recipe(), out=tmp_path / "run", settings=settings, quiet=True)
    model = load(run.path)
    images = reopen(run.path).images([0, 1, 2])
    assert model.logits(images).shape == (3, 2)
    assert (run.path / "report.html").exists()


def test_with_a_policy_for_rare_classes_the_best_weights_are_the_best_balanced_ones(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = torch.tensor([0] * 8 + [1] * 2)
    always_frequent = F.one_hot(torch.zeros(10, dtype=torch.long), 2).float()  # plain 0.8, balanced 0.5
    often_rare = F.one_hot(torch.tensor([0] * 5 + [1] * 5), 2).float()  # plain 0.7, balanced 0.8125
    best: dict[str, tuple[int, float]] = {}
    for name, policy in (("none", ()), ("up_sampling", (UpSampling(),))):
        answers = iter((always_frequent, often_rare))
        monkeypatch.setattr(loop, "split_logits", lambda *a, answers=answers: (next(answers), labels))
        recipe = small(data, balance=policy, run=Run(steps=2, batch_size=8, evaluate_every=1))
        state = loop.start(recipe, data, CPU)
        list(loop.fit(recipe, data, state))
        best[name] = state.best_step, state.best_accuracy
    assert best["none"] == (1, pytest.approx(0.8))
    assert best["up_sampling"] == (2, pytest.approx(0.8125))
