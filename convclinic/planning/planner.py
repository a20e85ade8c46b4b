"""From data profile, budget and hardware to a recipe, each choice with its reason.

Pure functions: what was measured (the profile, the machine's rate, the speed of real steps, the mirror and
LR tests) comes in as data, so the same facts give the same plan.

    choose_input   before anything is decoded: what the store shall hold
    draft          everything but the lengths: net, augmentation, optimiser, regularisation
    finish         the budget turned into a fixed number of steps
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from convclinic.data.dataset import Profile
from convclinic.data.intake import Survey
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.units import duration
from convclinic.models.compact import Compact
from convclinic.models.fast import Fast
from convclinic.planning import balance
from convclinic.planning.hardware import Hardware
from convclinic.planning.orientation import MirrorTest
from convclinic.planning.range_test import RangeResult
from convclinic.planning.speed import Speed
from convclinic.recipe import Recipe, scaled
from convclinic.slots import Input, Run, name_of
from convclinic.tricks.activate.gelu import GELU
from convclinic.tricks.augment.alternating_flip import AlternatingFlip
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.resized_crop import ResizedCrop
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.average.ema import EMA
from convclinic.tricks.combine.flip_views import FlipViews
from convclinic.tricks.combine.none import Single
from convclinic.tricks.combine.shift_views import ShiftViews
from convclinic.tricks.initialise.dirac import Dirac
from convclinic.tricks.initialise.he import He
from convclinic.tricks.initialise.patch_whitening import PatchWhitening
from convclinic.tricks.optimise.muon import Muon
from convclinic.tricks.regularise.label_smoothing import LabelSmoothing
from convclinic.tricks.schedule.linear import Linear
from convclinic.tricks.schedule.one_cycle import OneCycle

SMALL_SIDE = 95  # pixels; up to here images are kept at their own size and the fast net is used
PHOTO_SIDES = (96, 128, 160, 192, 224)  # short sides a photo may be trained at
FAST_WIDTHS = ((64, 256, 256), (64, 128, 256), (32, 64, 128))
COMPACT_WIDTHS = ((48, 96, 192, 384), (32, 64, 128, 256))
FEWEST_EPOCHS = {"fast": 4.0, "compact": 40.0}  # a wider net or larger images must still see so many
MIRROR_LIMIT = 0.4  # share of a probe's skill lost on mirrored images above which flips are left out
MARGIN = 0.03  # of the budget, against the unforeseen
EVALUATION_SHARE = 0.04  # of the training time at most goes to validation
SOLVING, SOLVING_SHARE = 1.6, 0.06  # forward passes that an image costs a head's solution; of the budget
LEAST_STEPS = 20
EFFICIENCY = 0.8  # of one convolution's rate is what whole training steps were seen to reach


@dataclass(frozen=True)
class Reason:
    choice: str
    value: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """`seconds` is what training with its validation should take; `epochs` what the steps amount to."""

    recipe: Recipe
    reasons: tuple[Reason, ...]
    seconds: float
    epochs: float


def choose_input(survey: Survey, seconds: float, cost: Callable[[int, int], float], rate: float) -> Input:
    """What the store shall hold. `cost(h, w)` is the operations of one image's forward pass, `rate` the
    machine's operations a second, `seconds` the training time at hand."""
    if not len(survey.heights):
        return Input()  # nothing could be read: the check-up will say so
    height, width = _median(survey.heights), _median(survey.widths)
    channels = 1 if survey.gray_share == 1.0 else 3
    short = min(height, width)
    if short <= SMALL_SIDE:
        scale = max(1.0, 28 / short)
        return Input(_even(height * scale), _even(width * scale), channels)
    fitting = [side for side in PHOTO_SIDES if side <= short] or [PHOTO_SIDES[0]]
    best = fitting[0]
    for side in fitting:
        h, w = _photo_shape(side, height / width)
        images = EFFICIENCY * rate * seconds / (3 * cost(h, w))
        if images / survey.n >= FEWEST_EPOCHS["compact"]:
            best = side
    return Input(*_photo_shape(best, height / width), channels)


