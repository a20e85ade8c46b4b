import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.units import duration, seconds, size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1.5h", 5400),
        (" 1H 30 M ", 5400),
        ("2d", 172_800),
        ("1d1h1m1s", 90_061),
        (0.5, 0.5),
        (7, 7),
    ],
)
def test_durations_are_read(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "m", "10min", "ten minutes", "-5m", "1e3s", "5m?", "1..5m"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ConvclinicError, match=r"is not a duration \(write it like 90s, 10m or 1h30m\)"):
        seconds(text)


@pytest.mark.parametrize("value", [0, -1.0, "0s", "0h0m", math.nan])
def test_a_duration_is_above_zero(value):
    with pytest.raises(ConvclinicError, match="is not above zero"):
        seconds(value)


@pytest.mark.parametrize("value", [math.inf, 1e9, "5000d"])
def test_a_duration_that_is_too_long_is_not_called_too_short(value):
    with pytest.raises(ConvclinicError) as caught:
        seconds(value)
    assert "above zero" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations_are_written(value, expected):
    assert duration(value) == expected


@settings(deadline=None, derandomize=True)
@given(st.floats(0.1, 1e7))
def test_a_written_duration_reads_back_to_the_precision_it_shows(value):
    shown = duration(value)
    step = 30.0 if "h" in shown else 0.5 if value >= 9.95 else 0.05
    assert abs(seconds(shown.replace("min", "m")) - value) <= step * (1 + 1e-9)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (2.5e9, "2.5 GB"),
        (3e12, "3.0 TB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_sizes_are_written(n, expected):
    assert size(n) == expected


def test_a_size_that_rounds_up_takes_the_next_unit():
    assert size(999_960) == "1.0 MB"
