import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_json
from convclinic.job import folder
from convclinic.job.folder import RECIPE, document, existing, locked, new


def refuse(code):
    def call(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return call


def run_folder(path: Path, **more) -> Path:
    write_json(path / RECIPE, {"convclinic": "0.1.0", "recipe": {"seed": 3}, "hardware": {}, **more})
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("photos", "photos-1"),
        ("sets/photos/", "photos-1"),
        ("my photos (new).zip", "my-photos-new-1"),
        ("labels.tar.gz", "labels-1"),
        ("Ünïcode", "Ünïcode-1"),
        (".hidden", "data-1"),
        ("###", "data-1"),
        ("/", "data-1"),
    ],
)
def test_a_run_is_called_after_its_data(here, data, name):
    made = new(None, Path(data))
    assert made == Path("runs") / name
    assert made.is_dir()
    assert list(made.iterdir()) == []


def test_the_next_free_number_is_taken(here):
    assert [new(None, Path("photos")).name for _ in range(3)] == ["photos-1", "photos-2", "photos-3"]
    (here / "runs" / "photos-2").rmdir()
    assert new(None, Path("photos")).name == "photos-2"
    assert new(None, Path("other")).name == "other-1"


def test_a_folder_of_the_users_own_is_made_or_taken_when_empty(tmp_path):
    assert new(tmp_path / "deep" / "out", Path("photos")) == tmp_path / "deep" / "out"
    assert new(tmp_path / "deep" / "out", Path("photos")).is_dir()


def test_nothing_is_ever_overwritten(tmp_path):
    run_folder(tmp_path / "run")
    with pytest.raises(ConvclinicError, match=r"run is not empty.*`convclinic resume .*run`"):
        new(tmp_path / "run", Path("photos"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConvclinicError, match=r"mine is not empty.*give --out a new folder"):
        new(tmp_path / "mine", Path("photos"))
    assert os.listdir(tmp_path / "mine") == ["letter.txt"]  # noqa: PTH208 - a plain list of names
    with pytest.raises(ConvclinicError, match=r"letter\.txt is a file .*new or empty"):
        new(tmp_path / "mine" / "letter.txt", Path("photos"))


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        ("mkdir", errno.EACCES, "no permission"),
        ("mkdir", errno.ENOSPC, "no space left"),
        ("touch", errno.EROFS, "no permission"),
        ("iterdir", errno.EACCES, "no permission"),
    ],
)
def test_a_folder_that_cannot_be_used_is_told(tmp_path, monkeypatch, call, code, words):
    out = tmp_path / "out"
    if call == "iterdir":
        out.mkdir()
    monkeypatch.setattr(Path, call, refuse(code))
    with pytest.raises(ConvclinicError, match=words) as caught:
        new(out, Path("photos"))
    assert str(out) in str(caught.value)


def test_an_existing_run_is_found_and_its_document_read(tmp_path):
    run = run_folder(tmp_path / "run", budget=60)
    assert existing(run) == run
    assert document(run) == {"convclinic": "0.1.0", "recipe": {"seed": 3}, "hardware": {}, "budget": 60}


def test_a_missing_run_names_the_runs_beside_it(tmp_path):
    for name in ("photos-1", "photos-2"):
        run_folder(tmp_path / name)
    with pytest.raises(ConvclinicError, match=r"no run folder .*photos-3 \(runs there: photos-1, photos-2\)"):
        existing(tmp_path / "photos-3")
    with pytest.raises(ConvclinicError, match="start one with `convclinic fit`"):
        existing(tmp_path / "nowhere" / "photos-3")


def test_what_is_no_run_is_not_named_as_one(tmp_path):
    run_folder(tmp_path / "photos-1")
    (tmp_path / "letter.txt").write_text("dear")
    (tmp_path / "holiday").mkdir()
    with pytest.raises(ConvclinicError) as caught:
        existing(tmp_path / "photos-3")
    assert caught.value.fix == "runs there: photos-1"


def test_what_is_no_run_folder_is_told(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConvclinicError, match=r"letter\.txt is a file, not a run folder"):
        existing(tmp_path / "letter.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConvclinicError, match=r"not a run folder of convclinic, or .*start again"):
        existing(tmp_path / "empty")


@pytest.mark.parametrize("value", [[], 3, {}, {"recipe": {}}, {"convclinic": "0"}])
def test_another_programs_recipe_is_told(tmp_path, value):
    write_json(tmp_path / RECIPE, value)
    with pytest.raises(ConvclinicError, match="was not written by convclinic"):
        existing(tmp_path)


def test_a_spoilt_recipe_is_told(tmp_path):
    (tmp_path / RECIPE).write_text('{"convclinic": ')
    with pytest.raises(ConvclinicError, match="is not readable JSON"):
        existing(tmp_path)


def refused(path: Path) -> bool:
    """Whether `path` is held by someone else, who is told of."""
    try:
        with locked(path):
            return False
    except ConvclinicError as error:
        assert "another process is working in" in error.message
        assert error.fix == "wait for it to end, or stop it"
        return True


def test_a_lock_is_held_once_and_given_back(tmp_path):
    with locked(tmp_path):
        assert refused(tmp_path)
    assert not refused(tmp_path)
    with pytest.raises(ValueError, match="inside"), locked(tmp_path):
        raise ValueError("inside")
    assert not refused(tmp_path)


HOLD = """
import sys
from pathlib import Path
from convclinic.job.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_a_second_process_waits_outside_and_a_dead_one_holds_nothing(tmp_path, end):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            assert refused(tmp_path)
        finally:
            if end == "kill":
                holder.send_signal(signal.SIGKILL)
            else:
                holder.stdin.close()
            holder.wait()
    assert not refused(tmp_path)


@pytest.mark.parametrize(("code", "words"), [(errno.EROFS, "no permission"), (errno.ENOSPC, "no space left")])
def test_a_lock_that_cannot_be_made_is_told(tmp_path, monkeypatch, code, words):
    monkeypatch.setattr(folder.os, "open", refuse(code))
    with pytest.raises(ConvclinicError, match=words), locked(tmp_path):
        raise AssertionError("got in")
