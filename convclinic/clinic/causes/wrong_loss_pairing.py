"""The net's last operation and the loss do not belong together: softmax before cross-entropy and its kin.

Looks at  what the outputs are (rows that sum to one, all in [0, 1], exact zeros, log-probabilities); the
          loop's loss against known formulas on the same outputs, at the first step and at each measured one
          after it
Why       a formula that agrees in float32 at every measured step is the one in use: no threshold is needed.
          Cross-entropy of probabilities cannot fall below ln(e + k - 1) - 1 (1.46 for ten classes), and its
          gradients are small; the negative output as a loss has no lower end
Confused  a softmax whose logarithm goes into the NLL, log-probabilities before cross-entropy, binary
          cross-entropy on one-hot targets: all right. A net whose last layer starts at zero: outputs of
          exactly zero are neither clipped nor bounded
Source    NeuraLint, 2021, arXiv:2105.08095; UMLAUT, 2021; PyTorch documentation, 2026. Square loss can work
          with a learning rate of its own: Hui and Belkin, 2020, arXiv:2006.07322
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._readings import adaptive, against_cross_entropy, agreement, equal, learnt
from convclinic.clinic.signals import Losses, Outputs, Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = (
    "plateau",
    "underfitting",
    "lr_too_low",
    "vanishing_gradient",
    "non_finite",
    "exploding_gradient",
    "lr_too_high",
    "predicts_one_class",
    "saturated_activation",
    "dead_relu",
    "init_scale",
    "over_regularised",
    "flipped_loss_sign",
)
AGREES = 0.9  # share of measured steps; the odd one out is a step whose loss was averaged with another
NEAR = 0.35  # a weighted or smoothed cross-entropy stays this close to the plain one of probabilities
CLIPPED = 0.2  # share of exact zeros: a ReLU; without one a linear layer never gives zero
MIDDLE = (0.3, 0.7)  # mean of fresh sigmoid outputs
WIDEST = 0.5  # standard deviation over classes that outputs in [0, 1] can reach
SLOW = (
    "with SGD this is slow and can stop far from the optimum",
    "an adaptive optimizer can cope with the small gradients",
)


def judge(signals: Signals) -> Finding | None:
    outputs, losses = signals.first.outputs, signals.first.losses
    if outputs is None or losses is None or outputs.width < 2 or not outputs.high > outputs.low:
        return None
    name = _name(losses)
    if _in_use(signals, losses, outputs, name):
        return _before_cross_entropy(signals, outputs, losses)
    if equal(losses.reported, losses.negative_log) and not outputs.log_probabilities:
        return _negative_output(signals, outputs, losses)
    if equal(losses.reported, losses.binary) and _squashed(signals, outputs):
        text = "the loss takes the sigmoid of outputs that a sigmoid or softmax has been applied to already"
        return _finding(signals, "twice", text, losses.binary, ("give the loss raw logits", "use BCELoss"))
    return _squares(signals, losses, name)


def _name(losses: Losses) -> str:
    """crossentropy, nll, mse, bcewithlogits and so on; empty where unknown."""
    name = losses.name.lower().replace("_", "").removesuffix("loss")
    return "" if name in ("function", "<lambda>", "method", "partial", "builtinfunctionormethod") else name


def _in_use(signals: Signals, losses: Losses, outputs: Outputs, name: str) -> bool:
    """Whether the loop's loss is the cross-entropy of the outputs taken as logits."""
    _, loss, entropy, _ = against_cross_entropy(signals)
    if not len(loss):
        loss, entropy = np.array([losses.reported]), np.array([losses.cross_entropy])
    if agreement(loss, entropy) >= AGREES:
        return True
    if name != "crossentropy" or not (losses.smoothing or losses.weighted):
        return False
    near = np.abs(loss - entropy) <= NEAR
    return bool(outputs.sums_to_one or outputs.bounded) and float(np.mean(near)) >= AGREES


def _squashed(signals: Signals, outputs: Outputs) -> bool:
    """Whether the outputs are probabilities already, of one softmax or of a sigmoid each."""
    return outputs.sums_to_one or _sigmoid(signals, outputs)


