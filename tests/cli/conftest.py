"""The command line in this process: quicker than a process each, and nothing that it prints is lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "job"))

from making import photos
from tiny import RECIPE, machine

from convclinic.cli import main
from convclinic.ground.files import write_json
from convclinic.job.fitting import fit
from convclinic.planning import hardware


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit status and what it wrote to standard output and standard error."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture(scope="module", autouse=True)
def quick_machine():
    """A machine whose speed is known, so that no time is spent on measuring it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "measure", machine)
        yield


@pytest.fixture
def command(monkeypatch, capsys) -> Command:
    """`command("fit", folder, "--seed", 3)` runs `convclinic fit folder --seed 3`."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["convclinic", *map(str, words)])
        for verb in ("fit", "demo"):
            monkeypatch.setattr(f"convclinic.cli.{verb}.STARTED", time.monotonic())
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture
def refused(command) -> Callable[..., str]:
    """What a command that must be refused says on standard error: status 2, nothing on standard output."""

    def call(*words: object) -> str:
        answer = command(*words)
        assert answer.code == 2, answer
        assert answer.out == ""
        assert "Traceback" not in answer.err
        return " ".join(answer.err.split())

    return call


@pytest.fixture(scope="session")
def bars(tmp_path_factory) -> Path:
    return photos(tmp_path_factory.mktemp("bars") / "photos", per_class=40)


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.json"
    write_json(path, RECIPE.to_dict())
    return path


@pytest.fixture(scope="session")
def done(bars, recipe_file, tmp_path_factory) -> Path:
    """A finished run; tests must leave it as it is."""
    return fit(
        bars, recipe=recipe_file, out=tmp_path_factory.mktemp("done") / "run", device="cpu", quiet=True
    ).path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
