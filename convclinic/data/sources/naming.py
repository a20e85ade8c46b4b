"""What file names say: which are images, which are clutter, and in which order they come."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from convclinic.ground.errors import ConvclinicError

# What Pillow calls the content of a file with this extension. None: an image that Pillow cannot read.
FORMATS: dict[str, frozenset[str]] = {
    ".jpg": frozenset({"JPEG", "MPO"}),
    ".jpeg": frozenset({"JPEG", "MPO"}),
    ".jpe": frozenset({"JPEG", "MPO"}),
    ".jfif": frozenset({"JPEG", "MPO"}),
    ".mpo": frozenset({"JPEG", "MPO"}),
    ".png": frozenset({"PNG"}),
    ".apng": frozenset({"PNG"}),
    ".gif": frozenset({"GIF"}),
    ".bmp": frozenset({"BMP", "DIB"}),
    ".dib": frozenset({"BMP", "DIB"}),
    ".webp": frozenset({"WEBP"}),
    ".tif": frozenset({"TIFF"}),
    ".tiff": frozenset({"TIFF"}),
    ".pgm": frozenset({"PPM"}),
    ".ppm": frozenset({"PPM"}),
    ".pbm": frozenset({"PPM"}),
    ".pnm": frozenset({"PPM"}),
    ".avif": frozenset({"AVIF"}),
    ".jp2": frozenset({"JPEG2000"}),
    ".j2k": frozenset({"JPEG2000"}),
    ".tga": frozenset({"TGA"}),
    ".ico": frozenset({"ICO"}),
    ".pcx": frozenset({"PCX"}),
    ".heic": frozenset(),
    ".heif": frozenset(),
}
# likely ones first; an MPO is opened by Pillow's JPEG reader and has none of its own
OPENED = tuple(dict.fromkeys(name for names in FORMATS.values() for name in sorted(names - {"MPO"})))
SPLITS = {
    **dict.fromkeys(("train", "training", "trainset", "train_set"), 0),
    **dict.fromkeys(("val", "valid", "validation", "dev", "validate"), 1),
    **dict.fromkeys(("test", "testing", "holdout", "testset", "test_set"), 2),
}
_CLUTTER = {"__macosx", "thumbs.db", "desktop.ini"}
_DIGITS = re.compile(r"[0-9]+")
_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP",
)


def is_clutter(part: str) -> bool:
    """Hidden files and what operating systems leave behind.

    >>> is_clutter(".DS_Store"), is_clutter("__MACOSX"), is_clutter("cat.jpg")
    (True, True, False)
    """
    return part.startswith(".") or part.casefold() in _CLUTTER


def is_image_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in FORMATS


def is_magic(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of an image."""
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def looks_like_image(path: Path) -> bool:
    """By name, or by content where the name says nothing."""
    if is_image_name(path.name):
        return True
    with open(path, "rb") as file:
        return is_magic(file.read(16))


def natural(name: str) -> str:
    """A sort key that puts 2 before 10 and keeps folders together.

    >>> sorted(["b/10.jpg", "b/2.jpg", "a b/1.jpg", "a/1.jpg"], key=natural)
    ['a/1.jpg', 'a b/1.jpg', 'b/2.jpg', 'b/10.jpg']
    """
    return _DIGITS.sub(lambda digits: digits[0].zfill(16), name.replace("/", "\0"))


def sort_names(names: list[str]) -> None:
    """Sort in place, naturally; names that differ only in leading zeros have an order too."""
    names.sort()
    names.sort(key=natural)


def tidy(name: str) -> str:
    """A member's or a CSV's path in one spelling.

    >>> tidy("./cat\\\\1.jpg")
    'cat/1.jpg'
    """
    name = name.replace("\\", "/")
    while name.startswith("./"):
        name = name[2:]
    return name


def no_images(where: Path, seen: int) -> ConvclinicError:
    what = f"holds no images, only {seen} other files" if seen else "is empty"
    return ConvclinicError(f"{where} {what}", fix="put photos there as photos/<class>/*.jpg")
