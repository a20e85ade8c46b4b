"""Rules about the policies for rare classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from convclinic.checks.facts import Facts, listed, on
from convclinic.kinds import Evidence, Finding
from convclinic.slots import name_of

LEVEL = 1.5  # largest over smallest class up to which classes count as balanced
OVERDONE = 1.25  # of the imbalance; two halves, such as the roots of both, are a common middle way
# the option that says how much of the imbalance a policy makes up for; the others decide it alone
AMOUNT = {
    "up_sampling": "strength",
    "down_sampling": "strength",
    "class_weights": "power",
    "logit_adjustment": "tau",
}
SMOOTHED = 0.25  # of what an image's own class keeps; smoothing alone leaves 1 / 41 with s = 0.2, k = 10
CROPPING = ("resized_crop", "shift", "scale", "rotate", "rand_augment")


def two_samplings(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Only one policy can say what an epoch visits, and the loop refuses a second one."""
    names = [name_of(trick) for trick in recipe.balance if trick.kind == "sampling"]
    if len(names) > 1:
        yield Finding(
            "balance_twice",
            "critical",
            where="balance",
            summary=f"{listed(names)} each say which images an epoch visits, and cancel each other",
            remedies=tuple(f"balance without {name}" for name in names),
            reference="Buda et al., 2018, arXiv:1710.05381",
        )


def overdone(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """A class that is both visited and weighed as if it were frequent counts as more than frequent."""
    policies = on(recipe.balance)
    names = [name_of(trick) for trick in policies]
    total = sum(_amount(trick) for trick in policies)
    if total > OVERDONE and len(policies) > 1 and any(trick.kind == "loss" for trick in policies):
        yield Finding(
            "balance_twice",
            "warning",
            where="balance",
            summary=f"{listed(names)} make up for the same imbalance, and together overdo it",
            evidence=(Evidence("how much of the imbalance is made up for", total, f"up to {OVERDONE}"),),
            remedies=tuple(f"balance without {name}" for name in names),
            reference="Menon et al., 2021, arXiv:2007.07314, section 3",
        )


def _amount(trick: Any) -> float:
    option = AMOUNT.get(name_of(trick))
    return 1.0 if option is None else float(getattr(trick, option))


def nothing_to_balance(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Classes of about one size need no policy."""
    policies, counts = on(recipe.balance), [count for count in facts.counts if count]
    ratio = max(counts) / min(counts) if counts else float("inf")
    if policies and ratio <= LEVEL:
        yield Finding(
            "balance_without_need",
            "info",
            where="balance",
            summary=f"the classes are balanced already: {listed(map(name_of, policies))} can change little",
            evidence=(Evidence("largest over smallest class", ratio, f"above {LEVEL}"),),
            remedies=("balance=none",),
            reference="Buda et al., 2018, arXiv:1710.05381",
        )


def rare_crops_without_crops(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Extra visits of an image are extra crops only where something crops or moves it."""
    if on(recipe.balance, "rare_crops") and not on(recipe.augment, *CROPPING):
        yield Finding(
            "crops_missing",
            "warning",
            where="augment",
            summary="rare_crops visits rare classes again for other crops of them, but nothing crops",
            remedies=("augment with shift", "augment with resized_crop"),
            reference="Wei, 2015",
        )


def smoothing_made_large(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Smoothing s gives each of k classes s / k of every image. A policy of the loss multiplies that by how
    rare the class is: near what the image's own class keeps, rare classes are answered everywhere."""
    policies = [trick for trick in on(recipe.balance) if trick.kind == "loss"]
    counts = [count for count in facts.counts if count]
    for smoothing in on(recipe.regularise, "label_smoothing") if policies and counts else ():
        s, k = smoothing.smoothing, len(facts.counts)
        ratio = (max(counts) / min(counts)) ** sum(_amount(trick) for trick in policies)
        share = ratio * (s / k) / (1 - s + s / k)
        if share > SMOOTHED:
            names = listed(map(name_of, policies))
            yield Finding(
                "balance_of_smoothed_labels",
                "warning",
                where="regularise",
                summary=f"with {names}, the share of each image that label_smoothing gives to rare classes "
                "counts so much that they will be answered for images of large ones",
                evidence=(Evidence("a rare class's share over the image's own", share, f"up to {SMOOTHED}"),),
                remedies=("regularise without label_smoothing", "balance=up_sampling"),
                reference="follows from the loss's minimum, Menon et al., 2021, arXiv:2007.07314, section 5",
            )


RULES = (two_samplings, overdone, nothing_to_balance, rare_crops_without_crops, smoothing_made_large)
