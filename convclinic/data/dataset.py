"""A checked, split and cached data set: made once by `assemble`, found again by `reopen`."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convclinic.data.checked import Checked, check
from convclinic.data.decode import decode
from convclinic.data.intake import Intake, Progress, Shape3, Survey, take_in
from convclinic.data.profile import Profile, from_dict, moments
from convclinic.data.sources import Source, open_source
from convclinic.data.store import Store
from convclinic.data.words import count, listed, shown
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import read_csv, read_json, write_csv, write_json
from convclinic.kinds import Evidence, Finding

SPLIT_NAMES = ("train", "validation", "test")
LEFT_OUT = 3  # an image that a run of many has no use for, such as the test images of those it serves
PARTS = (*SPLIT_NAMES, "left out")
_MEASURED = 2_048  # training images that mean and std are taken over
_INSPECTED = 256
_SIDE = 64  # pixels an inspected image is shrunk to
_FORMAT = 1


@dataclass(frozen=True)
class Dataset:
    """The usable images of a source, in its order; m of them.

    names, labels (m,), splits (m,) 0 train, 1 validation, 2 test, 3 left out; rows (m,) are the images' rows
    in the store, whose shape is (n, h, w, c). quarantine: (name, label, reason) of every image set aside.
    """

    source: str
    classes: tuple[str, ...]
    names: list[str]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    rows: NDArray[np.int64]
    store: Store
    deep_max: int
    findings: tuple[Finding, ...]
    quarantine: tuple[tuple[str, str, str], ...]
    profile: Profile

    def indices(self, split: Literal["train", "validation", "test"]) -> NDArray[np.int64]:
        """Positions (into labels, rows, names) of one part, ascending."""
        return np.flatnonzero(self.splits == SPLIT_NAMES.index(split))

    def images(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (b, h, w, c) at `positions` (b,)."""
        return self.store.gather(self.rows[positions])


