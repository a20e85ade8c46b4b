"""Rules about the start, the LR and the length of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from convclinic.checks.facts import GRID, Facts, listed, on
from convclinic.checks.nets import BATCH_NORM
from convclinic.checks.optimizers import judged_lr, slopes_decayed
from convclinic.kinds import Evidence, Finding
from convclinic.slots import name_of

FALLEN = 0.1  # share of its peak at the end of training below which an LR counts as fallen
HALVED = 0.5
FEW = 8  # images from which batch norm's statistics are too noisy
ALIKE = ("zero", "constant")


def lr_out_of_range(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """The highest LR of the run against what its optimiser is used with."""
    factor = max(recipe.lr_factor(progress) for progress in GRID)
    if factor > 0:
        peak = recipe.optimise.lr * factor
        yield from judged_lr(name_of(recipe.optimise), peak, "optimise.lr", recipe.run.batch_size, factor)


def two_hands_on_the_lr(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Reduce on plateau beside a schedule that falls anyway."""
    falling = [trick for trick in on(recipe.schedule) if _left(trick.factor) < HALVED]
    if falling and on(recipe.schedule, "plateau"):
        names = [name_of(trick) for trick in falling]
        yield Finding(
            "tricks_clash",
            "warning",
            where="schedule",
            summary=f"plateau and {listed(names)} both lower the LR, and their factors are multiplied",
            evidence=(Evidence("LR at the end over its peak, without plateau", _left_of(falling), "1"),),
            remedies=("schedule without plateau", f"schedule without {listed(names)}"),
            reference="Wei, 2015, section 4",
        )


def _left(factor: Any) -> float:
    """What is left of a factor's peak at the end of training."""
    peak = max(factor(progress) for progress in GRID)
    return factor(1.0) / peak if peak > 0 else 1.0


def _left_of(tricks: list[Any]) -> float:
    product = 1.0
    for trick in tricks:
        product *= _left(trick.factor)
    return round(product, 4)


def stops_too_early(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Early stopping where the gain of a low LR is still to come."""
    patience = recipe.run.patience
    if not patience:
        return
    left = _left(recipe.lr_factor)
    slower = [trick for trick in on(recipe.schedule, "plateau") if trick.patience >= patience]
    if left < FALLEN or slower:
        expected = f"above {slower[0].patience}, plateau's own" if slower else "0"
        yield Finding(
            "early_stopping_before_the_lr_falls",
            "warning",
            where="run.patience",
            summary="plateau waits as long as early stopping, so the LR never falls"
            if slower
            else "the schedule ends at a small LR, where most of the gain comes",
            evidence=(Evidence("run.patience", patience, expected),),
            remedies=("run.patience=0",),
            reference="Li, Wei and Ma, 2019, arXiv:1907.04595",
        )


def small_batches(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Batch norm in batches that say too little about a mean and a variance."""
    size = min(recipe.run.batch_size, facts.n_train or recipe.run.batch_size)
    modules = () if facts.net is None else facts.net.modules()
    normed = name_of(recipe.normalise) == "batch_norm" or any(isinstance(m, BATCH_NORM) for m in modules)
    if normed and size < FEW and not on(recipe.transfer, "frozen_norm"):
        yield Finding(
            "batch_too_small",
            "warning",
            where="run.batch_size",
            summary=f"batch norm estimates its statistics from {size} images at a time",
            evidence=(Evidence("images in a batch", size, f"{FEW} or more"),),
            remedies=("run.batch_size=32", "normalise=group_norm"),
            reference="Wu and He, 2018, arXiv:1803.08494, figure 1",
        )


def average_never_begins(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """An average of weights from a step on that training does not reach."""
    for trick in on([recipe.average] if recipe.average is not None else [], "swa"):
        if trick.after >= recipe.total_steps:
            begin = 3 * recipe.total_steps // 4
            yield Finding(
                "average_never_begins",
                "warning",
                where="average.after",
                summary=f"swa averages from step {trick.after} on, and training ends at {recipe.total_steps}",
                evidence=(Evidence("average.after", trick.after, f"such as {begin}"),),
                remedies=(f"average.after={begin}",),
                reference="Izmailov et al., 2018, arXiv:1803.05407",
            )


def snapshots_off_the_cycles(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Snapshots between the ends of cycles, where the LR is high."""
    wanted = recipe.run.snapshots
    for trick in on(recipe.schedule, "cyclic_cosine") if wanted else ():
        if trick.cycles % wanted:
            yield Finding(
                "snapshots_off_the_cycles",
                "warning",
                where="run.snapshots",
                summary=f"of {wanted} snapshots some lie between the ends of the {trick.cycles} cycles, "
                "where the LR is high",
                evidence=(Evidence("run.snapshots", wanted, str(trick.cycles)),),
                remedies=(f"run.snapshots={trick.cycles}",),
                reference="Huang et al., 2017, arXiv:1704.00109",
            )


def symmetric_start(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Units that start alike get the same gradient and stay alike, unless an initialiser after it differs."""
    setting = [name for name in map(name_of, recipe.initialise) if name != "patch_whitening"]
    loaded = on(recipe.transfer, "pretrained")  # then the head alone is set, and one layer may start at zero
    if setting and setting[-1] in ALIKE and not loaded:
        yield Finding(
            "symmetric_init",
            "critical",
            where="initialise",
            summary=f"{setting[-1]} starts all units of a layer alike, and with one gradient they stay so",
            evidence=(Evidence("last initialiser of all layers", setting[-1], "a random one, such as he"),),
            remedies=("initialise=he",),
            reference="Wei, 2015, section 3",
        )


def slopes_penalised(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """A penalty on everything, in a net whose activations learn their slopes."""
    modules = () if facts.net is None else facts.net.modules()
    if name_of(recipe.activate) == "prelu" or any(isinstance(module, nn.PReLU) for module in modules):
        for trick in on(recipe.regularise, "l1", "l2", "elastic_net"):
            if trick.everything:
                name = name_of(trick)
                yield slopes_decayed(f"regularise.{name}.everything", f"{name} of everything")


RULES = (
    lr_out_of_range,
    two_hands_on_the_lr,
    stops_too_early,
    small_batches,
    average_never_begins,
    snapshots_off_the_cycles,
    symmetric_start,
    slopes_penalised,
)
