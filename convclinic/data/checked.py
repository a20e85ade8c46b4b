"""What follows once the images are in: duplicates, quarantine, split, findings, profile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convclinic.data.checkup import check_up
from convclinic.data.decode import GRAY
from convclinic.data.duplicates import duplicate_groups, join_groups
from convclinic.data.intake import Intake
from convclinic.data.profile import Profile, quantiles
from convclinic.data.quarantine import set_aside
from convclinic.data.sources.base import FREE, Source
from convclinic.data.split import split
from convclinic.data.words import count, shown
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding

FEWEST = 3  # images a class needs: one for each part


@dataclass(frozen=True)
class Checked:
    """A source after the check-up.

    reasons: index -> why it is set aside; used (m,) indices of the rest; parts (m,) and groups (m,) theirs;
    the profile still lacks mean and std.
    """

    findings: tuple[Finding, ...]
    reasons: dict[int, str]
    used: NDArray[np.int64]
    parts: NDArray[np.int8]
    groups: NDArray[np.int64]
    profile: Profile


def check(source: Source, intake: Intake, seed: int, fixed: NDArray[np.int8] | None = None) -> Checked:
    """Check and split the images; `fixed` (n,) parts take the place of a split.

    Raises ConvclinicError when nothing usable is left or a class is too small.
    """
    if not intake.ok.any():
        first = [f"{shown(source.names[i])}: {why}" for i, why in sorted(intake.reason.items())[:3]]
        raise ConvclinicError(
            f"none of the {count(len(source), 'file')} in {source.path} is an image that can be read; "
            + "; ".join(first),
            fix="open one of them in an image viewer",
        )
    twins = duplicate_groups(intake, source)
    reasons = set_aside(source, intake, twins)
    usable = np.ones(len(source), np.bool_)
    usable[list(reasons)] = False
    _refuse_small(source, usable, fixed)
    groups = join_groups(twins, source.groups)
    if fixed is None:
        parts = split(np.where(usable, source.labels, -1), groups, source.splits, seed)
    else:
        parts = np.where(usable, fixed, FREE).astype(np.int8)
    _refuse_empty(source, parts, groups)
    used = np.flatnonzero(usable)
    findings = check_up(source, intake, twins)
    return Checked(
        findings=tuple(findings),
        reasons=reasons,
        used=used,
        parts=parts[used],
        groups=groups[used],
        profile=_profile(source, intake, twins, used, parts[used]),
    )


def _refuse_small(source: Source, usable: NDArray[np.bool_], fixed: NDArray[np.int8] | None) -> None:
    counts = np.bincount(source.labels[usable], minlength=len(source.classes))
    training = usable & ((source.splits if fixed is None else fixed) <= 0)
    trained = np.bincount(source.labels[training], minlength=len(source.classes))
    for k, name in enumerate(source.classes):
        if counts[k] < FEWEST:
            raise ConvclinicError(
                f"class '{name}' has {count(int(counts[k]), 'usable image')}; at least {FEWEST} are needed",
                fix="add images or remove the folder; convclinic check lists what was set aside",
            )
        if not trained[k]:
            raise ConvclinicError(
                f"class '{name}' has no training image",
                fix="move some of its images to the train part"
                if fixed is None
                else "leave --split out: that run trained on none either",
            )


def _refuse_empty(source: Source, parts: NDArray[np.int8], groups: NDArray[np.int64]) -> None:
    for part, name in ((1, "validation"), (2, "test")):
        if not (parts == part).any():
            distinct = [
                len(np.unique(groups[(parts >= 0) & (source.labels == k)]))
                for k in range(len(source.classes))
            ]
            fewest = int(np.argmin(distinct))
            raise ConvclinicError(
                f"no image is left for {name}: class '{source.classes[fewest]}' has "
                f"{count(distinct[fewest], 'image')} that belong to no other's group and are no copies",
                fix="add images; convclinic check lists the copies",
            )


def _profile(
    source: Source, intake: Intake, twins: NDArray[np.int64], used: NDArray[np.int64], parts: NDArray[np.int8]
) -> Profile:
    counts = np.bincount(source.labels[used[parts == 0]], minlength=len(source.classes))
    sizes = np.bincount(twins)
    return Profile(
        n_train=int((parts == 0).sum()),
        n_validation=int((parts == 1).sum()),
        n_test=int((parts == 2).sum()),
        class_counts=dict(zip(source.classes, counts.tolist(), strict=True)),
        heights=quantiles(intake.heights[used]),
        widths=quantiles(intake.widths[used]),
        gray=bool((intake.traits[used] & GRAY).all()),
        n_set_aside=len(source) - len(used),
        n_duplicate_groups=int((sizes > 1).sum()),
        imbalance=float(counts.max() / max(counts.min(), 1)),
        given_split=bool((source.splits > 0).any()),
        grouped=source.groups is not None,
        mean=(),
        std=(),
    )
