"""What each trick brings here: the same recipe with and without it, paired by seed.

Every trick of a recipe's slots is asked about beside what a practitioner would have in its place: a further
augmentation beside flips and shifts, an activation beside ReLU, an optimiser beside SGD with momentum, a
schedule beside a constant LR. All nets train for the same number of steps, and each meets the test images
once, with its last weights.

An effect counts as seen where the 95 % interval of the paired differences (Student's, over seeds) leaves out
zero. Of many tricks asked about at once, one in twenty without any effect will look as if it had one. The
intervals count the chance of training, not which images the test part happens to hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convclinic.ground.discovery import adapters
from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.models.fast import Fast
from convclinic.planning.other_net import muon_for
from convclinic.recipe import Recipe, changed
from convclinic.slots import SLOTS, Input, Run
from convclinic.study.comparing import Contender, Mean, Outcome, columns, mean_of
from convclinic.tricks.activate.relu import ReLU
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.optimise.muon import Muon

HELPS, NONE_SEEN, HURTS, UNTOLD = "helps", "no effect seen", "hurts", "one seed tells nothing"
BASE = "base"
PLAIN = ("flip", "shift")  # the augmentation of the base recipe

# What the sources claim, where it is not that the trick helps; None: it depends on the data or is a choice.
CLAIMS: dict[str, str | None] = {
    "initialise.zero": HURTS,
    "initialise.constant": HURTS,
    "initialise.small_random": HURTS,
    "activate.sigmoid": HURTS,
    "activate.tanh": HURTS,
    **dict.fromkeys(
        (
            "augment.vertical_flip", "augment.quarter_turn", "augment.rotate", "augment.grayscale",
            "augment.gaussian_blur", "augment.scale", "augment.resized_crop", "prepare.pca",
            "schedule.batch_scaling", "schedule.cyclic_cosine", "run.precision", "run.sizes",
            "activate.gelu", "activate.silu",
            "optimise.adagrad", "optimise.adadelta", "optimise.rmsprop", "optimise.adam", "optimise.adamw",
        )
    ),
}  # fmt: skip
# Tricks that are no matter of with or without, and why.
LEFT_OUT: dict[str, str] = {
    "normalise.own": "it is what the net has by itself",
    "normalise.none": "the others stand beside it",
    "combine.none": "the others stand beside it",
    "schedule.constant": "the others stand beside it",
    "optimise.sgd": "the others stand beside it; its momentum and weight decay are asked about",
    "prepare.given": "it is what a file of weights asks for",
}
SLOTS_ASKED = (
    "augment", "mix", "prepare", "initialise", "normalise", "activate", "regularise", "optimise", "schedule",
    "average", "combine",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What one trick changes: settings of the base recipe with it and without, and in words what it stands
    beside."""

    trick: str
    added: tuple[str, ...]
    without: tuple[str, ...]
    beside: str

    @property
    def claim(self) -> str | None:
        """What the sources say of it."""
        return CLAIMS.get(self.trick, HELPS)


@dataclass(frozen=True)
class Row:
    """The answer: test accuracy with and without, and its gain (all in [0, 1]), over the seeds that both
    have; and the time of a step with the trick over that without, None where it was not measured."""

    trick: str
    beside: str
    claim: str | None
    accuracy: Mean
    without: Mean
    gain: Mean
    step_time: Mean | None

    @property
    def verdict(self) -> str:
        if self.gain.low is None or self.gain.high is None:
            return UNTOLD
        return HELPS if self.gain.low > 0 else HURTS if self.gain.high < 0 else NONE_SEEN

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "verdict": self.verdict}


