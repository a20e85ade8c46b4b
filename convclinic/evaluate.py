"""How good a model is, with intervals, beside baselines that anyone can reach without a net."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convclinic.data.dataset import Dataset
from convclinic.data.decode import Unreadable, decode
from convclinic.data.sources import open_source
from convclinic.ground import stats
from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.joint import Ensemble
from convclinic.model import Model

CHUNK = 1000  # images in memory at once
PROBE_IMAGES = 4000  # training images the linear probe sees: it must stay quick
TOP5_FROM = 20  # classes; below, a place among the first five says nothing

Split = Literal["train", "validation", "test"]
Known: TypeAlias = "dict[tuple[int, str], NDArray[np.float32]]"  # logits by id of a net and split


def split_logits(
    model: Model,
    data: Dataset,
    split: Split,
    progress: Callable[[int, int], None] | None = None,
    known: Known | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits (n, k), test-time views included, and labels (n,) of a split, streamed from the store.

    known: what nets have answered before for this data; the answers are read from it and added to it, and
    the mean of an ensemble is taken of its members' answers. The nets must live as long as it does.
    """
    positions = data.indices(split)
    labels, key = data.labels[positions], (id(model.net), split)
    if known is not None and isinstance(model, Ensemble) and not model.reads:
        each = [split_logits(one, data, split, progress, known)[0] for one in model.members]
        parts = zip(model.members, each, strict=True)
        return model.mean([one.probabilities(logits) for one, logits in parts]), labels
    if known is not None and key in known:
        return known[key], labels
    out = [np.zeros((0, len(model.classes)), np.float32)]
    for begin in range(0, len(positions), CHUNK):
        out.append(model.logits(data.images(positions[begin : begin + CHUNK])))
        if progress:
            progress(min(len(positions), begin + CHUNK), len(positions))
    logits = np.concatenate(out)
    if known is not None:
        known[key] = logits
    return logits, labels


def summarise(
    classes: tuple[str, ...], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> dict[str, Any]:
    """The numbers of one split, JSON-ready: accuracy and balanced accuracy with 95 % intervals, log loss,
    per-class precision and recall, confusion matrix, calibration; top-5 only with twenty classes or more."""
    predictions = probabilities.argmax(1)
    matrix = stats.confusion(labels, predictions, len(classes))
    n, right = len(labels), int((labels == predictions).sum())
    summary: dict[str, Any] = {
        "n": n,
        "accuracy": right / n if n else None,
        "accuracy_interval": list(stats.wilson(right, n)),
        "balanced_accuracy": stats.balanced_accuracy(matrix),
        "balanced_accuracy_interval": balanced_interval(matrix),
        "log_loss": float(-np.log(np.maximum(probabilities[np.arange(n), labels], 1e-15)).mean())
        if n
        else None,
        "per_class": [
            {"class": name, **row} for name, row in zip(classes, stats.per_class(matrix), strict=True)
        ],
        "confusion": matrix.tolist(),
        "calibration": stats.calibration(labels, probabilities),
    }
    if len(classes) >= TOP5_FROM:
        top = np.argsort(-probabilities, axis=1)[:, :5]
        summary["top5_accuracy"] = float((top == labels[:, None]).any(1).mean())
    return summary


def balanced_interval(matrix: NDArray[np.int64]) -> list[float]:
    """95 % interval of the balanced accuracy: the Wilson intervals of the recalls, joined as those of
    independent parts of a mean (MOVER: Zou and Donner 2008); always around the estimate."""
    support = matrix.sum(1)
    hits, support = np.diag(matrix)[support > 0], support[support > 0]
    if not len(support):
        return [0.0, 1.0]
    recalls = hits / support
    ends = np.array([stats.wilson(float(h), int(n)) for h, n in zip(hits, support, strict=True)])
    below, above = np.sqrt(((ends - recalls[:, None]) ** 2).sum(0)) / len(recalls)
    return [float(max(0.0, recalls.mean() - below)), float(min(1.0, recalls.mean() + above))]


def simple_features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, h, w, c) uint8 -> (n, d): an 8 x 8 thumbnail, the mean edge strength of each of its cells, and
    each channel's mean and deviation. What a person without a net might start from."""
    images = images[:, :: max(1, images.shape[1] // 64), :: max(1, images.shape[2] // 64)]  # detail enough
    n, h, w, _ = images.shape
    values = images.astype(np.float32) / 255
    rows, cols = np.linspace(0, h, 9).astype(int)[:-1], np.linspace(0, w, 9).astype(int)[:-1]

    def cells(array: NDArray[Any]) -> NDArray[Any]:
        sums = np.add.reduceat(np.add.reduceat(array, rows, axis=1), cols, axis=2)
        return sums.reshape(n, -1) / (h * w / 64)

    grey = values.mean(3)
    across = np.abs(np.diff(grey, axis=2, append=grey[:, :, -1:]))
    down = np.abs(np.diff(grey, axis=1, append=grey[:, -1:, :]))
    return np.concatenate(
        [cells(values), cells(across), cells(down), values.mean((1, 2)), values.std((1, 2))], axis=1
    )


def baselines(data: Dataset, split: Split, seed: int) -> dict[str, Any]:
    """What the majority class and a linear probe on simple features reach on `split`."""
    labels, train = data.labels[data.indices(split)], data.indices("train")
    k = len(data.classes)
    majority = int(np.bincount(data.labels[train], minlength=k).argmax())

    def score(predictions: NDArray[np.int64]) -> dict[str, Any]:
        matrix = stats.confusion(labels, predictions, k)
        return {
            "accuracy": float((predictions == labels).mean()),
            "balanced_accuracy": stats.balanced_accuracy(matrix),
        }

    chosen = np.random.default_rng(seed).permutation(train)[:PROBE_IMAGES]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, C=0.1, tol=1e-3))
    probe.fit(_features(data, chosen), data.labels[chosen])
    predicted = probe.predict(_features(data, data.indices(split))).astype(np.int64)
    return {
        "majority": {"class": data.classes[majority], **score(np.full(len(labels), majority))},
        "linear_probe": {
            "features": f"8 x 8 colours and edges, logistic regression on {len(chosen)} training images",
            **score(predicted),
        },
    }


