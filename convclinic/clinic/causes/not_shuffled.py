"""Training batches hold one class, or few classes, at a time: the data come sorted.

Looks at  probability that two labels of one batch agree, against that of two labels of different batches;
          share of batches of one class alone; how many images passed before a second class came
Why       both probabilities are equal for shuffled data, whatever the classes' shares; (within - across) /
          (1 - across) is 0 then and 1 for batches of one class. Six standard errors of chance and an effect
          of 0.4, as each update then forgets the other classes; stratified batches have less than 0
Confused  class_imbalance (the rare classes still come in between, at the same rate); overfitting and
          predicts_one_class, which it looks like from the curves; a single class seen because there is but
          one
Source    LeCun et al., Efficient BackProp, 1998, section 4.2; the effect is an intraclass correlation
"""

from __future__ import annotations

import math

import numpy as np

from convclinic.clinic.causes._readings import percent
from convclinic.clinic.signals import Labels, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = (
    "predicts_one_class",
    "class_imbalance",
    "overfitting",
    "plateau",
    "label_noise",
    "labels_shuffled",
    "lr_too_high",
    "exploding_gradient",
    "underfitting",
    "batch_too_small",
    "train_val_preprocessing_differ",
    "saturated_activation",
    "dead_relu",
    "vanishing_gradient",
    "over_regularised",
    "destructive_augmentation",
    "wrong_mode",
)
LEAST = 5  # batches
FEW, MANY = (
    100,
    256,
)  # images of one class alone that chance cannot explain: with five classes or more, and fewer
FEW_CLASSES = 5
SURE = 1000  # images
EFFECT, HINT = 0.4, 0.15  # of the whole way from shuffled to one class for each batch
ERRORS = 6.0  # standard errors, so that no healthy run in a million is caught


def judge(signals: Signals) -> Finding | None:
    labels, width = signals.labels, _classes(signals)
    counts = np.asarray(labels.counts, float)
    total = float(counts.sum())
    if labels.batches < LEAST or width < 2 or total < 2 * labels.batches:
        return None
    if int((counts > 0).sum()) == 1:
        return _one_class(signals, total, width)
    effect = (labels.within - labels.overall) / max(1e-9, 1 - labels.overall)
    if not effect >= HINT or labels.within - labels.overall < ERRORS * _error(labels, counts):
        return None
    return _finding(
        signals,
        effect >= EFFECT,
        min(0.97, 0.7 + 0.3 * effect),
        Evidence("two labels of one batch agree", labels.within, f"{labels.overall:.3g}, as across batches"),
        f"labels within a batch agree in {percent(labels.within)} of the cases, "
        f"across batches in {percent(labels.overall)}",
    )


def _classes(signals: Signals) -> int:
    outputs = signals.first.outputs
    return signals.classes or (outputs.width if outputs is not None else 0)


def _error(labels: Labels, counts: np.ndarray) -> float:
    """Standard error of `within` for shuffled labels: by the number of pairs, and by that of images."""
    shares = counts / counts.sum()
    same, triple = float((shares**2).sum()), float((shares**3).sum())
    size = counts.sum() / labels.batches
    pairs = labels.batches * size * (size - 1) / 2
    return math.sqrt(same * (1 - same) / pairs + 4 * max(0.0, triple - same**2) / counts.sum())


def _one_class(signals: Signals, images: float, width: int) -> Finding | None:
    if images < (FEW if width >= FEW_CLASSES else MANY):
        return None
    confidence = 0.95 if images >= SURE else 0.85
    text = (
        f"all {images:.0f} images of the first {signals.labels.batches} batches are of one of {width} classes"
    )
    return _finding(signals, True, confidence, Evidence("classes seen", 1.0, f"{width}"), text)


def _finding(signals: Signals, alarm: bool, confidence: float, evidence: Evidence, text: str) -> Finding:
    return Finding(
        cause="not_shuffled",
        severity="warning" if alarm else "info",
        confidence=confidence,
        where="training loader",
        evidence=(evidence, Evidence("share of batches of one class", signals.labels.single, "near 0")),
        ruled_out=("class_imbalance: classes come one after the other, not at different rates",)
        if alarm
        else (),
        remedies=(
            "shuffle=True in the DataLoader of the training set",
            "or shuffle the files' list once for all",
        ),
        step=signals.first.step,
        reference="LeCun et al., 1998, section 4.2",
        summary=text,
    )
