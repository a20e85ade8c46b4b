"""Early fusion: one classifier on what the last layers of several nets read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from convclinic.data.dataset import reopen
from convclinic.ground.errors import ConvclinicError
from convclinic.heads import fit_head
from convclinic.job import folder as place
from convclinic.job import fusing
from convclinic.job.display import Silent
from convclinic.job.ensembled import Ensembled
from convclinic.job.ensembling import ensemble
from convclinic.job.run import Run
from convclinic.joint import Ensemble
from convclinic.model import bare_net, read_last, to_tensor
from convclinic.model_file import load
from convclinic.recipe import Recipe
from convclinic.tricks.augment._pipeline import resize


@pytest.fixture(scope="module")
def done(two: tuple[Run, Run], tmp_path_factory: pytest.TempPathFactory) -> Ensembled:
    out = tmp_path_factory.mktemp("fused") / "out"
    return ensemble([run.path for run in two], method="fusion", out=out, quiet=True)


@pytest.mark.parametrize(
    ("net", "last", "pooled"),
    [
        ("fast", "head", False),
        ("compact", "head", False),
        ("lenet5", "output", False),
        ("resnet_cifar", "linear", False),
        ("mobilenet_v2", "classifier.1", False),
        ("squeezenet", "classifier.1", True),
        ("nin", None, True),
    ],
)
def test_the_last_layer_is_found_in_every_net(net: str, last: str | None, pooled: bool) -> None:
    recipe = Recipe().override([f"net={net}", "data.channels=3"])
    module = bare_net(recipe, 4).eval()
    images = torch.rand(2, 3, 64, 64) if net != "lenet5" else torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        read, logits = read_last(module, images), module(images)
    assert read.ndim == 2 and len(read) == 2
    assert not any(layer._forward_pre_hooks for layer in module.modules()), "no hook is left behind"
    if last is not None and not pooled:
        layer = module.get_submodule(last)
        with torch.inference_mode():
            again = layer(read) / (read.shape[1] if net == "fast" else 1)  # fast divides by its width
        torch.testing.assert_close(again, logits)
    elif last is not None:
        assert read.shape[1] == module.get_submodule(last).in_channels


def test_the_classifier_is_fitted_on_all_features_of_the_training_images(
    two: tuple[Run, Run], done: Ensembled
) -> None:
    model = load(done.run.path)
    assert isinstance(model, Ensemble) and model.reads == "features"
    small, large = (load(run.path) for run in two)
    data = reopen(two[1].path)
    train = data.indices("train")
    images = data.images(train)
    halved = resize(to_tensor(images), (16, 16)).permute(0, 2, 3, 1).contiguous().numpy()
    features = np.concatenate([large.features(images), small.features(halved)], 1)
    assert features.shape[1] == 16 and done.facts["classifier"]["inputs"] == 16
    groups = place.groups(two[1].path)[train]
    head = fit_head("logistic", features, data.labels[train], 2, groups=groups, seed=0)
    np.testing.assert_allclose(model.logits(images), head.logits(features), atol=1e-4)
    assert done.facts["classifier"]["strength"] == head.strength
    assert done.facts["classifier"]["images"] == len(train)


def test_it_stands_beside_the_others_and_says_what_members_weigh(done: Ensembled) -> None:
    assert set(done.facts["validation_log_loss"]) == {"mean", "greedy", "single", "fusion"}
    assert done.facts["method"] == "fusion"
    weights = [one["weight"] for one in done.facts["members"]]
    assert sum(weights) == pytest.approx(1.0) and min(weights) > 0
    model = load(done.run.path)
    assert isinstance(model, Ensemble)
    data = reopen(done.run.path)
    large, small = model.inputs(data.images(data.indices("validation")))
    weight = model.head["weight"].numpy()
    moved = [
        np.sqrt((part @ own.T).var(0).sum()) for part, own in ((large, weight[:, :8]), (small, weight[:, 8:]))
    ]
    assert weights == pytest.approx([moved[1] / sum(moved), moved[0] / sum(moved)], rel=1e-4)


def test_every_verb_takes_it(bars: Path, done: Ensembled) -> None:
    answer, *_ = done.run.predict(bars / "lying" / "000.png")
    assert answer.best in ("lying", "standing") and 0 < (answer.probability or 0) <= 1
    assert done.run.evaluate(bars)["n"] == 80
    assert "early fusion" in done.run.report().read_text()


def test_large_sets_are_thinned_out_class_by_class(
    two: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusing, "VALUES", 16 * 20)
    data = reopen(two[1].path)
    models = [load(run.path) for run in two]
    built = fusing.fused(models, data, place.groups(two[1].path), Silent())
    assert built.about["images"] in (20, 21, 22)
    again = fusing.fused(models, data, place.groups(two[1].path), Silent())
    assert torch.equal(built.model.head["weight"], again.model.head["weight"])


def test_an_ensemble_has_no_features_to_fuse(two: tuple[Run, Run], done: Ensembled, tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match="no last layer"):
        ensemble([two[0].path, done.run.path], method="fusion", out=tmp_path / "a", quiet=True)
    assert not (tmp_path / "a").exists(), "nothing is left of a refusal"
    both = ensemble([two[0].path, done.run.path], out=tmp_path / "b", quiet=True)  # auto leaves it out
    assert "fusion" not in both.facts["validation_log_loss"]
