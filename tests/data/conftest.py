"""Small folders of photos, made on the spot, and the real data where it is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def picture(seed: int, height: int = 24, width: int = 32) -> Image.Image:
    """A colourful picture that no other seed resembles."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def photo() -> Callable[..., Image.Image]:
    return picture


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """photos({"cat": 5, "dog": 4}) makes photos/cat/0.png ..., every picture different."""

    def make(counts: dict[str, int], name: str = "photos") -> Path:
        root = tmp_path / name
        seed = 0
        for folder, n in counts.items():
            (root / folder).mkdir(parents=True)
            for i in range(n):
                picture(seed).save(root / folder / f"{i}.png")
                seed += 1
        return root

    return make


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """A file of the real data; the test is skipped where it is not there."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"no real data at {path}")
        return path

    return find