def base_recipe(shape: Input, net: Any, precision: str, settings: Sequence[str] = ()) -> Recipe:
    """What the tricks are added to or taken from: flips and shifts, batch norm as the net has it, ReLU,
    PyTorch's initialisation, SGD with Nesterov's momentum and weight decay, one cycle."""
    recipe = Recipe(
        data=shape,
        net=net,
        activate=ReLU(),
        initialise=(),
        augment=(Flip(), Shift(pixels=max(1, shape.width // 8))),
        run=Run(batch_size=128, precision=precision),
    )
    return recipe.override(settings)


def contenders(recipe: Recipe, only: Sequence[str] = ()) -> list[Contender]:
    """The recipes that the tricks asked for need, all where none is; each of them once."""
    found: dict[str, Contender] = {recipe.hash(): Contender(BASE, recipe)}
    for question in questions(recipe, only):
        for label, settings in ((question.trick, question.added), (_not(question), question.without)):
            other = changed(recipe, settings)
            found.setdefault(other.hash(), Contender(label, other))
    return list(found.values())


def questions(recipe: Recipe, only: Sequence[str] = ()) -> list[Question]:
    """Those asked for, "cutout" or "augment.cutout"; all where none is.

    Raises ConvclinicError for a trick that is not known.
    """
    every = list(_questions(recipe))
    names = {name for question in every for name in (question.trick, question.trick.partition(".")[2])}
    for name in only:
        if name not in names:
            why = next(
                (why for trick, why in LEFT_OUT.items() if name in (trick, trick.partition(".")[2])), ""
            )
            raise ConvclinicError(
                f"no evidence can be had on '{name}'", fix=why or nearest(name, sorted(names))
            )
    wanted = set(only)
    return [q for q in every if not wanted or wanted & {q.trick, q.trick.partition(".")[2]}]


def _questions(recipe: Recipe) -> Iterator[Question]:
    for slot in SLOTS_ASKED:
        for name in adapters(SLOTS[slot].package):
            trick = f"{slot}.{name}"
            if trick not in LEFT_OUT:
                yield Question(trick, *SPECIAL.get(trick, ASKED[slot])(name, recipe))
    yield Question("optimise.momentum", (), ("optimise.momentum=0.0", "optimise.nesterov=false"), "plain SGD")
    yield Question("optimise.nesterov", (), ("optimise.nesterov=false",), "plain momentum")
    yield Question("optimise.weight_decay", (), ("optimise.weight_decay=0.0",), "no weight decay")
    low = [max(8, side // 2) for side in (recipe.data.height, recipe.data.width)]
    sizes = f"run.sizes=[[0.0,{low[0]},{low[1]}],[0.5,{recipe.data.height},{recipe.data.width}]]"
    yield Question("run.sizes", (sizes,), (), "full size throughout")
    yield Question("run.precision", ("run.precision=bfloat16",), ("run.precision=float32",), "float32")


_Asked = Callable[[str, Recipe], tuple[tuple[str, ...], tuple[str, ...], str]]


def _augment(name: str, recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    if name in PLAIN:
        others = ",".join(one for one in PLAIN if one != name)
        return (), (f"augment={others}",), f"{others} alone"
    return (f"augment={','.join(PLAIN)},{name}",), (), "flip and shift"


def _instead(slot: str, other: str, words: str = "") -> _Asked:
    """The trick in a slot, instead of another one."""
    return lambda name, recipe: ((f"{slot}={name}",), (f"{slot}={other}",), words or other)


def _added(slot: str) -> _Asked:
    return lambda name, recipe: ((f"{slot}={name}",), (), "none")


def _penalty(name: str, recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    plain = "optimise.weight_decay=0.0"
    return (plain, f"regularise={name}"), (plain,), "no penalty at all"


def _ema(name: str, recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Over about the last twentieth of the training."""
    decay = 1 - 1 / max(2.0, recipe.run.steps / 20)
    return (f"average={name}", f"average.decay={decay:.4f}"), (), "the last weights"


def _swa(name: str, recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Over the last quarter."""
    return (f"average={name}", f"average.after={recipe.run.steps * 3 // 4}"), (), "the last weights"


def _optimiser(name: str, recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """With its own LR. Muon's for the head and for biases suit the net `fast`, whose logits are divided by
    its last width; elsewhere these learn as fast as beside it."""
    settings = [f"optimise={name}"]
    if name == "muon":
        net, lr = recipe.net, recipe.optimise.lr
        muon = Muon(head_lr=lr, bias_lr=lr)
        if isinstance(net, Fast):
            muon = muon_for(net.widths[-1], Muon(), Fast().widths[-1])
        settings += [f"optimise.head_lr={muon.head_lr}", f"optimise.bias_lr={muon.bias_lr}"]
    return tuple(settings), (), "SGD with momentum"


def _whitening(name: str, recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """In the net that has a place for it; of the base recipe's widths where that is it."""
    net = () if isinstance(recipe.net, Fast) else ("net=fast",)
    return (*net, f"initialise={name}"), (*net, "initialise=none"), "PyTorch's own, in the net fast"


def _large_batches(name: str, recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    large = f"run.batch_size={4 * recipe.run.batch_size}"
    scaled = (large, f"schedule=one_cycle,{name}", f"schedule.{name}.reference={recipe.run.batch_size}")
    return scaled, (large,), "the same LR, batches four times as large"


ASKED: dict[str, _Asked] = {
    "augment": _augment,
    "mix": _added("mix"),
    "prepare": _instead("prepare", "none", "values in 0 to 1"),
    "initialise": _instead("initialise", "none", "PyTorch's own"),
    "normalise": _instead("normalise", "none", "no norm"),
    "activate": _instead("activate", "relu"),
    "regularise": _added("regularise"),
    "optimise": _optimiser,
    "schedule": _instead("schedule", "constant", "a constant LR"),
    "average": _added("average"),
    "combine": _added("combine"),
}
SPECIAL: dict[str, _Asked] = {
    "augment.alternating_flip": lambda name, recipe: ((f"augment={name},shift",), (), "flips at random"),
    "initialise.patch_whitening": _whitening,
    "activate.relu": _instead("activate", "tanh"),
    "regularise.l1": _penalty,
    "regularise.l2": _penalty,
    "regularise.elastic_net": _penalty,
    "schedule.warm_up": lambda name, recipe: ((f"schedule={name},cosine",), ("schedule=cosine",), "cosine"),
    "schedule.batch_scaling": _large_batches,
    "average.ema": _ema,
    "average.swa": _swa,
}  # fmt: skip


def pairs(recipe: Recipe, only: Sequence[str] = ()) -> list[tuple[str, Recipe, Recipe]]:
    """The name of each trick, the recipe with it and that without."""
    return [
        (one.trick, changed(recipe, one.added), changed(recipe, one.without))
        for one in questions(recipe, only)
    ]


def summary(
    outcomes: Sequence[Outcome],
    recipe: Recipe,
    only: Sequence[str] = (),
    step_times: Mapping[str, Mean | None] | None = None,
) -> list[Row]:
    """A row for each trick of which nets with and without it were trained with one seed at least."""
    labels = {one.recipe.hash(): one.label for one in contenders(recipe, only)}
    nets = {(outcome.label, outcome.seed): outcome for outcome in outcomes}
    seeds = sorted({outcome.seed for outcome in outcomes})
    rows: list[Row] = []
    for question in questions(recipe, only):
        names = [labels[changed(recipe, one).hash()] for one in (question.added, question.without)]
        pairs = [
            (nets[names[0], seed], nets[names[1], seed])
            for seed in seeds
            if all((name, seed) in nets for name in names)
        ]
        if pairs:
            rows.append(_row(question, pairs, (step_times or {}).get(question.trick)))
    return rows


def _row(question: Question, pairs: Sequence[tuple[Outcome, Outcome]], step_time: Mean | None) -> Row:
    added, without = ([pair[place].test.accuracy for pair in pairs] for place in (0, 1))
    return Row(
        question.trick,
        question.beside,
        question.claim,
        mean_of(added),
        mean_of(without),
        mean_of([a - b for a, b in zip(added, without, strict=True)]),
        step_time,
    )


def timed(ratio: Mean | None) -> str:
    """In words.

    >>> timed(Mean(5, 1.1, 0.02, 1.08, 1.12)), timed(None)
    ('x 1.10 (1.08 to 1.12)', '-')
    """
    if ratio is None or ratio.low is None or ratio.high is None:
        return "-"
    return f"x {ratio.mean:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _not(question: Question) -> str:
    return f"without {question.trick}"


def table(rows: Sequence[Row]) -> str:
    """The rows as text; gains in percentage points."""
    head = ("trick", "beside", "n", "accuracy", "gain, points", "95 % interval", "step time", "verdict")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        gain = row.gain
        interval = "-" if gain.low is None else f"{100 * gain.low:+.2f} to {100 * (gain.high or 0):+.2f}"
        lines.append(
            (
                row.trick,
                row.beside,
                str(gain.n),
                f"{row.accuracy.mean:.1%}",
                f"{100 * gain.mean:+.2f}",
                interval,
                timed(row.step_time),
                row.verdict,
            )
        )
    return columns(lines)
