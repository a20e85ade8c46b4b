"""Which policy for rare classes a plan has, from the counts of the training images.

Up-sampling wherever classes differ: by validation it was the best policy in short runs of the narrow fast
net at 28 and 32 pixels (120 to 150 steps of 128 images, two seeds each) on subsets of Fashion-MNIST and
CIFAR-10 whose largest class has 3, 10 and 100 times the images of the smallest, with every seed better than
without a policy; on blood cells (ratio 12, crops grouped by photo) it cost nothing, where nothing was to be
gained. With 500 steps at ratio 100 logit adjustment without label smoothing passed it. `convclinic study
balance` measures it for other data; neither longer runs nor photos were measured here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convclinic.recipe import Recipe
from convclinic.tricks.balance.up_sampling import UpSampling

LEVEL = 1.5  # largest over smallest class up to which classes count as balanced, as in the checks


@dataclass(frozen=True)
class Choice:
    """The tricks for the slot `balance`, none or one, and why."""

    policy: tuple[Any, ...]
    reason: str


def with_policy(recipe: Recipe, policy: tuple[Any, ...]) -> Recipe:
    """The recipe with `policy` in place of whatever balance it had: two would undo each other.

    A policy of the loss takes label smoothing out: smoothing gives every class a share of each image, and
    such a policy makes a rare class's share large, so that rare classes are answered everywhere.
    """
    recipe = dataclasses.replace(recipe, balance=policy)
    if not any(trick.kind == "loss" for trick in policy):
        return recipe
    kept = tuple(trick for trick in recipe.regularise if trick.kind != "targets")
    return dataclasses.replace(recipe, regularise=kept)


def choose(counts: Mapping[str, int], grouped: bool) -> Choice:
    """The policy for classes of these training images; grouped: several images come from one photo or
    patient."""
    smallest, largest = (f(counts, key=lambda name: counts[name]) for f in (min, max))
    ratio = counts[largest] / max(1, counts[smallest])
    if ratio <= LEVEL:
        return Choice((), f"the largest class has {ratio:.1f} times the images of the smallest")
    words = (
        f"{smallest} has {counts[smallest]} training images, {largest} {ratio:.1f} times as many: an epoch "
    )
    words += "visits all classes equally often"
    alike = "; images come in groups, so fewer of them differ than there are" if grouped else ""
    return Choice((UpSampling(),), words + alike)
