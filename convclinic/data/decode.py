"""One file or array -> one uint8 image, or the reason why not.

Nothing is guessed silently: what was unusual about a file is told by `traits`, what cannot be read raises
`Unreadable`, and no warning of Pillow's leaks out.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convclinic.data.levels import round_off, stretch
from convclinic.data.quiet import quiet
from convclinic.data.sources.base import Raw
from convclinic.data.sources.naming import FORMATS, OPENED, is_magic

Image.init()  # registers every format: Image.open knows a few of those named to it only after this

T = TypeVar("T")
GRAY, ALPHA, PALETTE, CMYK, DEEP16, EXIF_ROTATED, ANIMATED, WRONG_EXTENSION, FLOAT = (
    1 << k for k in range(9)
)
REASONS = ("empty file", "not an image", "truncated", "too large (decompression bomb)", "unreadable")
EMPTY, NOT_AN_IMAGE, TRUNCATED, TOO_LARGE, UNREADABLE = REASONS

_GRAY_MODES = {"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F"}
_DEEP_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I"}
_ALPHA_MODES = {"RGBA", "RGBa", "LA", "La", "PA"}
_STILL = {"JPEG", "MPO", "BMP", "DIB", "PPM", "TGA", "PCX", "ICO"}  # an MPO is a photo with its preview
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(Exception):
    """This file is no image that can be decoded; `reason` is one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """An image (h, w, c) uint8, its original height and width (upright), and what was unusual."""

    image: NDArray[np.uint8]
    height: int
    width: int
    traits: int


def decode(raw: Raw, shape: tuple[int, int, int] | None, *, name: str, deep_max: int = 65535) -> Decoded:
    """Decode a file's bytes, or take an array (h, w) or (h, w, c), and resize it to `shape` (h, w, c).

    The whole picture is kept: it is squashed to the shape, with antialiasing. Transparent parts become
    white, EXIF rotation is applied, of an animation the first frame is taken. Deep images are scaled by
    255 / deep_max, or by their own depth where that is larger; float images lie in [0, 1] or are stretched
    from their minimum to their maximum. Without `shape`, c is 1 for gray images and 3 for the rest.
    Raises Unreadable.
    """
    if isinstance(raw, np.ndarray):
        image, traits = _from_array(raw, deep_max)
        return _finish(image, shape, traits, 1)
    with quiet:
        return _guarded(raw, lambda image: _from_file(image, shape, name, deep_max))


def header(raw: Raw) -> tuple[int, int, str]:
    """Height, width (upright) and Pillow's mode, without decoding pixels. Raises Unreadable."""
    if isinstance(raw, np.ndarray):
        colour = raw.ndim == 3 and raw.shape[2] >= 3
        mode = {"u": "I;16" if raw.itemsize > 1 else "L", "i": "I", "f": "F"}[raw.dtype.kind]
        return raw.shape[0], raw.shape[1], "RGB" if colour else mode
    with quiet:
        return _guarded(raw, lambda image: (*_upright(image.size, _orientation(image)), image.mode))


def largest_value(raw: Raw) -> float:
    """The largest pixel value of a deep image, to find the depth of a data set. Raises Unreadable."""
    if isinstance(raw, np.ndarray):
        return float(raw.max())
    with quiet:
        return _guarded(raw, lambda image: float(np.asarray(image).max()))


def _guarded(raw: bytes, use: Callable[[Image.Image], T]) -> T:
    """Open the file and use the image; whatever a parser makes of a broken file becomes a reason."""
    if not raw:
        raise Unreadable(EMPTY)
    if raw[-1] == 0 and raw.startswith(b"\xff\xd8") and not raw.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise Unreadable(
            TRUNCATED
        )  # a download cut short in a file made to size: Pillow would fill it with gray
    try:
        with Image.open(io.BytesIO(raw), formats=OPENED) as image:
            return use(image)
    except Image.DecompressionBombError as error:
        raise Unreadable(TOO_LARGE) from error
    except Exception as error:  # parsers of broken files raise anything: SyntaxError, struct.error, KeyError
        raise Unreadable(_reason(raw, error)) from error


def _reason(raw: bytes, error: Exception) -> str:
    words = str(error).lower()
    if isinstance(error, EOFError) or "truncat" in words or "unexpected end" in words:
        return TRUNCATED
    if not isinstance(error, Image.UnidentifiedImageError):
        return UNREADABLE
    if raw.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        whole = raw.endswith((b"\xff\xd9", b"IEND\xaeB`\x82"))
        return UNREADABLE if whole else TRUNCATED
    return UNREADABLE if is_magic(raw[:16]) or raw[4:8] == b"ftyp" else NOT_AN_IMAGE


def _upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Height and width after turning, from Pillow's (width, height)."""
    width, height = size
    return (width, height) if orientation >= 5 else (height, width)


