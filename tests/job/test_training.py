"""Training in its run folder: keeping to the budget, stopping on request, and a full disk."""

import dataclasses
import errno
import itertools
import json
import os
import random
import shutil
import signal
import threading
from types import SimpleNamespace

import pytest
import torch
from tiny import recipe as tiny

from convclinic import checkpoint as saving
from convclinic import history as histories
from convclinic.data.dataset import assemble, reopen
from convclinic.data.sources import open_source
from convclinic.data.survey import survey
from convclinic.ground import files
from convclinic.ground.errors import ConvclinicError
from convclinic.history import Record, read
from convclinic.job import training
from convclinic.job.display import Silent
from convclinic.job.folder import CHECKPOINT, HISTORY, RECIPE
from convclinic.job.training import Interrupted, Pace, freeze, planned_seconds, train
from convclinic.planning.speed import Speed
from convclinic.recipe import Recipe

CPU = torch.device("cpu")
SIZES = ((0.0, 16, 16), (0.4, 24, 24), (0.7, 32, 32))
SMALL, MIDDLE, LARGE = (16, 16), (24, 24), (32, 32)
SECONDS = {SMALL: 1.0, MIDDLE: 2.0, LARGE: 4.0}


def speed(step):
    return Speed(step, evaluate_image=0.0, views_image=0.0, start=0.0)


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(training, "time", made)
    return made


def walk(clock, meter, recipe, steps, took, since=0, evaluate_every=0):
    """Let `steps` steps of `took` seconds pass, each evaluation a hundred seconds."""
    for step in range(since + 1, since + steps + 1):
        evaluated = bool(evaluate_every) and step % evaluate_every == 0
        clock.now += took + 100 * evaluated
        meter.tick(recipe, Record(step, 0.0, 0.1, 1.0, 0.5, 1.0, val_accuracy=0.5 if evaluated else None))


# expected seconds


def test_expected_seconds_of_one_size():
    recipe = tiny(steps=100)
    for step, seconds in ((0, 50.0), (40, 30.0), (100, 0.0)):
        assert planned_seconds(recipe, step, {SMALL: 0.5}) == pytest.approx(seconds)


def test_expected_seconds_over_growing_sizes():
    recipe = tiny(steps=1000, sizes=SIZES)
    assert planned_seconds(recipe, 0, SECONDS) == pytest.approx(400 * 1 + 300 * 2 + 300 * 4)
    assert planned_seconds(recipe, 100, SECONDS) == pytest.approx(300 * 1 + 300 * 2 + 300 * 4)
    assert planned_seconds(recipe, 400, SECONDS) == pytest.approx(300 * 2 + 300 * 4)
    assert planned_seconds(recipe, 500, SECONDS) == pytest.approx(200 * 2 + 300 * 4)
    assert planned_seconds(recipe, 900, SECONDS) == pytest.approx(100 * 4)
    assert planned_seconds(recipe, 1000, SECONDS) == 0


def test_expected_seconds_are_the_sum_over_the_steps_also_of_a_bent_schedule():
    for segments in ((), ((300, 0.3, 700),), ((100, 0.1, 1500), (900, 0.55, 1200))):
        recipe = tiny(steps=1000, sizes=SIZES, rescheduled=segments)
        for step in (segments[-1][0] if segments else 0, 950):
            if step >= recipe.total_steps:
                continue
            each = [
                SECONDS[training.loop.size_at(recipe, recipe.progress(s))]
                for s in range(step, recipe.total_steps)
            ]
            assert planned_seconds(recipe, step, SECONDS) == pytest.approx(sum(each), abs=5)


# how fast steps really go


def test_what_is_left_follows_the_real_pace(clock):
    recipe = tiny(steps=1000)
    meter = training._Meter(speed({SMALL: 1.0}))
    assert meter.left(recipe, 0) == pytest.approx(1000)
    walk(clock, meter, recipe, 200, took=2.0)
    assert meter.left(recipe, 200) == pytest.approx(1600, rel=0.03)
    walk(clock, meter, recipe, 200, took=0.5, since=200)
    assert meter.left(recipe, 400) == pytest.approx(300, rel=0.06)


def test_one_slow_step_is_not_taken_for_the_pace(clock):
    recipe = tiny(steps=1000)
    meter = training._Meter(speed({SMALL: 1.0}))
    walk(clock, meter, recipe, 1, took=3.0)
    assert meter.left(recipe, 1) < 1.15 * 999


def test_a_machine_that_stands_still_for_a_minute_is_not_a_slow_one(clock):
    recipe = tiny(steps=1000)
    meter = training._Meter(speed({SMALL: 1.0}))
    walk(clock, meter, recipe, 100, took=1.0)
    walk(clock, meter, recipe, 1, took=60.0, since=100)
    assert meter.left(recipe, 101) < 1.06 * 899