def _features(data: Dataset, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    parts = [simple_features(data.images(positions[i : i + CHUNK])) for i in range(0, len(positions), CHUNK)]
    return np.concatenate(parts)


def mistakes(
    model: Model, data: Dataset, probabilities: NDArray[np.float64], labels: NDArray[np.int64], most: int = 24
) -> list[dict[str, Any]]:
    """The most confident wrong answers on the test split, with thumbnails as data URLs."""
    positions = data.indices("test")
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return [
        {
            "name": data.names[positions[i]],
            "label": model.classes[labels[i]],
            "predicted": model.classes[predictions[i]],
            "probability": float(confidence[i]),
            "thumbnail": thumbnail(data.images(positions[i : i + 1])[0]),
        }
        for i in worst
    ]


def thumbnail(image: NDArray[np.uint8], side: int = 112) -> str:
    """A data URL of `image` (h, w, c) with its longer side at most `side` pixels; small ones are enlarged."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    scale = side / max(picture.size)
    picture = picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
        Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BICUBIC,
    )
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def on_folder(model: Model, path: Path) -> dict[str, Any]:
    """Metrics of `model` on other labelled data. Files that cannot be read are listed, not counted.

    Raises ConvclinicError when the data have a class that the model does not know.
    """
    source = open_source(path)
    for name in source.classes:
        if name not in model.classes:
            raise ConvclinicError(
                f"the data have a class '{name}' that the model does not know",
                fix=nearest(name, model.classes),
            )
    codes = np.array([model.classes.index(name) for name in source.classes], np.int64)
    kept: list[int] = []
    unread: list[dict[str, str]] = []
    logits: list[NDArray[np.float32]] = []
    for begin in range(0, len(source.names), CHUNK):
        images, rows = read_images(model, source, range(begin, min(len(source.names), begin + CHUNK)), unread)
        kept += rows
        if rows:
            logits.append(model.logits(images))
    if not kept:
        raise ConvclinicError(f"none of the {len(source.names)} images in {path} can be read")
    labels = codes[source.labels[np.array(kept)]]
    summary = summarise(model.classes, labels, model.probabilities(np.concatenate(logits)))
    return {"data": str(path), **summary, "unread": unread}


def read_images(
    model: Model, source: Any, rows: range, unread: list[dict[str, str]]
) -> tuple[NDArray[np.uint8], list[int]]:
    """Decode rows of a source at the model's input shape; what cannot be read is added to `unread`."""
    shape = (model.recipe.data.height, model.recipe.data.width, model.recipe.data.channels)
    images: list[NDArray[np.uint8]] = []
    good: list[int] = []
    for row in rows:
        name = source.names[row]
        try:
            images.append(decode(source.read(row), shape, name=name, deep_max=model.deep_max).image)
            good.append(row)
        except (Unreadable, OSError) as error:
            unread.append({"name": name, "reason": str(error)})
    return (np.stack(images) if images else np.zeros((0, *shape), np.uint8)), good
