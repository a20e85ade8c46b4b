"""Fixtures of the main job: one made photo set and one finished run, for tests that only read them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from making import TINY, photos

from convclinic.job.fitting import fit
from convclinic.job.run import Run


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("bars") / "photos", per_class=40)


@pytest.fixture(scope="session")
def finished(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "bars"
    return fit(bars, budget="60s", out=out, quiet=True, settings=(*TINY, "run.steps=60"))
