"""From pretrained weights and where the data stand in the two-by-two table to a recipe. Pure functions.

shape = choose_sides(survey, source, seconds, forward_seconds, n_train)
recipe, reasons = draft(profile, shape, hardware, mirror, advice, start, seed)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convclinic.data.dataset import Profile
from convclinic.data.intake import Survey
from convclinic.models._weights import Source
from convclinic.models.backbone import Backbone
from convclinic.planning import balance
from convclinic.planning.hardware import Hardware
from convclinic.planning.orientation import MirrorTest
from convclinic.planning.planner import MIRROR_LIMIT, Reason, mirror_words
from convclinic.planning.transfer import Advice
from convclinic.recipe import Recipe
from convclinic.slots import Input, Run, name_of
from convclinic.tricks.activate.relu import ReLU
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.resized_crop import ResizedCrop
from convclinic.tricks.average.ema import EMA
from convclinic.tricks.combine.flip_views import FlipViews
from convclinic.tricks.combine.none import Single
from convclinic.tricks.optimise.adamw import AdamW
from convclinic.tricks.prepare.given import Given
from convclinic.tricks.regularise.label_smoothing import LabelSmoothing
from convclinic.tricks.schedule.one_cycle import OneCycle
from convclinic.tricks.transfer.freeze import HEAD, Freeze
from convclinic.tricks.transfer.frozen_norm import FrozenNorm
from convclinic.tricks.transfer.head_first import HeadFirst
from convclinic.tricks.transfer.layer_decay import LayerDecay
from convclinic.tricks.transfer.pretrained import Pretrained
from convclinic.tricks.transfer.probed_head import ProbedHead

SIDES = (96, 128, 160, 192, 224)  # pixels that are considered, as far as the weights take them
ENLARGED = 3.0  # times that small images are enlarged at most: the weights know larger things
EPOCHS = 6.0  # of fine-tuning all stages that the budget must allow at the chosen size
TRAINING_COST = 3.5  # forward passes that a step of all stages costs; 3.9 and 2.9 measured on MobileNetV2
LRS = {"linear": 3e-3, "early_linear": 3e-3, "early_svm": 3e-3}  # of the head alone
LR = 1e-3  # of the head when stages learn too; they have smaller ones


@dataclass(frozen=True)
class Start:
    """The weights: the net's name, the file (or timm:NAME), its sha256, its preprocessing, its stages."""

    model: str
    file: str
    sha256: str
    source: Source
    stages: tuple[str, ...]


