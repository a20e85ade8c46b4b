"""`convclinic features` at work: what it prints, as text and as JSON, and what it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from convclinic.kinds import Layers
from convclinic.models.resnet_cifar import ResNetCifar


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet20-made.th"
    torch.save(ResNetCifar(depth=20).build(3, 10, Layers(lambda _: nn.ReLU())).state_dict(), path)
    return path


def test_a_table_of_stages_is_printed(command, bars, weights, here):
    answer = command("features", bars, "--weights", weights)
    assert answer.code == 0
    lines = answer.out.splitlines()
    rows = [line for line in lines if line.startswith(("stem", "layer"))]
    assert [row.split()[0] for row in rows] == ["stem", "layer1", "layer2", "layer3"]
    assert sum(row.endswith("best") for row in rows) == 1
    assert "written to photos-features.npz" in lines[-1]
    assert (here / "photos-features.npz").is_file()


def test_as_json_the_result_and_nothing_else(command, bars, weights, here):
    chosen = ("--stages", "layer3", "--head", "linear", "--out", "f.npz")
    answer = command("features", bars, "--weights", weights, *chosen, "--json")
    assert (answer.code, answer.err) == (0, "")
    result = json.loads(answer.out)
    assert result["file"] == "f.npz"
    assert result["best"] == "layer3"
    assert 0 <= result["stages"][0]["accuracy"] <= 1
    with np.load(here / "f.npz") as file:
        assert file["layer3"].shape == (80, 64)


def test_quiet_prints_only_where_the_features_are(command, bars, weights, here):
    answer = command("features", bars, "--weights", weights, "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "photos-features.npz\n", "")


def test_a_net_must_be_named(refused, bars):
    assert "--weights FILE or --backbone NAME" in refused("features", bars)
