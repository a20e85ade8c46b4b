"""Rules about tricks that do not suit the images or the classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from convclinic.checks.facts import Facts, listed, on
from convclinic.kinds import Evidence, Finding
from convclinic.slots import name_of

ON_GRAY = {
    "colour_jitter": "colour_jitter's saturation and hue change nothing in gray images",
    "hsv_jitter": "of gray images hsv_jitter changes the brightness alone",
    "fancy_pca": "of gray images fancy_pca changes the brightness alone",
    "grayscale": "grayscale takes the colour out of images that have none",
}
ONE_SIZE = ("mean_image", "pca", "pca_whitening", "zca")  # and min_max per pixel: fitted for each place
SIGN = re.compile(r"(?:(?:digit|number|letter|char|character)[\s_-]*)?[0-9a-z]", re.IGNORECASE)
NUMBERS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
SIDEWAYS = (("left", "right"), ("east", "west"), ("clockwise", "counterclockwise"))
UPRIGHT = (("up", "down"), ("top", "bottom"), ("north", "south"), ("upward", "downward"))
WIDE_TURN = 90  # degrees of rotation from which a sign can become another one
LARGE, STEPS = 64, (4, 16)  # sides below and from LARGE on should be multiples of these


def colour_on_gray(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Gray has no saturation and no hue, so there is nothing to change; an added saturation tints it."""
    if not facts.gray and recipe.data.channels != 1:
        return
    for trick in on(recipe.augment, *ON_GRAY):
        name = name_of(trick)
        remedies = (f"augment without {name}",)
        if name == "colour_jitter":
            if not trick.saturation and not trick.hue:
                continue
            remedies = ("augment.colour_jitter.saturation=0", "augment.colour_jitter.hue=0")
        tints = name == "hsv_jitter" and recipe.data.channels == 3 and max(trick.offset) > 0
        yield Finding(
            "colour_trick_on_gray",
            "warning" if tints else "info",
            where="augment",
            summary="hsv_jitter adds saturation, which tints gray images red" if tints else ON_GRAY[name],
            evidence=(Evidence("gray images", "all", "some colour"),),
            remedies=remedies,
            reference="Smith, Color Gamut Transform Pairs, 1978: gray has saturation 0 and no hue",
        )


