"""`fit` from somebody else's weights: a small net's file, made here, on small photos."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import read_json
from convclinic.job import planning
from convclinic.job.fitting import fit, plan, resume
from convclinic.job.studying import Request, study_activations, study_balance
from convclinic.model_file import load as load_model
from convclinic.models._weights import HubUnreachable
from convclinic.models.backbone import Backbone
from convclinic.study import comparing
from convclinic.study.balance import NONE
from tests.job.making import photos
from tests.peers import mend_torchvision

QUICK = ("run.steps=4", "run.batch_size=8", "run.evaluate_every=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("pictures") / "photos", per_class=24, side=40)


def fitted(data: Path, weights: Path, out: Path, **options: object):
    return fit(
        data,
        budget="8s",
        out=out,
        weights=weights,
        settings=QUICK,
        quiet=True,
        **options,
    )


def test_the_strategy_is_said_and_the_run_predicts_without_the_file(data, weights, tmp_path):
    mine = tmp_path / "mine.npz"
    for file in weights.parent.iterdir():
        shutil.copy(file, tmp_path)
    run = fitted(data, mine, tmp_path / "run", strategy="all")
    document = read_json(tmp_path / "run" / "recipe.json")
    recipe = document["recipe"]
    words = next(reason for reason in document["reasons"] if reason["choice"] == "strategy")
    assert words["value"].startswith("all (")
    assert "linear probe" in words["reason"]
    assert (recipe["net"]["name"], recipe["net"]["model"]) == ("backbone", "resnet20")
    assert recipe["transfer"][0]["file"] == str(mine)
    assert len(recipe["transfer"][0]["sha256"]) == 64
    assert recipe["prepare"][0]["name"] == "given"
    mine.unlink()
    assert len(run.predict([next(data.rglob("*.png"))])) == 1
    longer = resume(tmp_path / "run", extend="1s", quiet=True)
    assert longer.metrics["steps"] > 4


def test_the_hubs_weights_are_found_again_when_training_starts(data, tmp_path, monkeypatch):
    """The recipe names them as what can be asked for once more, and the loaded net starts from them."""
    mend_torchvision()
    timm = pytest.importorskip("timm")
    create = timm.create_model

    def made(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        torch.manual_seed(5 if pretrained else 6)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", made)
    fit(
        data,
        budget="8s",
        out=tmp_path / "run",
        backbone="timm:resnet10t",
        strategy="linear",
        settings=(*QUICK, "data.height=64", "data.width=64"),
        quiet=True,
    )
    recipe = read_json(tmp_path / "run" / "recipe.json")["recipe"]
    assert recipe["transfer"][0]["file"] == "timm:resnet10t"
    trained = load_model(tmp_path / "run").net.state_dict()
    for name, value in made("resnet10t", pretrained=True).state_dict().items():
        if name.endswith("conv1.weight"):  # frozen by this strategy
            assert torch.equal(trained[f"net.{name}"], value)


def test_scratch_is_what_there_is_without_weights(data, weights, tmp_path):
    made, _ = plan(
        data,
        budget="20s",
        weights=weights,
        strategy="scratch",
        settings=QUICK,
        quiet=True,
    )
    assert made.recipe.transfer == ()
    assert not isinstance(made.recipe.net, Backbone)


def test_a_hub_that_cannot_be_reached_is_told_and_training_goes_from_scratch(data, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise HubUnreachable("no route to the hub", fix="give --weights FILE")

    monkeypatch.setattr(planning, "load_backbone", fail)
    fit(data, budget="8s", out=tmp_path / "run", backbone="timm:resnet18", settings=QUICK, quiet=True)
    causes = {finding["cause"]: finding for finding in read_json(tmp_path / "run" / "findings.json")}
    assert "no route to the hub" in causes["no_pretrained_weights"]["summary"]
    assert read_json(tmp_path / "run" / "recipe.json")["recipe"]["transfer"] == []


def test_what_makes_no_sense_is_refused(data, weights, tmp_path):
    with pytest.raises(ConvclinicError, match="no file of weights"):
        fitted(data, tmp_path / "none.npz", tmp_path / "a")
    nameless = shutil.copy(weights, tmp_path / "nameless.npz")
    with pytest.raises(ConvclinicError, match="does not say which net"):
        fitted(data, nameless, tmp_path / "b")
    with pytest.raises(ConvclinicError, match=r"no strategy 'linea'.*linear"):
        fitted(data, weights, tmp_path / "c", strategy="linea")
    with pytest.raises(ConvclinicError, match="--weights FILE or --backbone"):
        fit(data, out=tmp_path / "d", strategy="linear", quiet=True)
    _, path = plan(data, budget="8s", out=tmp_path / "r.json", settings=QUICK, quiet=True)
    with pytest.raises(ConvclinicError, match="two different things"):
        fitted(data, weights, tmp_path / "e", recipe=path)
    assert not (tmp_path / "a").exists()


def test_policies_for_rare_classes_are_compared_in_fine_tuning(data, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "steps_within", lambda *args: 4)
    request = Request(
        data, None, 1, "40s", ("up_sampling",), tmp_path / "out", QUICK, quiet=True, weights=weights
    )
    studied = study_balance(request)
    assert [outcome.label for outcome in studied.outcomes] == [NONE, "up_sampling"]
    recipe = json.loads((tmp_path / "out" / comparing.FILE).read_text())["recipe"]
    assert recipe["net"]["name"] == "backbone" and recipe["transfer"][0]["name"] == "pretrained"
    assert recipe["balance"] == []
    with pytest.raises(ConvclinicError, match="other settings"):
        study_balance(dataclasses.replace(request, weights=None, backbone="resnet20"))
    with pytest.raises(ConvclinicError, match="only the study of balance"):
        study_activations(dataclasses.replace(request, only=()))
    with pytest.raises(ConvclinicError, match="leave out --net"):
        study_balance(dataclasses.replace(request, net="compact"))
