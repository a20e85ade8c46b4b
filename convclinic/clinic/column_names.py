"""What the columns of other people's metrics mean, from their names.

>>> meaning("valid/Top1"), meaning("train_loss_step").grain
(Meaning(side='val', what='accuracy', grain='', extra=0), 'step')
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

What: TypeAlias = Literal["loss", "accuracy", "error", "lr", "epoch", "step", "grad_norm"]
Side: TypeAlias = Literal["train", "val", "test", ""]
Grain: TypeAlias = Literal["step", "epoch", ""]

SIDES: dict[str, Side] = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev", "holdout", "vl"), "val"),
    "test": "test",
}
LOSS = {"loss", "losses", "nll", "ce", "xent", "crossentropy"}
ACCURACY = {"acc", "accuracy", "accuracies", "top1", "acc1", "prec1", "acc@1", "top@1", "precision@1"}
ERROR = {"err", "error", "err1", "error@1"}
# part of the usual names without changing what they mean
CUSTOMS = {
    "epoch",
    "step",
    "batch",
    "mean",
    "avg",
    "average",
    "running",
    "global",
    "metrics",
    "rate",
    "top",
    "1",
}
KINDS = {"categorical", "sparse", "multiclass", "cross", "entropy"}
METRIC = CUSTOMS | KINDS | LOSS | ACCURACY | ERROR | set(SIDES)
# another quantity of a similar name
RANKS = {"top5", "acc5", "prec5", "err5", "acc@5", "top@5", "top3", "top2", "5", "3"}
TIMES = {"time", "runtime", "seconds", "second", "per"}
OTHERS = RANKS | TIMES | {"balanced", "class", "classes", "f1", "auc", "best", "std", "min", "max", "ema"}
COUNTERS = {"global", "trainer", "train", "optimizer", "num", "current", "total", "n", "idx", "number", "at"}
STEPS = {"step", "steps", "iteration", "iterations", "iter", "iters", "it", "update", "updates"}
EPOCHS = {"epoch", "epochs"}
RATE = {"lr", "learning", "rate", "learningrate"}


@dataclass(frozen=True)
class Meaning:
    """side is empty where the name does not say; extra counts words that say something else besides."""

    side: Side
    what: What
    grain: Grain = ""
    extra: int = 0


def words(name: str) -> list[str]:
    """The words of a name: camel case and all separators taken apart.

    >>> words("valAcc@1/epoch_0")
    ['val', 'acc@1', 'epoch', '0']
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return [word for word in re.split(r"[^a-z0-9@]+", apart) if word]


def meaning(name: str) -> Meaning | None:
    """What a column holds; None where it is nothing that is needed here."""
    found = words(name)
    own = set(found)
    if not own:
        return None
    for counted, what in ((STEPS, "step"), (EPOCHS, "epoch")):
        if own & counted and own <= counted | COUNTERS:
            return Meaning("", what)  # pyright: ignore[reportArgumentType]
    if "lr" in own or {"learning", "rate"} <= own or "learningrate" in own:
        return Meaning("", "lr", extra=len(own - RATE - set(SIDES)))
    if "gnorm" in own or "gradnorm" in own or {"grad", "norm"} <= own or {"gradient", "norm"} <= own:
        return Meaning("", "grad_norm", extra=len(own) - 2)
    if own & OTHERS:
        return None
    what = _metric(own)
    if what is None:
        return None
    sides: list[Side] = [SIDES[word] for word in found if word in SIDES]
    grain: Grain = "step" if own & {"step", "batch"} else "epoch" if "epoch" in own else ""
    return Meaning(sides[0] if sides else "", what, grain, len(own - METRIC))


def _metric(own: set[str]) -> What | None:
    if own & LOSS or {"cross", "entropy"} <= own:
        return "loss"
    if own & ACCURACY or {"top", "1"} <= own:
        return "accuracy"
    return "error" if own & ERROR else None