def assemble(
    source: Source,
    survey: Survey,
    shape: Shape3,
    folder: Path,
    *,
    seed: int,
    like: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Take the images in, check them, split them; write cache, splits.csv, quarantine.csv and data.json.

    shape (h, w, c) is what every image is resized to; like: a run folder whose split is taken over. Raises
    ConvclinicError when nothing usable is left, a class has fewer than 3 images, or an image that judges in
    `like` is not there.
    """
    fixed = None if like is None else _parts_of(like, source)
    intake = take_in(source, shape, _cache(folder), survey=survey, progress=progress)
    store = _reading(intake)
    try:
        checked = check(source, intake, seed, fixed)
        if fixed is not None:
            judging = np.flatnonzero((fixed > 0) & (fixed < LEFT_OUT))
            _refuse_missing(like, [source.names[i] for i in np.setdiff1d(judging, checked.used).tolist()])
    except ConvclinicError:
        store.close()
        raise
    train = checked.used[checked.parts == 0]
    mean, std = moments(list(store.gather(_spaced(train, _MEASURED))))
    dataset = Dataset(
        source=str(source.path),
        classes=source.classes,
        names=[source.names[i] for i in checked.used.tolist()],
        labels=source.labels[checked.used].astype(np.int64),
        splits=checked.parts,
        rows=checked.used,
        store=store,
        deep_max=survey.deep_max,
        findings=checked.findings,
        quarantine=tuple((source.names[i], _label(source, i), why) for i, why in checked.reasons.items()),
        profile=replace(checked.profile, mean=mean, std=std),
    )
    _write(folder, dataset, checked, _digest(source, intake), source.kind)
    return dataset


def _parts_of(folder: Path, source: Source) -> NDArray[np.int8]:
    """(n,) The part that each image has in the split of the run in `folder`; left out where it has none."""
    path, fix = folder / "splits.csv", "name a run folder, such as runs/photos-1"
    if not path.is_file():
        raise ConvclinicError(f"{folder} has no splits.csv", fix=fix)
    try:
        parts = {(row["path"], row["label"]): PARTS.index(row["split"]) for row in read_csv(path)}
    except (KeyError, ValueError) as error:
        raise ConvclinicError(f"{path} is not one that convclinic wrote", fix=fix) from error
    own = [(name, _label(source, i)) for i, name in enumerate(source.names)]
    gone = parts.keys() - set(own)
    _refuse_missing(folder, sorted(name for name, label in gone if 0 < parts[name, label] < LEFT_OUT))
    return np.array([parts.get(one, LEFT_OUT) for one in own], np.int8)


def _refuse_missing(folder: Path | None, names: list[str]) -> None:
    """Who is judged on other images cannot be compared."""
    if names:
        raise ConvclinicError(
            f"{count(len(names), 'judging image')} of {folder} cannot be used here: {listed(names)}",
            fix="give the photos that it was validated and tested on, or leave --split out",
        )


def inspect(
    source: Source, *, survey: Survey, seed: int = 0, progress: Progress | None = None
) -> tuple[tuple[Finding, ...], Profile]:
    """The check-up alone: findings and profile, nothing written.

    Near duplicates are judged by thumbnails only, so fewer are found than by `assemble`.
    """
    channels = 1 if survey.gray_share == 1 else 3
    shape = (_SIDE, _SIDE, channels)
    intake = take_in(source, shape, None, survey=survey, progress=progress)
    checked = check(source, intake, seed)
    images: list[NDArray[np.uint8]] = []
    for i in _spaced(checked.used[checked.parts == 0], _INSPECTED).tolist():
        images.append(decode(source.read(i), shape, name=source.names[i], deep_max=survey.deep_max).image)
    mean, std = moments(images)
    return checked.findings, replace(checked.profile, mean=mean, std=std)


def reopen(folder: Path, progress: Progress | None = None) -> Dataset:
    """The data set that `assemble` wrote to `folder`, equal to it in every array.

    Where the cache is gone it is rebuilt from the photos. Raises ConvclinicError when they are gone or
    have changed.
    """
    saved: dict[str, Any] = read_json(folder / "data.json")
    if saved.get("format") != _FORMAT:
        raise ConvclinicError(f"{folder / 'data.json'} is of another version", fix="start a new run")
    n, h, w, c = saved["store"]
    classes = tuple(saved["classes"])
    index = {name: k for k, name in enumerate(classes)}
    names: list[str] = []
    labels: list[int] = []
    parts: list[int] = []
    for row in read_csv(folder / "splits.csv"):
        names.append(row["path"])
        labels.append(index[row["label"]])
        parts.append(PARTS.index(row["split"]))
    used = np.ones(n, np.bool_)
    used[saved["quarantined_rows"]] = False
    if int(used.sum()) != len(names):
        raise ConvclinicError(f"{folder / 'splits.csv'} was changed", fix="start a new run")
    return Dataset(
        source=saved["source"],
        classes=classes,
        names=names,
        labels=np.array(labels, np.int64),
        splits=np.array(parts, np.int8),
        rows=np.flatnonzero(used),
        store=_recover(folder, saved, (n, h, w, c), progress),
        deep_max=saved["deep_max"],
        findings=tuple(_finding(item) for item in saved["findings"]),
        quarantine=tuple(
            (row["path"], row["label"], row["reason"]) for row in read_csv(folder / "quarantine.csv")
        ),
        profile=from_dict(saved["profile"]),
    )


def divide(folder: Path, target: Path, parts: NDArray[np.int8]) -> None:
    """Write the data set in `folder`, where `assemble` wrote it, into `target` with other parts (m,) for its
    images, in the order of splits.csv: 0 train, 1 validation, 2 test, 3 left out. No image is copied."""
    saved: dict[str, Any] = read_json(folder / "data.json")
    data = reopen(folder)
    train = np.flatnonzero(parts == 0)
    mean, std = moments(list(data.images(_spaced(train, _MEASURED))))
    counts = np.bincount(data.labels[train], minlength=len(data.classes)).tolist()
    profile = replace(
        data.profile,
        n_train=len(train),
        n_validation=int((parts == 1).sum()),
        n_test=int((parts == 2).sum()),
        class_counts=dict(zip(data.classes, counts, strict=True)),
        imbalance=max(counts) / max(1, min(counts)),
        mean=mean,
        std=std,
    )
    target.mkdir(parents=True, exist_ok=True)
    rows = list(read_csv(folder / "splits.csv"))
    write_csv(
        target / "splits.csv",
        ("path", "label", "split", "group"),
        (
            (row["path"], row["label"], PARTS[part], row["group"])
            for row, part in zip(rows, parts.tolist(), strict=True)
        ),
    )
    write_csv(target / "quarantine.csv", ("path", "label", "reason"), data.quarantine)
    write_json(target / "data.json", {**saved, "profile": asdict(profile)})
    cache = _cache(target)
    if not cache.exists():
        cache.parent.mkdir(exist_ok=True)
        try:
            os.link(_cache(folder), cache)
        except OSError:  # another file system
            shutil.copyfile(_cache(folder), cache)


def _cache(folder: Path) -> Path:
    return folder / "cache" / "images.u8"


def _reading(intake: Intake) -> Store:
    assert intake.store is not None
    return intake.store


def _spaced(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of the rows, evenly spaced."""
    return (
        rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))]
        if len(rows)
        else rows
    )


