"""Rules about tricks that do not go together, or that do one thing twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

from convclinic.checks.facts import Facts, listed, on
from convclinic.kinds import Evidence, Finding
from convclinic.slots import name_of

LONG = "Touvron et al., 2021, arXiv:2012.12877, who use both for 300 epochs"
CROP = "Szegedy et al., 2014, arXiv:1409.4842, section 6"


class Overlap(NamedTuple):
    """Two tricks, given as slot.name, of which one does what the other does already."""

    first: str
    second: str
    words: str
    spare: str  # which of the two to leave out
    reference: str


OVERLAPS = (
    Overlap(
        "augment.resized_crop",
        "augment.shift",
        "resized_crop moves the image already",
        "augment.shift",
        CROP,
    ),
    Overlap(
        "augment.resized_crop",
        "augment.scale",
        "resized_crop scales the image already",
        "augment.scale",
        CROP,
    ),
    *(
        Overlap(
            "augment.rand_augment",
            f"augment.{name}",
            f"rand_augment draws {words} already",
            f"augment.{name}",
            "Cubuk et al., 2020, arXiv:1909.13719",
        )
        for name, words in (("rotate", "rotations"), ("shift", "translations"), ("colour_jitter", "colours"))
    ),
    Overlap(
        "augment.hsv_jitter",
        "augment.colour_jitter",
        "hsv_jitter and colour_jitter change the same three qualities",
        "augment.colour_jitter",
        "Dosovitskiy et al., 2014, arXiv:1406.6909",
    ),
    Overlap(
        "mix.cutmix",
        "augment.cutout",
        "cutmix covers part of the image already, and puts something useful there",
        "augment.cutout",
        LONG,
    ),
    Overlap(
        "mix.mixup",
        "regularise.label_smoothing",
        "mixup and label_smoothing both soften the targets: together they suit long runs",
        "regularise.label_smoothing",
        LONG,
    ),
    Overlap(
        "mix.cutmix",
        "regularise.label_smoothing",
        "cutmix and label_smoothing both soften the targets: together they suit long runs",
        "regularise.label_smoothing",
        LONG,
    ),
    Overlap(
        "schedule.one_cycle",
        "schedule.warm_up",
        "one_cycle begins with a rise of its own, and factors are multiplied",
        "schedule.warm_up",
        "Smith, 2018, arXiv:1803.09820",
    ),
    Overlap(
        "prepare.zca",
        "initialise.patch_whitening",
        "zca leaves white images, and patch_whitening whitens them again",
        "prepare.zca",
        "Jordan, 2024, arXiv:2404.00498",
    ),
)
# what each trick of the slot prepare does; the three PCAs centre too, but their source centres before them
WORK = {
    "zero_centre": {"centres"},
    "mean_image": {"centres"},
    "divide_by_std": {"scales"},
    "standardise": {"centres", "scales"},
    "min_max": {"centres", "scales"},
    "pca": {"decorrelates"},
    "pca_whitening": {"decorrelates", "whitens"},
    "zca": {"whitens"},
}
# what acts on the length of filters, which muon sets anew at every step
LENGTHS = ("l1", "l2", "elastic_net", "max_norm")
ADAPTIVE = ("adam", "adamw", "rmsprop", "adagrad", "adadelta")  # gradients are divided by their own size


def flips(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """A random flip on top of the alternating one is a random flip."""
    if on(recipe.augment, "flip") and on(recipe.augment, "alternating_flip"):
        yield Finding(
            "tricks_clash",
            "warning",
            where="augment",
            summary="flip and alternating_flip undo each other's pattern",
            remedies=("augment without flip", "augment without alternating_flip"),
            reference="Jordan, 2024, arXiv:2404.00498",
        )


def overlaps(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """One of the two would do; both are no mistake."""
    for pair in OVERLAPS:
        if _has(recipe, pair.first) and _has(recipe, pair.second):
            slot, _, name = pair.spare.partition(".")
            yield Finding(
                "tricks_overlap",
                "info",
                where=slot,
                summary=pair.words,
                remedies=(f"{slot} without {name}",),
                reference=pair.reference,
            )


def _has(recipe: Any, trick: str) -> bool:
    slot, _, name = trick.partition(".")
    return bool(on(getattr(recipe, slot), name))


def same_preparation(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """What is done a second time has no effect, or takes the first one's place."""
    for first, second in combinations(recipe.prepare, 2):
        a, b = _work(first), _work(second)
        if a & b:
            spare = name_of(first) if a < b else name_of(second)
            yield Finding(
                "tricks_overlap",
                "info",
                where="prepare",
                summary=f"{name_of(second)} {listed(sorted(a & b))} the images again after {name_of(first)}",
                remedies=(f"prepare without {spare}",),
                reference="Wei, 2015, section 2",
            )


def _work(trick: Any) -> set[str]:
    work = WORK.get(name_of(trick), set[str]())
    return work | {"scales"} if getattr(trick, "divide", False) else work


def decayed_twice(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """A penalty on the squares of weights is what the optimiser's weight decay is too."""
    decay = float(getattr(recipe.optimise, "weight_decay", 0.0))
    shrinking = [trick for trick in on(recipe.regularise, "l2", "elastic_net") if getattr(trick, "l2", 1.0)]
    for name in map(name_of, shrinking):
        if decay and name_of(recipe.optimise) != "muon":
            yield Finding(
                "tricks_overlap",
                "info",
                where="regularise",
                summary=f"{name} and the optimiser's weight decay shrink the same weights",
                evidence=(Evidence("optimise.weight_decay", decay, "0 beside a penalty"),),
                remedies=("optimise.weight_decay=0", f"regularise without {name}"),
                reference="Krogh and Hertz, 1992",
            )


def divided_penalty(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """The gradient of a penalty is divided by the size of the loss's, so weights are not penalised alike."""
    optimiser = name_of(recipe.optimise)
    if optimiser in ADAPTIVE and on(recipe.regularise, "l2"):
        yield Finding(
            "tricks_clash",
            "info",
            where="regularise",
            summary=f"{optimiser} divides l2's gradient by the size of the loss's: where that is large, "
            "weights are hardly penalised",
            remedies=("regularise without l2", "optimise=sgd"),
            reference="Loshchilov and Hutter, 2019, arXiv:1711.05101",
        )


def lengths_set_anew(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """What shrinks or bounds filters is undone where each step sets their length."""
    for trick in on(recipe.regularise, *LENGTHS) if name_of(recipe.optimise) == "muon" else ():
        yield Finding(
            "tricks_clash",
            "warning",
            where="regularise",
            summary=f"muon sets the length of every filter at each step, which undoes {name_of(trick)}",
            remedies=(f"regularise without {name_of(trick)}", "optimise=sgd"),
            reference="Jordan et al., 2024, cifar10-airbench",
        )


RULES = (flips, overlaps, same_preparation, decayed_twice, divided_penalty, lengths_set_anew)
