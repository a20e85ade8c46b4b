import pytest

from convclinic.ground.errors import ConvclinicError, nearest


def test_message_and_fix_are_kept_apart_and_shown_together():
    error = ConvclinicError("no folder 'photo'", fix="check the spelling")
    assert (error.message, error.fix) == ("no folder 'photo'", "check the spelling")
    assert str(error) == "no folder 'photo' (check the spelling)"
    assert str(ConvclinicError("no folder")) == "no folder"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("flp", "did you mean 'flip'?"),
        ("optimize", "did you mean 'optimise'?"),
        ("zzz", "allowed: flip, optimise, shift"),
        ("", "allowed: flip, optimise, shift"),
    ],
)
def test_nearest_names_one_word_or_all(given, expected):
    assert nearest(given, {"shift", "optimise", "flip"}) == expected
