"""Class folders: from a list of names to labels and given splits."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convclinic.data.sources.base import FREE, TRAIN
from convclinic.data.sources.naming import SPLITS, sort_names
from convclinic.data.words import count, examples, listed, shown
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding

EXPECTED = "expected photos/<class>/*.jpg, or photos/train/<class>/*.jpg and photos/test/<class>/*.jpg"
SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Layout:
    """Which names are used and what their folders say; `keep` (m,) are positions into the names given."""

    keep: NDArray[np.int64]
    labels: NDArray[np.int32]
    splits: NDArray[np.int8]
    classes: tuple[str, ...]
    prefix: str
    tops: frozenset[str]
    findings: tuple[Finding, ...]


@dataclass
class _Tops:
    """What lies directly under the data set's own folder."""

    direct: int = 0
    images: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    folders: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def lay_out(names: list[str], root: Path) -> Layout:
    """Read classes and splits off the folders of `names` (sorted, with '/', at least one).

    Raises ConvclinicError when there are no class folders or only one class.
    """
    prefix, tops = _unwrap(names)
    roles = _roles(tops)
    if roles is None and not tops.folders and not tops.images:
        raise ConvclinicError(
            f"{root} holds images directly, without class folders",
            fix=f"{EXPECTED}; or give a CSV file with the columns path and label",
        )
    labels, splits, findings = _assign(names, len(prefix), roles)
    classes, labels, more = _keep_trainable(labels, splits, roles)
    if not len(classes):
        raise ConvclinicError(f"the train folder of {root} has no class folders", fix=EXPECTED)
    if len(classes) == 1:
        raise ConvclinicError(f"{root} has one class only, '{shown(classes[0])}'", fix=EXPECTED)
    keep = np.flatnonzero(labels >= 0)
    return Layout(
        keep,
        labels[keep],
        splits[keep],
        tuple(shown(name) for name in classes),
        prefix,
        frozenset(tops.images) | frozenset(tops.folders),
        (*findings, *more),
    )


def _tops(names: list[str], start: int) -> _Tops:
    tops = _Tops()
    for name in names:
        parts = name[start:].split("/", 2)
        if len(parts) == 1:
            tops.direct += 1
        elif len(parts) == 2:
            tops.images[parts[0]] += 1
        else:
            tops.folders[parts[0]].add(parts[1])
    return tops


def _unwrap(names: list[str]) -> tuple[str, _Tops]:
    """Descend through single folders, such as trashnet-256/<class>, down to the class or split folders."""
    prefix = ""
    while True:
        tops = _tops(names, len(prefix))
        every = set(tops.images) | set(tops.folders)
        if tops.direct or len(every) != 1:
            return prefix, tops
        (only,) = every
        inside = len(tops.folders.get(only, ()))
        if not inside or (tops.images.get(only) and inside < 2):
            return prefix, tops
        prefix += only + "/"


def _roles(tops: _Tops) -> dict[str, int] | None:
    """Which top folders are splits; None when the top folders are the classes.

    A class may be called "train" (the vehicle), so a lone split name among other folders counts for
    nothing, and two count only if they hold folders of the same names.
    """
    every = sorted(set(tops.images) | set(tops.folders))
    known = {top: SPLITS[top.casefold()] for top in every if top.casefold() in SPLITS}
    if TRAIN not in known.values() or len(set(known.values())) < 2:
        return None
    if len(known) == len(every):
        return known
    inside = [tops.folders[top] for top in known if top in tops.folders]
    return known if len(inside) > 1 and set.intersection(*inside) else None


def _assign(
    names: list[str], start: int, roles: dict[str, int] | None
) -> tuple[list[str], NDArray[np.int8], list[Finding]]:
    """The class name of each image ("" where it has none), its split, and what was odd."""
    found: dict[str, list[str]] = {"stray": [], "unlabelled": [], "nested": []}
    splits = array("b", [FREE]) * len(names)
    classes: list[str] = []
    intern: dict[str, str] = {}
    for i, name in enumerate(names):
        parts = name[start:].split("/", 3)
        if roles is not None:
            role = roles.get(parts.pop(0)) if len(parts) > 1 else None
            if role is not None:
                splits[i] = role
            if role is None or len(parts) == 1:
                found["stray" if role is None else "unlabelled"].append(name)
                classes.append("")
                continue
        elif len(parts) == 1:
            found["stray"].append(name)
            classes.append("")
            continue
        classes.append(intern.setdefault(parts[0], parts[0]))
        if len(parts) > 2:
            found["nested"].append(name)
    return classes, np.frombuffer(splits, np.int8).copy(), _oddities(found)


def _oddities(found: dict[str, list[str]]) -> list[Finding]:
    findings: list[Finding] = []
    for cause, words, remedy in (
        ("stray", "outside the class folders", "move them into a class folder if they belong to one"),
        ("unlabelled", "in a split folder without a class folder", "they can be named with predict"),
    ):
        if found[cause]:
            summary = f"{count(len(found[cause]), 'image')} {words}"
            findings.append(
                Finding(
                    f"{cause}_images",
                    "warning",
                    summary=summary,
                    action="ignored",
                    remedies=(remedy,),
                    examples=examples(found[cause]),
                )
            )
    if found["nested"]:
        findings.append(
            Finding(
                "nested_folders",
                "info",
                summary=f"{count(len(found['nested']), 'image')} in folders below a class folder",
                action="kept; each belongs to the class of its top folder",
                examples=examples(found["nested"]),
            )
        )
    return findings


def _keep_trainable(
    names: list[str], splits: NDArray[np.int8], roles: dict[str, int] | None
) -> tuple[list[str], NDArray[np.int32], list[Finding]]:
    """Classes in natural order and each image's index; a class without training images is dropped."""
    by_split: dict[int, set[str]] = {role: set() for role in (roles or {}).values()} or {FREE: set()}
    for name, role in zip(names, splits.tolist(), strict=True):
        if name:
            by_split[role].add(name)
    trained = by_split.get(TRAIN, by_split.get(FREE, set()))
    classes = list(trained)
    sort_names(classes)
    index = {name: k for k, name in enumerate(classes)}
    labels = np.fromiter((index.get(name, -1) for name in names), np.int32, len(names))
    findings: list[Finding] = []
    for role, there in sorted(by_split.items()):
        if not there:  # a split without any class folder: told of already
            continue
        extra, absent = sorted(there - trained), sorted(trained - there)
        for which, words, action in (
            (extra, "not in train", "set aside: what has no training images cannot be learnt"),
            (absent, "in train but not here", "kept; such a class is not measured"),
        ):
            if which:
                findings.append(
                    Finding(
                        "class_folders_differ",
                        "warning",
                        where=SPLIT_NAMES[role],
                        summary=f"{SPLIT_NAMES[role]}: {count(len(which), 'class', 'classes')} {words}: "
                        f"{listed(which)}",
                        action=action,
                        examples=examples(which),
                        remedies=("check the spelling of the class folders in every split",),
                    )
                )
    return classes, labels, findings
