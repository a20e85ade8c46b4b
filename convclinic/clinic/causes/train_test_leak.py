"""Leak: images that the net trains on are among those it is validated on, so the accuracy is flattering.

Looks at  how many of the images that went through the net without gradients equal a training image, pixel
          by pixel; images of one colour do not count
Why       exact copies need no threshold but one for what occurs by itself: public sets hold up to about one
          in a hundred (CIFAR-10: 3.3 % near copies, few exact ones). A high accuracy is no sign of it
Confused  measuring the accuracy on training images on purpose: such batches are not counted. Where training
          images are augmented, those that happened to stay as they are look like a leak of a part: worth
          knowing only, if so many images were evaluated that the training set may be among them
Source    Barz and Denzler, Do we train on test data?, 2020, arXiv:1902.00423; Kaufman et al., 2012
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.signals import Signals
from convclinic.ground.stats import wilson
from convclinic.kinds import Evidence, Finding

EXPLAINS = ()
SHARE = 0.02  # of the compared images; twice the exact copies that careful sets hold
WORTH_KNOWING = 0.005
ALL = 0.95  # of the compared images: then validation is nothing but the training set
COMPARED, COPIES = 50, 5  # images compared and copies found, at least


def judge(signals: Signals) -> Finding | None:
    seen = signals.evaluations
    copies = round(seen.repeats * seen.compared)
    if seen.compared < COMPARED or copies < COPIES or seen.repeats < WORTH_KNOWING:
        return None
    low, _ = wilson(copies, seen.compared)
    clear = seen.repeats > SHARE and low > SHARE / 2 and not _training_set_as_well(signals)
    return Finding(
        "train_test_leak",
        "warning" if clear else "info",
        0.95 if clear else 0.7,
        where="validation images",
        evidence=(Evidence("validation images that are training images", seen.repeats, "below 0.02"),),
        remedies=(
            "split before anything else, by file or by subject, and remove copies",
            "make sure that validation does not read the training set",
        ),
        step=seen.since,
        reference="Barz and Denzler, 2020, arXiv:1902.00423",
        summary=f"{copies} of {seen.compared} validation images were trained on: the accuracy is flattering",
    )


def _training_set_as_well(signals: Signals) -> bool:
    """Whether a pass over the training images may be among those of an evaluation."""
    size = signals.steps.size[np.isfinite(signals.steps.size)]
    if signals.evaluations.repeats >= ALL or not signals.epochs or not len(size) or not signals.validation:
        return False
    return signals.validation >= 0.9 * signals.epochs[0].step * float(np.median(size))
