"""Predicts one class: every image gets the same answer, though the labels differ.

Looks at  outputs of the first batch; share of the commonest prediction over the latest measured batches,
          entropy of the labels, loss
Why       a net that has learnt nothing answers with the commonest class; many healthy nets do so for some
          tens of steps, hence the wait. It is how other faults look from outside: named last, where none
          explains it. A net that begins with a loss of several times that of equal answers, and whose
          classes lie apart far more than its images do, has it from the head's bias: that is seen at once
Confused  with imbalanced labels, where one class is nearly always right; a head whose bias holds the
          classes' shares, which lowers the first loss; a trained net with a new task, whose answers differ
Source    Karpathy, A recipe for training neural networks, 2019
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._readings import chance_loss, learnt
from convclinic.clinic.causes._trend import commonest, course, latest
from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("plateau", "lr_too_low", "underfitting", "saturated_activation", "vanishing_gradient")

TOP = 0.97  # of the predictions
MIXED = 0.6  # share of the commonest label above which one answer is nearly right
LEAST, LONG = 50, 400  # steps: worth knowing, and longer than healthy sigmoid nets stay at the floor
SIZE = 8  # images of a batch; fewer agree by chance
WRONG = 3.0  # first loss over that of equal answers: sure of what is wrong
APART = 20.0  # spread over classes in that over images; fresh nets have 1 to 10


def judge(signals: Signals) -> Finding | None:
    return _from_the_start(signals) or _lately(signals)


def _from_the_start(signals: Signals) -> Finding | None:
    """A head whose bias decides alone."""
    outputs, losses, equal = signals.first.outputs, signals.first.losses, chance_loss(signals)
    if outputs is None or losses is None or not outputs.spread > APART * outputs.between:
        return None
    if not losses.cross_entropy > WRONG * equal or outputs.sums_to_one or learnt(signals):
        return None
    step = signals.first.step
    return Finding(
        "predicts_one_class",
        "warning",
        0.85,
        where="bias of the last layer",
        evidence=(
            Evidence("spread of the outputs over classes", outputs.spread, "near that over images", step),
            Evidence("spread of the outputs over images", outputs.between, "", step),
            Evidence("first loss over ln k", losses.cross_entropy / equal, "0.8 to 1.3", step),
        ),
        ruled_out=("lr_too_high: seen before the learning rate had a say",),
        remedies=("begin with a bias of 0 in the last layer, or of the logarithms of the classes' shares",),
        step=step,
        reference="Karpathy, 2019",
        summary=f"whatever the image, the net begins with the same answer: its classes lie "
        f"{outputs.spread:.3g} apart, its images {outputs.between:.2g}",
    )


def _lately(signals: Signals) -> Finding | None:
    c = course(signals)
    top, size = signals.steps.known("top", "size")
    if c is None or c.seen < LEAST or len(top) < 10 or float(np.median(size)) < SIZE:
        return None
    share = float(np.median(latest(top)))
    if share < TOP or not c.stuck or not commonest(signals) < MIXED:
        return None
    warn = c.seen >= LONG
    return Finding(
        "predicts_one_class",
        "warning" if warn else "info",
        0.55 if warn else 0.3,
        evidence=(
            Evidence("share of the commonest prediction", round(share, 3), f"below {TOP}", c.seen),
            Evidence("share of the commonest label", round(commonest(signals), 3), f"below {MIXED}"),
        ),
        remedies=(
            "fit one batch first: a net that cannot has a fault of its own",
            "optimise.lr times and by 10",
        ),
        step=c.seen,
        reference="Karpathy, 2019",
        summary=f"{share:.0%} of the images of a batch get the same answer after {c.seen} steps",
    )
