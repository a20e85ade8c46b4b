"""`convclinic features`: what a pretrained net sees in images, written to a file, and what a linear
classifier on each stage would reach."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convclinic.data.duplicates import duplicate_groups, join_groups
from convclinic.data.intake import Intake, take_in
from convclinic.data.sources import Source, open_source
from convclinic.data.survey import survey
from convclinic.features import Features, Part, check_stages, extract
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import replacing
from convclinic.heads import KINDS, Scores, validate
from convclinic.job.backbones import Loaded, load_backbone
from convclinic.job.display import Display, Lines, Silent
from convclinic.planning.hardware import choose_device


@dataclass(frozen=True)
class StageScore:
    """A stage, the length of its vectors, and what a linear head on them reaches in cross-validation, with
    the standard error of the balanced accuracy and the strength (C, or 1 / alpha) that was chosen."""

    stage: str
    features: int
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    standard_error: float | None = None
    strength: float | None = None


@dataclass(frozen=True)
class Featured:
    """What was written to `file`: `n` images, those that cannot be read left out; `stages` by depth; `best`
    the stage with the best balanced accuracy, None where there are no labels to judge by."""

    file: Path
    n: int
    size: tuple[int, int]
    classes: tuple[str, ...]
    unread: tuple[dict[str, str], ...]
    stages: tuple[StageScore, ...]
    best: str | None
    words: tuple[str, ...]


def features(
    images: str | Path,
    *,
    weights: str | Path | None = None,
    backbone: str | None = None,
    stages: Sequence[str] = (),
    head: str = "logistic",
    side: int | None = None,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    device: str | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Featured:
    """Features of `images` (labelled or not) at the stages of a pretrained net, all of them where none is
    named.

    side: pixels that images are resized to, the weights' own where None. out: an .npz file, NAME-features.npz
    here where None; it has an array (n, c) for each stage, `names`, and, with labels, `labels` and `classes`.
    cache: folder that keeps features between calls, that of the file without its ending where None. Labelled
    images are judged by cross-validation that parts neither groups nor copies. Raises ConvclinicError.
    """
    if head not in KINDS:
        raise ConvclinicError(f"no head '{head}'", fix=f"allowed: {', '.join(KINDS)}")
    path = Path(images)
    file = _npz(path, out)
    folder = Path(cache) if cache is not None else file.with_suffix("")
    where = choose_device(device)
    with Silent() if quiet else Lines() as display:
        display.stage("look")
        source = _opened(path)
        loaded = load_backbone(weights, backbone)
        wanted = tuple(stages) or loaded.net.stage_names
        check_stages(loaded.net, wanted)
        size = loaded.size(side)
        display.update(1, 1, f"{len(source)} images, {loaded.backbone.model}")
        seen = _extracted(source, loaded, wanted, size, where, folder, seed, display)
        _write(file, seen, source)
        scores = _judged(seen, source, head, seed, display)
    unread = tuple({"name": source.names[i], "reason": why} for i, why in sorted(seen.unread.items()))
    return Featured(file, len(seen.rows), size, source.classes, unread, scores, _best(scores), loaded.words())


@dataclass(frozen=True)
class _Seen:
    """Features of the rows (n,) of a source that could be read, the group of each, and why others could
    not."""

    features: Features
    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    unread: dict[int, str]


def _extracted(
    source: Source,
    loaded: Loaded,
    stages: Sequence[str],
    size: tuple[int, int],
    device: torch.device,
    cache: Path,
    seed: int,
    display: Display,
) -> _Seen:
    """Images are decoded into a store that is gone again afterwards; features stay."""
    with tempfile.TemporaryDirectory(prefix="convclinic-") as room:
        intake = _taken(source, (*size, 3), Path(room) / "images.u8", seed, display)
        assert intake.store is not None
        rows = np.flatnonzero(intake.ok)
        images = Part(intake.store.gather, rows)
        display.stage("features")
        counted = _counted(display)
        net = (loaded.net, loaded.prepare, loaded.fitted)
        features = extract(*net, images, stages, device, size, cache=cache, progress=counted)
        groups = join_groups(duplicate_groups(intake, source), source.groups)[rows]
    return _Seen(features, rows, groups, intake.reason)


def _npz(images: Path, out: str | Path | None) -> Path:
    if out is None:
        return Path(f"{images.resolve().name.split('.')[0]}-features.npz")
    if Path(out).suffix != ".npz":
        raise ConvclinicError(
            f"features are written as .npz, not as '{Path(out).name}'", fix=f"--out {out}.npz"
        )
    return Path(out)


def _opened(path: Path) -> Source:
    """Labelled if it can be, else as bare images."""
    try:
        return open_source(path)
    except ConvclinicError as error:
        try:
            return open_source(path, labelled=False)
        except ConvclinicError:
            raise error from None


def _counted(display: Display) -> Any:
    return lambda done, total: display.update(done, total, f"{done} images")


def _taken(source: Source, shape: tuple[int, int, int], room: Path, seed: int, display: Display) -> Intake:
    display.stage("read")
    seen = survey(source, seed=seed)
    intake = take_in(source, shape, room, survey=seen, progress=_counted(display))
    if not intake.ok.any():
        first = min(intake.reason)
        raise ConvclinicError(
            f"none of the {len(source)} files can be read; {source.names[first]}: {intake.reason[first]}",
            fix="open one of them in an image viewer",
        )
    return intake


def _write(file: Path, seen: _Seen, source: Source) -> None:
    names = np.array([source.names[i] for i in seen.rows.tolist()])
    arrays: dict[str, Any] = {**seen.features, "names": names}
    if source.classes:
        arrays |= {"labels": source.labels[seen.rows], "classes": np.array(source.classes)}
    with replacing(file) as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _judged(seen: _Seen, source: Source, head: str, seed: int, display: Display) -> tuple[StageScore, ...]:
    """Cross-validated scores of each stage on the labelled images; sizes alone where there are no classes."""
    labels = source.labels[seen.rows].astype(np.int64)
    known = labels >= 0
    if len(np.unique(labels[known])) < 2:
        return tuple(StageScore(stage, values.shape[1]) for stage, values in seen.features.items())
    display.stage("judge")
    judged: list[StageScore] = []
    for position, (stage, values) in enumerate(seen.features.items(), 1):
        given = (head, np.asarray(values)[known], labels[known], len(source.classes))
        scores, strength = validate(*given, groups=seen.groups[known], seed=seed)
        judged.append(_score(stage, values.shape[1], scores, strength))
        display.update(position, len(seen.features), f"{stage}: {scores.balanced_accuracy:.1%}")
    return tuple(judged)


def _score(stage: str, features: int, scores: Scores, strength: float) -> StageScore:
    return StageScore(
        stage, features, scores.accuracy, scores.balanced_accuracy, scores.standard_error, strength
    )


def _best(scores: Sequence[StageScore]) -> str | None:
    """The stage with the best balanced accuracy; of equals the later."""
    judged = [score for score in scores if score.balanced_accuracy is not None]
    return max(reversed(judged), key=lambda one: one.balanced_accuracy or 0.0).stage if judged else None
