"""Pillow's warnings and its size limit belong to the process; here they are held for as long as needed."""

from __future__ import annotations

import threading
import warnings
from contextlib import ExitStack

from PIL import Image

BOMB_PIXELS = 200_000_000


class _Quiet:
    """While any thread is inside: Pillow warns of nothing and refuses images above BOMB_PIXELS.

    Warning filters are shared by all threads, so the first one in sets them and the last one out restores
    them; a plain `catch_warnings` in each thread would restore them in the wrong order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = (
                    BOMB_PIXELS // 2
                )  # Pillow warns above the limit, refuses above twice it

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.close()


quiet = _Quiet()
