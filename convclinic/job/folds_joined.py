"""The folds of a cross-validation as one model. Each image was trained on by most of them, so nothing can be
chosen, and what joining them gains cannot be measured: what is told is what each fold reached by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convclinic.data.dataset import divide, reopen
from convclinic.evaluate import Split, split_logits, summarise
from convclinic.ground import stats
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import read_json, write_json
from convclinic.job import folder as place
from convclinic.job.crossvalidating import RESULT
from convclinic.job.display import Display
from convclinic.job.ensembled import Ensembled
from convclinic.job.joining import AUTO
from convclinic.job.run import Run
from convclinic.job.verdict import closing
from convclinic.joint import joined
from convclinic.model import Model
from convclinic.model_file import load
from convclinic.report.page import write_report
from convclinic.study import folds

MEAN = "mean"
MEASURED = (
    "no image is untouched by all folds, so this is the mean of their own tests, each net on the images that "
    "it has not seen; what joining them gains is not measured"
)
SHOWN = 24  # rows of the folds' mistakes, and of the labels they suspect


def check(crossval: Path, method: str) -> None:
    """Raise ConvclinicError for another method than "mean", and for a cross-validation not yet finished."""
    if method not in (AUTO, MEAN):
        raise ConvclinicError(
            f"folds have no images in common that '{method}' could be chosen on",
            fix="choose --method mean, or join runs of one split: convclinic ensemble RUN --members 5",
        )
    if not (crossval / RESULT).exists():
        raise ConvclinicError(f"{crossval} is not finished", fix="run the same `convclinic crossval` again")


def join_folds(crossval: Path, target: Path, device: torch.device, display: Display) -> Ensembled:
    """The mean of the nets of all folds, in a run folder of its own.

    Its metrics are those of single folds: every image answered by the one net that was tested on it, and the
    threshold by the one that was validated on it.
    """
    n_folds = len(read_json(crossval / RESULT)["folds"])
    paths = [crossval / f"fold-{number}" for number in range(n_folds)]
    models = [load(path, device) for path in paths]
    display.stage("ensemble")
    tested, labels = _answered(paths, models, "test")
    validated, _ = _answered(paths, models, "validation")
    own = [read_json(path / place.METRICS) for path in paths]
    found = folds.together([np.array(one["test"]["confusion"], np.int64) for one in own])
    metrics = _metrics(models[0].classes, labels, validated, tested)
    metrics["test"] |= {"accuracy": found.accuracy, "accuracy_interval": list(found.interval)}
    beside = _baselines(own)
    facts: dict[str, Any] = {
        "method": MEAN,
        "members": [
            {
                "run": str(path),
                "weight": 1 / n_folds,
                "validation": one["validation"]["accuracy"],
                "test": one["test"]["accuracy"],
            }
            for path, one in zip(paths, own, strict=True)
        ],
        "expected_accuracy": found.accuracy,
        "measured": MEASURED,
    }
    model = joined(
        models, [1.0] * n_folds, {"reject": metrics["reject"], "expected_accuracy": found.accuracy}
    )
    splits = np.zeros(len(labels), np.int8)  # every image trains most of the nets
    divide(crossval, target, splits)
    write_json(target / place.FINDINGS, read_json(paths[0] / place.FINDINGS))
    write_json(target / place.MISTAKES, _mistakes(paths))
    write_json(target / place.RECIPE, {**place.document(paths[0]), "ensemble": facts})
    verdict = f"{closing(metrics['test'], beside)} These are single folds: {MEASURED}."
    told = {"verdict": verdict, "baselines": beside, "device": own[0]["device"], "ensemble": facts}
    write_json(target / place.METRICS, {**metrics, **told})
    model.save(target / place.MODEL)
    display.update(1, 1, str(write_report(target)))
    done = Ensembled(Run(target, device), facts)
    display.say(done.table())
    return done


def _answered(
    paths: list[Path], models: list[Model], part: Split
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (n, k) and label (n,) of every image, by the fold that has it in this part."""
    data = reopen(paths[0])
    probabilities = np.empty((len(data.labels), len(data.classes)))
    for path, model in zip(paths, models, strict=True):
        fold = reopen(path)
        probabilities[fold.indices(part)] = model.probabilities(split_logits(model, fold, part)[0])
    return probabilities, data.labels


def _metrics(
    classes: tuple[str, ...],
    labels: NDArray[np.int64],
    validated: NDArray[np.float64],
    tested: NDArray[np.float64],
) -> dict[str, Any]:
    validation = summarise(classes, labels, validated)
    wanted = 1 - (1 - float(validation["accuracy"])) / 2  # answering less, half the mistakes
    reject: dict[str, Any] = {**stats.reject_threshold(labels, validated, wanted), "wanted": wanted}
    answered = tested.max(1) >= reject["threshold"]
    right = tested.argmax(1) == labels
    reject["test_coverage"] = float(answered.mean())
    reject["test_accuracy"] = float(right[answered].mean()) if answered.any() else None
    return {
        "test": summarise(classes, labels, tested),
        "validation": validation,
        "reject": reject,
    }


def _baselines(own: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the folds."""
    out: dict[str, Any] = {}
    for name, first in own[0]["baselines"].items():
        rows = [one["baselines"][name] for one in own]
        means = {key: float(np.mean([row[key] for row in rows])) for key in ("accuracy", "balanced_accuracy")}
        out[name] = {**first, **means}
    return out


def _mistakes(paths: list[Path]) -> dict[str, Any]:
    """The surest of all folds' mistakes and suspected labels."""
    kept = [read_json(path / place.MISTAKES) for path in paths]
    return {
        name: sorted((row for one in kept for row in one[name]), key=lambda row: -row["probability"])[:SHOWN]
        for name in ("mistakes", "label_suspects")
    }