def test_one_bend_at_most_doubles_what_is_left(clock):
    bent = bend(clock, tiny(steps=1000), 200, have=80_000)
    assert bent.total_steps == 200 + 1600


def test_evaluations_are_no_part_of_the_pace(clock):
    recipe = tiny(steps=1000)
    meter = training._Meter(speed({SMALL: 1.0}))
    walk(clock, meter, recipe, 100, took=1.0, evaluate_every=10)
    assert meter.left(recipe, 100) == pytest.approx(900)


def test_a_slow_machine_is_slow_at_every_size(clock):
    """What was seen at small images tells about the large ones to come."""
    recipe = tiny(steps=1000, sizes=SIZES)
    meter = training._Meter(speed(SECONDS))
    walk(clock, meter, recipe, 300, took=1.5)
    assert meter.left(recipe, 300) == pytest.approx(1.5 * (100 + 600 + 1200), rel=0.01)


def test_without_expectations_the_mean_step_tells(clock):
    recipe = tiny(steps=1000)
    meter = training._Meter(None)
    assert meter.left(recipe, 0) == 0.0
    walk(clock, meter, recipe, 50, took=0.25)
    assert meter.left(recipe, 50) == pytest.approx(950 * 0.25)


# bending the schedule


def bend(clock, recipe, step, have, took=1.0, budget=1000.0, step_seconds=None):
    """What becomes of `recipe` at `step` when steps took `took` seconds and `have` seconds are left."""
    meter = training._Meter(speed(step_seconds or {SMALL: 1.0}))
    walk(clock, meter, recipe, 200, took, since=step - 200)
    pace = Pace(clock.now + have, budget, speed(step_seconds or {SMALL: 1.0}))
    return training._bend(recipe, step, pace, meter)


def test_a_slow_machine_shortens(clock):
    bent = bend(clock, tiny(steps=1000), 200, have=800, took=2.0)
    assert bent.run.steps == 1000, "what was planned stays written"
    assert bent.total_steps == pytest.approx(200 + 400, abs=6)


def test_a_fast_machine_lengthens(clock):
    bent = bend(clock, tiny(steps=1000), 200, have=800, took=0.5)
    assert bent.total_steps == pytest.approx(200 + 1600, abs=60)


@pytest.mark.parametrize("have", [751, 790, 800, 810, 849])
def test_a_small_deviation_does_nothing(clock, have):
    assert bend(clock, tiny(steps=1000), 200, have) is None


@pytest.mark.parametrize(("have", "longer"), [(740, False), (860, True)])
def test_a_deviation_of_a_twentieth_of_the_budget_counts(clock, have, longer):
    bent = bend(clock, tiny(steps=1000), 200, have)
    assert (bent.total_steps > 1000) == longer
    assert bent.total_steps == pytest.approx(200 + have, abs=2)


def test_what_counts_is_the_share_of_the_budget(clock):
    assert bend(clock, tiny(steps=1000), 200, have=700, budget=5000.0) is None
    assert bend(clock, tiny(steps=1000), 200, have=700, budget=1000.0) is not None


def test_the_last_steps_are_left_alone(clock):
    assert bend(clock, tiny(steps=1000), 961, have=3000.0) is None
    assert bend(clock, tiny(steps=1000), 960, have=3000.0) is not None


@pytest.mark.parametrize("have", [10.0, 0.0, -500.0])
def test_a_few_steps_are_left_even_when_the_time_is_over(clock, have):
    bent = bend(clock, tiny(steps=1000), 200, have)
    assert bent.total_steps == 200 + training.LEAST_LEFT


def check_progress(recipe):
    """Progress starts at 0, never jumps or falls, and ends at 1 with the last step and not before."""
    progress = [recipe.progress(step) for step in range(recipe.total_steps + 1)]
    steps = [b - a for a, b in itertools.pairwise(progress)]
    assert progress[0] == 0
    assert progress[-1] == pytest.approx(1.0)
    assert all(step > 0 for step in steps)
    assert max(steps) <= 1 / training.LEAST_LEFT + 1e-9


def test_progress_is_continuous_through_any_bends(clock):
    draw = random.Random(0)
    for _ in range(20):
        recipe, step, bends = tiny(steps=draw.randint(400, 2000)), 200, 0
        while step < recipe.total_steps:
            before = recipe.progress(step)
            bent = bend(clock, recipe, step, have=draw.uniform(-100, 3000), took=draw.uniform(0.3, 3))
            if bent is not None:
                assert bent.progress(step) == before
                assert [bent.progress(s) for s in range(step)] == [recipe.progress(s) for s in range(step)]
                recipe, bends = bent, bends + 1
            step += draw.randint(100, 400)
        check_progress(recipe)
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert bends


