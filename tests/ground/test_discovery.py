import importlib
import sys

import pytest

from convclinic.ground.discovery import adapters, card

GOOD = '''"""Good: a card."""
class Good:
    slot = "x"
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A package of tricks with one file in it; more can be added before it is looked into."""
    package = tmp_path / "made_tricks"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "good.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    adapters.cache_clear()
    yield package
    adapters.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "made_tricks"]:
        del sys.modules[name]


def test_a_file_is_found_by_being_there(folder):
    assert list(adapters("made_tricks")) == ["good"]
    adapter = adapters("made_tricks")["good"]
    assert adapter.__name__ == "Good"
    assert card(adapter) == "Good: a card."


def test_helpers_folders_and_imported_adapters_are_passed_over(folder):
    (folder / "_helper.py").write_text("class Helper:\n    slot = 'x'\n")
    (folder / "more").mkdir()
    (folder / "more" / "__init__.py").touch()
    (folder / "other.py").write_text(
        "from made_tricks.good import Good\nclass Plain: pass\nclass Other(Good): slot = 'x'\n"
    )
    assert {name: found.__name__ for name, found in adapters("made_tricks").items()} == {
        "good": "Good",
        "other": "Other",
    }


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("class A:\n    slot = 'x'\nclass B:\n    slot = 'x'\n", 2)]
)
def test_a_file_without_exactly_one_adapter_is_refused(folder, text, count):
    (folder / "bad.py").write_text(text)
    with pytest.raises(TypeError, match=rf"made_tricks\.bad must hold exactly one adapter .* not {count}"):
        adapters("made_tricks")


def test_a_file_without_a_docstring_has_an_empty_card(folder):
    (folder / "mute.py").write_text("class Mute:\n    slot = 'x'\n")
    assert card(adapters("made_tricks")["mute"]) == ""