def _orientation(image: Image.Image) -> int:
    """1 (upright) to 8, from EXIF. TIFF images are turned by Pillow itself."""
    if "exif" not in image.info or image.format == "TIFF":
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF is no reason to lose the picture
        return 1
    return value if value in _TURNS else 1


def _traits(image: Image.Image, name: str, orientation: int) -> int:
    """What the header alone tells."""
    mode = image.mode
    allowed = FORMATS.get(os.path.splitext(name)[1].lower())  # noqa: PTH122 - called for every image
    deep = mode in _DEEP_MODES or ";16" in str(getattr(image, "tile", ()))
    turned = orientation > 1
    if image.format == "TIFF":
        turned = image.getexif().get(_ORIENTATION, 1) in _TURNS
    return (
        GRAY * (mode in _GRAY_MODES)
        | ALPHA * (mode in _ALPHA_MODES or "transparency" in image.info)
        | PALETTE * (mode in {"P", "PA"})
        | CMYK * (mode == "CMYK")
        | DEEP16 * deep
        | FLOAT * (mode == "F")
        | EXIF_ROTATED * turned
        | ANIMATED * (image.format not in _STILL and bool(getattr(image, "is_animated", False)))
        | WRONG_EXTENSION * (allowed is not None and image.format not in allowed)
    )


def _from_file(image: Image.Image, shape: tuple[int, int, int] | None, name: str, deep_max: int) -> Decoded:
    orientation = _orientation(image)
    traits = _traits(image, name, orientation)
    size = image.size
    if shape is not None and image.format in {"JPEG", "MPO"}:  # decode at an eighth to a half: much faster
        height, width, channels = shape
        wanted = (height, width) if orientation >= 5 else (width, height)
        image.draft("L" if channels == 1 else None, wanted)
        image.load()
    else:
        image.load()
        size = image.size  # Pillow has turned a TIFF by now
    plain = _plain(image, traits, deep_max)
    return _finish(plain, shape, traits, orientation, _upright(size, orientation))


def _plain(image: Image.Image, traits: int, deep_max: int) -> Image.Image:
    """Any mode as L, RGB or, where gray levels go deeper than 8 bits, F in 0..255."""
    mode = image.mode
    if mode in _DEEP_MODES or mode == "F":
        return stretch(np.asarray(image), deep_max)
    if traits & ALPHA:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        return Image.alpha_composite(white, clear).convert("L" if traits & GRAY else "RGB")
    if mode in {"L", "RGB"}:
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _from_array(values: NDArray[np.generic], deep_max: int) -> tuple[Image.Image, int]:
    """An array (h, w) or (h, w, c) as an image of mode L, F or RGB, and its traits."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    gray = GRAY * (values.ndim == 2)
    if values.dtype == np.uint8:
        image = Image.fromarray(values)
        alpha = ALPHA * (image.mode == "RGBA")
        return _plain(image, alpha, deep_max), gray | alpha
    kind = FLOAT if values.dtype.kind == "f" else DEEP16
    if gray:
        return stretch(values, deep_max), gray | kind
    whole = stretch(values.reshape(values.shape[0], -1), deep_max)  # one scale for all channels
    levels = np.asarray(whole).reshape(values.shape)
    return _plain(Image.fromarray(round_off(levels)), ALPHA * (values.shape[2] == 4), deep_max), kind


def _finish(
    image: Image.Image,
    shape: tuple[int, int, int] | None,
    traits: int,
    orientation: int,
    upright: tuple[int, int] | None = None,
) -> Decoded:
    """Resize, take the wanted number of channels, turn upright."""
    height, width = upright or _upright(image.size, orientation)
    channels = shape[2] if shape is not None else (1 if image.mode in {"L", "F"} else 3)
    if shape is not None:
        size = (shape[0], shape[1]) if orientation >= 5 else (shape[1], shape[0])
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    if image.mode == "F":
        image = Image.fromarray(round_off(np.asarray(image)))
    if image.mode != ("L" if channels == 1 else "RGB"):
        image = image.convert("L" if channels == 1 else "RGB")
    if orientation > 1:
        image = image.transpose(_TURNS[orientation])
    pixels = np.asarray(image)
    if channels == 1:
        pixels = pixels[:, :, None]
    elif not traits & GRAY and _is_gray(pixels):
        traits |= GRAY
    return Decoded(pixels, height, width, traits)


def _is_gray(pixels: NDArray[np.uint8]) -> bool:
    """Whether red, green and blue agree everywhere; one row rules out nearly all colour images."""
    row = pixels[len(pixels) // 2]
    if not ((row[:, 0] == row[:, 1]).all() and (row[:, 1] == row[:, 2]).all()):
        return False
    return bool((pixels[:, :, :1] == pixels[:, :, 1:]).all())
