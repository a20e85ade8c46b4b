"""The two-by-two table: what follows from evidence that was measured elsewhere."""

from __future__ import annotations

import dataclasses

import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.planning.transfer import (
    FEWEST_EPOCHS,
    MUCH,
    STRATEGIES,
    Difference,
    Evidence,
    Probe,
    decide,
    overruled,
)

SURE = 0.01


def evidence(n: int, last: float, earlier: float, control: float, **more) -> Evidence:
    """Three classes of n images; probes with a standard error of one point."""
    over_earlier = Difference(last - earlier, SURE)
    return Evidence(
        class_counts=(n, n, n),
        n_probed=300,
        pretrained=(Probe("first", 0.4, SURE), Probe("middle", earlier, SURE), Probe("last", last, SURE)),
        control=(Probe("first", control, SURE), Probe("last", 0.3, SURE)),
        over_control=Difference(last - control, SURE),
        best_over_control=Difference(max(last, earlier) - control, SURE),
        over_earlier=over_earlier,
        **more,
    )


@pytest.mark.parametrize(
    ("given", "cell", "strategy", "stage"),
    [
        (evidence(5, 0.8, 0.7, 0.5), "little data, similar", "linear", "last"),
        (evidence(5, 0.6, 0.7, 0.5), "little data, different", "early_linear", "middle"),
        (evidence(5, 0.69, 0.7, 0.5), "little data, similar", "early_linear", "middle"),
        (evidence(5, 0.5, 0.5, 0.5), "little data, different", "linear", "last"),
        (evidence(MUCH, 0.8, 0.7, 0.5), "much data, similar", "last_stages", "last"),
        (evidence(MUCH, 0.6, 0.7, 0.5), "much data, different", "all", "middle"),
        (evidence(MUCH - 1, 0.8, 0.7, 0.5), "little data, similar", "linear", "last"),
        (evidence(MUCH - 1, 0.6, 0.7, 0.5), "little data, different", "early_linear", "middle"),
    ],
)
def test_each_cell_of_the_table_has_its_strategy(given, cell, strategy, stage):
    advice = decide(given)
    assert (advice.cell, advice.strategy, advice.stage) == (cell, strategy, stage)
    assert strategy in STRATEGIES


def test_an_earlier_stage_must_be_better_by_more_than_chance():
    better = evidence(5, 0.65, 0.7, 0.5)
    assert decide(better).strategy == "early_linear"
    unsure = dataclasses.replace(better, over_earlier=Difference(-0.02, 0.05))
    assert decide(unsure).strategy == "linear"
    equal = dataclasses.replace(better, over_earlier=Difference(0.0, 0.0))
    assert decide(equal).strategy == "linear"


def test_a_net_no_better_than_a_random_one_is_not_similar():
    unsure = dataclasses.replace(evidence(5, 0.8, 0.7, 0.5), over_control=Difference(0.3, 0.4))
    assert decide(unsure).similarity == "different"


def test_weights_worse_than_random_ones_are_left():
    advice = decide(evidence(5, 0.5, 0.52, 0.8))
    assert advice.strategy == "scratch"
    assert "preprocessing" in " ".join(advice.reasons)


def test_a_short_budget_leaves_the_net_as_it_is():
    short = evidence(500, 0.8, 0.7, 0.5, epochs=FEWEST_EPOCHS - 1)
    assert decide(short).strategy == "linear"
    assert f"{FEWEST_EPOCHS - 1:.1f} epochs" in " ".join(decide(short).reasons)
    assert decide(dataclasses.replace(short, epochs=FEWEST_EPOCHS)).strategy != "linear"
    assert decide(evidence(500, 0.6, 0.7, 0.5, epochs=0.5)).strategy == "early_linear"


def test_an_svm_is_taken_where_it_is_clearly_better():
    better = evidence(5, 0.6, 0.7, 0.5, svm=Difference(0.05, SURE))
    assert decide(better).strategy == "early_svm"
    assert decide(dataclasses.replace(better, svm=Difference(0.015, 0.001))).strategy == "early_linear"


def test_size_is_the_median_over_the_classes():
    uneven = dataclasses.replace(evidence(5, 0.8, 0.7, 0.5), class_counts=(5000, 8, 4))
    assert uneven.images_per_class == 8
    assert decide(uneven).size == "little"


@pytest.mark.parametrize(
    ("n", "own", "batch_norm"),
    [
        (500, Difference(0.05, SURE), "adaptive"),
        (500, Difference(0.01, SURE), "frozen"),
        (500, Difference(-0.05, SURE), "frozen"),
        (10, Difference(0.05, SURE), "frozen"),
        (500, None, "frozen"),
    ],
)
def test_batch_norm_adapts_only_where_that_was_measured_to_help(n, own, batch_norm):
    assert decide(evidence(n, 0.8, 0.7, 0.5, own_statistics=own)).batch_norm == batch_norm


def test_the_reasons_name_what_was_measured():
    words = " ".join(decide(evidence(5, 0.6, 0.7, 0.5)).reasons)
    for part in ("5 training images per class", "60.0%", "50.0%", "70.0%", "middle", "300 training images"):
        assert part in words


def test_a_net_of_one_stage_can_be_judged():
    one = evidence(5, 0.8, 0.7, 0.5)
    one = dataclasses.replace(one, pretrained=one.pretrained[-1:], over_earlier=None)
    assert (decide(one).strategy, decide(one).stage) == ("linear", "last")


def test_the_user_overrules_the_advice_and_that_is_said():
    advice = decide(evidence(5, 0.8, 0.7, 0.5))
    assert overruled(advice, "linear") == advice
    chosen = overruled(advice, "all")
    assert chosen.strategy == "all"
    assert "speaks for linear" in chosen.reasons[-1]
    with pytest.raises(ConvclinicError, match="did you mean 'all'"):
        overruled(advice, "alll")