def draft(
    profile: Profile, shape: Input, hardware: Hardware, mirror: MirrorTest, seed: int, balanced: bool = True
) -> tuple[Recipe, tuple[Reason, ...]]:
    """Every choice that does not depend on how long training may last; `balanced` says whether a policy for
    rare classes is among them."""
    small = min(shape.height, shape.width) <= SMALL_SIDE
    flips = mirror.lost <= MIRROR_LIMIT
    recipe = _small(shape, flips, profile) if small else _photo(shape, flips)
    recipe = dataclasses.replace(recipe, seed=seed, data=shape)
    run = dataclasses.replace(recipe.run, precision=hardware.precision)
    reasons = (
        Reason(
            "data",
            f"{shape.height} x {shape.width} pixels, {shape.channels} channel{'s' * (shape.channels > 1)}",
            _size_words(shape, profile, small),
        ),
        Reason(
            "net",
            "fast" if small else "compact",
            f"small images (up to {SMALL_SIDE} pixels): a wide, shallow, whitened net learns fastest"
            if small
            else "photos without pretrained weights: a small residual net, trained at growing image sizes",
        ),
        Reason("augment flip", "on" if flips else "off", mirror_words(mirror)),
        Reason(
            "augment",
            ", ".join(type(trick).__name__ for trick in recipe.augment),
            "small shifts keep tiny objects whole"
            if small
            else "random crops and colours: few photos, many views",
        ),
        Reason(
            "optimise",
            "muon",
            "orthogonalised steps learn in fewer epochs than SGD where the budget allows few",
        ),
        Reason(
            "precision",
            hardware.precision,
            f"a convolution runs at {hardware.float32_rate / 1e9:.0f} GFLOP/s in float32 and "
            f"{hardware.bfloat16_rate / 1e9:.0f} in bfloat16 here",
        ),
    )
    recipe = dataclasses.replace(recipe, run=run)
    return _with_balance(recipe, reasons, profile) if balanced else (recipe, reasons)


def _with_balance(
    recipe: Recipe, reasons: tuple[Reason, ...], profile: Profile
) -> tuple[Recipe, tuple[Reason, ...]]:
    choice = balance.choose(profile.class_counts, profile.grouped)
    name = ", ".join(name_of(trick) for trick in choice.policy) or "none"
    return balance.with_policy(recipe, choice.policy), (*reasons, Reason("balance", name, choice.reason))


def _small(shape: Input, flips: bool, profile: Profile) -> Recipe:
    batch = _batch_size(profile.n_train, 1000)
    scale = math.sqrt(batch / 1000)
    return Recipe(
        net=Fast(),
        activate=GELU(),
        initialise=(Dirac(), PatchWhitening()),
        augment=(*((AlternatingFlip(),) if flips else ()), Shift(pixels=max(1, round(shape.height / 16)))),
        regularise=(LabelSmoothing(0.2),),
        optimise=Muon(lr=0.24 * scale, head_lr=1340.0 * scale, bias_lr=106.0 * scale),
        schedule=(Linear(),),
        combine=ShiftViews() if flips else Single(),
        run=Run(batch_size=batch),
    )


def _photo(shape: Input, flips: bool) -> Recipe:
    sides = [(0.0, 0.5), (0.4, 0.75), (0.7, 1.0)]
    colours = ColourJitter() if shape.channels == 3 else ColourJitter(saturation=0.0, hue=0.0)
    return Recipe(
        net=Compact(),
        activate=GELU(),
        initialise=(He(),),
        augment=(ResizedCrop(), *((Flip(),) if flips else ()), colours),
        regularise=(LabelSmoothing(0.1),),
        optimise=Muon(lr=0.1, head_lr=0.1, bias_lr=0.1, weight_decay=2.5e-8),
        schedule=(OneCycle(),),
        average=EMA(),
        combine=FlipViews() if flips else Single(),
        run=Run(
            batch_size=64,
            sizes=tuple(
                (since, _of_32(shape.height * part), _of_32(shape.width * part)) for since, part in sides
            ),
        ),
    )