def mirrored_signs(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """A hint by the names of the classes; the planner measures what mirroring costs."""
    mirrors = on(recipe.augment, "flip", "alternating_flip")
    turns = on(recipe.augment, "vertical_flip", "quarter_turn")
    turns += [trick for trick in on(recipe.augment, "rotate") if trick.degrees >= WIDE_TURN]
    named_sideways, named_upright = _opposites(facts.classes, SIDEWAYS), _opposites(facts.classes, UPRIGHT)
    signs = _signs(facts.classes)
    wrong = [*(mirrors if signs or named_sideways else []), *(turns if signs or named_upright else [])]
    if wrong:
        names = [name_of(trick) for trick in wrong]
        yield Finding(
            "destructive_augmentation",
            "info",
            confidence=0.5,
            where="augment",
            summary=f"{listed(names)} may turn one class into another or into none: the classes are named "
            + ", ".join(signs or named_sideways or named_upright),
            remedies=tuple(f"augment without {name}" for name in names),
            reference="LeCun et al., 1998, section III-B: digits are distorted, never mirrored",
        )


def _signs(classes: Sequence[str]) -> list[str]:
    """The first classes that are called like a digit or letter, where most of the classes are."""
    found = [name for name in classes if SIGN.fullmatch(name.strip()) or name.strip().lower() in NUMBERS]
    return found[:4] if 2 * len(found) > len(classes) else []


def _opposites(classes: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Two classes that are called after opposite sides."""
    words = {name: set(re.findall(r"[a-z]+", _parted(name).lower())) for name in classes}
    for one, other in pairs:
        with_one = [name for name in classes if one in words[name]]
        with_other = [name for name in classes if other in words[name]]
        if with_one and with_other:
            return [with_one[0], with_other[0]]
    return []


def _parted(name: str) -> str:
    """LeftHand as Left Hand."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def odd_sides(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Sides that pooling can halve again and again lose nothing at the border."""
    for option in ("height", "width"):
        side = getattr(recipe.data, option)
        step = STEPS[1] if side >= LARGE else STEPS[0]
        if side % step:
            near = max(step, step * round(side / step))
            yield Finding(
                "input_side",
                "info",
                where=f"data.{option}",
                summary=f"{side} pixels cannot be halved often: pooling drops what is over at the border",
                evidence=(Evidence(f"data.{option}", side, f"a multiple of {step}, such as {near}"),),
                remedies=(f"data.{option}={near}",),
                reference="Wei, 2015, section 4: 32, 64, 224, 384 or 512 pixels",
            )


def two_classes_smoothed(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Label smoothing teaches which wrong classes are alike, and with two there is but one."""
    if len(facts.classes) == 2 and on(recipe.regularise, "label_smoothing"):
        yield Finding(
            "smoothing_two_classes",
            "info",
            where="regularise",
            summary="label_smoothing gains little with two classes",
            evidence=(Evidence("classes", 2, "more than 2"),),
            remedies=("regularise without label_smoothing",),
            reference="Szegedy et al., 2015, arXiv:1512.00567, section 7",
        )


def one_size_only(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """What was fitted for each pixel cannot be applied at another size."""
    size = (recipe.data.height, recipe.data.width)
    others = list(dict.fromkeys(f"{h} x {w}" for _, h, w in recipe.run.sizes if (h, w) != size))
    views = [trick for trick in on([recipe.combine], "scale_views") if set(trick.scales) != {1.0}]
    for name in map(name_of, _per_pixel(recipe)):
        if others or views:
            yield Finding(
                "prepared_for_one_size",
                "critical",
                where="prepare",
                summary=f"{name} is fitted for each pixel of {size[0]} x {size[1]}, and images come at "
                + (f"{listed(others)} too" if others else "other sizes in scale_views"),
                remedies=("prepare=standardise", "run.sizes=[]" if others else "combine=none"),
                reference="Krizhevsky et al., 2012, section 2",
            )


def moved_under_the_mean(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """A crop shows each place somewhere else than where its mean was taken."""
    moving = [name_of(trick) for trick in on(recipe.augment, "resized_crop")]
    fitted = [name_of(trick) for trick in _per_pixel(recipe)]
    if moving and fitted:
        yield Finding(
            "prepared_for_one_place",
            "info",
            where="prepare",
            summary=f"{listed(fitted)} knows each pixel by its place, and resized_crop moves them all",
            remedies=("prepare=standardise", "augment=shift"),
            reference="Krizhevsky et al., 2012, section 2: the mean is taken off before the crop",
        )


def pictures_lost(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Convolutions look at neighbours, and principal components have none."""
    if facts.net is not None and not any(isinstance(module, nn.Conv2d) for module in facts.net.modules()):
        return
    for trick in on(recipe.prepare, "pca", "pca_whitening"):
        yield Finding(
            "pictures_lost",
            "warning",
            where="prepare",
            summary=f"{name_of(trick)} leaves components and no pixels, and convolutions need neighbours",
            remedies=("prepare=zca", "prepare=standardise"),
            reference="Krizhevsky, 2009, chapter 2: zca, the whitening that keeps pictures",
        )


def _per_pixel(recipe: Any) -> list[Any]:
    per_pixel = [trick for trick in on(recipe.prepare, "min_max") if trick.per == "pixel"]
    return [*on(recipe.prepare, *ONE_SIZE), *per_pixel]


RULES = (
    colour_on_gray,
    mirrored_signs,
    odd_sides,
    two_classes_smoothed,
    one_size_only,
    moved_under_the_mean,
    pictures_lost,
)
