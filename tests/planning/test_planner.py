import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.data.profile import Profile
from convclinic.data.survey import Survey
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.units import seconds as read_seconds
from convclinic.loop import size_at
from convclinic.models.compact import Compact
from convclinic.models.fast import Fast
from convclinic.planning.hardware import Hardware
from convclinic.planning.orientation import MirrorTest
from convclinic.planning.other_net import around_net
from convclinic.planning.planner import (
    SOLVING,
    SOLVING_SHARE,
    Reason,
    affordable_head,
    choose_input,
    choose_width,
    draft,
    finish,
    mean_step,
    with_lr,
)
from convclinic.planning.range_test import RangeResult
from convclinic.planning.speed import Speed
from convclinic.recipe import Recipe
from convclinic.slots import Input, Run
from convclinic.tricks.optimise.muon import Muon
from convclinic.tricks.optimise.sgd import SGD
from convclinic.tricks.transfer.probed_head import ProbedHead

MACHINE = Hardware("cpu", "made up", 2, 8 * 10**9, 1e11, 1e10)
EITHER_WAY = MirrorTest(100, 0.8, 0.79, 0.1)
ONE_WAY = MirrorTest(100, 0.8, 0.2, 0.1)


def survey(height, width, gray=0.0, n=1000):
    """Of images around one size, with two odd ones among them."""
    heights = np.array([height, height, height, height * 3, 1], np.int32)
    widths = np.array([width, width, width, width * 2, 1], np.int32)
    return Survey(heights, widths, gray, 255, n)


def profile(n_train=800, n_validation=100):
    counts = {"a": n_train // 2, "b": n_train - n_train // 2}
    return Profile(
        n_train, n_validation, 100, counts, (32.0,) * 5, (32.0,) * 5,
        False, 0, 0, 1.0, False, False, (0.5,) * 3, (0.2,) * 3,
    )  # fmt: skip


def speed(recipe, step=0.1, image=1e-3):
    sizes = {size_at(recipe, since) for since in (0.0, *(size[0] for size in recipe.run.sizes))}
    return Speed(dict.fromkeys(sizes, step), image, 2 * image, 0.5)


def chosen(height, width, gray=0.0, budget=600.0, rate=1e11, n=1000):
    return choose_input(survey(height, width, gray, n), budget, lambda h, w: 400.0 * h * w, rate)


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (48, 40), (64, 64)])
def test_small_images_keep_their_size(size):
    assert chosen(*size) == Input(*size, 3)


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (16, 20)])
def test_tiny_images_are_enlarged_to_what_a_net_needs(size):
    shape = chosen(*size)
    assert 28 <= min(shape.height, shape.width) <= 30
    assert shape.width / shape.height == pytest.approx(size[1] / size[0], rel=0.1)


def test_odd_sizes_become_even_and_stay_near():
    shape = chosen(45, 57)
    assert (shape.height % 2, shape.width % 2) == (0, 0)
    assert abs(shape.height - 45) <= 1
    assert abs(shape.width - 57) <= 1


@pytest.mark.parametrize(("share", "channels"), [(1.0, 1), (0.999, 3), (0.0, 3)])
def test_gray_needs_every_image_to_be_gray(share, channels):
    assert chosen(32, 32, gray=share).channels == channels
    assert chosen(300, 300, gray=share).channels == channels


@pytest.mark.parametrize("size", [(300, 300), (240, 320), (320, 240), (1200, 900), (2000, 300), (65, 65)])
@pytest.mark.parametrize("budget", [1.0, 60.0, 3600.0, 1e7])
def test_photos_get_sides_the_net_can_take_and_their_aspect(size, budget):
    shape = chosen(*size, budget=budget)
    height, width = size
    assert shape.height % 32 == shape.width % 32 == 0
    assert min(shape.height, shape.width) >= 32
    assert min(shape.height, shape.width) <= min(size)  # never enlarged
    wanted = min(2.0, max(0.5, height / width))
    assert shape.height / shape.width == pytest.approx(wanted, rel=0.25)


