"""Rules about settings far outside what anyone uses: each trick's file says what that is (`USUAL`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from convclinic.checks.facts import Facts, is_on, on
from convclinic.kinds import Evidence, Finding
from convclinic.slots import SLOTS, name_of

CAUSES = {
    "regularise": "over_regularised",
    "mix": "over_regularised",
    "augment": "destructive_augmentation",
    "schedule": "plateau",
}
OPTIMISER = {"weight_decay": "over_regularised", "momentum": "lr_too_high", "beta1": "lr_too_high"}
FAR = 0.3  # of a side by which a shift may move an image
NARROW, WIDER = 4, 16  # channels: of a stage that carries too little, and of one that will do


def unusual(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Options outside the range that their trick is used with."""
    for slot, described in SLOTS.items():
        held = getattr(recipe, slot)
        for trick in held if described.many else [held]:
            if trick is None or not is_on(trick):
                continue
            for option, (low, high) in getattr(trick, "USUAL", {}).items():
                value = getattr(trick, option)
                values = value if isinstance(value, tuple) else (value,)
                if low <= min(values) and max(values) <= high:
                    continue
                place = f"{slot}.{option}" if not described.many else f"{slot}.{name_of(trick)}.{option}"
                cause = OPTIMISER[option] if slot == "optimise" else CAUSES[slot]
                yield _finding(cause, place, value, f"{low:g} to {high:g}", _default(trick, option))


def far_shifts(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """A shift that moves what an image shows out of it."""
    least = min(recipe.data.height, recipe.data.width)
    for trick in on(recipe.augment, "shift"):
        if trick.pixels > FAR * least:
            place = "augment.shift.pixels"
            usual = max(1, round(least / 16))
            yield _finding("destructive_augmentation", place, trick.pixels, f"up to {FAR * least:.0f}", usual)


def narrow_stages(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Stages of so few channels that they cannot carry what tells the classes apart."""
    widths = getattr(recipe.net, "widths", ())
    if widths and min(widths) < NARROW:
        wider = ",".join(str(max(WIDER, width)) for width in widths)
        yield _finding("underfitting", "net.widths", widths, f"{NARROW} or more each", f"[{wider}]")


def sigmoid_stack(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Sigmoids after every layer, and nothing that keeps them away from their flat ends."""
    if name_of(recipe.activate) == "sigmoid" and name_of(recipe.normalise) == "none":
        yield Finding(
            "vanishing_gradient",
            "warning",
            where="activate",
            summary="a sigmoid passes on a quarter of the gradient at most, and every layer has one",
            evidence=(Evidence("activate", "sigmoid", "relu, or batch norm before it"),),
            remedies=("activate=relu", "normalise=batch_norm"),
            reference="Glorot and Bengio, 2010; Wei, 2015, section 5",
        )


def _default(trick: Any, option: str) -> Any:
    """What stands in the trick's file."""
    [value] = [field.default for field in dataclasses.fields(trick) if field.name == option]
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple) else value


def _finding(cause: str, place: str, value: Any, expected: str, usual: Any) -> Finding:
    shown = list(value) if isinstance(value, tuple) else value
    return Finding(
        cause,
        "warning",
        confidence=0.8,
        where=place,
        summary=f"{place} is {shown}, far from what is used",
        evidence=(Evidence(place, str(shown), f"{expected}, such as {usual}"),),
        remedies=(f"{place}={usual}",),
        reference="docs/tricks.md",
    )


RULES = (unusual, far_shifts, narrow_stages, sigmoid_stack)
