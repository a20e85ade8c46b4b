import math

import pytest

from convclinic.history import Record
from convclinic.job.verdict import closing, verdict


def records(*accuracies, loss=1.0, train=None):
    """One record per accuracy, None where there was no validation."""
    return [
        Record(step, 0.1, 0.1, loss, 0.5, 1.0, val_accuracy=a, train_accuracy=None if a is None else train)
        for step, a in enumerate(accuracies, 1)
    ]


def test_before_anything_is_known():
    assert verdict([], 0.5, 100) == "starting"
    assert verdict(records(None, None), 0.5, 100) == "no validation yet"


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_comes_before_everything_else(loss):
    made = [*records(0.9), *records(None, loss=loss)]
    assert verdict(made, 0.25, 100).startswith("the loss is no longer a number")
    assert "LR" in verdict(made, 0.25, 100)


def test_learning_is_told_beside_the_majority_class():
    assert verdict(records(0.8), 0.25, 1000) == "learning (at 80.0%, majority class is 25.0%)"


@pytest.mark.parametrize("accuracy", [0.0, 0.2, 0.25, 0.27])
def test_what_naming_the_commonest_class_reaches_is_not_called_learning(accuracy):
    words = verdict(records(accuracy), 0.25, 400)
    assert words == f"not yet better than the majority class (at {accuracy:.1%}, majority class is 25.0%)"


def test_the_same_lead_counts_for_more_with_more_images():
    assert verdict(records(0.32), 0.25, 50).startswith("not yet better")
    assert verdict(records(0.32), 0.25, 5000).startswith("learning")


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_lucky_few_are_not_called_learning(n):
    assert verdict(records(1.0), 0.5, n).startswith(("not yet better", "learning"))
    assert verdict(records(1.0), 0.5, 1).startswith("not yet better")


def test_a_clear_drop_below_the_best_is_told():
    words = verdict(records(0.9, 0.62, None, 0.55, 0.6, None), 0.25, 1000)
    assert words == "below its best of 90.0% (at 60.0%, majority class is 25.0%)"
    assert verdict(records(0.5, 0.9, 0.89), 0.25, 1000).startswith("learning")  # within the noise
    assert verdict(records(0.5, 0.9, 0.6), 0.25, 1000).startswith("learning")  # one dip is no trend


def test_a_gap_to_the_training_images_is_told():
    words = verdict(records(0.5, 0.55, 0.6, train=0.9), 0.25, 1000)
    assert words == "learning, fitting the training images better by 30% (at 60.0%, majority class is 25.0%)"
    assert "fitting" not in verdict(records(0.5, 0.6, train=0.9), 0.25, 1000)  # early, and the norms lag
    assert "fitting" not in verdict(records(0.5, 0.55, 0.6, train=0.65), 0.25, 1000)
    assert "fitting" not in verdict(records(0.5, 0.55, 0.6, train=0.4), 0.25, 1000)
    assert "fitting" not in verdict(records(0.5, 0.55, 0.6), 0.25, 1000)


def test_what_counts_is_the_last_validation():
    made = [*records(0.3, 0.5, 0.7), *records(None, None)]
    assert verdict(made, 0.25, 1000) == "learning (at 70.0%, majority class is 25.0%)"


def close(low, high=0.99, majority=0.3, probe=0.6):
    baselines = {"majority": {"accuracy": majority}, "linear_probe": {"accuracy": probe}}
    return closing({"accuracy_interval": [low, high]}, baselines)


def test_the_closing_sentence_climbs_with_the_lower_end_of_the_interval():
    assert close(0.2).startswith("Not shown to be better than always naming the commonest class (30.0%)")
    assert close(0.3).startswith("Not shown to be better than")
    assert close(0.5).startswith(
        "Better than the commonest class (30.0%), but not clearly better than a linear probe"
    )
    assert "(60.0%)" in close(0.5)
    assert close(0.61) == "Clearly better than the commonest class (30.0%) and than a linear probe (60.0%)."


def test_a_probe_worse_than_the_majority_is_no_mark_to_beat():
    assert close(0.65, majority=0.7, probe=0.6).startswith("Not shown to be better than")
    assert close(0.75, majority=0.7, probe=0.6).startswith("Clearly better")
