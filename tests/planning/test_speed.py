"""Which steps are timed: those that training will mostly consist of."""

from __future__ import annotations

import dataclasses

import pytest

from convclinic.planning import range_test as sweeping
from convclinic.planning import speed
from convclinic.recipe import Recipe
from convclinic.tricks.transfer.gradual import Gradual
from convclinic.tricks.transfer.head_first import HeadFirst
from convclinic.tricks.transfer.layer_decay import LayerDecay


class Stopped(Exception):
    """Raised in place of training."""


def taken(monkeypatch, module, run):
    """The recipe that `run` trains with."""
    seen: list[Recipe] = []

    def fit(recipe, *_):
        seen.append(recipe)
        raise Stopped

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(Stopped):
        run()
    return seen[0]


@pytest.mark.parametrize(("transfer", "progress"), [((), 0.0), ((HeadFirst(),), 0.999)])
def test_steps_are_timed_when_all_stages_learn(transfer, progress, monkeypatch):
    recipe = dataclasses.replace(Recipe(), transfer=transfer)

    class State:
        step = 0

    timed = taken(monkeypatch, speed, lambda: speed._time_steps(recipe, None, State(), (32, 32), 1.0))
    assert timed.progress(0) == pytest.approx(progress)


def test_the_range_test_sweeps_one_net(monkeypatch):
    recipe = dataclasses.replace(Recipe(), transfer=(HeadFirst(), LayerDecay(), Gradual()))
    monkeypatch.setattr(sweeping, "start", lambda *_: None)
    swept = taken(monkeypatch, sweeping, lambda: sweeping.range_test(recipe, None, None, 20, 8))
    assert swept.transfer == (LayerDecay(),)
