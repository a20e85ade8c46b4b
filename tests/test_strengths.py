"""Settings far outside what anyone uses: told before training, with a value that is used."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from convclinic.checks import check
from convclinic.clinic.remedies import settings
from convclinic.ground.discovery import adapters
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding
from convclinic.recipe import Recipe
from convclinic.slots import SLOTS, name_of


def told(*overrides: str) -> list[Finding]:
    """The findings about strengths."""
    return [finding for finding in check(Recipe().override(overrides)) if "far from" in finding.summary]


RANGES = [
    (slot, name, option, low, high)
    for slot, described in SLOTS.items()
    for name, trick in adapters(described.package).items()
    for option, (low, high) in getattr(trick, "USUAL", {}).items()
]


def place(slot: str, name: str, option: str) -> str:
    return f"{slot}.{name}.{option}" if SLOTS[slot].many else f"{slot}.{option}"


def changed(slot: str, name: str, option: str, value: Any) -> Recipe:
    chosen = [f"{slot}={name}"] if not SLOTS[slot].many else []
    if option == "area_high":
        chosen.append("augment.resized_crop.area_low=0.04")
    pair = isinstance(getattr(adapters(SLOTS[slot].package)[name](), option), tuple)
    return Recipe().override(
        [*chosen, f"{place(slot, name, option)}={f'[{value},{value}]' if pair else value}"]
    )


def at(findings: list[Finding], where: str) -> list[Finding]:
    return [finding for finding in findings if finding.where == where and "far from" in finding.summary]


@pytest.mark.parametrize(("slot", "name", "option", "low", "high"), RANGES)
def test_the_ends_of_a_range_are_usual_and_what_lies_beyond_is_not(
    slot: str, name: str, option: str, low: float, high: float
) -> None:
    where, tried = place(slot, name, option), 0
    for end, beyond in ((low, low / 2), (high, (1 + high) / 2 if 0.8 < high < 1 else 1.2 * high)):
        if isinstance(getattr(adapters(SLOTS[slot].package)[name](), option), int):
            beyond = math.floor(beyond)  # the option takes whole numbers
        if end in (0.0, math.inf, beyond):
            continue
        if end != 1.0 or option == "weight_decay":
            assert not at(check(changed(slot, name, option, end)), where)
        try:
            recipe = changed(slot, name, option, beyond)
        except ConvclinicError:  # no such value at all
            continue
        [finding] = at(check(recipe), where)
        assert finding.severity == "warning"
        cured = recipe.override([finding.remedies[0]])
        assert cured != recipe and not at(check(cured), where)
        tried += 1
    assert tried


def test_every_default_is_usual() -> None:
    for slot, name, option, low, high in RANGES:
        [value] = [
            f.default for f in dataclasses.fields(adapters(SLOTS[slot].package)[name]) if f.name == option
        ]
        values: Any = value if isinstance(value, tuple) else (value,)
        assert low <= min(values) <= max(values) <= high, f"{slot}.{name}.{option}"


def test_a_trick_that_is_off_has_no_strength_to_judge() -> None:
    assert not told("augment.gaussian_blur.sigma=[6,8]", "augment.gaussian_blur.p=0")
    assert told("augment.gaussian_blur.sigma=[6,8]", "augment.gaussian_blur.p=0.5")


def test_what_is_advised_is_tried_all_at_once_first() -> None:
    recipe = Recipe().override(
        ["augment.resized_crop.area_low=0.02", "augment.resized_crop.area_high=0.05", "optimise=sgd"]
    )
    doubtful = [finding for finding in check(recipe) if finding.severity == "warning"]
    assert len(doubtful) == 2
    remedies = list(settings(doubtful, recipe))
    [crop] = [trick for trick in remedies[0].recipe.augment if name_of(trick) == "resized_crop"]
    assert (crop.area_low, crop.area_high) == (0.35, 1.0)
    assert [remedy.edit for remedy in remedies[1:]] >= [doubtful[0].remedies[0]]
    assert any(remedy.edit == "no augment" for remedy in remedies)


def test_an_lr_far_out_of_range_is_tried_at_the_usual_one() -> None:
    recipe = Recipe().override(["optimise=sgd", "optimise.lr=10000"])
    doubtful = [finding for finding in check(recipe) if finding.severity == "warning"]
    [remedy] = list(settings(doubtful, recipe))
    assert remedy.recipe.optimise.lr == pytest.approx(0.1) and not remedy.afresh
