import errno
import json
import math
import os
import stat
from pathlib import Path

import pytest

from convclinic.ground import files
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import (
    explain,
    read_csv,
    read_json,
    replacing,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)


def fails(code):
    def call(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return call


def only(folder: Path) -> list[str]:
    """Names in `folder`, hidden ones too."""
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_a_remedy(code):
    error = explain(OSError(code, "x"), Path("a.json"))
    assert str(error).startswith("no space left while writing a.json (free some disk space")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_missing_right_is_told_with_a_remedy(code):
    error = explain(OSError(code, "x"), Path("a.json"))
    assert str(error) == "no permission to write a.json (give a folder you may write to with --out)"


def test_any_other_error_keeps_the_systems_words():
    assert str(explain(OSError(errno.EIO, "bad disk"), Path("a"))) == "cannot write a: bad disk"
    assert str(explain(OSError("odd"), Path("a"))) == "cannot write a: odd"


def test_a_new_file_appears_whole_with_its_folders(tmp_path):
    path = tmp_path / "deep" / "er" / "a.bin"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert only(path.parent) == ["a.bin"]


def test_the_old_file_stands_until_the_end(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as file:
        file.write("new ü".encode())
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "new ü"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, ConvclinicError])
def test_an_exception_inside_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(error, match="halfway"), replacing(path) as file:
        file.write(b"half of the ne")
        raise error("halfway")
    assert path.read_text() == "old"
    assert only(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "fdopen"])
@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "no permission")]
)
def test_a_failing_system_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, code, words):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    real = os.fdopen

    def closing(handle, *args):  # as os.fdopen does when it fails
        os.close(handle)
        fails(code)()

    monkeypatch.setattr(files.os, call, fails(code) if call == "fsync" else closing)
    with pytest.raises(ConvclinicError, match=words) as caught:
        write_bytes(path, b"new")
    monkeypatch.setattr(files.os, "fdopen", real)
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert only(tmp_path) == ["a.txt"]


def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write_text(path, "old")

    class Full:
        """A file on a disk with room for ten bytes."""

        def __init__(self, file):
            self.file, self.room = file, 10

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            if len(data) > self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= len(data)
            return self.file.write(data)

    real = os.fdopen
    monkeypatch.setattr(files.os, "fdopen", lambda handle, mode: Full(real(handle, mode)))
    with pytest.raises(ConvclinicError, match="no space left while writing"):
        write_bytes(path, b"x" * 11)
    assert path.read_text() == "old"
    assert only(tmp_path) == ["a.csv"]


def test_a_folder_that_may_not_be_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "mkstemp", fails(errno.EROFS))
    with pytest.raises(ConvclinicError, match="no permission to write"):
        write_text(tmp_path / "a", "x")


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    write_text(tmp_path / "a", "x")
    with pytest.raises(ConvclinicError, match="cannot write"):
        write_text(tmp_path / "a" / "b", "x")
    assert (tmp_path / "a").read_text() == "x"


def test_a_written_file_has_the_users_usual_rights(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        assert os.umask(before) == 0o027
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_json_comes_back_and_what_is_not_finite_is_null(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5, "ü", None, True], "b": {"c": (math.nan, math.inf, -math.inf)}, 3: "key"})
    assert read_json(path) == {"a": [1, 2.5, "ü", None, True], "b": {"c": [None, None, None]}, "3": "key"}
    text = path.read_text(encoding="utf-8")
    assert "ü" in text  # readable as it stands
    assert text.endswith("}\n")


def test_a_file_name_that_is_not_utf8_survives_json_and_csv(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    write_json(tmp_path / "a.json", {"name": name})
    assert read_json(tmp_path / "a.json") == {"name": name}
    write_csv(tmp_path / "a.csv", ["path"], [[name]])
    assert list(read_csv(tmp_path / "a.csv")) == [{"path": name}]


def test_what_json_cannot_hold_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert only(tmp_path) == []


def test_unreadable_json_is_told(tmp_path):
    with pytest.raises(ConvclinicError, match=r"^no file .*a\.json$"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"a": 1,\n oops}')
    with pytest.raises(ConvclinicError, match=r"a\.json is not readable JSON: .*line 2"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConvclinicError, match="is not readable JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ConvclinicError, match="cannot read"):
        read_json(tmp_path)


def test_csv_quotes_what_must_be_quoted(tmp_path):
    rows = [["a,b", 'say "x"'], ["line\nbreak", ""], ["ü", "1"]]
    write_csv(tmp_path / "a.csv", ["one", "two"], rows)
    assert [list(row.values()) for row in read_csv(tmp_path / "a.csv")] == rows
    first = (tmp_path / "a.csv").read_bytes().split(b"\r\n")[1]
    assert first == b'"a,b","say ""x"""'


def test_rows_that_fail_halfway_leave_the_old_csv(tmp_path):
    def rows():
        yield ["new"]
        raise ValueError("halfway")

    path = tmp_path / "a.csv"
    write_csv(path, ["one"], [["old"]])
    with pytest.raises(ValueError, match="halfway"):
        write_csv(path, ["one"], rows())
    assert list(read_csv(path)) == [{"one": "old"}]
    assert only(tmp_path) == ["a.csv"]


def test_a_missing_csv_is_told(tmp_path):
    with pytest.raises(ConvclinicError, match=r"a\.csv"):
        list(read_csv(tmp_path / "a.csv"))


def test_the_json_on_disk_is_json(tmp_path):
    write_json(tmp_path / "a.json", [math.nan])
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda name: name) == [None]