def _sigmoid(signals: Signals, outputs: Outputs) -> bool:
    last = outputs.last.lower()
    if not outputs.bounded or outputs.low < 0 or outputs.high > 1:
        return False
    if "sigmoid" in last or "softmax" in last:
        return True
    spread = signals.steps.spread
    wide = bool((spread[np.isfinite(spread)] > WIDEST).any())
    return not last and not wide and outputs.low > 0 and MIDDLE[0] < outputs.mean < MIDDLE[1]


def _before_cross_entropy(signals: Signals, outputs: Outputs, losses: Losses) -> Finding | None:
    last, remedy = outputs.last.lower(), "remove the last activation: the loss applies log-softmax itself"
    if outputs.log_probabilities:
        return None
    if outputs.sums_to_one:
        text = "the outputs are probabilities already, and cross-entropy takes the softmax of them again"
        nll = "or keep it and use NLLLoss on log_softmax"
        return _finding(signals, "softmax", text, losses.cross_entropy, (remedy, nll))
    if _sigmoid(signals, outputs):
        text = "the outputs have gone through a sigmoid, so cross-entropy sees logits between 0 and 1 only"
        return _finding(signals, "sigmoid", text, losses.cross_entropy, (remedy,))
    relu = (
        outputs.low == 0 and outputs.clipped > CLIPPED and (not last or "relu" in last or "threshold" in last)
    )
    if relu:
        text = (
            f"the outputs have gone through a ReLU: {100 * outputs.clipped:.0f} % of the logits are exactly 0"
        )
        return _finding(signals, "relu", text, losses.cross_entropy, (remedy,))
    if "tanh" in last and outputs.low >= -1 and outputs.high <= 1:
        text = "the outputs have gone through tanh, so cross-entropy sees logits between -1 and 1 only"
        return _finding(signals, "tanh", text, losses.cross_entropy, (remedy,))
    return None


def _negative_output(signals: Signals, outputs: Outputs, losses: Losses) -> Finding:
    text = (
        "the loss is minus the output at the label, which needs log-probabilities, but the outputs are none"
    )
    if outputs.sums_to_one:
        text = "the loss is minus the probability of the label, not minus its logarithm"
    remedies = ("use CrossEntropyLoss on raw logits", "or put log_softmax in front of NLLLoss")
    return _finding(signals, "nll", text, losses.negative_log, remedies)


def _squares(signals: Signals, losses: Losses, name: str) -> Finding | None:
    """Mean squared error against one-hot targets."""
    targets = signals.first.targets
    if targets is not None and targets.kind not in ("classes", "one-hot"):
        return None
    found = next((s for s in (losses.squared, losses.squared_softmax) if equal(losses.reported, s)), None)
    if found is None and name not in ("mse", "l1", "smoothl1", "huber"):
        return None
    text = "the loss is a squared distance to one-hot targets, with small gradients"
    value = losses.reported if found is None else found
    return _finding(signals, "squares", text, value, ("use CrossEntropyLoss on raw logits",))


CONFIDENCE = {
    "softmax": 0.95,
    "nll": 0.95,
    "twice": 0.9,
    "relu": 0.85,
    "sigmoid": 0.9,
    "squares": 0.8,
    "tanh": 0.65,
}


def _finding(signals: Signals, kind: str, text: str, value: float, remedies: tuple[str, ...]) -> Finding:
    losses, outputs = signals.first.losses, signals.first.outputs
    assert losses is not None and outputs is not None
    gentle = adaptive(signals) and learnt(signals) and kind != "nll"
    severity: Severity = "info" if gentle else "warning"
    return Finding(
        cause="wrong_loss_pairing",
        severity=severity,
        confidence=CONFIDENCE[kind],
        where="outputs and loss",
        evidence=(
            Evidence(
                "loss of the loop", losses.reported, f"{value:.6g} under this formula", signals.first.step
            ),
            Evidence(
                "range of the outputs", f"{outputs.low:.3g} to {outputs.high:.3g}", "logits are unbounded"
            ),
        ),
        ruled_out=("label_noise and lr_too_low: the formula alone keeps the loss where it is",),
        remedies=remedies,
        step=signals.first.step,
        reference="NeuraLint, 2021, arXiv:2105.08095",
        summary=text + ("; " + SLOW[adaptive(signals)] if kind not in ("nll", "relu") else ""),
    )
