"""Which images train, which choose between models (validation) and which judge at the end (test)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convclinic.data.seeding import rng
from convclinic.data.sources.base import FREE, TEST, TRAIN, VALIDATION

SHARE = 0.15  # of the images for validation, and as much for the test
MOST = {VALIDATION: 2_500, TEST: 10_000}  # more than this measures no better: +-1 % at 2,500
_ENOUGH = 50  # images from which on a given validation split is kept

Ints = NDArray[np.integer]


def split(
    labels: Ints,
    groups: Ints | None,
    given: Ints | None,
    seed: int,
    fractions: tuple[float, float] | None = None,
) -> NDArray[np.int8]:
    """Part of each image (n,): 0 train, 1 validation, 2 test, -1 set aside (label below 0).

    Classes keep their shares in every part and a group is never parted. `given` (n,) parts are honoured,
    -1 is free; a missing test or validation part is taken out of train. `fractions` (validation, test)
    replaces the default of 15 % each, at most 2,500 and 10,000 images. The same seed gives the same split.
    """
    labels = np.asarray(labels, np.int64)
    out = np.full(len(labels), FREE, np.int8)
    usable = labels >= 0
    parts = np.full(len(labels), FREE, np.int64) if given is None else np.asarray(given, np.int64)
    kept = _kept(parts[usable], int(labels.max(initial=0)) + 1)
    for part in kept:
        out[usable & (parts == part)] = part
    pool = np.flatnonzero(usable & (out == FREE))
    wanted = [part for part in (VALIDATION, TEST) if part not in kept]
    shares = _shares(len(pool), wanted, fractions)
    group = pool if groups is None else np.asarray(groups, np.int64)[pool]
    out[pool] = _divide(labels[pool], group, shares, seed)
    return out


def _kept(parts: NDArray[np.int64], n_classes: int) -> set[int]:
    """The given parts that stay as they are; too small a validation part without a test is dissolved."""
    kept = {part for part in (VALIDATION, TEST) if (parts == part).any()}
    small = int((parts == VALIDATION).sum()) < max(2 * n_classes, _ENOUGH)
    return set() if kept == {VALIDATION} and small else kept


def _shares(n: int, wanted: list[int], fractions: tuple[float, float] | None) -> NDArray[np.float64]:
    """(3,) share of the pool for train, validation and test."""
    shares = np.zeros(3)
    for part in wanted:
        default = min(SHARE, MOST[part] / max(n, 1))
        shares[part] = default if fractions is None else fractions[part - 1]
    shares[TRAIN] = 1 - shares[VALIDATION] - shares[TEST]
    return shares


def _divide(
    labels: NDArray[np.int64], groups: NDArray[np.int64], shares: NDArray[np.float64], seed: int
) -> NDArray[np.int8]:
    """Parts of the pool (m,): groups of several images first, then single images fill up each class."""
    if not len(labels):
        return np.empty(0, np.int8)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    target = shares[:, None] * np.bincount(labels)[None, :]
    have = np.zeros_like(target)
    part = np.full(len(sizes), TRAIN, np.int8)
    draw = rng(seed, "split")
    shuffled = draw.permutation(len(sizes))
    together = shuffled[sizes[shuffled] > 1]
    _place_groups(together[np.argsort(-sizes[together], kind="stable")], labels, group, target, have, part)
    single = np.flatnonzero(sizes[group] == 1)
    _place_singles(draw.permutation(single), labels, group, target, have, part)
    _repair(labels, group, shares, part)
    return part[group]


def _place_groups(
    order: NDArray[np.int64],
    labels: NDArray[np.int64],
    group: NDArray[np.int64],
    target: NDArray[np.float64],
    have: NDArray[np.float64],
    part: NDArray[np.int8],
) -> None:
    """Give each group to the part whose class counts it brings closest to target (chi-squared)."""
    by_group = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[by_group], np.arange(len(part) + 1))
    weight = np.where(target > 0, 1 / np.maximum(target, 1e-9), 1e9)
    for g in order.tolist():
        classes, counts = np.unique(labels[by_group[starts[g] : starts[g + 1]]], return_counts=True)
        missing = target[:, classes] - have[:, classes]
        gain = (counts * (2 * missing - counts) * weight[:, classes]).sum(1)
        best = int(gain.argmax())
        part[g] = best
        have[best, classes] += counts


def _place_singles(
    order: NDArray[np.int64],
    labels: NDArray[np.int64],
    group: NDArray[np.int64],
    target: NDArray[np.float64],
    have: NDArray[np.float64],
    part: NDArray[np.int8],
) -> None:
    """Fill validation and test of each class up to target; the rest trains.

    Targets are rounded so that their running sums are right: hundreds of small classes would otherwise
    add up to far too much or too little.
    """
    goal = np.diff(np.rint(target.cumsum(1)), axis=1, prepend=0)
    goal = np.maximum(goal, target > 0).astype(np.int64)
    for k in range(target.shape[1]):
        mine = order[labels[order] == k]
        spare = len(mine) - int(have[TRAIN, k] == 0)  # train comes first where there is little
        for p in (TEST, VALIDATION):
            need = int(goal[p, k]) - int(have[p, k])
            take = min(max(need, 0), max(spare, 0))
            part[group[mine[:take]]] = p
            mine = mine[take:]
            spare -= take


def _repair(
    labels: NDArray[np.int64], group: NDArray[np.int64], shares: NDArray[np.float64], part: NDArray[np.int8]
) -> None:
    """A class of three groups or more is present in every part: move its smallest group where it lacks."""
    wanted = [p for p in (TRAIN, VALIDATION, TEST) if shares[p] > 0]
    sizes = np.bincount(group)
    for k in range(int(labels.max()) + 1):
        mine = np.unique(group[labels == k])
        for p in wanted if len(mine) >= 3 else ():
            counts = np.bincount(part[mine], minlength=3)
            if counts[p]:
                continue
            movable = mine[counts[part[mine]] > 1]
            if len(movable):
                part[movable[sizes[movable].argmin()]] = p
