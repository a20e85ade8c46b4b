"""Deep and floating-point gray levels -> 0..255, without clipping any to white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DEPTHS = (255, 1023, 4095, 16383, 65535)


def depth(largest: float) -> int:
    """The smallest usual depth's maximum that holds the value `largest`.

    >>> depth(900), depth(1024), depth(65535)
    (1023, 4095, 65535)
    """
    return next((top for top in DEPTHS if largest <= top), int(np.ceil(largest)))


def stretch(values: NDArray[np.generic], deep_max: int) -> Image.Image:
    """Deep or float gray levels (h, w) as an image of mode F in 0..255."""
    levels = np.nan_to_num(values.astype(np.float32))
    low, high = float(levels.min()), float(levels.max())
    if values.dtype.kind == "f":
        if low < 0 or high > 1:
            levels = (levels - low) / max(high - low, 1e-12)
        return Image.fromarray(levels * np.float32(255))
    low = min(low, 0.0)
    top = max(deep_max, depth(high - low)) if high - low > deep_max else deep_max
    return Image.fromarray((levels - np.float32(low)) * np.float32(255 / top))


def round_off(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
