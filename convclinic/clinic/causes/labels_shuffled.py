"""Labels shuffled: the labels belong to other images, so there is nothing to learn.

Looks at  a linear probe and nearest neighbours on thumbnails of the training images, cross-validated,
          beside chance; accuracy of the net, and of the validation
Why       thumbnails of any usual data tell far more than chance about true labels: on 1,500 photographs of
          ten classes the probe lies twenty standard errors above it, with half of the labels wrong still
          seven. Both the probe and the net must be at chance, or the net's validation where it has begun to
          learn training images by heart; a net alone has many other reasons
Confused  with every fault that keeps the net at its floor (the probe does not use the net), with constant
          inputs (left aside), with data that is hard for a linear probe (a net that learns anything ends
          the suspicion)
Source    Zhang et al., Understanding deep learning requires rethinking generalization, 2017,
          arXiv:1611.03530
"""

from __future__ import annotations

import math

import numpy as np

from convclinic.clinic.causes._trend import Course, course
from convclinic.clinic.signals import DataProbe, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("plateau", "predicts_one_class", "underfitting", "overfitting", "label_noise")

LEAST, BY_HEART = 48, 100  # steps; and where training images are learnt
SEEN = 1000  # images probed from which the verdict is as certain as it gets
BEYOND = 1.5  # times two standard errors above chance: more than chance
COPIES = 0.5  # of the first batch's images that are flat or copies: the inputs are the fault


def judge(signals: Signals) -> Finding | None:
    probe, c = signals.data_probe, course(signals)
    if probe is None or c is None or c.seen < LEAST or _empty(signals) or not _at_chance(signals, probe):
        return None
    heart = not c.stuck and _by_heart(signals, probe)
    if not (c.stuck or heart) or (
        signals.first.targets is not None and signals.first.targets.kind == "multi"
    ):
        return None
    return _finding(signals, probe, c, heart)


def _empty(signals: Signals) -> bool:
    first = signals.first.inputs
    return first is not None and (first.flat > COPIES or first.distinct < COPIES or not first.std > 0)


def _at_chance(signals: Signals, probe: DataProbe) -> bool:
    counts = np.asarray(signals.labels.counts, float)
    if (counts > 0).sum() < 2:
        return False
    agree = float(((counts / counts.sum()) ** 2).sum())
    margin = BEYOND * probe.noise
    return probe.accuracy <= probe.chance + margin and probe.nearest <= agree + margin


def _by_heart(signals: Signals, probe: DataProbe) -> bool:
    """Whether something is learnt of the training images, and nothing of it holds for others."""
    if not signals.epochs or not signals.validation or signals.observed < BY_HEART:
        return False
    last = signals.epochs[-1]
    if last.val_accuracy is None:
        return False
    margin = 3 * math.sqrt(probe.chance * (1 - probe.chance) / signals.validation)
    return last.val_accuracy < probe.chance + margin


def _finding(signals: Signals, probe: DataProbe, c: Course, heart: bool) -> Finding:
    sure = probe.images >= SEEN
    fitted = signals.preflight.one_batch if signals.preflight else None
    ruled_out = ["dead or slow nets: the probe learns nothing either, without the net"]
    if fitted is not None and fitted.accuracy > 0.9:
        ruled_out.append(f"the net: it fits {fitted.images} images in {fitted.steps} steps")
    return Finding(
        "labels_shuffled",
        "warning",
        (0.9 if heart or c.seen >= 200 else 0.8) if sure else 0.65,
        where="labels",
        evidence=(
            Evidence(
                "accuracy of a linear probe", round(probe.accuracy, 3), f"above chance, {probe.chance:.3f}"
            ),
            Evidence("nearest image has the same label", round(probe.nearest, 3), "above chance"),
            Evidence("training accuracy", round(c.accuracy, 3), f"above chance, {c.chance:.3f}", c.seen),
        ),
        ruled_out=tuple(ruled_out),
        remedies=(
            "look at twenty images beside their labels",
            "shuffle and filter images and labels by one and the same index",
        ),
        step=c.seen,
        reference="Zhang et al., 2017, arXiv:1611.03530",
        summary=f"neither the net nor a linear probe on {probe.images} training images beats chance "
        f"({probe.accuracy:.1%} where chance is {probe.chance:.1%})"
        + ("; the training images are learnt by heart, the validation is at chance" if heart else ""),
    )
