"""The check-up of a data set: what is unusual, what was done about it, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convclinic.data import decode
from convclinic.data.duplicates import exact_groups
from convclinic.data.intake import Intake
from convclinic.data.quarantine import CONFLICT, set_aside
from convclinic.data.sources.base import Source
from convclinic.data.words import count, examples
from convclinic.kinds import Evidence, Finding, Severity

FEW_IMAGES = 20  # below this a class is hardly learnt
IMBALANCE_TOLD, IMBALANCE_WARNED = 10, 30
_TINY = 16  # pixels of the short side
_MIXED_GRAY = (0.005, 0.995)  # share of gray images between which a mix is told of


class _Words(NamedTuple):
    cause: str
    severity: Severity
    summary: str
    action: str
    remedy: str


_FAILURES = {
    decode.EMPTY: ("empty_file", "{0} with no bytes in it", "copy them again"),
    decode.NOT_AN_IMAGE: ("not_an_image", "{0} named like an image but something else", "remove them"),
    decode.TRUNCATED: ("truncated_file", "{0} cut off before the end", "copy or download them again"),
    decode.TOO_LARGE: ("decompression_bomb", "{0} of more than 200 megapixels", "make them smaller"),
    decode.UNREADABLE: ("unreadable_file", "{0} that cannot be decoded", "save them again as PNG or JPEG"),
}
_TRAITS = {
    decode.WRONG_EXTENSION: _Words(
        "wrong_extension", "info", "{0} in another format than the extension says",
        "kept; read by content", "rename them if other programs must read them",
    ),
    decode.DEEP16: _Words(
        "sixteen_bit", "info", "{0} with more than 8 bits a channel",
        "kept; all gray levels scaled into 8 bits, none clipped", "",
    ),
    decode.FLOAT: _Words(
        "float_image", "info", "{0} of floating-point values",
        "kept; values outside [0, 1] are stretched from the image's minimum to its maximum",
        "save them with one common scale if absolute brightness matters",
    ),
    decode.ALPHA: _Words("alpha", "info", "{0} with transparency", "kept; put on white", ""),
    decode.PALETTE: _Words("palette", "info", "{0} with a palette of colours", "kept; converted to RGB", ""),
    decode.CMYK: _Words("cmyk", "info", "{0} in printing colours (CMYK)", "kept; converted to RGB", ""),
    decode.EXIF_ROTATED: _Words(
        "exif_rotated", "info", "{0} stored turned, with a note how to turn it back",
        "kept; turned upright", ""
    ),
    decode.ANIMATED: _Words(
        "animated", "info", "{0} with several frames", "kept; the first frame is used", ""
    ),
}  # fmt: skip


def check_up(source: Source, intake: Intake, groups: NDArray[np.int64]) -> list[Finding]:
    """Everything found in a data set, gravest first. `groups` (n,) are those of `duplicate_groups`."""
    reasons = set_aside(source, intake, groups)
    used = intake.ok.copy()
    used[list(reasons)] = False
    findings = [
        *source.findings,
        *_failures(source, intake),
        *_unusual(source, intake),
        *_sizes(source, intake),
        *_duplicates(source, intake, groups, reasons),
        *_parted_groups(source),
        *_classes(source, used),
    ]
    rank = {"critical": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: rank[finding.severity])


def _names(source: Source, where: Iterable[int]) -> tuple[str, ...]:
    return examples(source.names[i] for i in where)


def _failures(source: Source, intake: Intake) -> Iterator[Finding]:
    by_reason: dict[str, list[int]] = {}
    for i, reason in sorted(intake.reason.items()):
        by_reason.setdefault(reason, []).append(i)
    for reason, where in by_reason.items():
        cause, words, remedy = _FAILURES.get(
            reason, ("unreadable_file", f"{{0}} that {reason}", "check the disk and the permissions")
        )
        yield Finding(
            cause, "warning", summary=words.format(count(len(where), "file")), action="set aside",
            evidence=(Evidence("images", len(where), "0"),), examples=_names(source, where),
            remedies=(remedy,),
        )  # fmt: skip


def _unusual(source: Source, intake: Intake) -> Iterator[Finding]:
    for trait, words in _TRAITS.items():
        where = np.flatnonzero(intake.traits & trait)
        if len(where):
            yield Finding(
                words.cause, words.severity, summary=words.summary.format(count(len(where), "image")),
                action=words.action, examples=_names(source, where.tolist()),
                remedies=(words.remedy,) if words.remedy else (),
            )  # fmt: skip
    gray = intake.ok & ((intake.traits & decode.GRAY) > 0)
    share = gray.sum() / max(intake.ok.sum(), 1)
    if _MIXED_GRAY[0] < share < _MIXED_GRAY[1]:
        few = gray if share <= 0.5 else intake.ok & ~gray
        yield Finding(
            "mixed_gray", "info",
            summary=f"{count(int(gray.sum()), 'gray image')} among {count(int(intake.ok.sum()), 'image')}",
            action="kept; gray ones get three equal channels where the net sees colour",
            examples=_names(source, np.flatnonzero(few).tolist()),
            remedies=("if one class is gray and another is not, the net may learn just that",),
        )  # fmt: skip


def _sizes(source: Source, intake: Intake) -> Iterator[Finding]:
    short = np.minimum(intake.heights, intake.widths)
    tiny = np.flatnonzero(intake.ok & (short < _TINY))
    if len(tiny):
        yield Finding(
            "tiny_image", "info",
            summary=f"{count(len(tiny), 'image')} under {_TINY} pixels on the short side",
            action="kept; enlarged", examples=_names(source, tiny.tolist()),
        )  # fmt: skip
    good = np.flatnonzero(intake.ok)
    if len(good) < FEW_IMAGES:
        return
    ratio = np.log(intake.heights[good] / intake.widths[good])
    area = np.log(intake.heights[good].astype(np.float64) * intake.widths[good])
    odd = (np.abs(ratio - np.median(ratio)) > np.log(2.5)) | (np.abs(area - np.median(area)) > np.log(16))
    if odd.any():
        yield Finding(
            "size_outliers", "info",
            summary=f"{count(int(odd.sum()), 'image')} of a size or shape far from the others",
            action="kept; squashed to the common shape", examples=_names(source, good[odd].tolist()),
        )  # fmt: skip


def _duplicates(
    source: Source, intake: Intake, groups: NDArray[np.int64], reasons: dict[int, str]
) -> Iterator[Finding]:
    exact = exact_groups(intake)
    _, sizes = np.unique(exact, return_counts=True)
    more = np.flatnonzero(exact != np.arange(len(exact)))
    if len(more):
        yield Finding(
            "exact_duplicates", "warning",
            summary=f"{count(int((sizes > 1).sum()), 'picture')} stored more than once, "
            f"{count(len(more), 'copy', 'copies')} too many",
            action="kept in one part of the split, unless told otherwise below",
            examples=_names(source, more.tolist()),
            remedies=("remove the copies: they count double in training",),
        )  # fmt: skip
    near = np.flatnonzero((groups != np.arange(len(groups))) & (exact == np.arange(len(groups))))
    if len(near):
        unlike = int((source.labels[near] != source.labels[groups[near]]).sum())
        yield Finding(
            "near_duplicates", "warning" if unlike else "info",
            summary=f"{count(len(near), 'image')} nearly the same as another"
            + (f", {unlike} of them under another label" if unlike else ""),
            action="kept in one part of the split, unless told otherwise below",
            examples=tuple(f"{a} ~ {b}" for a, b in zip(
                _names(source, near.tolist()), _names(source, groups[near].tolist()), strict=True
            )),
        )  # fmt: skip
    conflict = [i for i, reason in reasons.items() if reason.startswith(CONFLICT)]
    if conflict:
        yield Finding(
            "conflicting_labels", "warning",
            summary=f"{count(len(conflict), 'file')} showing the same picture under different labels",
            action="set aside, all copies: they cannot all be right", examples=_names(source, conflict),
            remedies=("look at them, keep the copy with the right label and remove the others",),
        )  # fmt: skip
    leaks = [i for i, reason in reasons.items() if reason.startswith("duplicate of")]
    if leaks:
        yield Finding(
            "split_leak", "warning",
            summary=f"{count(len(leaks), 'image')} repeating an image of the given test or validation part",
            action="set aside from training: what was seen in training measures nothing",
            examples=_names(source, leaks), remedies=("remove them from the training folder",),
        )  # fmt: skip


def _parted_groups(source: Source) -> Iterator[Finding]:
    """Source groups that the given split parts."""
    if source.groups is None or not (source.splits > 0).any():
        return
    parts = np.maximum(source.splits, 0)
    n = int(source.groups.max()) + 1
    present = np.stack([np.bincount(source.groups[parts == part], minlength=n) > 0 for part in range(3)])
    crossing = present.sum(0) > 1
    if crossing.any():
        where = np.flatnonzero(crossing[source.groups])
        yield Finding(
            "group_leak", "warning",
            summary=f"{count(int(crossing.sum()), 'group')} in more than one part of the given split",
            action="kept as given", examples=_names(source, where.tolist()),
            remedies=("leave the split column out: then no group is parted",),
        )  # fmt: skip


def _classes(source: Source, used: NDArray[np.bool_]) -> Iterator[Finding]:
    if not source.classes:
        return
    counts = np.bincount(source.labels[used], minlength=len(source.classes))
    small = np.flatnonzero(counts < FEW_IMAGES)
    if len(small):
        yield Finding(
            "class_too_small", "warning",
            summary=f"{count(len(small), 'class', 'classes')} with fewer than {FEW_IMAGES} usable images: "
            + ", ".join(f"'{source.classes[k]}' ({counts[k]})" for k in small[:5].tolist()),
            action="kept", examples=tuple(source.classes[k] for k in small[:5].tolist()),
            remedies=("add images; results for such a class are mostly chance",),
        )  # fmt: skip
    ratio = float(counts.max() / max(counts.min(), 1))
    if ratio > IMBALANCE_TOLD:
        most, least = int(counts.argmax()), int(counts.argmin())
        yield Finding(
            "class_imbalance", "warning" if ratio > IMBALANCE_WARNED else "info",
            summary=f"'{source.classes[most]}' has {ratio:.0f} times the images of '{source.classes[least]}' "
            f"({counts[most]:,} and {counts[least]:,})",
            evidence=(Evidence("largest over smallest class", ratio, f"at most {IMBALANCE_TOLD}"),),
            action="kept; classes keep their shares in every part of the split",
            remedies=("judge by balanced accuracy", "try a trick of the slot 'balance'"),
        )  # fmt: skip
