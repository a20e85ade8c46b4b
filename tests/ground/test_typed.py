from __future__ import annotations

from dataclasses import dataclass

import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.typed import build, convert, replace_option


@dataclass(frozen=True)
class Options:
    rate: float = 0.1
    steps: int = 3
    name: str = "a"
    on: bool = True
    widths: tuple[int, ...] = (1, 2)
    sizes: tuple[tuple[float, int, int], ...] = ()
    limit: float | None = None


def test_build_takes_what_json_and_yaml_give():
    built = build(Options, {"rate": 1, "widths": [8], "sizes": [[0, 4, 4]], "limit": 2, "on": False}, "x")
    assert built == Options(rate=1.0, widths=(8,), sizes=((0.0, 4, 4),), limit=2.0, on=False)
    assert type(built.rate) is float
    assert type(built.limit) is float
    assert type(built.sizes[0][0]) is float
    assert type(built.sizes[0]) is tuple


def test_what_is_left_out_keeps_its_default():
    assert build(Options, {}, "x") == Options()
    assert build(Options, {"limit": None}, "x").limit is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("rate", "0.1"),
        ("rate", True),
        ("rate", None),
        ("steps", 3.0),
        ("steps", True),
        ("steps", "3"),
        ("name", 3),
        ("on", 1),
        ("on", "yes"),
        ("widths", 3),
        ("widths", "12"),
        ("widths", [1, 2.5]),
        ("sizes", [[0.5, 4]]),
        ("sizes", [[0.5, 4, 4, 4]]),
        ("sizes", [0.5, 4, 4]),
        ("limit", "big"),
        ("limit", False),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_place(option, value):
    with pytest.raises(ConvclinicError, match=rf"^trick\.{option} must be .*, not ") as caught:
        build(Options, {option: value}, "trick")
    assert repr(value) in str(caught.value) or isinstance(value, list)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(ConvclinicError, match=r"^trick has no option 'stepz' \(did you mean 'steps'\?\)$"):
        build(Options, {"stepz": 3}, "trick")
    with pytest.raises(ConvclinicError, match=r"^trick has no option 'rat' \(did you mean 'rate'\?\)$"):
        replace_option(Options(), "rat", 3, "trick")


def test_an_option_that_is_not_a_word_is_an_unknown_option():
    with pytest.raises(ConvclinicError, match="no option '1'"):
        build(Options, {1: 3}, "trick")


def test_a_number_beyond_floats_is_refused():
    with pytest.raises(ConvclinicError, match=r"^rate must be float"):
        convert(10**400, float, "rate")


def test_replace_option_changes_one_and_leaves_the_original():
    before = Options(steps=5)
    after = replace_option(before, "rate", 2, "trick")
    assert after == Options(steps=5, rate=2.0)
    assert before == Options(steps=5)
    with pytest.raises(ConvclinicError, match=r"^trick\.rate must be float, not 'x'$"):
        replace_option(before, "rate", "x", "trick")