def finish(
    recipe: Recipe,
    reasons: tuple[Reason, ...],
    profile: Profile,
    speed: Speed,
    seconds: float,
    fixed_steps: bool = False,
) -> Plan:
    """Turn `seconds` of training time into a fixed number of steps, written in the recipe.

    Raises ConvclinicError when the time does not suffice for even a few steps, and says what would.
    """
    per_epoch = max(1, profile.n_train // min(recipe.run.batch_size, profile.n_train))
    step = mean_step(recipe, speed)
    once = profile.n_validation * speed.evaluate_image
    evaluations = max(1, min(20, int(EVALUATION_SHARE * seconds / max(once, 1e-9))))
    steps = recipe.run.steps if fixed_steps else int((seconds - evaluations * once) / step)
    if steps < LEAST_STEPS and not fixed_steps:
        more = (LEAST_STEPS + 1) * step / (1 - EVALUATION_SHARE) + once - seconds
        raise ConvclinicError(
            f"it leaves {duration(max(0.0, seconds))} for training, and a step takes {1000 * step:.0f} ms",
            fix=f"give {math.ceil(more / (1 - MARGIN))} s more, or halve the images: --set "
            f"data.height={recipe.data.height // 2} --set data.width={recipe.data.width // 2}",
        )
    every = max(1, math.ceil(steps / evaluations))
    run = dataclasses.replace(recipe.run, steps=steps, evaluate_every=every)
    epochs = steps / per_epoch
    reasons = (
        *reasons,
        Reason(
            "batch size",
            str(run.batch_size),
            "enough steps an epoch for small data, enough work a step for large",
        ),
        Reason(
            "steps",
            f"{steps} ({epochs:.1f} epochs)",
            f"a step takes {1000 * step:.0f} ms here, and {duration(seconds)} are left for training",
        ),
        Reason(
            "early stopping",
            "off",
            "the LR falls to its end within the budget, and the last steps gain the most",
        ),
    )
    return Plan(dataclasses.replace(recipe, run=run), reasons, steps * step + evaluations * once, epochs)


def choose_width(
    recipe: Recipe,
    profile: Profile,
    hardware: Hardware,
    seconds: float,
    operations: Callable[[Recipe, int], float],
) -> tuple[Recipe, Reason]:
    """The widest net of its kind that sees every training image often enough within `seconds`.

    `operations(recipe, k)` is what one training image costs.
    """
    fast = isinstance(recipe.net, Fast)
    least = FEWEST_EPOCHS["fast" if fast else "compact"]
    for widths in FAST_WIDTHS if fast else COMPACT_WIDTHS:
        recipe = dataclasses.replace(recipe, net=dataclasses.replace(recipe.net, widths=widths))
        cost = operations(recipe, len(profile.class_counts))
        epochs = EFFICIENCY * hardware.rate * seconds / (cost * profile.n_train)
        if epochs >= least:
            words = (
                f"the widest that can see each of {profile.n_train} images about {least:.0f} times or more"
            )
            return recipe, Reason("net width", str(widths), words)
    return recipe, Reason("net width", str(recipe.net.widths), "the narrowest there is: the time is short")


def with_lr(recipe: Recipe, result: RangeResult | None) -> tuple[Recipe, Reason]:
    """Keep the net's own LR unless the range test shows that it is too near the edge."""
    lr = recipe.optimise.lr
    if result is None:
        return recipe, Reason("lr", f"{lr:.3g}", "the net's own; the budget is too short for a range test")
    words = (
        f"range test of {result.steps} steps (confidence {result.confidence:.0%}): the loss fell fastest at "
    )
    words += f"{lr * result.steepest:.2g}" + (
        f" and turned at {lr * result.limit:.2g}" if result.limit else ""
    )
    if result.limit is not None and result.limit < 2 and result.confidence > 0.5:
        optimise = scaled(recipe.optimise, result.limit / 4)
        recipe = dataclasses.replace(recipe, optimise=optimise)
        return recipe, Reason("lr", f"{optimise.lr:.3g}", words + "; lowered to a quarter of that")
    return recipe, Reason("lr", f"{lr:.3g}", words + "; the net's own LR is kept")


def affordable_head(recipe: Recipe, profile: Profile, speed: Speed, budget: float) -> tuple[Recipe, float]:
    """The recipe with as many images for its head's solution as a share of the budget (s) has room for, and
    the seconds that they take; 0 where no head is solved for."""
    each = SOLVING * speed.evaluate_image
    transfer = tuple(
        dataclasses.replace(trick, images=max(2, min(trick.images, int(SOLVING_SHARE * budget / each))))
        if trick.kind == "head"
        else trick
        for trick in recipe.transfer
    )
    images = max((trick.images for trick in transfer if trick.kind == "head"), default=0)
    return dataclasses.replace(recipe, transfer=transfer), each * min(images, profile.n_train)


def mean_step(recipe: Recipe, speed: Speed) -> float:
    """Mean seconds a step over all training sizes; the shares count steps, as progress does."""
    return sum(share * speed.step[size] for size, share in shares(recipe))


def shares(recipe: Recipe) -> list[tuple[tuple[int, int], float]]:
    """The (height, width) that training passes through and the share of it that each lasts."""
    sizes = recipe.run.sizes
    if not sizes or sizes[0][0] > 0:
        sizes = ((0.0, recipe.data.height, recipe.data.width), *sizes)
    ends = [*(since for since, _, _ in sizes[1:]), 1.0]
    return [((h, w), end - since) for (since, h, w), end in zip(sizes, ends, strict=True)]


def _size_words(shape: Input, profile: Profile, small: bool) -> str:
    if not small:
        epochs = FEWEST_EPOCHS["compact"]
        return f"the largest size of which the budget allows about {epochs:.0f} epochs on this machine"
    median = min(profile.heights[2], profile.widths[2])
    enlarged = min(shape.height, shape.width) > median + 1
    return (
        f"enlarged from {median:.0f}: the net halves its input three times"
        if enlarged
        else "the images' own size"
    )


def mirror_words(mirror: MirrorTest) -> str:
    scores = (
        f"a linear probe scores {mirror.upright:.0%} on upright, {mirror.mirrored:.0%} on mirrored images: "
    )
    if mirror.lost > MIRROR_LIMIT:
        return scores + f"mirroring removes {mirror.lost:.0%} of its skill, so left and right carry the class"
    return scores + f"it keeps {1 - mirror.lost:.0%} of its skill"


def _batch_size(n_train: int, most: int) -> int:
    """A power of two (or `most`) that leaves about twenty steps an epoch."""
    return min(most, max(32, 2 ** round(math.log2(max(1, n_train / 20)))))


def _median(values: object) -> int:
    ordered = sorted(int(v) for v in values)  # pyright: ignore[reportGeneralTypeIssues]
    return ordered[len(ordered) // 2]


def _even(value: float) -> int:
    return max(2, 2 * round(value / 2))


def _of_32(value: float) -> int:
    return max(32, 32 * round(value / 32))


def _photo_shape(side: int, aspect: float) -> tuple[int, int]:
    """(height, width) with the short side `side`, both multiples of 32; aspect (h / w) held within 2."""
    aspect = min(2.0, max(0.5, aspect))
    return (_of_32(side * aspect), side) if aspect >= 1 else (side, _of_32(side / aspect))
