"""The optimizer updates other tensors than the model's, or is never stepped: the model does not learn.

Looks at  how many tensors the optimizers hold that the model has not, and which of the model's they lack;
          updates seen against steps observed; whether any weight moved; sizes of gradients and updates
Why       identities decide. Where they fit, weights that never move under gradients and a learning rate
          above zero are the sign: exactly zero, in every measured step
Confused  gradient accumulation and skipped half-precision steps (few updates, not none); an optimizer that
          also holds parameters of the loss (nothing of the model is missing); a learning rate of zero;
          parameters_not_in_optimizer (nothing foreign is held)
Source    PyTorch documentation of torch.optim (build the optimizer after the model is complete and moved)
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = (
    "parameters_not_in_optimizer",
    "frozen_parameters",
    "missing_zero_grad",
    "plateau",
    "lr_too_low",
    "underfitting",
    "vanishing_gradient",
    "predicts_one_class",
    "exploding_gradient",
    "label_noise",
    "labels_shuffled",
    "dead_relu",
)
MOST = 0.5  # of the trainable parameters
ACCUMULATED = 20, 50  # batches without an update: more than is usually gathered, and more than anyone gathers
MEASURED = 5  # steps


def judge(signals: Signals) -> Finding | None:
    setup = signals.setup
    if setup is None:
        return None
    if setup.foreign and setup.missing:
        lost = sum(layer.parameters for layer in setup.layers if layer.trainable and not layer.optimised)
        share = lost / setup.trainable if setup.trainable else 1.0
        head = any(layer.head and not layer.optimised for layer in setup.layers)
        if share > MOST or (head and setup.foreign == len(setup.missing)):
            text = f"the optimizer holds {setup.foreign} tensors that the model has not, and lacks "
            text += f"{len(setup.missing)} of the model's: it was built before the model was made or changed"
            severity: Severity = "critical" if share > 0.99 else "warning"
            return _finding(severity, 0.97, "tensors of another model", float(setup.foreign), "0", text)
    if signals.updates == 0 and signals.observed >= ACCUMULATED[0]:
        return _never_stepped(signals)
    return _never_moved(signals)


def _never_stepped(signals: Signals) -> Finding:
    text = f"{signals.observed} batches were observed, but the optimizer was never stepped"
    if signals.moved:
        text += ", though the weights move: another optimizer than the one given here does it"
        return _finding("info", 0.6, "updates", 0.0, f"up to {signals.observed}", text)
    sure = signals.observed >= ACCUMULATED[1]
    return _finding(
        "critical" if sure else "warning", 0.95 if sure else 0.7, "updates", 0.0, "1 a batch", text
    )


def _never_moved(signals: Signals) -> Finding | None:
    ratio, gradient, lr = signals.steps.known("ratio", "grad_norm", "lr")
    here = (gradient > 0) & (lr > 0)
    if signals.moved or signals.updates < MEASURED or int(here.sum()) < MEASURED or (ratio[here] != 0).any():
        return None
    text = f"{signals.updates} updates have not moved any weight, although there are gradients"
    return _finding(
        "critical", 0.9, "largest update over weights", float(np.max(ratio[here])), "above 0", text
    )


def _finding(
    severity: Severity, confidence: float, signal: str, value: float, expected: str, text: str
) -> Finding:
    return Finding(
        cause="optimizer_stale",
        severity=severity,
        confidence=confidence,
        where="optimizer",
        evidence=(Evidence(signal, value, expected),),
        ruled_out=("lr_too_low: the weights do not move at all",) if severity != "info" else (),
        remedies=(
            "build the optimizer after the model is complete, from the very model that is trained",
            "call optimizer.step() after each backward",
        ),
        step=1,
        reference="PyTorch documentation of torch.optim",
        summary=text,
    )
