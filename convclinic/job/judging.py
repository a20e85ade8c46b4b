"""What a trained net is worth: thresholds from validation, then the test split, read once; and what the net
says of the data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convclinic.clinic.data_health import WHERE, DataHealth, examine
from convclinic.clinic.leaks import leakage_suspects
from convclinic.data.dataset import Dataset
from convclinic.evaluate import Known, baselines, mistakes, split_logits, summarise, thumbnail
from convclinic.ground import stats
from convclinic.ground.files import read_json, write_json
from convclinic.job.display import Display
from convclinic.job.folder import FINDINGS, MISTAKES, groups
from convclinic.job.verdict import closing
from convclinic.model import Model

SHOWN = 24  # suspected labels with a picture in the report


def judge(
    model: Model, data: Dataset, target: Path, display: Display, known: Known | None = None
) -> tuple[dict[str, Any], Model]:
    """Temperature and threshold from validation, then the test split, once. known: see `split_logits`."""
    logits, labels = split_logits(model, data, "validation", known=known)
    temperature = stats.fit_temperature(labels, logits.astype(np.float64))
    model = dataclasses.replace(model, facts={"temperature": temperature})
    probabilities = model.probabilities(logits)
    validation = summarise(model.classes, labels, probabilities)
    wanted = 1 - (1 - float(validation["accuracy"])) / 2  # answering less, half the mistakes
    reject: dict[str, Any] = {**stats.reject_threshold(labels, probabilities, wanted), "wanted": wanted}
    test_logits, test_labels = split_logits(
        model, data, "test", lambda a, b: display.update(a, b, f"{a} test images"), known
    )
    test_probabilities = model.probabilities(test_logits)
    test = summarise(model.classes, test_labels, test_probabilities)
    beside = baselines(data, "test", model.recipe.seed)
    answered = test_probabilities.max(1) >= reject["threshold"]
    right = test_probabilities.argmax(1) == test_labels
    reject["test_coverage"] = float(answered.mean())
    reject["test_accuracy"] = float(right[answered].mean()) if answered.any() else None
    health, suspects = data_health(data, np.concatenate([probabilities, test_probabilities]), target)
    wrong = mistakes(model, data, test_probabilities, test_labels)
    write_json(target / MISTAKES, {"mistakes": wrong, "label_suspects": suspects})
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
        "data_health": health.to_dict(),
    }
    return metrics, dataclasses.replace(model, facts=facts)


def data_health(
    data: Dataset, probabilities: NDArray[np.float64], target: Path
) -> tuple[DataHealth, list[dict[str, Any]]]:
    """What the net's probabilities (n, k) of the validation and then the test images say of their labels, and
    the suspected ones as rows with thumbnails. Findings are added to the run's findings.json."""
    positions = np.concatenate([data.indices("validation"), data.indices("test")])
    leaks = leakage_suspects(data.images, data.splits, groups(target))
    names = [data.names[i] for i in positions.tolist()]
    health = examine(data.labels[positions], probabilities, data.classes, names, leaks)
    before = [row for row in read_json(target / FINDINGS) if row["where"] != WHERE]  # of a run now extended
    write_json(target / FINDINGS, [*before, *(finding.to_dict() for finding in health.findings)])
    suspects = health.suspects
    rows = [
        {
            "name": names[i],
            "label": data.classes[data.labels[positions[i]]],
            "predicted": data.classes[suggested],
            "probability": float(probabilities[i, suggested]),
            "thumbnail": thumbnail(data.images(positions[i : i + 1])[0]),
        }
        for i, suggested in zip(
            suspects.indices[:SHOWN].tolist(), suspects.suggested[:SHOWN].tolist(), strict=True
        )
    ]
    return health, rows
