"""From the two-by-two table to a recipe, without any net."""

from __future__ import annotations

import dataclasses
import json

import pytest

from convclinic.models._weights import IMAGENET, Source
from convclinic.planning.transfer import STRATEGIES, Advice
from convclinic.planning.tuning import SIDES, Start, choose_sides, draft
from convclinic.recipe import Recipe
from convclinic.slots import Input
from convclinic.tricks.optimise.adamw import AdamW
from convclinic.tricks.transfer.freeze import HEAD
from tests.planning.test_planner import EITHER_WAY, MACHINE, ONE_WAY, profile, survey

TENSORFLOW = Source(mean=(0.5,) * 3, std=(0.5,) * 3, side=225, plus=1)
STAGES = ("low", "middle", "high", "last")
START = Start("mobilenet_v2", "weights.npz", "ab" * 32, TENSORFLOW, STAGES)
ADVICE = Advice("much", "similar", "last_stages", "last", "frozen", ("because", "of this"))


def drafted(
    strategy: str = "last_stages", mirror=EITHER_WAY, batch_norm: str = "frozen", stage: str = "last"
):
    advice = dataclasses.replace(ADVICE, strategy=strategy, batch_norm=batch_norm, stage=stage)
    return draft(profile(), Input(193, 257, 3), MACHINE, mirror, advice, START, seed=3)


def held(recipe: Recipe) -> dict[str, object]:
    return {type(trick).__name__: trick for trick in recipe.transfer}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("linear", {"Freeze", "FrozenNorm", "ProbedHead"}),
        ("early_linear", {"Freeze", "FrozenNorm", "ProbedHead"}),
        ("early_svm", {"Freeze", "FrozenNorm", "ProbedHead"}),
        ("last_stages", {"Freeze", "FrozenNorm", "LayerDecay", "ProbedHead"}),
        ("all", {"FrozenNorm", "LayerDecay", "ProbedHead"}),
        ("freeze_then_tenth", {"FrozenNorm", "HeadFirst"}),
    ],
)
def test_every_strategy_holds_what_it_says(strategy, expected):
    recipe, reasons = drafted(strategy)
    assert set(held(recipe)) == {"Pretrained", *expected}
    assert strategy in STRATEGIES
    assert next(reason.value for reason in reasons if reason.choice == "strategy").startswith(strategy)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert [found.summary for found in recipe.check() if found.severity != "info"] == []


def test_batch_norm_adapts_only_where_stages_learn_and_it_was_measured_to_help():
    assert "FrozenNorm" not in held(drafted("all", batch_norm="adaptive")[0])
    assert "FrozenNorm" in held(drafted("linear", batch_norm="adaptive")[0])


def test_linear_trains_the_head_alone_and_last_stages_the_upper_half():
    assert held(drafted("linear")[0])["Freeze"].until_stage == HEAD
    assert held(drafted("last_stages")[0])["Freeze"].until_stage == "high"


def test_the_head_begins_at_the_solution_that_did_best():
    assert held(drafted("linear")[0])["ProbedHead"].head == "logistic"
    assert held(drafted("early_svm", stage="middle")[0])["ProbedHead"].head == "svm"
    assert held(drafted("all")[0])["ProbedHead"].head == "logistic"


def test_an_earlier_stage_ends_the_net():
    assert drafted("early_linear", stage="middle")[0].net.cut == "middle"
    assert drafted("early_linear", stage="last")[0].net.cut == ""
    assert drafted("last_stages", stage="middle")[0].net.cut == ""


def test_pixels_are_given_as_the_weights_know_them():
    recipe, reasons = drafted()
    assert (recipe.prepare[0].mean, recipe.prepare[0].std) == ((0.5,) * 3, (0.5,) * 3)
    assert recipe.transfer[0].sha256 == START.sha256
    assert isinstance(recipe.optimise, AdamW)
    assert "32 n + 1" in next(reason.reason for reason in reasons if reason.choice == "data")


def test_training_grows_to_the_full_size_in_steps_the_weights_like():
    sizes = drafted()[0].run.sizes
    assert sizes == ((0.0, 129, 193), (0.5, 193, 257))
    assert all(side % 32 == 1 for _, *sides in sizes for side in sides)


def test_nothing_is_mirrored_where_left_and_right_carry_the_class():
    both, one = drafted()[0], drafted(mirror=ONE_WAY)[0]
    assert "Flip" in {type(trick).__name__ for trick in both.augment}
    assert "Flip" not in {type(trick).__name__ for trick in one.augment}
    assert type(one.combine).__name__ == "Single"


def sides(height: int, width: int, seconds: float, source: Source = IMAGENET, gray: float = 0.0) -> Input:
    """With a machine that does a forward pass of 224 x 224 in ten milliseconds."""
    return choose_sides(survey(height, width, gray), source, lambda h, w: 0.01 * h * w / 224**2, seconds)


def short(shape: Input) -> int:
    return min(shape.height, shape.width)


def test_more_time_buys_larger_images_up_to_what_the_weights_know():
    shorts = [short(sides(600, 800, seconds)) for seconds in (10, 60, 150, 1e4)]
    assert shorts == sorted(shorts)
    assert (shorts[0], shorts[-1]) == (SIDES[0], 224)
    assert short(sides(600, 800, 1e4, TENSORFLOW)) == 225


def test_shapes_keep_their_aspect_and_channels():
    wide, tall, gray = sides(600, 800, 1e4), sides(800, 600, 1e4), sides(600, 600, 1e4, gray=1.0)
    assert (wide.height, wide.width) == (tall.width, tall.height) == (224, 288)
    assert (gray.channels, wide.channels) == (1, 3)


def test_small_images_are_enlarged_but_not_without_end():
    assert short(sides(32, 32, 1e4)) == 96
    assert sides(2000, 100, 1e4).height <= 2 * sides(2000, 100, 1e4).width