def test_growing_sizes_are_reached_at_the_same_progress(clock):
    recipe = tiny(steps=1000, sizes=SIZES)
    bent = bend(clock, recipe, 200, have=900, took=1.0, step_seconds=SECONDS)
    assert bent.total_steps < 600
    seen = [training.loop.size_at(bent, bent.progress(step)) for step in range(bent.total_steps)]
    assert list(dict.fromkeys(seen)) == [SMALL, MIDDLE, LARGE]
    assert planned_seconds(bent, 200, SECONDS) == pytest.approx(900, rel=0.02)


# the run itself


@pytest.fixture(scope="module")
def begun(bars, tmp_path_factory):
    """A run folder with data and split, ready to be trained in."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    source = open_source(bars)
    assemble(source, survey(source), (16, 16, 3), folder, seed=0)
    freeze(tiny(), folder, convclinic="0.1.0", reasons=["because"])
    return folder


@pytest.fixture
def run(begun, tmp_path):
    shutil.copytree(begun, tmp_path / "run")
    return tmp_path / "run"


class Heard(Silent):
    """A display that calls `react(step)` at every step."""

    def __init__(self, react=None):
        self.react = react
        self.updates = []

    def update(self, done, total, text="", left=None):
        self.updates.append((done, total, text, left))
        if self.react:
            self.react(done)


def steps_written(run):
    return [record.step for record in read(run / HISTORY)]


@pytest.fixture(scope="module")
def whole(begun, tmp_path_factory):
    """The history and the final weights of the uninterrupted run."""
    folder = shutil.copytree(begun, tmp_path_factory.mktemp("whole") / "run")
    _, state = train(tiny(), reopen(folder), folder, CPU, Silent(), None)
    return (folder / HISTORY).read_bytes(), state.net.state_dict()


def test_every_step_is_recorded_and_shown(run):
    heard = Heard()
    recipe, state = train(tiny(), reopen(run), run, CPU, heard, None)
    assert recipe == tiny()
    assert state.step == 30
    assert steps_written(run) == list(range(1, 31))
    assert [(done, total) for done, total, _, _ in heard.updates] == [(step, 30) for step in range(1, 31)]
    assert "majority class is 50.0%" in heard.updates[-1][2]
    assert all(left >= 0 for *_, left in heard.updates)
    evaluated = [record.step for record in read(run / HISTORY) if record.val_accuracy is not None]
    assert evaluated == [10, 20, 30]
    assert (run / CHECKPOINT).exists()


def goes_on_as_if_nothing_had_been(run, whole):
    _, state = train(tiny(), reopen(run), run, CPU, Silent(), None)
    assert (run / HISTORY).read_bytes() == whole[0]
    assert all(torch.equal(value, whole[1][name]) for name, value in state.net.state_dict().items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 10, 17, 30])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(run, whole, number, at):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    heard = Heard(lambda step: signal.raise_signal(number) if step == at else None)
    with pytest.raises(Interrupted, match=rf"stopped \(go on with `convclinic resume {run}`\)"):
        train(tiny(), reopen(run), run, CPU, heard, None)
    assert steps_written(run) == list(range(1, at + 1))
    assert saving.restore(tiny(), reopen(run), CPU, run / CHECKPOINT).step == at
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    goes_on_as_if_nothing_had_been(run, whole)


def test_a_second_ctrl_c_stops_at_once(run, whole):
    def react(step):
        if step == 7:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), reopen(run), run, CPU, Heard(react), None)
    assert signal.getsignal(signal.SIGINT) == before
    goes_on_as_if_nothing_had_been(run, whole)


def test_outside_the_main_thread_signals_are_left_alone(run, whole):
    caught = []

    def work():
        try:
            goes_on_as_if_nothing_had_been(run, whole)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not caught


def refuse(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_full_at_a_checkpoint_loses_only_what_came_after_the_last(run, whole, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    with monkeypatch.context() as patch:

        def react(step):
            if step == 12:
                patch.setattr(files.os, "fsync", refuse)

        with pytest.raises(ConvclinicError, match=r"no space left while writing .*checkpoint\.safetensors"):
            train(tiny(), reopen(run), run, CPU, Heard(react), None)
    assert saving.restore(tiny(), reopen(run), CPU, run / CHECKPOINT).step == 11
    assert [path.name for path in run.iterdir() if path.name.endswith(".part")] == []
    goes_on_as_if_nothing_had_been(run, whole)


def test_a_disk_full_at_the_history_is_told_and_can_be_gone_on_from(run, whole, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    with monkeypatch.context() as patch:

        def react(step):
            if step == 12:
                patch.setattr(histories, "open", refuse, raising=False)

        with pytest.raises(ConvclinicError, match=r"no space left while writing .*history\.jsonl"):
            train(tiny(), reopen(run), run, CPU, Heard(react), None)
    assert steps_written(run) == list(range(1, 13))
    goes_on_as_if_nothing_had_been(run, whole)


def test_a_history_longer_or_torn_is_cut_back_to_the_checkpoint(run, whole):
    with pytest.raises(Interrupted):
        train(
            tiny(),
            reopen(run),
            run,
            CPU,
            Heard(lambda step: signal.raise_signal(signal.SIGINT) if step == 9 else None),
            None,
        )
    with open(run / HISTORY, "a") as file:
        file.write(Record(10, 2.0, 0.1, 9.9, 0.0, 1.0).line() + '{"step": 11, "epo')
    goes_on_as_if_nothing_had_been(run, whole)


def test_the_recipe_is_frozen_beside_what_else_is_written(begun, tmp_path):
    document = json.loads((begun / RECIPE).read_text())
    assert document == {
        "convclinic": "0.1.0",
        "reasons": ["because"],
        "recipe": tiny().to_dict(),
        "hash": tiny().hash(),
    }
    freeze(tiny(steps=7), tmp_path)
    assert json.loads((tmp_path / RECIPE).read_text())["recipe"]["run"]["steps"] == 7


class Machine(Heard):
    """A display under which every step takes `took` seconds by the clock."""

    def __init__(self, clock, took):
        super().__init__(lambda step: setattr(clock, "now", clock.now + took))


@pytest.mark.parametrize(("took", "least", "most"), [(2.0, 0.5, 0.75), (1.0, 1.0, 1.0), (0.5, 1.4, 2.0)])
def test_training_ends_when_it_should_on_a_slow_and_on_a_fast_machine(run, clock, took, least, most):
    recipe = tiny(steps=160, evaluate_every=400)
    pace = Pace(clock.now + 160.0, 160.0, speed({SMALL: 1.0}))
    began = clock.now
    bent, state = train(recipe, reopen(run), run, CPU, Machine(clock, took), pace)
    assert least * 160 <= state.step <= most * 160
    assert (clock.now - began) == pytest.approx(160, rel=0.1)
    assert state.step == bent.total_steps
    assert steps_written(run) == list(range(1, state.step + 1))
    written = json.loads((run / RECIPE).read_text())
    if took != 1.0:
        assert written["recipe"] == bent.to_dict()
        assert written["hash"] == bent.hash()
        assert written["reasons"] == ["because"]
    check_progress(bent)
    lrs = [record.lr for record in read(run / HISTORY)]
    jumps = [abs(b - a) for a, b in itertools.pairwise(lrs)]
    assert max(jumps) < 0.15 * max(lrs), "the schedule bends, it does not jump"
    assert lrs[-1] < 0.1 * max(lrs), "and it comes down to its end"


def test_a_run_that_was_bent_repeats_exactly_from_its_recipe(run, begun, clock, tmp_path):
    pace = Pace(clock.now + 100.0, 100.0, speed({SMALL: 1.0}))
    recipe = tiny(steps=100, evaluate_every=50)
    bent, state = train(recipe, reopen(run), run, CPU, Machine(clock, 1.6), pace)
    assert bent != recipe
    again = shutil.copytree(begun, tmp_path / "again")
    repeated, other = train(bent, reopen(again), again, CPU, Silent(), None)
    assert repeated == bent
    assert (again / HISTORY).read_bytes() == (run / HISTORY).read_bytes()
    assert all(torch.equal(v, other.net.state_dict()[k]) for k, v in state.net.state_dict().items())


def test_a_checkpoint_from_before_a_bend_is_still_good(run, clock):
    recipe = tiny(steps=100, evaluate_every=50)
    saved = tiny(steps=100, evaluate_every=50, rescheduled=((60, 0.6, 90),))
    data = reopen(run)
    state = training.loop.start(recipe, data, CPU)
    for record in training.loop.fit(recipe, data, state):
        if record.step == 40:
            break
    saving.save(state, recipe, run / CHECKPOINT)
    assert saving.restore(saved, data, CPU, run / CHECKPOINT).step == 40
    other = dataclasses.replace(recipe, seed=1)
    with pytest.raises(ConvclinicError, match="belongs to another recipe"):
        saving.restore(other, data, CPU, run / CHECKPOINT)


def test_the_majority_is_that_of_the_validation_split():
    data = SimpleNamespace(
        labels=torch.tensor([0, 1, 1, 1, 0, 0]).numpy(),
        classes=("a", "b", "c"),
        indices=lambda split: [1, 2, 3, 4],
    )
    assert training._majority(data) == 0.75
