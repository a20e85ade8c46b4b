"""Training maximises the loss: its sign is wrong, or the optimizer was told to maximise.

Looks at  the loop's loss against minus the cross-entropy of the same logits; `maximize` of the optimizer;
          how the cross-entropy goes from the first step on; sizes of the first updates
Why       a cross-entropy is never negative, so agreement with its negative at every measured step leaves no
          doubt. Where the loss looks right, it must rise from the very first steps under updates too small
          (1 % of the weights) to overshoot
Confused  lr_too_high (updates are large from the start, and the loss falls or jumps before it rises);
          wrong_loss_pairing (minus a raw logit is negative too, but is not minus the cross-entropy); a loop
          that only logs the negative: there the cross-entropy falls
Source    PyTorch documentation of torch.optim (maximize); the test is ours
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._readings import against_cross_entropy, agreement
from convclinic.clinic.signals import Floats, Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = (
    "lr_too_high",
    "exploding_gradient",
    "non_finite",
    "plateau",
    "predicts_one_class",
    "dead_relu",
    "saturated_activation",
    "labels_shuffled",
    "label_noise",
    "wrong_loss_pairing",
    "underfitting",
    "overfitting",
)
AGREES = 0.9  # share of measured steps
LEAST = 3  # measured steps that show whether training goes down or up
FALLEN = 0.9  # cross-entropy now over that at the start: it falls, so only what is logged is negative
RISEN = 1.3
LARGE = 0.01  # updates over weights from which an overshoot explains a rising loss
EARLY = 8  # steps
ORDERED = 0.85  # share of successive differences, smoothed, that go up


def judge(signals: Signals) -> Finding | None:
    step, loss, entropy, _ = against_cross_entropy(signals)
    groups = signals.setup.groups if signals.setup is not None else ()
    maximize = bool(groups) and all(group.maximize for group in groups)
    if not len(loss) or not entropy[0] > 0.05:
        return None
    change = float(np.median(entropy[-LEAST:])) / float(entropy[0]) if len(entropy) > LEAST else np.nan
    if change < FALLEN:
        return None
    negative, same = agreement(loss, -entropy) >= AGREES, agreement(loss, entropy) >= AGREES
    if negative and not maximize:
        text = "the loss is minus the cross-entropy, so training makes the answers worse"
        return _finding(signals, change, 0.97, text, float(loss[0]), float(entropy[0]))
    if maximize and (same or (not negative and change > RISEN)):
        text = "the optimizer maximises a loss that is to be minimised"
        return _finding(signals, change, 0.95, text, float(loss[0]), float(entropy[0]))
    if same and _climbs(signals, step, entropy):
        text = "the cross-entropy has risen from the first step on although the updates are small"
        return _finding(signals, np.nan, 0.7, text, float(loss[-1]), float(loss[0]))
    return None


def _climbs(signals: Signals, step: Floats, entropy: Floats) -> bool:
    """Whether the loss rises steadily from the start, under updates too small to overshoot."""
    ratios = signals.steps.ratio[np.isfinite(signals.steps.ratio)]
    if len(ratios) < EARLY or not float(ratios[:EARLY].max()) < LARGE or len(entropy) < 2 * EARLY:
        return False
    early = entropy[: 4 * EARLY]
    smooth = np.convolve(early, np.ones(4) / 4, "valid")
    rising = float(np.mean(np.diff(smooth) > 0)) >= ORDERED
    return rising and float(np.median(early[-4:])) > RISEN * float(np.median(early[:4]))


def _finding(
    signals: Signals, change: float, confidence: float, text: str, value: float, entropy: float
) -> Finding:
    severity: Severity = "critical" if change > 1 else "warning"
    moved = f" ({change:.2g} times its start by now)" if np.isfinite(change) else ""
    return Finding(
        cause="flipped_loss_sign",
        severity=severity,
        confidence=confidence,
        where="loss",
        evidence=(
            Evidence("loss of the loop", value, f"{entropy:.4g}, falling", signals.first.step),
            Evidence("cross-entropy now over its start", float(change), "below 1"),
        )[: 2 if moved else 1],
        ruled_out=("lr_too_high: the direction is wrong, whatever the step",),
        remedies=("drop the minus sign of the loss, or maximize=True of the optimizer",),
        step=signals.first.step,
        reference="PyTorch documentation of torch.optim",
        summary=text + moved,
    )
