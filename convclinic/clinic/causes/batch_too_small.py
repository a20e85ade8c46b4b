"""Batch too small: the gradient of a few images is mostly noise, and batch norm has little to norm by.

Looks at  images per update, batch norms, noise of the loss around its course, share of the floor learnt
Why       error of batch-normed nets rises steeply below 8 images (from 24 % to 35 % at 2 on ImageNet), so
          that two are a fault in any case, unless the norms are frozen in evaluation mode;
          without batch norm small batches cost nothing but noise, and count only where that hides all
          progress
Confused  with a learning rate that is too high for the batch (a larger batch cures both), with gradients
          that are gathered over several batches (their images are added up), with the small last batch of
          an epoch
Source    Wu and He, Group normalization, 2018, arXiv:1803.08494
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._trend import Course, course
from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("plateau", "predicts_one_class", "underfitting", "lr_too_high", "dead_relu", "wrong_mode")

SMALL, TINY = 4, 2  # images
LEAST, SETTLED = 20, 50  # steps
SOME, LITTLE = 0.4, 0.1  # of the floor learnt by then
NOISE = 0.15  # of the floor; healthy runs of 8 images had about 0.15 around their course, of 64 0.05


def judge(signals: Signals) -> Finding | None:
    c = course(signals)
    (size,) = signals.steps.known("size")
    if c is None or c.seen < LEAST or not len(size):
        return None
    images, normed = float(np.median(size)), _normed(signals)
    if images > SMALL:
        return None
    gathered = signals.observed / signals.updates if 0 < signals.updates < signals.observed else 1.0
    if not normed and images * gathered > SMALL:
        return None
    certainty = _harm(c, images, normed)
    return Finding(
        "batch_too_small",
        "warning" if certainty else "info",
        certainty or 0.4,
        evidence=(
            Evidence("images per batch", images, f"above {SMALL}" if normed else "32 or more"),
            Evidence(
                "noise of the loss, of the floor", round(c.noise / c.floor, 3), f"below {NOISE}", c.seen
            ),
            Evidence("share of the floor learnt", round(c.learnt, 3), f"above {SOME}", c.seen),
        ),
        remedies=(
            "run.batch_size=64",
            "gather the gradients of several batches before each update",
            "normalise=group_norm, which does not need other images",
            "optimise.lr divided by 3, where memory allows no larger batch",
        ),
        step=c.seen,
        reference="Wu and He, 2018, arXiv:1803.08494",
        summary=f"each update sees {images:.0f} image{'s' if images > 1 else ''}"
        + (", by which batch norm has to norm" if normed else f"; {c.learnt:.0%} of the floor learnt so far"),
    )


def _normed(signals: Signals) -> bool:
    """Whether batch norms take their statistics from the batch; frozen ones are in evaluation mode."""
    setup = signals.setup
    return setup is not None and 0 < setup.batch_norms > len(setup.modes)


def _harm(c: Course, images: float, normed: bool) -> float:
    """Confidence that it costs accuracy; 0 where that does not show."""
    noisy = c.noise > NOISE * c.floor
    if normed and images <= TINY:
        return 0.75
    if c.seen < SETTLED or not (noisy or (c.stuck and images <= TINY)):
        return 0.0
    if normed:
        return 0.65 if c.learnt < SOME else 0.0
    return 0.6 if images <= TINY and c.learnt < LITTLE else 0.0
