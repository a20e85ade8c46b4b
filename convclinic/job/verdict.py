"""One plain sentence on how training goes, for people who do not read loss curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convclinic.history import Record


def verdict(records: Sequence[Record], majority: float, n_validation: int) -> str:
    """From the records so far; `majority` is the accuracy of always naming the commonest class.

    >>> verdict([], 0.24, 300)
    'starting'
    """
    if not records:
        return "starting"
    if not all(math.isfinite(record.loss) for record in records[-3:]):
        return "the loss is no longer a number: the LR is too high or an image is broken"
    scored = [record for record in dict.fromkeys(records) if record.val_accuracy is not None]
    if not scored:
        return "no validation yet"
    last, best = scored[-1], max(record.val_accuracy or 0.0 for record in scored)
    accuracy = last.val_accuracy or 0.0
    beside = f"at {accuracy:.1%}, majority class is {majority:.1%}"
    noise = 2 * math.sqrt(max(accuracy * (1 - accuracy), 0.25 / n_validation) / n_validation)
    if accuracy <= majority + noise:
        return f"not yet better than the majority class ({beside})"
    recent = [record.val_accuracy or 0.0 for record in scored[-3:]]  # one dip at a high LR means nothing
    if len(scored) > 3 and max(recent) < best - 2 * noise:
        return f"below its best of {best:.1%} ({beside})"
    gap = (last.train_accuracy or 0.0) - accuracy
    if len(scored) >= 3 and gap > 0.1 + noise and last.train_accuracy is not None:
        return f"learning, fitting the training images better by {gap:.0%} ({beside})"
    return f"learning ({beside})"


def closing(test: dict[str, float | None], baselines: dict[str, dict[str, float]]) -> str:
    """The report's headline sentence: the score against what is reached without a net."""
    majority, probe = baselines["majority"]["accuracy"], baselines["linear_probe"]["accuracy"]
    low = test["accuracy_interval"][0]  # pyright: ignore[reportOptionalSubscript, reportIndexIssue]
    if low <= majority:
        return (
            f"Not shown to be better than always naming the commonest class ({majority:.1%}): the net has "
            "learnt nothing, or the test images are too few to tell."
        )
    if low <= probe:
        return (
            f"Better than the commonest class ({majority:.1%}), but not clearly better than a linear probe "
            f"on 8 x 8 thumbnails ({probe:.1%}): the net needs more data or time to be worth its cost."
        )
    return f"Clearly better than the commonest class ({majority:.1%}) and than a linear probe ({probe:.1%})."
