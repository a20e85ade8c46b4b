"""Label noise: a large part of the labels is wrong at random.

Looks at  which wrong answers the net gives on the latest training batches, and whether it still gets
          better
Why       honest mistakes have structure: shirts are taken for coats and never for shoes. Where labels are
          drawn at random, all wrong pairs are equally frequent beyond what each class's frequency makes of
          it. The excess variance of the pairs was 0.05 to 0.2 with half of the labels wrong, and 0.4 to
          2.5 on clean ones, at equal accuracy
Confused  with mixed images and softened labels (left aside: there the label is not the whole truth), with
          early training of classes that are alike to each other (the accuracy still rises), with shuffled
          labels (the accuracy stays at chance)
Source    Northcutt et al., Confident learning, 2021, arXiv:1911.00068; Arpit et al., 2017,
          arXiv:1706.05394
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from convclinic.clinic.causes._trend import SAME, Course, course, drops, trend
from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("underfitting", "plateau", "overfitting", "batch_too_small")

CLASSES = 5  # fewer have too few pairs
ERRORS = 3  # per pair of classes; fewer leave chance too much room
LEAST, SETTLED = 40, 150  # steps: at all, and where the net alone is asked
STRUCTURE = 0.25  # excess variance of wrong pairs, relative to their mean squared
LOW, HIGH = 0.25, 0.9  # accuracy: below, nothing is known yet; above, too few errors to judge
ABOVE = 2.0  # times chance
RISING = 0.08  # accuracy that as many steps again would gain: it is still getting better
NEAREST = 0.62  # what the nearest neighbour gains over chance, of what a linear probe gains: noise spoils the
# neighbour's label too. 0.51 to 0.56 with half of the labels wrong, 0.71 and above on clean ones
SLACK = 0.15  # for neighbours that are both wrong and agree by chance
GAP = 0.1  # validation above training: its labels are clean, the training's are not


def judge(signals: Signals) -> Finding | None:
    c, table = course(signals), signals.labels.confusion
    if c is None or len(table) < CLASSES or c.seen < LEAST or _softened(signals):
        return None
    accuracy = float(np.trace(table) / max(1, table.sum()))
    if not max(LOW, ABOVE * c.chance) < accuracy < HIGH:
        return None
    structure = excess(table)
    if not structure < STRUCTURE:
        return None
    if _neighbours_agree(signals, accuracy):
        return None
    late = c.seen >= SETTLED and (not _rises(signals, c) or _validates_better(signals))
    settled = late or _neighbours_disagree(signals)
    wrong = float(np.clip(1 - accuracy, 0, 1))
    return Finding(
        "label_noise",
        "warning" if settled else "info",
        0.7 if settled else 0.4,
        where="labels",
        evidence=(
            Evidence(
                "excess variance of the pairs of wrong answers", round(structure, 3), f"above {STRUCTURE}"
            ),
            Evidence("training accuracy", round(accuracy, 3), "still rising, or near 1", c.seen),
        ),
        ruled_out=(
            "labels_shuffled: the net does better than chance",
            "a hard problem: its errors have structure",
        ),
        remedies=(
            "look at the images that the net is least sure of beside their labels, out of fold",
            "regularise=label_smoothing",
            "stop early: what is learnt late are the wrong labels",
        ),
        step=c.seen,
        reference="Northcutt et al., 2021, arXiv:1911.00068",
        summary=f"{wrong:.0%} of the training answers are wrong, all pairs of classes about equally often: "
        "labels drawn at random look like this",
    )


def excess(table: NDArray[np.int64]) -> float:
    """Variance of the wrong pairs beyond chance, rows and columns, and one standard error of it, over their
    mean squared.

    NaN where there are too few errors.
    """
    k = len(table)
    off = ~np.eye(k, dtype=bool)
    errors = table * off.astype(float)
    pairs = (k - 1) ** 2 - k  # degrees of freedom of independence without the diagonal
    mean = errors.sum() / off.sum()
    if mean < ERRORS or not (errors.sum(1) > 0).all():
        return float("nan")
    rows, columns = np.ones(k), np.ones(k)
    for _ in range(30):
        rows *= errors.sum(1) / np.maximum((off * columns).sum(1) * rows, 1e-9)
        columns *= errors.sum(0) / np.maximum((off * rows[:, None]).sum(0) * columns, 1e-9)
    expected = np.outer(rows, columns)
    apart = ((errors - expected) ** 2 / np.maximum(expected, 0.3))[off].sum() / pairs
    return float((apart - 1 + math.sqrt(2 / pairs)) / mean)


def _softened(signals: Signals) -> bool:
    """Whether the loss is not plain cross-entropy of these labels: smoothing, mixing or weights."""
    targets = signals.first.targets
    if targets is not None and targets.kind in ("soft", "multi"):
        return True
    loss, entropy = signals.steps.known("loss", "cross_entropy")
    return not len(loss) or float(np.median(np.abs(loss - entropy) / np.maximum(entropy, 1e-6))) > SAME


def _rises(signals: Signals, c: Course) -> bool:
    step, accuracy = signals.steps.known("step", "accuracy")
    half = len(step) // 2
    slope, error = trend(step[half:], accuracy[half:])
    return not (slope - error) * c.seen < RISING


def _validates_better(signals: Signals) -> bool:
    if not signals.epochs:
        return False
    last = signals.epochs[-1]
    if last.train_accuracy is None or last.val_accuracy is None:
        return False
    return last.val_accuracy > last.train_accuracy + GAP and not drops(signals)


def _neighbours_agree(signals: Signals, accuracy: float) -> bool:
    """Whether two images that look alike have the same label more often than they could with noise.

    Where a share a of the labels is right, that is a squared and a little; a is at least what was reached.
    """
    probe = signals.data_probe
    return probe is not None and probe.nearest > max(accuracy, probe.accuracy) ** 2 + SLACK


def _neighbours_disagree(signals: Signals) -> bool:
    """Whether single labels are worth much less than many together, as the data probe can tell."""
    probe = signals.data_probe
    if probe is None or probe.accuracy < probe.chance + 3 * probe.noise:
        return False
    return probe.nearest - probe.chance < NEAREST * (probe.accuracy - probe.chance)