def test_more_budget_or_a_faster_machine_sees_larger_images_and_more_photos_smaller_ones():
    budgets = [chosen(500, 400, budget=b).width for b in (1, 30, 300, 3000, 1e8)]
    assert budgets == sorted(budgets)
    assert budgets[0] < budgets[-1]
    rates = [chosen(500, 400, rate=r).width for r in (1e7, 1e9, 1e11, 1e14)]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]
    counts = [chosen(500, 400, n=n).width for n in (10, 10**4, 10**7)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_where_nothing_is_readable_the_check_up_is_left_to_say_so():
    nothing = Survey(np.array([], np.int32), np.array([], np.int32), 0.0, 65535, 3)
    shape = choose_input(nothing, 600.0, lambda h, w: 1.0, 1e9)
    assert min(shape.height, shape.width) >= 28


@pytest.mark.parametrize("shape", [Input(28, 28, 1), Input(64, 48, 3), Input(128, 128, 3), Input(96, 192, 1)])
@pytest.mark.parametrize("mirror", [EITHER_WAY, ONE_WAY])
@pytest.mark.parametrize("n_train", [10, 800, 60_000])
def test_a_draft_is_a_recipe_without_findings_and_gives_its_reasons(shape, mirror, n_train):
    recipe, reasons = draft(profile(n_train), shape, MACHINE, mirror, seed=5)
    assert recipe.data == shape
    assert recipe.seed == 5
    assert recipe.check() == []
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert all(reason.value and reason.reason for reason in reasons)
    choices = [reason.choice for reason in reasons]
    assert len(set(choices)) == len(choices)
    assert {"data", "net", "augment flip", "augment", "optimise", "precision"} <= set(choices)
    sides = [side for _, *size in recipe.run.sizes for side in size]
    assert all(side >= 32 for side in sides)
    if recipe.run.sizes:
        assert recipe.run.sizes[0][0] == 0.0
        assert recipe.run.sizes[-1][1:] == (shape.height, shape.width)


@pytest.mark.parametrize("shape", [Input(32, 32, 3), Input(128, 160, 3)])
def test_flips_are_left_out_where_left_and_right_matter(shape):
    def flips(mirror):
        recipe, reasons = draft(profile(), shape, MACHINE, mirror, 0)
        names = [type(trick).__name__ for trick in recipe.augment]
        told = next(reason for reason in reasons if reason.choice == "augment flip")
        mirrored = any("Flip" in name for name in names)
        # test-time views mirror too
        assert mirrored == (type(recipe.combine).__name__ != "Single")
        assert told.value == ("on" if mirrored else "off")
        assert f"{mirror.upright:.0%}" in told.reason
        return mirrored

    assert flips(EITHER_WAY)
    assert not flips(ONE_WAY)


def test_small_images_get_the_fast_net_and_photos_the_compact_one():
    assert isinstance(draft(profile(), Input(32, 32, 3), MACHINE, EITHER_WAY, 0)[0].net, Fast)
    assert isinstance(draft(profile(), Input(160, 160, 3), MACHINE, EITHER_WAY, 0)[0].net, Compact)


def test_a_narrower_net_gets_lrs_for_its_width_unless_they_are_chosen():
    drafted, reasons = draft(profile(), Input(32, 32, 3), MACHINE, EITHER_WAY, 0)
    settings = ("net.widths=[8, 16, 32]",)
    recipe, told = around_net(drafted.override(settings), reasons, settings, drafted)
    assert isinstance(recipe.optimise, Muon) and isinstance(drafted.optimise, Muon)
    assert recipe.optimise.head_lr == drafted.optimise.head_lr * 32 / 256
    assert recipe.optimise.bias_lr == drafted.optimise.bias_lr * 32 / 256
    assert recipe.optimise.lr == drafted.optimise.lr
    assert "32/256" in told[-1].reason

    for own in ((*settings, "optimise.head_lr=3.0"), (), ("net.widths=[8, 16, 256]",)):
        plain = drafted.override(own)
        assert around_net(plain, reasons, own, drafted) == (plain, reasons)


def test_a_photo_that_must_be_small_is_not_called_its_own_size():
    shape = chosen(300, 400, budget=1.0, n=10**6)
    _, reasons = draft(profile(), shape, MACHINE, EITHER_WAY, 0)
    told = next(reason for reason in reasons if reason.choice == "data")
    assert shape.height < 300
    assert "own size" not in told.reason


def test_precision_is_the_machines():
    quick = dataclasses.replace(MACHINE, bfloat16_rate=1e12)
    assert draft(profile(), Input(), quick, EITHER_WAY, 0)[0].run.precision == "bfloat16"
    assert draft(profile(), Input(), MACHINE, EITHER_WAY, 0)[0].run.precision == "float32"


@pytest.mark.parametrize("n_train", [1, 3, 40, 1000, 10**6])
def test_the_batch_is_never_absurd(n_train):
    for shape in (Input(32, 32, 3), Input(128, 128, 3)):
        assert 16 <= draft(profile(n_train), shape, MACHINE, EITHER_WAY, 0)[0].run.batch_size <= 2048


@settings(deadline=None, derandomize=True)
@given(st.floats(30, 1e5), st.floats(1e-3, 0.2), st.floats(1e-6, 1e-3), st.integers(1, 5000))
def test_seconds_become_steps_that_fill_the_time_and_no_more(budget, step, image, n_validation):
    recipe = Recipe(run=Run(batch_size=50))
    data = profile(800, n_validation)
    plan = finish(recipe, (), data, speed(recipe, step, image), budget)
    run = plan.recipe.run
    assert run.steps * step <= budget
    evaluations = math.ceil(run.steps / run.evaluate_every)
    assert run.steps * step + evaluations * n_validation * image <= budget * (1 + 1e-9)
    # what is not trained is evaluated: a small share, but for the one evaluation that every run needs
    assert run.steps * step >= 0.9 * budget - n_validation * image - step
    assert plan.seconds <= budget * (1 + 1e-9)
    assert plan.epochs == pytest.approx(run.steps * 50 / 800)
    assert 1 <= run.evaluate_every <= run.steps


def test_only_the_lengths_change_and_the_reasons_are_added_to():
    recipe, before = Recipe(seed=4), (Reason("net", "fast", "because"),)
    plan = finish(recipe, before, profile(), speed(recipe), 60.0)
    lengths = {"steps": plan.recipe.run.steps, "evaluate_every": plan.recipe.run.evaluate_every}
    assert plan.recipe == dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, **lengths))
    assert plan.reasons[:1] == before
    told = {reason.choice: reason.value for reason in plan.reasons}
    assert told["steps"].startswith(str(plan.recipe.run.steps))


