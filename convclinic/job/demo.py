"""Real handwritten digits (Alpaydin and Kaynak 1998, 8 x 8 pixels, 17 grey levels) as a folder of photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write_digits(folder: Path) -> Path:
    """Write the 1,797 digits that scikit-learn ships as `folder/<digit>/<number>.png`; returns `folder`."""
    pixels, labels = load_digits(return_X_y=True)
    for number, (image, label) in enumerate(zip(pixels.reshape(-1, 8, 8), labels, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(path)
    return folder
