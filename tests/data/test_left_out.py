"""Images that a run of many has no use for."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from convclinic.data.dataset import LEFT_OUT, assemble, divide, reopen
from convclinic.data.sources import open_source
from convclinic.data.survey import survey


@pytest.fixture
def assembled(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    source = open_source(tmp_path / "photos")
    return assemble(source, survey(source, seed=0), (20, 20, 3), tmp_path / "whole", seed=0)


def test_what_is_left_out_is_in_no_part_and_in_no_count(assembled, tmp_path):
    parts = assembled.splits.copy()
    parts[assembled.indices("test")] = LEFT_OUT
    moved = assembled.indices("train")[:5]
    parts[moved] = 2
    divide(tmp_path / "whole", tmp_path / "part", parts)
    again = reopen(tmp_path / "part")
    assert (again.splits == parts).all()
    assert again.indices("test").tolist() == moved.tolist()
    left = assembled.indices("test")
    assert not set(left.tolist()) & {
        int(i) for p in ("train", "validation", "test") for i in again.indices(p)
    }
    counts = again.profile
    assert counts.n_train + counts.n_validation + counts.n_test == len(parts) - len(left)
