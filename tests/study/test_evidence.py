"""Which recipes tell what a trick brings, and what is read from them; without training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from convclinic.checks.facts import is_on
from convclinic.ground.discovery import adapters
from convclinic.ground.errors import ConvclinicError
from convclinic.models.compact import Compact
from convclinic.models.fast import Fast
from convclinic.recipe import Recipe, changed
from convclinic.slots import SLOTS, Input
from convclinic.study import evidence, step_times
from convclinic.study.comparing import Mean, Outcome, Score
from convclinic.study.evidence import BASE, HELPS, HURTS, LEFT_OUT, NONE_SEEN, SLOTS_ASKED, UNTOLD

BASIS = evidence.base_recipe(Input(32, 32, 3), Compact(), "float32")


def test_every_trick_is_asked_about_or_left_out_with_a_reason() -> None:
    asked = {question.trick for question in evidence.questions(BASIS)}
    known = {f"{slot}.{name}" for slot in SLOTS_ASKED for name in adapters(SLOTS[slot].package)}
    assert known <= asked | set(LEFT_OUT)
    assert not asked & set(LEFT_OUT) and set(evidence.CLAIMS) <= asked


@pytest.mark.parametrize("question", evidence.questions(BASIS), ids=lambda question: question.trick)
def test_the_two_recipes_differ_by_the_trick_and_can_be_trained(question: evidence.Question) -> None:
    added, without = (evidence.changed(BASIS, settings) for settings in (question.added, question.without))
    assert added != without
    slot, _, name = question.trick.partition(".")
    if slot in SLOTS_ASKED and name in adapters(SLOTS[slot].package):
        kind = adapters(SLOTS[slot].package)[name]
        held = [getattr(recipe, slot) for recipe in (added, without)]
        held = [one if isinstance(one, tuple) else (one,) for one in held]
        there, missing = ([one for one in own if isinstance(one, kind)] for own in held)
        assert len(there) == 1 and is_on(there[0]) and not missing
        assert all(one in held[1] for one in held[0] if not isinstance(one, kind)), (
            "nothing else comes with it"
        )
    for recipe in (added, without):
        hopeless = [finding.cause for finding in recipe.check() if finding.severity == "critical"]
        assert not set(hopeless) - {"symmetric_init"}


def test_a_recipe_that_several_questions_need_is_trained_once() -> None:
    found = evidence.contenders(BASIS)
    assert len({one.recipe.hash() for one in found}) == len({one.label for one in found}) == len(found)
    assert found[0].label == BASE and found[0].recipe == BASIS
    assert len(found) < 2 * len(evidence.questions(BASIS)) * 0.6
    assert [one.label for one in evidence.contenders(BASIS, ["cutout", "mix.mixup"])] == [
        BASE, "augment.cutout", "mix.mixup",
    ]  # fmt: skip


def test_averages_reach_over_the_end_of_the_training_there_is() -> None:
    longer = BASIS.override(["run.steps=4000"])
    [ema] = evidence.questions(longer, ["ema"])
    assert longer.override(ema.added).average.decay == pytest.approx(1 - 1 / 200)
    [swa] = evidence.questions(longer, ["swa"])
    assert longer.override(swa.added).average.after == 3000


def net(label: str, seed: int, right: int) -> Outcome:
    score = Score((right,), (100,))
    return Outcome(label, seed, score, score, 0.1, 1.0)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [((4, 5, 6), HELPS), ((-4, -5, -6), HURTS), ((-1, 0, 4), NONE_SEEN), ((9,), UNTOLD)],
)
def test_the_verdict_is_that_of_the_paired_interval(gains: tuple[int, ...], verdict: str) -> None:
    outcomes = [net(BASE, seed, 60 + 10 * seed) for seed in range(len(gains))]
    outcomes += [net("mix.mixup", s, 60 + 10 * s + gain) for s, gain in enumerate(gains)]
    [row] = evidence.summary(outcomes, BASIS, ["mixup"], {"mix.mixup": Mean(5, 2.0, 0.1, 1.9, 2.1)})
    assert row.verdict == verdict and row.gain.n == len(gains)
    assert row.gain.mean == pytest.approx(sum(gains) / len(gains) / 100)
    assert verdict in evidence.table([row]) and "x 2.00 (1.90 to 2.10)" in evidence.table([row])


@pytest.mark.parametrize(("chosen", "head"), [("fast", 1340 / 4), ("compact", 0.3)])
def test_muon_has_the_lrs_that_suit_the_net(chosen: str, head: float) -> None:
    recipe = BASIS.override([f"net={chosen}", "net.widths=[16,32,64]", "optimise.lr=0.3"])
    [muon] = evidence.questions(recipe, ["muon"])
    asked = changed(recipe, muon.added).optimise
    assert (asked.head_lr, asked.lr) == (head, 0.24)


@pytest.mark.parametrize(("chosen", "widths"), [("fast", (16, 32, 64)), ("compact", Fast().widths)])
def test_whitening_is_asked_about_in_the_net_that_has_a_place_for_it(
    chosen: str, widths: tuple[int, ...]
) -> None:
    recipe = BASIS.override([f"net={chosen}", "net.widths=[16,32,64]"])
    [question] = evidence.questions(recipe, ["patch_whitening"])
    assert changed(recipe, question.added).net == changed(recipe, question.without).net == Fast(widths)


def test_steps_are_timed_in_turn_so_that_a_machine_that_slows_down_slows_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, order = [0.0], list[str]()

    def fit(recipe: Recipe, data: object, state: object) -> Iterator[int]:
        name = "mixup" if recipe.mix else "plain"
        for step in range(recipe.run.steps):
            clock[0] += (1 + 0.001 * len(order)) * (0.03 if name == "mixup" else 0.01)
            order.append(name)
            assert step + 1 < recipe.run.steps, "the last step is validated"
            yield step

    monkeypatch.setattr(step_times.loop, "start", lambda *args: None)
    monkeypatch.setattr(step_times.loop, "fit", fit)
    monkeypatch.setattr(step_times.time, "perf_counter", lambda: clock[0])
    with_it = BASIS.override(["mix=mixup"])
    found = step_times.ratios(with_it, BASIS, None, torch.device("cpu"), 0.2)  # pyright: ignore[reportArgumentType]
    assert found == pytest.approx([3.0] * step_times.ROUNDS, rel=0.02)
    steps = int(0.2 / 0.03)
    assert order[2 * step_times.WARM :][: 2 * steps] == ["mixup"] * steps + ["plain"] * steps


def test_seeds_that_one_of_the_two_lacks_are_left_aside() -> None:
    outcomes = [net(BASE, 0, 60), net(BASE, 1, 60), net("mix.mixup", 1, 70)]
    [row] = evidence.summary(outcomes, BASIS, ["mixup"])
    assert row.gain.n == 1 and row.gain.mean == pytest.approx(0.1)
    assert evidence.summary(outcomes[:2], BASIS, ["mixup"]) == []


def test_an_unknown_trick_names_the_nearest_and_one_left_out_the_reason() -> None:
    with pytest.raises(ConvclinicError, match="cutout"):
        evidence.contenders(BASIS, ["cutuot"])
    with pytest.raises(ConvclinicError, match="momentum and weight decay"):
        evidence.contenders(BASIS, ["optimise.sgd"])