def test_twice_the_time_gives_about_twice_the_steps():
    recipe = Recipe()
    one, two = (finish(recipe, (), profile(), speed(recipe), s).recipe.run.steps for s in (100.0, 200.0))
    assert two == pytest.approx(2 * one, rel=0.02)


@pytest.mark.parametrize("budget", [-30.0, 0.0, 1.0, 1.9])
@pytest.mark.parametrize("image", [1e-6, 1e-3, 0.1])
def test_too_small_a_budget_is_told_with_what_would_do(budget, image):
    recipe = Recipe(data=Input(128, 96, 3))
    with pytest.raises(ConvclinicError, match=r"a step takes 100 ms") as caught:
        finish(recipe, (), profile(), speed(recipe, 0.1, image), budget)
    assert "--set data.height=64 --set data.width=48" in caught.value.fix
    more = re.search(r"give (.+?) more", caught.value.fix)
    assert more is not None
    advised = budget + read_seconds(more[1])
    assert finish(recipe, (), profile(), speed(recipe, 0.1, image), advised).recipe.run.steps > 0


def test_a_quick_step_is_not_said_to_take_no_time():
    recipe = Recipe()
    with pytest.raises(ConvclinicError) as caught:
        finish(recipe, (), profile(), speed(recipe, 0.002), 0.01)
    assert "a step takes 2 ms" in caught.value.message


def test_steps_that_the_user_fixed_stay():
    recipe = Recipe(run=Run(steps=77))
    plan = finish(recipe, (), profile(), speed(recipe), 1000.0, fixed_steps=True)
    assert plan.recipe.run.steps == 77
    assert plan.seconds < 50


def test_a_few_steps_that_the_user_fixed_are_no_lack_of_time():
    recipe = Recipe(run=Run(steps=5))
    try:
        steps = finish(recipe, (), profile(), speed(recipe), 1000.0, fixed_steps=True).recipe.run.steps
    except ConvclinicError as error:
        assert "run.steps" in str(error)
        assert "-" not in error.fix.partition("more")[0]
    else:
        assert steps == 5


def test_mean_step_weighs_sizes_by_their_share_of_training():
    plain = Recipe(data=Input(64, 64, 3))
    assert mean_step(plain, Speed({(64, 64): 0.4}, 0, 0, 0)) == 0.4
    growing = dataclasses.replace(plain, run=Run(sizes=((0.0, 32, 32), (0.4, 48, 48), (0.7, 64, 64))))
    seconds = {(32, 32): 0.1, (48, 48): 0.2, (64, 64): 0.4}
    assert mean_step(growing, Speed(seconds, 0, 0, 0)) == pytest.approx(0.4 * 0.1 + 0.3 * 0.2 + 0.3 * 0.4)
    twice = dataclasses.replace(plain, run=Run(sizes=((0.0, 32, 32), (0.5, 32, 32))))
    assert mean_step(twice, Speed(seconds, 0, 0, 0)) == pytest.approx(0.1)


def test_mean_step_counts_the_stores_own_size_before_the_first_change():
    late = Recipe(data=Input(64, 64, 3), run=Run(sizes=((0.5, 32, 32),)))
    assert [size_at(late, progress) for progress in (0.0, 0.5)] == [(64, 64), (32, 32)]
    assert mean_step(late, Speed({(64, 64): 0.4, (32, 32): 0.1}, 0, 0, 0)) == pytest.approx(0.25)


