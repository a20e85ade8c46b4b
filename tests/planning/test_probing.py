"""What the probes measure: training images alone, reproducibly, and within the time."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "job"))

from making import photos
from staged import Tiny

from convclinic.data.dataset import Dataset, assemble
from convclinic.data.sources import open_source
from convclinic.data.survey import survey
from convclinic.heads import validate
from convclinic.planning import probing
from convclinic.planning.probing import balanced, measure, spread
from convclinic.tricks.prepare.standardise import Standardise

CPU = torch.device("cpu")
STATE = {"mean": torch.full((3,), 0.3), "std": torch.full((3,), 0.2)}


class Bars(Tiny):
    """A net that knows bars: its last stage sees whether rows or columns differ."""

    def stages(self, images, wanted):
        maps = super().stages(images, wanted)
        if "high" in maps:
            rows, columns = images.mean(3).std(2).mean(1), images.mean(2).std(2).mean(1)
            told = torch.zeros(len(images), 8)
            told[:, 0], told[:, 1] = rows, columns
            maps["high"] = told[:, :, None, None] + 0 * maps["high"].mean()
        return maps


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("probing")
    source = open_source(photos(folder / "photos", per_class=60))
    return assemble(source, survey(source, seed=0), (16, 16, 3), folder / "run", seed=0)


def measured(net, data, **more):
    options = {"seconds": 60.0, "seed": 0, **more}
    return measure(net, (Standardise(),), (STATE,), data, CPU, (16, 16), **options)


def plain(evidence):
    """Without what a clock decides."""
    return dataclasses.replace(evidence, seconds=0.0, epochs=None)


def test_evidence_is_reproducible_and_about_the_training_split(data):
    first = measured(Tiny(), data)
    assert plain(first) == plain(measured(Tiny(), data))
    assert sum(first.class_counts) == len(data.indices("train"))
    assert [probe.stage for probe in first.pretrained] == ["low", "middle", "high"]
    assert [probe.stage for probe in first.control] == ["low", "middle"]
    assert first.svm is not None
    assert first.own_statistics is not None


def test_labels_that_are_not_of_the_training_split_play_no_part(data):
    labels = data.labels.copy()
    labels[data.splits > 0] = 1 - labels[data.splits > 0]
    assert plain(measured(Tiny(), data)) == plain(measured(Tiny(), dataclasses.replace(data, labels=labels)))


def test_a_net_that_knows_the_classes_is_above_its_random_twin(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "randomised", lambda look: Tiny(seed=1))
        evidence = measured(Bars(), data)
    assert evidence.pretrained[-1].balanced_accuracy > 0.95
    assert evidence.over_control.gain > 0
    best = max(probe.balanced_accuracy for probe in evidence.control)
    assert evidence.over_control.gain == pytest.approx(evidence.pretrained[-1].balanced_accuracy - best)


def test_the_net_is_left_as_it_was(data):
    net = Tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    measured(net, data)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_net_without_batch_norm_has_no_statistics_to_compare(data):
    class Bare(Tiny):
        def __init__(self):
            super().__init__()
            for block in self.blocks.values():
                block[1] = nn.Identity()

    assert measured(Bare(), data).own_statistics is None


def test_what_can_be_left_out_is_left_out_when_the_time_is_over(data):
    hurried = measured(Tiny(), data, seconds=0.0)
    assert hurried.svm is None
    assert hurried.own_statistics is None
    assert len(hurried.pretrained) == 3


def test_features_are_cached(data, tmp_path):
    first = measured(Tiny(), data, cache=tmp_path)
    net = Tiny()
    second = measured(net, data, cache=tmp_path)
    assert plain(first) == plain(second)
    assert net.passes == 4 + 3 * 16  # the images that the rate is measured on


def test_groups_are_handed_on(data):
    groups = np.arange(len(data.labels)) // 4
    assert plain(measured(Tiny(), data, groups=groups)) != plain(measured(Tiny(), data))


def test_a_budget_is_told_in_epochs(data):
    short, long = (measured(Tiny(), data, budget=seconds).epochs for seconds in (1.0, 100.0))
    assert 0 < short < long


def test_the_random_twin_is_another_net_with_maps_on_a_sound_scale(data):
    net = Tiny().eval()
    nn.init.constant_(net.blocks["low"][0].weight, 100.0)
    positions = data.indices("train")[:64]
    part, labels = probing.Part(data.images, positions), data.labels[positions]
    look = probing.Looking(net, (Standardise(),), (STATE,), part, labels, None, 2, CPU, (16, 16), 0, None)
    twin = probing.randomised(look)
    values = look.features(twin, ("low", "high"))
    for stage in ("low", "high"):
        assert 0.1 < values[stage].mean() < 1.0  # of a ReLU behind batch norm: 0.4
    assert net.blocks["low"][0].weight.eq(100.0).all()


def test_rare_classes_are_kept_and_common_ones_capped():
    labels = np.repeat([0, 1, 2], [1000, 30, 4])
    chosen = balanced(labels, 100, 0)
    assert np.bincount(labels[chosen]).tolist() == [66, 30, 4]
    assert np.array_equal(chosen, balanced(labels, 100, 0))
    assert not np.array_equal(chosen, balanced(labels, 100, 1))
    assert np.bincount(labels[balanced(labels, 2, 0)]).tolist() == [2, 2, 2]
    assert len(balanced(labels, 10**6, 0)) == 1034


def test_many_classes_are_probed_by_ridge(data, monkeypatch):
    asked = []

    def told(kind, *given, **more):
        asked.append(kind)
        return validate(kind, *given, **more)

    monkeypatch.setattr(probing, "validate", told)
    measured(Tiny(), data)
    assert set(asked) == {"logistic", "svm"}
    asked.clear()
    monkeypatch.setattr(probing, "MANY_CLASSES", 2)
    measured(Tiny(), data)
    assert set(asked) == {"linear", "svm"}


def test_stages_are_spread_and_end_with_the_last():
    assert spread(("a", "b")) == ("a", "b")
    names = [str(i) for i in range(20)]
    assert len(spread(names)) == 8
    assert spread(names)[-1] == "19"
