"""Which images are set aside, and why."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convclinic.data.duplicates import exact_groups
from convclinic.data.intake import Intake
from convclinic.data.sources.base import TEST, VALIDATION, Source
from convclinic.data.words import listed

CONFLICT = "the same picture under different labels"
LEAK = "duplicate of a {0} image"
_NAMES = {VALIDATION: "validation", TEST: "test"}


def set_aside(source: Source, intake: Intake, groups: NDArray[np.int64]) -> dict[int, str]:
    """Reason for each image that must not be used, by index, ascending.

    Broken files; all copies of a picture that appears under different labels, since not all can be right;
    and training images that repeat a given test or validation image (or validation images that repeat a
    test image), since they would make the result look better than it is.
    """
    reasons = dict(intake.reason)
    reasons |= _conflicts(source, intake)
    reasons |= _leaks(source, groups, reasons)
    return dict(sorted(reasons.items()))


def _conflicts(source: Source, intake: Intake) -> dict[int, str]:
    groups = exact_groups(intake)
    labels = source.labels
    unlike = np.flatnonzero(labels != labels[groups])
    found: dict[int, str] = {}
    for group in np.unique(groups[unlike]).tolist():
        copies = np.flatnonzero(groups == group)
        names = [source.classes[k] for k in np.unique(labels[copies]).tolist()]
        found |= dict.fromkeys(copies.tolist(), f"{CONFLICT}: {listed(names)}")
    return found


def _leaks(source: Source, groups: NDArray[np.int64], known: dict[int, str]) -> dict[int, str]:
    parts = source.splits.astype(np.int64)
    parts[list(known)] = -2  # takes no part
    found: dict[int, str] = {}
    for judge in (TEST, VALIDATION):
        judged = np.unique(groups[parts == judge])
        below = np.isin(groups, judged) & (parts < judge) & (parts > -2)
        found |= dict.fromkeys(np.flatnonzero(below).tolist(), LEAK.format(_NAMES[judge]))
        parts[below] = -2
    return found
