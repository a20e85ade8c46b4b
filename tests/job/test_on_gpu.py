"""The main jobs on a GPU: planned, trained, treated, joined, and read again without one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from making import TINY, photos
from tiny import RECIPE
from torch import nn

from convclinic import loop
from convclinic.clinic import Clinic
from convclinic.data.dataset import reopen
from convclinic.features import Part, extract
from convclinic.ground.files import read_json
from convclinic.job.crossvalidating import crossval
from convclinic.job.ensembling import ensemble
from convclinic.job.fitting import fit, resume
from convclinic.kinds import Layers
from convclinic.model_file import load
from convclinic.models.backbone import Backbone
from convclinic.predict import predict
from convclinic.tricks.prepare.standardise import Standardise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(scope="module")
def planned(bars: Path, tmp_path_factory: pytest.TempPathFactory):
    return fit(bars, budget="30s", out=tmp_path_factory.mktemp("gpu") / "run", device="cuda", quiet=True)


def test_a_planned_run_learns_and_says_where(planned) -> None:
    document = read_json(planned.path / "recipe.json")
    assert document["device"] == "cuda" and torch.cuda.get_device_name() in document["hardware"]["name"]
    assert planned.metrics["test"]["accuracy"] > 0.8
    alarms = [f for f in read_json(planned.path / "findings.json") if f["severity"] == "critical"]
    assert alarms == []


def test_its_model_answers_the_same_without_a_gpu(planned, bars: Path) -> None:
    paths = sorted(bars.rglob("*.png"))[:20]
    here, there = (list(predict(load(planned.path, device), paths)) for device in (CPU, GPU))
    for one, other in zip(here, there, strict=True):
        assert one.answer == other.answer
        assert one.probability == pytest.approx(other.probability, abs=0.02)


def test_losses_are_those_of_the_processor(bars: Path, tmp_path: Path) -> None:
    """The same draws on either; products are rounded otherwise."""
    run = fit(bars, recipe=RECIPE, out=tmp_path / "run", device="cpu", quiet=True)
    data = reopen(run.path)
    recipe = dataclasses.replace(RECIPE, run=dataclasses.replace(RECIPE.run, steps=5))
    torch.backends.cudnn.allow_tf32 = False
    try:
        losses = [
            [record.loss for record in loop.fit(recipe, data, loop.start(recipe, data, device))]
            for device in (CPU, GPU)
        ]
    finally:
        torch.backends.cudnn.allow_tf32 = True
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_a_run_is_extended_and_moves_to_the_processor(planned) -> None:
    before = planned.metrics["steps"]
    longer = resume(planned.path, extend="5s", quiet=True)
    assert longer.metrics["steps"] > before


def test_a_faulty_recipe_is_treated(bars: Path, tmp_path: Path) -> None:
    optimise = dataclasses.replace(RECIPE.optimise, lr=200.0)
    steps = dataclasses.replace(RECIPE.run, steps=200)
    faulty = dataclasses.replace(RECIPE, optimise=optimise, run=steps)
    run = fit(
        bars, recipe=faulty, out=tmp_path / "run", device="cuda", clinic="treat", quiet=True, force=True
    )
    assert [trial["edit"] for trial in read_json(run.path / "treatments.json") if trial["kept"]]
    assert run.metrics["test"]["accuracy"] > 0.8


def test_folds_train_beside_each_other(bars: Path, tmp_path: Path) -> None:
    settings = (*TINY, "run.steps=20", "run.evaluate_every=10")
    done = crossval(
        bars, n_folds=3, budget="60s", out=tmp_path / "folds", settings=settings,
        device="cuda", workers=2, quiet=True,
    )  # fmt: skip
    assert len(done.runs) == 3 and all(run.metrics["test"]["accuracy"] > 0.4 for run in done.runs)


def test_runs_are_joined(bars: Path, tmp_path: Path) -> None:
    run = fit(bars, recipe=RECIPE, out=tmp_path / "run", device="cuda", quiet=True)
    joined = ensemble([run.path], members=2, out=tmp_path / "joined", device="cuda", quiet=True)
    assert len(joined.run.predict(sorted(bars.rglob("*.png"))[:3])) == 3


def test_somebody_elses_weights_are_fine_tuned(weights: Path, tmp_path: Path) -> None:
    data = photos(tmp_path / "photos", per_class=24, side=40)
    quick = ("run.steps=20", "run.batch_size=8", "run.evaluate_every=10")
    run = fit(
        data, budget="30s", out=tmp_path / "run", weights=weights, strategy="all", settings=quick,
        device="cuda", quiet=True,
    )  # fmt: skip
    assert read_json(run.path / "recipe.json")["recipe"]["net"]["name"] == "backbone"


def test_features_are_those_of_the_processor() -> None:
    torch.manual_seed(0)
    net = Backbone("resnet20").build(3, 4, Layers(lambda _: nn.ReLU()))
    pictures = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    state = {"mean": torch.tensor([0.4, 0.5, 0.6]), "std": torch.tensor([0.2, 0.2, 0.3])}
    part = Part(lambda rows: pictures[rows], np.arange(40))
    torch.backends.cudnn.allow_tf32 = False
    try:
        here, there = (
            extract(net.to(device), (Standardise(),), (state,), part, net.stage_names, device, (32, 32))
            for device in (CPU, GPU)
        )
    finally:
        torch.backends.cudnn.allow_tf32 = True
    for name, values in here.items():
        np.testing.assert_allclose(values, there[name], atol=1e-4)


def test_statistics_shared_between_processes_are_watched(tmp_path: Path) -> None:
    """SyncBatchNorm in a group of one: the hooks and copies of the clinic do not wait for anybody."""
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
        net = nn.parallel.DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(net).cuda())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        labels = torch.arange(512, device="cuda") % 4
        images = torch.randn(512, 1, 8, 8, device="cuda") + torch.randn(4, 1, 8, 8, device="cuda")[labels]
        clinic = Clinic(net, optimizer, classes=4)
        clinic.preflight(images[:32], labels[:32], F.cross_entropy)
        for step in range(60):
            here = torch.arange(step * 32, step * 32 + 32, device="cuda") % 512
            logits = net(images[here])
            loss = F.cross_entropy(logits, labels[here])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clinic.observe(loss=loss, inputs=images[here], targets=labels[here], logits=logits)
        assert [f.cause for f in clinic.findings() if f.severity != "info"] == []
        assert clinic.signals().updates == 60
    finally:
        dist.destroy_process_group()
