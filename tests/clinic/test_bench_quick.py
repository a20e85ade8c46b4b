"""The clearest faults of the bench are named, and ordinary and odd healthy runs stay silent."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from clinic.families import Base
from clinic.loop import train
from clinic.planting import FAULTS, HEALTHY
from clinic.scenarios import scenarios
from clinic.scoring import alarms, final, harm, report

from convclinic.clinic import Clinic

STEPS = 120
PLANTED = {entry.name: entry for entry in FAULTS}
VARIANTS = {entry.name: entry for entry in HEALTHY}


def watched(entry, net, data, optimizer, preflight, steps=STEPS):
    run = Base(net, data, optimizer, steps=steps).run(Path(), None)
    if entry is not None:
        entry.plant(run)
    result = train(run, lambda model, opt, classes: Clinic(model, opt, classes=classes), preflight)
    return vars(result)


@pytest.mark.parametrize(
    ("name", "net", "data", "optimizer", "preflight"),
    [
        ("no_zero_grad_sgd", "plain", "digits", "momentum", False),
        ("trained_in_eval_mode", "normed", "digits", "sgd", False),
        ("optimizer_of_an_earlier_copy", "lenet", "digits", "adam", True),
        ("head_not_in_optimizer", "nin", "shapes", "adamw", False),
        ("random_body_frozen", "plain", "digits", "momentum", True),
        ("softmax_before_cross_entropy", "plain", "digits", "sgd", False),
        ("negative_cross_entropy", "normed", "digits", "adam", False),
        ("labels_permuted", "lenet", "digits", "adam", True),
        ("sorted_by_class", "normed", "shapes", "momentum", False),
        ("nan_in_one_image", "vgg", "digits", "rmsprop", False),
        ("lr_over_1000", "plain", "digits", "sgd", True),
        ("all_weights_equal", "plain", "digits", "adam", True),
    ],
)
def test_clear_fault_is_named_first(name, net, data, optimizer, preflight):
    found = watched(PLANTED[name], net, data, optimizer, preflight)
    named = [finding["cause"] for finding in alarms(found)]
    assert named and named[0] in PLANTED[name].causes, named


@pytest.mark.parametrize(
    ("name", "net", "data", "optimizer", "preflight"),
    [
        ("", "plain", "digits", "sgd", True),
        ("", "normed", "digits", "momentum", False),
        ("", "lenet", "digits", "rmsprop", True),
        ("", "nin", "shapes", "adamw", False),
        ("label_smoothing", "vgg", "digits", "adam", True),
        ("mixup", "normed", "digits", "adamw", False),
        ("binary_cross_entropy", "plain", "digits", "adam", True),
        ("accumulation", "lenet", "digits", "momentum", False),
        ("warm_up_and_cosine", "nin", "shapes", "adam", True),
        ("zero_head", "normed", "digits", "adam", False),
        ("pixels_in_one", "plain", "digits", "adamw", True),
        ("frozen_backbone", "plain", "digits", "adam", False),
    ],
)
def test_healthy_run_is_silent_whenever_asked(name, net, data, optimizer, preflight):
    found = watched(VARIANTS.get(name), net, data, optimizer, preflight)
    raised = {(when, f["cause"]) for when in found["asked"] for f in alarms(found, when)}
    assert not raised


def test_every_half_has_faults_and_healthy_runs_enough_and_shares_no_family():
    halves = [scenarios(half) for half in ("tuning", "reporting")]
    for half in halves:
        assert sum(one.kind == "fault" for one in half) >= 40
        assert sum(one.kind == "healthy" for one in half) >= 60
        assert len({one.name for one in half}) == len(half)
    families = [{(one.base.net, one.base.data) for one in half} for half in halves]
    assert not families[0] & families[1]


def test_watching_changes_nothing():
    results, weights = [], []
    for attach in (None, lambda model, opt, classes: Clinic(model, opt, classes=classes)):
        run = Base("normed", "digits", "momentum", steps=40).run(Path(), None)
        results.append(train(run, attach, attach is not None).curve)
        weights.append([*run.model.state_dict().values(), torch.get_rng_state()])
    assert results[0] == results[1]
    assert all(map(torch.equal, *weights))


def row(curve, **changes):
    return {"curve": curve, "causes": ["lr_too_low"], "error": "", "steps": 80, "seconds": 1.0} | changes


def test_harm_is_lower_accuracy_or_twice_the_steps_or_a_crash():
    twin = row([(20, 0.7), (40, 0.9), (60, 0.9), (80, 0.9)])
    assert harm(row([(20, 0.5), (40, 0.8), (60, 0.8), (80, 0.8)]), twin).endswith("points")
    assert harm(row([(20, 0.5), (40, 0.8), (60, 0.89), (80, 0.9)]), twin) == ""
    quick = row([(20, 0.9), (40, 0.9), (60, 0.9), (80, 0.9)])
    assert harm(row([(20, 0.7), (40, 0.86), (60, 0.89), (80, 0.9)]), quick) == "20 -> 60 steps"
    assert harm(row([], error="IndexError"), twin) == "crash"
    leak = row([(40, 0.99), (80, 0.99)], causes=["train_test_leak"], honest=0.8)
    assert harm(leak, twin).startswith("reports")


def test_report_counts_false_alarms_and_the_first_cause():
    alarm = {"cause": "lr_too_low", "severity": "warning", "confidence": 0.8, "where": "", "evidence": []}
    twin = row([(40, 0.9), (80, 0.9)])
    bad = row(
        [(40, 0.5), (80, 0.5)], kind="fault", key="f", fault="f", base="b", accuracy=0.5, preflight=True
    )
    fine = twin | {"kind": "healthy", "key": "h", "causes": [], "asked": {"end": []}}
    text = report([(bad | {"asked": {"20": [alarm], "end": [alarm]}}, twin), (fine, twin)])
    assert "cause first                        1/1" in text
    assert "healthy, any alarm at any time     0/1" in text
    assert "right cause by step 50             1/1" in text
    assert final(bad) == 0.5
