import io
from types import SimpleNamespace

import pytest

from convclinic.job import display
from convclinic.job.display import Lines, Silent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when it is told to."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    made = Clock()
    monkeypatch.setattr(display, "time", made)
    return made


@pytest.fixture
def surroundings(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


@pytest.fixture
def log(surroundings):
    """Standard error as a file or pipe."""
    out = io.StringIO()
    surroundings.setattr(display, "sys", SimpleNamespace(stderr=out))
    return out


@pytest.fixture
def terminal(surroundings):
    out = Terminal()
    surroundings.setattr(display, "sys", SimpleNamespace(stderr=out))
    return out


def lines(out: io.StringIO) -> list[str]:
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


def test_silent_says_nothing(capsys):
    with Silent() as shown:
        shown.stage("look")
        shown.update(1, 2, "half", left=3.0)
        shown.say("words")
    assert capsys.readouterr() == ("", "")


def test_each_stage_leaves_a_line_with_its_time_and_last_words(log, clock):
    with Lines() as shown:
        shown.stage("look")
        clock.now += 2
        shown.update(1, 1, "300 images")
        shown.stage("train")
        clock.now += 95
    assert lines(log) == ["look       2.0 s | 300 images", "train      1 min 35 s"]


def test_a_log_gets_a_line_now_and_then_and_no_more(log, clock):
    with Lines() as shown:
        shown.stage("train")
        for step in range(1, 101):
            clock.now += 0.5
            shown.update(step, 100, f"step {step}")
    assert lines(log) == [
        "train: 20 of 100 | 40 s left | step 20",
        "train: 40 of 100 | 30 s left | step 40",
        "train: 60 of 100 | 20 s left | step 60",
        "train: 80 of 100 | 10 s left | step 80",
        "train: 100 of 100 | step 100",
        "train      50 s | step 100",
    ]


def test_a_better_known_rest_is_shown(log, clock):
    with Lines() as shown:
        shown.stage("train")
        clock.now += 60
        shown.update(1, 100, "", left=125.0)
        clock.now += 60
        shown.update(0, 100)
    assert lines(log)[0] == "train: 1 of 100 | 2 min 05 s left"
    assert "left" not in lines(log)[1]  # nothing is done and nothing is known


def test_the_last_words_of_a_stage_are_kept_though_they_came_too_soon_to_be_shown(log, clock):
    with Lines() as shown:
        shown.stage("check")
        clock.now += 20
        shown.update(1, 2, "early")
        clock.now += 1
        shown.update(2, 2, "late")
        shown.update(2, 2)
    assert lines(log)[-1] == "check      21 s | late"
    assert len(lines(log)) == 2


def test_one_message_is_one_line_however_long_and_brackets_are_no_markup(log, clock):
    long = "a file [bold]with[/bold] a name " + "x" * 200 + " and more"
    with Lines() as shown:
        shown.say(long)
        shown.stage("train")
        clock.now += 20
        shown.update(1, 2, long)
    assert len(lines(log)) == 3
    assert lines(log)[0] == long
    assert all(long in line for line in lines(log))
    assert "\x1b" not in log.getvalue()


def test_an_update_before_any_stage_does_no_harm(log, clock):
    with Lines() as shown:
        shown.update(1, 2, "early")
        shown.say("hello")
    assert lines(log) == ["hello"]


def test_a_stage_that_is_broken_off_still_leaves_its_line(log, clock):
    with pytest.raises(KeyboardInterrupt), Lines() as shown:
        shown.stage("train")
        clock.now += 3
        shown.update(1, 9, "step 1")
        raise KeyboardInterrupt
    assert lines(log) == ["train      3.0 s | step 1"]


def test_a_terminal_gets_a_live_line_that_is_replaced(terminal, clock):
    with Lines() as shown:
        shown.stage("train")
        clock.now += 5
        shown.update(1, 2, "step 1")
        clock.now += 5
        shown.update(2, 2, "step 2")
    text = terminal.getvalue()
    assert "5.0 s left | step 1" in text
    assert "\x1b[2K" in text  # erased, not repeated
    assert text.count("train      10 s | step 2") == 1
    assert text.endswith("\x1b[?25h")  # the cursor is back


def test_a_terminal_is_not_flooded(terminal, clock):
    with Lines() as shown:
        shown.stage("train")
        for step in range(1, 1001):
            clock.now += 0.001
            shown.update(step, 1000, f"step {step}.")
    assert 2 <= sum(f"step {step}." in terminal.getvalue() for step in range(1, 1001)) <= 12
