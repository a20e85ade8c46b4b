"""The examples run, and what they train learns, each inside the library that it is about."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "examples"
LEAST = 0.9  # of the digits; guessing gets 0.1
LIBRARIES = {"torchvision_v2": "torchvision", "lightning_module": "lightning", "fastai_learner": "fastai"}


def printed_accuracy(text: str) -> float:
    found = re.search(r"^accuracy (\d+\.\d)%$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1]) / 100


def test_every_example_is_tested():
    helpers = {"coloured_digits"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*LIBRARIES, "plain_loop"} | helpers


def test_a_plain_loop(monkeypatch, capsys):
    """In this process, where shapes and types of every trick are checked."""
    monkeypatch.syspath_prepend(EXAMPLES)
    with torch.random.fork_rng(devices=[]):
        reached = runpy.run_path(str(EXAMPLES / "plain_loop.py"))["main"]()
    out = capsys.readouterr().out
    assert printed_accuracy(out) == pytest.approx(reached, abs=5e-4)
    assert reached > LEAST
    assert len(out.splitlines()) == 1, "no finding about its net and optimiser"


@pytest.mark.parametrize("example", sorted(LIBRARIES))
def test_inside_another_library(example, tmp_path):
    """In a process of its own: these libraries change torch and Python for everyone."""
    library = LIBRARIES[example]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed (pip install 'convclinic[peers]')")
    done = subprocess.run(
        [sys.executable, str(TESTS / "peers.py"), str(EXAMPLES / f"{example}.py")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert printed_accuracy(done.stdout) > LEAST
