"""The pages of tricks and of evidence are what their scripts would write now, and the pictures are there."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

import convclinic.tricks
from convclinic.recipe import Recipe
from convclinic.study.evidence import questions

DOCS = Path(__file__).parent.parent / "docs"
AGAIN = "run `python docs/make_tricks.py`"
LINKED = re.compile(r"!\[[^]]*]\(([^)]+)\)")


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return loaded("make_tricks")


@pytest.fixture(scope="module")
def text() -> str:
    return (DOCS / "tricks.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_script_would_write(script, text):
    assert text == script.page(), AGAIN


def test_every_file_of_a_trick_or_net_has_its_heading_and_card(text):
    root = Path(convclinic.tricks.__path__[0])
    files = [*root.glob("*/*.py"), *(root.parent / "models").glob("*.py")]
    names = [file.stem for file in files if not file.stem.startswith("_")]
    assert sorted(re.findall(r"^#### (\w+)$", text, re.MULTILINE)) == sorted(names)
    assert text.count("<summary>Card</summary>") == len(names)


def test_every_picture_exists_is_small_and_is_used(text):
    linked = LINKED.findall(text)
    assert linked
    for link in linked:
        path = DOCS / link
        assert path.is_file(), f"{link} is missing: {AGAIN}"
        assert path.stat().st_size < 40_000
        with Image.open(path) as image:
            assert image.format == "PNG"
    assert {path.name for path in (DOCS / "pictures").iterdir()} == {Path(link).name for link in linked}


@pytest.mark.parametrize("slot", ["augment", "mix", "activate", "schedule"])
def test_every_trick_that_can_be_seen_has_a_picture(slot, text):
    folder = Path(convclinic.tricks.__path__[0]) / slot
    names = {file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")}
    assert {Path(link).name for link in LINKED.findall(text)} >= {f"{slot}-{name}.png" for name in names}


def test_a_sheet_shows_the_photo_and_its_draws(script):
    flip = next(entry for entry in script.catalogue() if entry.name == "flip")
    row = script.sheet(flip)
    height, width = script.TILE
    assert row.size == (7 * (width + script.GAP) - script.GAP, height)
    tiles = [row.crop((place * (width + script.GAP), 0, place * (width + script.GAP) + width, height))
             for place in range(7)]  # fmt: skip
    mirrored = tiles[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    kinds = {tile.tobytes() for tile in tiles[1:]}
    assert len(kinds) == 2  # as it is, and in the mirror
    assert tiles[0].tobytes() in kinds
    levels = [abs(a - b) for tile in tiles[1:] if tile.tobytes() != tiles[0].tobytes()
              for a, b in zip(tile.tobytes(), mirrored.tobytes(), strict=True)]  # fmt: skip
    assert sum(levels) / len(levels) < 2  # antialiasing is that of the mirror image


def test_a_picture_too_large_loses_colours_and_not_its_size(script):
    noise = Image.effect_noise((230, 230), 90).convert("RGB")
    data = script.compressed(noise)
    assert len(data) < script.MOST_BYTES
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (230, 230)
        assert len(image.getcolors()) < 256


def test_the_page_of_evidence_is_what_its_script_would_write():
    script = loaded("make_evidence")
    assert (DOCS / "evidence.md").read_text() == script.page(), "run `python docs/make_evidence.py`"


def test_evidence_names_tricks_that_exist_and_every_measured_row_is_shown_or_set_aside():
    page = (DOCS / "evidence.md").read_text()
    known = {question.trick for question in questions(Recipe())}
    for path in sorted((DOCS / "evidence").glob("*.json")):
        facts = json.loads(path.read_text())
        measured, aside = {row["trick"] for row in facts["rows"]}, set(facts.get("set_aside", {}))
        assert measured <= known and aside <= measured
        for trick in measured - aside:
            assert f"| `{trick}` |" in page
        for trick in aside:
            assert f"- `{trick}`: " in page


def test_a_measurement_is_kept_with_what_was_said_about_it(tmp_path, monkeypatch):
    script = loaded("make_evidence")
    monkeypatch.setattr(script, "DATA", tmp_path)
    (tmp_path / "new.json").write_text(json.dumps({"rows": [0.123456789], "about": "raw"}))
    (tmp_path / "old.json").write_text(json.dumps({"rows": [1], "about": "on a machine", "set_aside": {}}))
    script.take(tmp_path / "new.json", "old")
    assert json.loads((tmp_path / "old.json").read_text()) == {
        "rows": [0.123457], "about": "on a machine", "set_aside": {}
    }  # fmt: skip