def choose_sides(
    survey: Survey, source: Source, forward: Callable[[int, int], float], seconds: float
) -> Input:
    """What the store shall hold: the largest images of which the time allows about six epochs.

    forward(height, width): seconds an image.
    """
    heights, widths = sorted(survey.heights), sorted(survey.widths)
    if not heights:
        return Input()
    height, width = int(heights[len(heights) // 2]), int(widths[len(widths) // 2])
    channels = 1 if survey.gray_share == 1.0 else 3
    largest = min(source.side, ENLARGED * min(height, width))
    sides = [side for side in SIDES if side <= largest + source.multiple / 2] or [int(largest)]
    best = _shape(sides[0], height / width, source)
    for side in sides[1:]:
        shape = _shape(side, height / width, source)
        if seconds / (TRAINING_COST * forward(*shape) * survey.n) >= EPOCHS:
            best = shape
    return Input(*best, channels)


def draft(
    profile: Profile,
    shape: Input,
    hardware: Hardware,
    mirror: MirrorTest,
    advice: Advice,
    start: Start,
    seed: int,
    balanced: bool = True,
) -> tuple[Recipe, tuple[Reason, ...]]:
    """Every choice that does not depend on how long training may last; `balanced` says whether a policy for
    rare classes is among them."""
    flips = mirror.lost <= MIRROR_LIMIT
    colours = ColourJitter(0.2, 0.2, 0.2, 0.02) if shape.channels == 3 else ColourJitter(0.2, 0.2, 0.0, 0.0)
    cut = advice.stage if advice.strategy.startswith("early") else ""
    recipe = Recipe(
        seed=seed,
        data=shape,
        net=Backbone(model=start.model, cut="" if cut == start.stages[-1] else cut),
        activate=ReLU(),
        prepare=(Given(mean=start.source.mean, std=start.source.std),),
        initialise=(),
        augment=(ResizedCrop(), *((Flip(),) if flips else ()), colours),
        regularise=(LabelSmoothing(0.1),),
        optimise=AdamW(lr=LRS.get(advice.strategy, LR)),
        transfer=(Pretrained(file=start.file, sha256=start.sha256), *_held(advice, start)),
        schedule=(OneCycle(),),
        average=EMA(),
        combine=FlipViews() if flips else Single(),
        run=Run(
            batch_size=32 if profile.n_train < 10_000 else 64,
            precision=hardware.precision,
            sizes=_growing(shape, start.source),
        ),
    )
    reasons = (
        Reason(
            "net", start.model, f"pretrained: {start.file}; pixels as it knows them ({start.source.known})"
        ),
        Reason("data", f"{shape.height} x {shape.width} pixels", _size_words(start.source)),
        Reason("strategy", f"{advice.strategy} ({advice.cell})", "; ".join(advice.reasons)),
        Reason("augment flip", "on" if flips else "off", mirror_words(mirror)),
        Reason(
            "optimise",
            "adamw",
            "small steps in proportion to each weight's own gradients keep what was learnt",
        ),
        Reason(
            "precision",
            hardware.precision,
            f"a convolution runs at {hardware.float32_rate / 1e9:.0f} GFLOP/s in float32 and "
            f"{hardware.bfloat16_rate / 1e9:.0f} in bfloat16 here",
        ),
    )
    choice = balance.choose(profile.class_counts, profile.grouped)
    named = ", ".join(name_of(trick) for trick in choice.policy) or "none"
    reasons = (*reasons, Reason("balance", named, choice.reason))
    return (balance.with_policy(recipe, choice.policy) if balanced else recipe), reasons


def _held(advice: Advice, start: Start) -> tuple[object, ...]:
    """What of the net learns, and how fast."""
    norms = (FrozenNorm(),) if advice.batch_norm == "frozen" else ()
    if advice.strategy == "freeze_then_tenth":
        return (HeadFirst(), *norms)
    if advice.strategy == "all":
        return (ProbedHead(), LayerDecay(), *norms)
    if advice.strategy == "last_stages":
        middle = start.stages[len(start.stages) // 2]
        return (ProbedHead(), Freeze(until_stage=middle), LayerDecay(), *norms)
    head = "svm" if advice.strategy == "early_svm" else "logistic"
    return (ProbedHead(head=head), Freeze(until_stage=HEAD), FrozenNorm())


def _growing(shape: Input, source: Source) -> tuple[tuple[float, int, int], ...]:
    """Training images three quarters as large at first: they cost half, and the first epochs need no more."""
    small = (source.fitting(0.75 * shape.height), source.fitting(0.75 * shape.width))
    if small == (shape.height, shape.width):
        return ()
    return ((0.0, *small), (0.5, shape.height, shape.width))


def _shape(side: int, aspect: float, source: Source) -> tuple[int, int]:
    """(height, width) with the short side about `side`, as the weights like it; aspect (h / w) within 2."""
    aspect = min(2.0, max(0.5, aspect))
    long = side * max(aspect, 1 / aspect)
    sides = source.fitting(side), source.fitting(long)
    return (sides[1], sides[0]) if aspect >= 1 else sides


def _size_words(source: Source) -> str:
    exact = f"sides of {source.multiple} n + {source.plus}, as the weights want them; " if source.plus else ""
    return f"{exact}the largest size of which the budget allows about {EPOCHS:.0f} epochs on this machine"
