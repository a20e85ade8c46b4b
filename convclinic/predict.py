"""Answers for new images: class, probability, and "not sure" below the reject threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convclinic.data.sources import open_source
from convclinic.evaluate import CHUNK, read_images
from convclinic.model import Model

NOT_SURE = "not sure"


@dataclass(frozen=True)
class Prediction:
    """`answer` is the class, or "not sure" where `probability` is below the reject threshold, or None where
    the file cannot be read (`error` says why); `best` is the most likely class all the same."""

    path: str
    answer: str | None
    best: str | None
    probability: float | None
    probabilities: dict[str, float] | None
    error: str | None = None


def predict(model: Model, paths: Sequence[Path]) -> Iterator[Prediction]:
    """Predict every image among `paths`: files, folders or archives. Broken files are answered, not fatal."""
    for path in paths:
        source = open_source(path, labelled=False)
        base = path.parent if source.kind == "file" or source.table is not None else path
        for begin in range(0, len(source.names), CHUNK):
            rows = range(begin, min(len(source.names), begin + CHUNK))
            unread: list[dict[str, str]] = []
            images, good = read_images(model, source, rows, unread)
            broken = {item["name"]: item["reason"] for item in unread}
            known = dict(zip(good, model.probabilities(model.logits(images)), strict=True)) if good else {}
            for row in rows:
                where = str(base / source.names[row])
                if row not in known:
                    yield Prediction(where, None, None, None, None, broken[source.names[row]])
                    continue
                best = int(known[row].argmax())
                top = float(known[row][best])
                yield Prediction(
                    where,
                    model.classes[best] if top >= model.threshold else NOT_SURE,
                    model.classes[best],
                    top,
                    {name: float(p) for name, p in zip(model.classes, np.asarray(known[row]), strict=True)},
                )
