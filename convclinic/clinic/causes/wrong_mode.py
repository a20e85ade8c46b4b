"""The model trains in evaluation mode, or is evaluated in training mode.

Looks at  the model's training flag in each training step and in each pass without gradients; which modules
          differ from it; whether batch norms or dropouts are there, without which the mode changes nothing
Why       the flag is what decides. In evaluation mode batch norm uses statistics that nothing updates, and
          dropout is off; in training mode an image's answer depends on the others in its batch and on
          chance. Where the running statistics never followed, evaluation mode fails on training images
Confused  batch norms frozen on purpose (they alone are in evaluation mode); passes over training images
          that bring batch norm's statistics up to date; train_val_preprocessing_differ and overfitting,
          which look the same
Source    PyTorch documentation of Module.eval; NeuraLint, 2021, arXiv:2105.08095
"""

from __future__ import annotations

import math

from convclinic.clinic.causes._readings import percent
from convclinic.clinic.signals import Setup, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = (
    "train_val_preprocessing_differ",
    "overfitting",
    "over_regularised",
    "lr_too_high",
    "exploding_gradient",
    "non_finite",
    "plateau",
    "dead_relu",
    "batch_too_small",
    "init_scale",
    "predicts_one_class",
    "underfitting",
    "saturated_activation",
    "vanishing_gradient",
)
LATEST = 20  # steps
MOST = 0.9  # of them
LEAST = 3  # steps
PASSES = 2  # without gradients; one alone is a dry run
HALF = 0.5  # of them
SETTLED, PROBES = 50, 2  # updates, and the latest probes: young statistics do not fit in healthy runs either
LOST, TIMES = 0.8, 2.0  # of the floor, and of the loss in training mode. Healthy runs stay below one of both


def judge(signals: Signals) -> Finding | None:
    setup = signals.setup
    if setup is None:
        return None
    matters = setup.batch_norms > 0 or any(p > 0 for _, p in setup.dropouts)
    step, training = signals.steps.known("step", "training")
    off = 1 - training[-LATEST:]
    if len(off) >= LEAST and float(off.mean()) >= MOST:
        first = int(step[(training == 0).argmax()])
        return _training_in_eval(setup, matters, float(off.mean()), first)
    evaluations = signals.evaluations
    passes = evaluations.training * evaluations.forwards
    if matters and evaluations.training >= HALF and passes >= PASSES and evaluations.images > 0:
        return _evaluating_in_training(setup, evaluations.training, evaluations.since)
    return _statistics(signals, setup) or _parts(setup)


def _what(setup: Setup) -> str:
    parts = [f"{setup.batch_norms} batch norms"] if setup.batch_norms else []
    dropouts = sum(p > 0 for _, p in setup.dropouts)
    return " and ".join(parts + ([f"{dropouts} dropouts"] if dropouts else []))


def _training_in_eval(setup: Setup, matters: bool, share: float, first: int) -> Finding:
    effect = f"its {_what(setup)} do not do what they should" if matters else "no layer minds"
    return Finding(
        cause="wrong_mode",
        severity="warning" if matters else "info",
        confidence=0.95 if setup.batch_norms else 0.85,
        where="training loop",
        evidence=(Evidence("share of the latest steps in evaluation mode", share, "0", first),),
        ruled_out=("train_val_preprocessing_differ: the mode alone is known to be wrong",) if matters else (),
        remedies=("call model.train() at the start of each epoch, after every evaluation",),
        step=first,
        reference="PyTorch documentation of Module.eval",
        summary=f"{percent(share)} of the latest steps trained in evaluation mode: {effect}",
    )


def _evaluating_in_training(setup: Setup, share: float, since: int) -> Finding:
    return Finding(
        cause="wrong_mode",
        severity="warning",
        confidence=0.8,
        where="evaluation",
        evidence=(Evidence("share of passes without gradients in training mode", share, "0", since),),
        ruled_out=("overfitting: what is measured is not the net that would be used",),
        remedies=("call model.eval() before each evaluation, and model.train() after it",),
        step=since,
        reference="PyTorch documentation of Module.eval",
        summary=f"{percent(share)} of the evaluated batches went through the net in training mode, "
        f"which matters for its {_what(setup)}",
    )


def _statistics(signals: Signals, setup: Setup) -> Finding | None:
    """Batch norms whose running statistics do not fit: training images are lost in evaluation mode."""
    probes = [p for p in signals.probes if p.step >= SETTLED and math.isfinite(p.evaluated)][-PROBES:]
    if not setup.batch_norms or len(probes) < PROBES or not signals.floor > 0:
        return None
    if not all(p.evaluated > max(LOST * signals.floor, TIMES * p.cross_entropy) for p in probes):
        return None
    last = probes[-1]
    return Finding(
        cause="wrong_mode",
        severity="warning",
        confidence=0.65,
        where="running statistics of the batch norms",
        evidence=(
            Evidence(
                "loss of training images in evaluation mode",
                last.evaluated,
                f"near {last.cross_entropy:.3g}, as in training mode",
                last.step,
            ),
        ),
        ruled_out=("overfitting: it fails on training images",),
        remedies=(
            "momentum=0.1 in the batch norms, and more updates before the first evaluation",
            "pass training images through the net in training mode before evaluating",
            "a lower learning rate, so that the statistics can follow",
        ),
        step=last.step,
        reference="PyTorch documentation of BatchNorm2d",
        summary=f"training images have a loss of {last.cross_entropy:.3g} in training mode and of "
        f"{last.evaluated:.3g} in evaluation mode: the running statistics do not fit",
    )


def _parts(setup: Setup) -> Finding | None:
    """Single modules in evaluation mode: worth a word, as it is mostly meant so."""
    if not setup.training or not setup.modes:
        return None
    names = ", ".join(setup.modes[:3]) + (", ..." if len(setup.modes) > 3 else "")
    return Finding(
        cause="wrong_mode",
        severity="info",
        confidence=0.6,
        where=names,
        evidence=(
            Evidence("modules in evaluation mode", float(len(setup.modes)), "0, unless frozen on purpose", 0),
        ),
        remedies=(
            "nothing, if these are frozen on purpose; otherwise call model.train() after all is built",
        ),
        reference="PyTorch documentation of Module.eval",
        summary=f"{len(setup.modes)} modules stay in evaluation mode while the model trains ({names})",
    )