def _label(source: Source, i: int) -> str:
    return source.classes[source.labels[i]] if source.labels[i] >= 0 else ""


def _digest(source: Source, intake: Intake) -> str:
    """One hash over all names and files: changes when any of them does."""
    total = hashlib.blake2b(digest_size=16)
    for name, one in zip(source.names, intake.file_hash.tolist(), strict=True):
        total.update(f"{name}\0{one:016x}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _write(folder: Path, dataset: Dataset, checked: Checked, digest: str, kind: str) -> None:
    def rows() -> Iterator[tuple[object, ...]]:
        columns = (dataset.names, dataset.labels.tolist(), dataset.splits.tolist(), checked.groups.tolist())
        for name, label, part, group in zip(*columns, strict=True):
            yield name, dataset.classes[label], PARTS[part], group

    write_csv(folder / "splits.csv", ("path", "label", "split", "group"), rows())
    write_csv(folder / "quarantine.csv", ("path", "label", "reason"), dataset.quarantine)
    write_json(
        folder / "data.json",
        {
            "format": _FORMAT,
            "source": shown(dataset.source),
            "kind": kind,
            "classes": dataset.classes,
            "store": dataset.store.shape,
            "deep_max": dataset.deep_max,
            "digest": digest,
            "quarantined_rows": list(checked.reasons),
            "profile": asdict(dataset.profile),
            "findings": [finding.to_dict() for finding in dataset.findings],
        },
    )


def _finding(item: dict[str, Any]) -> Finding:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in item.items()
    }
    values["evidence"] = tuple(Evidence(**one) for one in item["evidence"])
    return Finding(**values)


def _recover(
    folder: Path, saved: dict[str, Any], shape: tuple[int, int, int, int], progress: Progress | None
) -> Store:
    """Open the cache, or rebuild it from the photos as it was."""
    path = _cache(folder)
    if path.exists() and path.stat().st_size == np.prod(shape):
        return Store.open(path, shape)
    try:
        source = open_source(Path(saved["source"]))
    except ConvclinicError as error:
        raise ConvclinicError(
            f"the image cache {path} is gone and so are the photos: {error.message}",
            fix=f"put them back at {saved['source']}, or start a new run",
        ) from error
    changed = ConvclinicError(
        f"the photos at {saved['source']} have changed since the run began "
        f"({count(shape[0], 'image')} then, {len(source):,} now)",
        fix="put them back as they were, or start a new run",
    )
    if len(source) != shape[0]:
        raise changed
    known = Survey(np.empty(0, np.int32), np.empty(0, np.int32), 0.0, saved["deep_max"], len(source))
    intake = take_in(source, shape[1:], path, survey=known, progress=progress)
    store = _reading(intake)
    if _digest(source, intake) != saved["digest"]:
        store.close()
        path.unlink(missing_ok=True)
        raise changed
    return store
