"""The comparison of activations of Xu et al. (2015), on the user's data.

One net, one recipe and one number of steps for all; only the activation changes, with the gain that its
initialisation asks for. Every activation is trained with several seeds, and each net meets the test images
once.

Source    Xu et al., Empirical Evaluation of Rectified Activations in Convolution Network, 2015,
          arXiv:1505.00853, table 3: Network-in-Network, single view, no augmentation
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convclinic.recipe import Recipe
from convclinic.slots import Input, Run
from convclinic.study.comparing import Contender, Outcome, choose, columns, mean_of
from convclinic.tricks.activate.elu import ELU
from convclinic.tricks.activate.leaky_relu import LeakyReLU
from convclinic.tricks.activate.maxout import Maxout
from convclinic.tricks.activate.prelu import PReLU
from convclinic.tricks.activate.relu import ReLU
from convclinic.tricks.activate.rrelu import RReLU
from convclinic.tricks.activate.sigmoid import Sigmoid
from convclinic.tricks.activate.tanh import Tanh
from convclinic.tricks.initialise.he import He
from convclinic.tricks.optimise.adamw import AdamW
from convclinic.tricks.schedule.one_cycle import OneCycle


@dataclass(frozen=True)
class Compared:
    """An activation of the table, and the test errors of Xu et al. where they have it."""

    label: str
    choice: Any
    cifar10: float | None = None
    cifar100: float | None = None


COMPARED = (
    Compared("ReLU", ReLU(), 0.1245, 0.429),
    Compared("leaky (a = 100)", LeakyReLU(slope=0.01), 0.1266, 0.4205),
    Compared("leaky (a = 5.5)", LeakyReLU(slope=1 / 5.5), 0.1120, 0.4042),
    Compared("PReLU", PReLU(), 0.1179, 0.4163),
    Compared("RReLU", RReLU(), 0.1119, 0.4025),
    Compared("ELU", ELU()),
    Compared("maxout", Maxout()),
    Compared("tanh", Tanh()),
    Compared("sigmoid", Sigmoid()),
)


@dataclass(frozen=True)
class Row:
    """A line of the table: test errors over the seeds. The interval is Student's, at 95 %, of the mean."""

    label: str
    n: int
    mean: float
    spread: float | None
    low: float | None
    high: float | None
    cifar10: float | None
    cifar100: float | None


def base_recipe(shape: Input, net: Any, precision: str, settings: Sequence[str] = ()) -> Recipe:
    """What all activations share: no augmentation, as in the source, and AdamW, which forgives an LR that
    suits one of them better than another."""
    recipe = Recipe(
        data=shape,
        net=net,
        initialise=(He(),),
        augment=(),
        optimise=AdamW(),
        schedule=(OneCycle(),),
        run=Run(batch_size=128, precision=precision),
    )
    return recipe.override(settings)


def contenders(recipe: Recipe, only: Sequence[str] = ()) -> list[Contender]:
    """The recipe with each of the activations asked for (their first word suffices); all where none is."""
    labels = choose(only, [one.label for one in COMPARED], "activation")
    return [
        Contender(one.label, dataclasses.replace(recipe, activate=one.choice))
        for one in COMPARED
        if one.label in labels
    ]


def summary(outcomes: Sequence[Outcome]) -> list[Row]:
    """The table, in the order of `COMPARED`; activations without outcomes are left out."""
    rows: list[Row] = []
    for one in COMPARED:
        errors = [1 - outcome.test.accuracy for outcome in outcomes if outcome.label == one.label]
        if errors:
            of = mean_of(errors)
            interval = (of.spread, of.low, of.high)
            rows.append(Row(one.label, of.n, of.mean, *interval, one.cifar10, one.cifar100))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as text, with the figures of Xu et al. beside them."""

    def number(value: float | None, digits: int = 4) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    head = ("activation", "n", "test error", "sd", "95 % interval", "Xu: CIFAR-10", "Xu: CIFAR-100")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        interval = "-" if row.low is None else f"{number(row.low)} to {number(row.high)}"
        figures = (number(row.mean), number(row.spread), interval, number(row.cifar10), number(row.cifar100))
        lines.append((row.label, str(row.n), *figures))
    return columns(lines)
