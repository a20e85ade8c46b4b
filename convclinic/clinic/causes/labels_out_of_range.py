"""A label is no number of one of the net's outputs, or a target row is no distribution over them.

Looks at  smallest and largest target of the first batch and of all so far, how many outputs the net has,
          the number of classes, what the loss raised in preflight
Why       classes count from 0; a label k needs k + 1 outputs. PyTorch's cross-entropy raises for it,
          indexing by hand takes another class in silence for negative ones
Confused  a loss's ignore_index, which is allowed to lie outside; one output for two classes
Source    PyTorch documentation of CrossEntropyLoss, 2026; UMLAUT, 2021 (checks on labels)
"""

from __future__ import annotations

from convclinic.clinic.signals import Outputs, Signals, Targets
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = (
    "non_finite",
    "plateau",
    "predicts_one_class",
    "label_noise",
    "labels_shuffled",
    "exploding_gradient",
    "lr_too_high",
    "wrong_loss_pairing",
    "underfitting",
    "class_imbalance",
    "overfitting",
    "train_val_preprocessing_differ",
)
ROUNDING = 1e-3
IGNORED = 0.2  # share of a batch of whole images; pixels of one image are ignored more often
WORDS = (
    "labels run from",
    "out of bounds",
    "out of range",
    "class values",
    "assert",
)  # of errors about labels
ROWS = ("crossentropy", "bcewithlogits", "bce", "nll")  # losses that take rows of probabilities


def judge(signals: Signals) -> Finding | None:
    targets, outputs = signals.first.targets, signals.first.outputs
    if targets is None:
        return None
    if targets.kind == "classes":
        return _classes(signals, targets, outputs)
    name = signals.first.losses.name if signals.first.losses is not None else ""
    outside = targets.high > 1 + ROUNDING or targets.low < -ROUNDING
    if targets.kind == "other" and outside and name.lower().replace("_", "").removesuffix("loss") in ROWS:
        text = f"target rows go from {targets.low:.3g} to {targets.high:.3g} and are no probabilities"
        return _finding(
            signals, "warning", 0.85, "targets", f"{targets.low:.3g} to {targets.high:.3g}", "0 to 1", text
        )
    return None


def _classes(signals: Signals, targets: Targets, outputs: Outputs | None) -> Finding | None:
    width = outputs.width if outputs is not None else (signals.classes or 0)
    raised = _raised(signals)
    if targets.low < 0 and not targets.ignored:
        text = f"the smallest label is {targets.low:g}; classes count from 0"
        severity = "critical" if raised else "warning"
        return _finding(signals, severity, 0.97, "smallest label", targets.low, "0 or more", text)
    if width > 1 and targets.high >= width:
        text = f"the largest label is {targets.high:g}, but the net has {width} outputs"
        severity = "critical" if raised else "warning"
        return _finding(signals, severity, 0.97, "largest label", targets.high, f"below {width}", text)
    highest = max(targets.high, _highest(signals, width))
    if signals.classes and signals.classes > 1 and highest >= signals.classes:
        text = f"the largest label is {highest:g}, but {signals.classes} classes count from 0"
        sure = 0.9 if _from_one(signals) else 0.8
        return _finding(signals, "warning", sure, "largest label", highest, f"below {signals.classes}", text)
    size = signals.first.inputs.shape[0] if signals.first.inputs is not None else 0
    if size and size >= targets.ignored > IGNORED * size:
        share = targets.ignored / size
        text = (
            f"{targets.ignored} of {size} labels are the loss's ignore_index, so nothing is learnt from them"
        )
        return _finding(signals, "warning", 0.9, "share of ignored labels", share, "near 0", text)
    return None


def _highest(signals: Signals, width: int) -> int:
    """The largest label of all so far that has an output of its own; -1 where there is none."""
    return max((k for k, count in enumerate(signals.labels.counts[:width]) if count), default=-1)


def _from_one(signals: Signals) -> bool:
    """Whether class 0 never came while one beyond the last did: the labels count from 1."""
    counts = signals.labels.counts
    return len(counts) > (signals.classes or 0) > 1 and counts[0] == 0 < counts[-1]


def _raised(signals: Signals) -> bool:
    error = signals.preflight.error.lower() if signals.preflight is not None else ""
    return any(word in error for word in WORDS)


def _finding(
    signals: Signals,
    severity: Severity,
    confidence: float,
    signal: str,
    value: float | str,
    expected: str,
    text: str,
) -> Finding:
    return Finding(
        cause="labels_out_of_range",
        severity=severity,
        confidence=confidence,
        where="targets",
        evidence=(Evidence(signal, value, expected, signals.first.step),),
        remedies=("number the classes from 0 and give the net one output for each",),
        step=signals.first.step,
        reference="PyTorch documentation of CrossEntropyLoss",
        summary=text,
    )
