"""What a trained net is worth: thresholds from validation, then the test split, read once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from convclinic.data.dataset import Dataset
from convclinic.evaluate import baselines, mistakes, split_logits, summarise
from convclinic.ground import stats
from convclinic.ground.files import write_json
from convclinic.job.display import Display
from convclinic.job.folder import MISTAKES
from convclinic.job.verdict import closing
from convclinic.model import Model


def judge(model: Model, data: Dataset, target: Path, display: Display) -> tuple[dict[str, Any], Model]:
    """Temperature and threshold from validation, then the test split, once."""
    logits, labels = split_logits(model, data, "validation")
    temperature = stats.fit_temperature(labels, logits.astype(np.float64))
    model = dataclasses.replace(model, facts={"temperature": temperature})
    probabilities = model.probabilities(logits)
    validation = summarise(model.classes, labels, probabilities)
    wanted = 1 - (1 - float(validation["accuracy"])) / 2  # answering less, half the mistakes
    reject: dict[str, Any] = {**stats.reject_threshold(labels, probabilities, wanted), "wanted": wanted}
    test_logits, test_labels = split_logits(
        model, data, "test", lambda a, b: display.update(a, b, f"{a} test images")
    )
    test_probabilities = model.probabilities(test_logits)
    test = summarise(model.classes, test_labels, test_probabilities)
    beside = baselines(data, "test", model.recipe.seed)
    answered = test_probabilities.max(1) >= reject["threshold"]
    right = test_probabilities.argmax(1) == test_labels
    reject["test_coverage"] = float(answered.mean())
    reject["test_accuracy"] = float(right[answered].mean()) if answered.any() else None
    write_json(target / MISTAKES, mistakes(model, data, test_probabilities, test_labels))
    facts = {
        "temperature": temperature,
        "reject": reject,
        "validation_accuracy": validation["accuracy"],
        "test_accuracy": test["accuracy"],
        "test_accuracy_interval": test["accuracy_interval"],
    }
    metrics: dict[str, Any] = {
        "verdict": closing(test, beside),
        "test": test,
        "validation": validation,
        "baselines": beside,
        "reject": reject,
        "temperature": temperature,
    }
    return metrics, dataclasses.replace(model, facts=facts)