def test_growing_images_give_more_steps_than_large_ones_throughout():
    large = Recipe(data=Input(64, 64, 3))
    growing = dataclasses.replace(large, run=Run(sizes=((0.0, 32, 32), (0.5, 64, 64))))
    times = Speed({(32, 32): 0.1, (64, 64): 0.4}, 1e-4, 1e-4, 0)
    assert finish(growing, (), profile(), times, 100).recipe.run.steps == pytest.approx(
        finish(large, (), profile(), times, 100).recipe.run.steps * 0.4 / 0.25, rel=0.05
    )


def widths_for(net, seconds, n_train=800, rate=1e9):
    machine = dataclasses.replace(MACHINE, float32_rate=rate, bfloat16_rate=rate)
    before = Recipe(net=net)

    def operations(recipe, n_classes):
        assert n_classes == 2
        return 1e6 * sum(recipe.net.widths)

    recipe, reason = choose_width(before, profile(n_train), machine, seconds, operations)
    widths = recipe.net.widths
    # nothing but the width changes
    assert recipe == dataclasses.replace(before, net=dataclasses.replace(net, widths=widths))
    assert (reason.choice, reason.value) == ("net width", str(widths))
    return widths, reason.reason


@pytest.mark.parametrize("net", [Fast(), Compact()])
def test_more_time_or_speed_makes_the_net_wider_and_more_images_narrower(net):
    seconds = (0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
    by_time = [sum(widths_for(net, s)[0]) for s in seconds]
    assert by_time == sorted(by_time)
    assert by_time[0] < by_time[-1]
    by_rate = [sum(widths_for(net, 1.0, rate=1e9 * s)[0]) for s in seconds[1:]]
    assert by_rate == by_time[1:]
    by_images = [sum(widths_for(net, 1e4, n)[0]) for n in (10, 10**3, 10**5, 10**8)]
    assert by_images == sorted(by_images, reverse=True)
    assert by_images[0] > by_images[-1]
    assert {len(widths_for(net, s)[0]) for s in seconds} == {len(net.widths)}


@pytest.mark.parametrize("net", [Fast(), Compact()])
def test_the_reason_for_a_width_tells_whether_the_time_sufficed(net):
    assert widths_for(net, 0.0)[1] != widths_for(net, 1e9)[1]
    assert "800 images" in widths_for(net, 1e9)[1]


SWEPT = RangeResult(steps=40, steepest=0.5, limit=None, confidence=0.9)


@pytest.mark.parametrize(
    "result",
    [
        None,
        SWEPT,
        dataclasses.replace(SWEPT, limit=20.0),  # far from the edge
        dataclasses.replace(SWEPT, limit=0.5, confidence=0.1),  # too noisy to be believed
    ],
)
def test_the_lr_stays_while_nothing_speaks_against_it(result):
    recipe = Recipe(optimise=SGD(lr=0.2))
    kept, reason = with_lr(recipe, result)
    assert kept == recipe
    assert (reason.choice, reason.value) == ("lr", "0.2")
    assert reason.reason


@pytest.mark.parametrize("limit", [0.1, 1.0])
def test_an_lr_beyond_the_edge_is_lowered_below_it(limit):
    recipe = Recipe(optimise=Muon())
    lowered, reason = with_lr(recipe, dataclasses.replace(SWEPT, limit=limit))
    before, after = recipe.optimise, lowered.optimise
    assert 0 < after.lr < limit * before.lr
    # the parts keep their proportions, and nothing but LRs changes
    assert after.head_lr / before.head_lr == pytest.approx(after.lr / before.lr)
    assert after.bias_lr / before.bias_lr == pytest.approx(after.lr / before.lr)
    rates = {"lr": before.lr, "head_lr": before.head_lr, "bias_lr": before.bias_lr}
    assert dataclasses.replace(after, **rates) == before
    assert dataclasses.replace(lowered, optimise=before) == recipe
    assert reason.value == f"{after.lr:.3g}"
    assert "90%" in reason.reason


def test_a_nearer_edge_lowers_the_lr_more():
    rates = [
        with_lr(Recipe(), dataclasses.replace(SWEPT, limit=limit))[0].optimise.lr for limit in (0.2, 0.5, 1.5)
    ]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] <= Recipe().optimise.lr


def test_a_head_is_solved_for_on_as_many_images_as_the_budget_has_room_for():
    recipe = Recipe(transfer=(ProbedHead(images=2000),))
    speed = Speed({(32, 32): 1.0}, 0.01, 0.02, 0.0)
    many = profile(n_train=5000)
    same, seconds = affordable_head(recipe, many, speed, budget=600.0)
    assert same == recipe and seconds == pytest.approx(2000 * 0.01 * SOLVING)
    less, seconds = affordable_head(recipe, many, speed, budget=100.0)
    assert less.transfer[0].images == int(SOLVING_SHARE * 100 / (0.01 * SOLVING))
    assert seconds <= SOLVING_SHARE * 100
    assert affordable_head(Recipe(), many, speed, budget=100.0) == (Recipe(), 0.0)
