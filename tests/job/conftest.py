"""Fixtures of the main job: one made photo set and one finished run, for tests that only read them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from making import TINY, photos

from convclinic.job.fitting import fit
from convclinic.job.run import Run
from convclinic.kinds import Layers
from convclinic.models.backbone import Backbone


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("bars") / "photos", per_class=40)


@pytest.fixture(scope="session")
def finished(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "bars"
    return fit(bars, budget="60s", out=out, quiet=True, settings=(*TINY, "run.steps=60"))


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Runs of one split: two nets, which see images of 16 and of 28 pixels."""
    folder = tmp_path_factory.mktemp("two")
    data = photos(folder / "photos", per_class=40, side=24, noise=250)
    small = (*TINY, "run.steps=24", "data.height=16", "data.width=16")
    large = ("net=compact", "net.widths=[8, 8]", "run.batch_size=16", "run.steps=24")
    return (
        fit(data, out=folder / "small", quiet=True, settings=small),
        fit(data, out=folder / "large", quiet=True, settings=large),
    )


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names that others give them, and one beside it that says what it is."""
    torch.manual_seed(0)
    net = Backbone("resnet20").build(3, 4, Layers(lambda _: nn.ReLU()))
    path = tmp_path_factory.mktemp("weights") / "mine.npz"
    named = {net.origin(name): value.numpy() for name, value in net.state_dict().items()}
    said = {"model": "resnet20", "side": 32, "multiple": 8}
    path.with_name("mine.npz.json").write_text(json.dumps(said))
    np.savez(path, **{str(name): value for name, value in named.items() if value.dtype == np.float32})
    return path
