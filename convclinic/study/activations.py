"""The comparison of activations of Xu et al. (2015), on the user's data.

One net, one recipe and one number of steps for all; only the activation changes, with the gain that its
initialisation asks for. Every activation is trained with several seeds, and each net meets the test images
once. What is finished is kept in `study.json`: a study that was stopped goes on where it was.

Source    Xu et al., Empirical Evaluation of Rectified Activations in Convolution Network, 2015,
          arXiv:1505.00853, table 3: Network-in-Network, single view, no augmentation
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student

from convclinic import loop
from convclinic.data.dataset import Dataset
from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.files import read_json, write_json
from convclinic.ground.units import duration
from convclinic.planning.speed import measure
from convclinic.recipe import Recipe
from convclinic.slots import Input, Run
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

FEWEST_STEPS = 50
MEASURE_SECONDS = 2.0  # an activation, at most
MARGIN = 0.05  # of the budget is left for what cannot be foreseen
FILE = "study.json"


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
class Outcome:
    """One trained net: its test error in [0, 1] and the loss of its last steps on training batches."""

    label: str
    seed: int
    test_error: float
    training_loss: float
    seconds: float


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


def choose(labels: Sequence[str]) -> tuple[Compared, ...]:
    """The activations of these labels (their first word suffices); all where none is given."""
    if not labels:
        return COMPARED
    chosen: list[Compared] = []
    for label in labels:
        found = [
            one for one in COMPARED if label.lower() in (one.label.lower(), one.label.lower().split()[0])
        ]
        if not found:
            raise ConvclinicError(
                f"no activation '{label}' in the comparison",
                fix=nearest(label, [one.label for one in COMPARED]),
            )
        chosen += [one for one in found if one not in chosen]
    return tuple(chosen)


def steps_within(
    recipe: Recipe,
    data: Dataset,
    device: torch.device,
    compared: Sequence[Compared],
    n_seeds: int,
    seconds: float,
) -> int:
    """How many steps every net can have, so that all of them together take `seconds`.

    Raises ConvclinicError when that would be too few to tell anything.
    """
    begin = time.perf_counter()
    per_step, closing = 0.0, 0.0
    for one in compared:
        trial = dataclasses.replace(recipe, activate=one.choice)
        share = min(MEASURE_SECONDS, 0.02 * seconds / len(compared))
        speed = measure(trial, data, device, share)
        per_step += next(iter(speed.step.values()))
        closing += speed.start + speed.evaluate_image * (data.profile.n_test + data.profile.n_validation)
    left = seconds * (1 - MARGIN) - (time.perf_counter() - begin) - n_seeds * closing
    steps = int(left / (n_seeds * per_step))
    if steps < FEWEST_STEPS:
        need = (n_seeds * (FEWEST_STEPS * per_step + closing)) / (1 - MARGIN)
        raise ConvclinicError(
            f"{duration(seconds)} allow each of the {n_seeds * len(compared)} nets {max(0, steps)} steps",
            fix=f"give {duration(need * 1.1)}, fewer --seeds, or a smaller net such as --set net.width=0.25",
        )
    return steps


def compare(
    recipe: Recipe,
    data: Dataset,
    device: torch.device,
    compared: Sequence[Compared],
    n_seeds: int,
    folder: Path,
    steps: Callable[[], int],
) -> Iterator[tuple[Outcome, int, int]]:
    """Train what `folder` does not hold yet; yields each outcome with how many are done, and of how many.

    `steps()` is asked once, when the study is new. Raises ConvclinicError when `folder` holds another study.
    """
    identity = {"recipe": recipe.to_dict(), "data": data.source, "n_train": data.profile.n_train}
    path = folder / FILE
    kept: dict[str, Any]
    if path.exists():
        kept = read_json(path)
        if kept["identity"] != identity:
            raise ConvclinicError(f"{folder} holds a study of other settings", fix="give another --out")
    else:
        kept = {"identity": identity, "steps": steps(), "outcomes": []}
        write_json(path, kept)
    done = {(row["label"], row["seed"]): Outcome(**row) for row in kept["outcomes"]}
    wanted = [(one, seed) for seed in range(n_seeds) for one in compared]  # a stopped study is balanced
    for position, (one, seed) in enumerate(wanted, 1):
        if (one.label, seed) not in done:
            outcome = train(recipe, data, device, one, seed, kept["steps"])
            done[one.label, seed] = outcome
            kept["outcomes"].append(dataclasses.asdict(outcome))
            write_json(path, kept)
        yield done[one.label, seed], position, len(wanted)


def train(
    recipe: Recipe, data: Dataset, device: torch.device, one: Compared, seed: int, steps: int
) -> Outcome:
    """One net, from its first step to its test error."""
    begin = time.perf_counter()
    run = dataclasses.replace(recipe.run, steps=steps, evaluate_every=steps, patience=0)
    recipe = dataclasses.replace(recipe, seed=seed, activate=one.choice, run=run)
    state = loop.start(recipe, data, device)
    losses = [record.loss for record in loop.fit(recipe, data, state)]
    logits, labels = loop.split_logits(recipe, data, "test", state.judged, state.fitted, device)
    error = float((logits.argmax(1) != labels).float().mean())
    last = losses[-max(1, steps // 20) :]
    return Outcome(one.label, seed, error, statistics.mean(last), time.perf_counter() - begin)


def summary(compared: Sequence[Compared], outcomes: Sequence[Outcome]) -> list[Row]:
    """The table, in the order of `compared`; activations without outcomes are left out.

    >>> nets = [Outcome("ReLU", seed, error, 0.1, 1.0) for seed, error in enumerate((0.1, 0.2, 0.3))]
    >>> row = summary(COMPARED, nets)[0]
    >>> row.n, round(row.mean, 3), round(row.spread, 3), round(row.low, 3), round(row.high, 3)
    (3, 0.2, 0.1, -0.048, 0.448)
    """
    rows: list[Row] = []
    for one in compared:
        errors = [outcome.test_error for outcome in outcomes if outcome.label == one.label]
        if not errors:
            continue
        n, mean = len(errors), statistics.mean(errors)
        spread = statistics.stdev(errors) if n > 1 else None
        half = None if spread is None else float(student.ppf(0.975, n - 1)) * spread / n**0.5
        low, high = (None, None) if half is None else (mean - half, mean + half)
        rows.append(Row(one.label, n, mean, spread, low, high, one.cifar10, one.cifar100))
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
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
