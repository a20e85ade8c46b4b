"""Small made photo sets for the tests of the main job: a bright bar that lies or stands, on noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

TINY = ("net.widths=[8, 8, 8]", "run.batch_size=16")


def photos(folder: Path, per_class: int = 24, side: int = 16, seed: int = 0, noise: int = 90) -> Path:
    """`folder`/<class>/<number>.png, two classes. With noise up to 250 no two are near copies at any size."""
    rng = np.random.default_rng(seed)
    for label in ("lying", "standing"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            image = rng.integers(0, noise, (side, side, 3), dtype=np.uint8)
            at = int(rng.integers(2, side - 4))
            if label == "lying":
                image[at : at + 3] = rng.integers(150, 255)
            else:
                image[:, at : at + 3] = rng.integers(150, 255)
            Image.fromarray(image).save(folder / label / f"{number:03d}.png")
    return folder
