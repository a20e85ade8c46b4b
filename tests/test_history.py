import errno
import json
import os

import pytest

from convclinic import history
from convclinic.ground.errors import ConvclinicError
from convclinic.history import History, Record, read


def record(step: int, **more) -> Record:
    return Record(step, step / 10, 0.1, 1.0 / step, 0.5, 2.0, **more)


RECORDS = [record(1), record(2, val_loss=0.7, val_accuracy=0.25, train_accuracy=0.3), record(3)]


def test_what_is_appended_is_read_back(tmp_path):
    written = History(tmp_path / "h.jsonl")
    written.append(RECORDS[:2])
    written.append(iter(RECORDS[2:]))
    assert written.records == RECORDS
    assert History(tmp_path / "h.jsonl").records == RECORDS
    assert read(tmp_path / "h.jsonl") == RECORDS


def test_a_line_is_json_without_what_was_not_measured():
    assert json.loads(record(4).line()) == {
        "step": 4, "epoch": 0.4, "lr": 0.1, "loss": 0.25, "accuracy": 0.5, "grad_norm": 2.0
    }  # fmt: skip
    assert json.loads(record(4, val_accuracy=0.0).line())["val_accuracy"] == 0.0
    assert record(4).line().count("\n") == 1


def test_numbers_come_back_to_the_last_bit(tmp_path):
    odd = Record(1, 1 / 3, 0.1 + 0.2, 5e-324, 1.0, 1.7976931348623157e308)
    History(tmp_path / "h.jsonl").append([odd])
    assert read(tmp_path / "h.jsonl") == [odd]


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_torn_last_line_is_dropped(tmp_path, kept):
    path = tmp_path / "h.jsonl"
    last = RECORDS[2].line().rstrip("\n")
    path.write_text(RECORDS[0].line() + RECORDS[1].line() + last[:kept])
    assert read(path) == RECORDS[:2]


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_what_is_appended_after_a_torn_line_is_readable(tmp_path, cut):
    """A full disk or a kill tears the last line; freeing space and going on must not spoil the file."""
    path = tmp_path / "h.jsonl"
    path.write_text((RECORDS[0].line() + RECORDS[1].line())[:-cut])
    again = History(path)
    again.append([RECORDS[2]])
    assert read(path) == again.records


def test_a_broken_line_in_the_middle_is_told(tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_text(RECORDS[0].line() + '{"step": 2, "ep\n' + RECORDS[2].line())
    with pytest.raises(ConvclinicError, match=r"h\.jsonl.*line 2"):
        read(path)


def test_a_record_of_another_version_is_told(tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_text('{"step": 1, "colour": 3}\n' + RECORDS[2].line())
    with pytest.raises(ConvclinicError, match=r"h\.jsonl"):
        read(path)


def test_a_missing_history_is_told(tmp_path):
    with pytest.raises(ConvclinicError, match=r"h\.jsonl"):
        read(tmp_path / "h.jsonl")


def test_rewind_forgets_what_came_later_in_memory_and_file(tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_text("".join(r.line() for r in RECORDS) + '{"step": 4, "ep')
    written = History(path)
    written.rewind(2)
    assert written.records == read(path) == RECORDS[:2]
    written.append([RECORDS[2]])
    assert path.read_text() == "".join(r.line() for r in RECORDS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["h.jsonl"]


def test_rewind_to_the_start_and_beyond_the_end(tmp_path):
    path = tmp_path / "h.jsonl"
    written = History(path)
    written.rewind(0)
    assert path.read_text() == ""
    written.append(RECORDS)
    written.rewind(99)
    assert read(path) == RECORDS
    written.rewind(0)
    assert written.records == read(path) == []


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "no permission")]
)
def test_a_file_that_cannot_be_written_is_told_and_memory_does_not_run_ahead(
    tmp_path, monkeypatch, code, words
):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    written = History(tmp_path / "h.jsonl")
    written.append(RECORDS[:1])
    monkeypatch.setattr(history, "open", refuse, raising=False)
    with pytest.raises(ConvclinicError, match=words):
        written.append(RECORDS[1:])
    assert written.records == RECORDS[:1]
