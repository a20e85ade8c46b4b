"""convclinic tricks: the list by section, the card of one, and what a wrong name is answered with."""

import json
import re
import shlex
from pathlib import Path

import pytest

import convclinic.tricks
from convclinic.cli.tricks import SECTIONS, Entry, catalogue, find, idea, page
from convclinic.ground.errors import ConvclinicError
from convclinic.recipe import Recipe
from convclinic.slots import SLOTS, named

ROOT = Path(convclinic.tricks.__path__[0])
FOLDERS = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return catalogue()


def files(package: Path) -> set[str]:
    return {path.stem for path in package.glob("*.py") if not path.stem.startswith("_")}


def test_every_slot_and_folder_belongs_to_one_section():
    slots = [slot for _, _, slots in SECTIONS for slot in slots]
    assert len(slots) == len(set(slots))
    assert set(slots) == FOLDERS | set(SLOTS)


def parsed(listing: str) -> list[tuple[str, str, str, str]]:
    """(section, slot, name, idea) of each line of the list, by its indentation."""
    rows, section, slot = [], "", ""
    for line in listing.splitlines():
        if trick := re.fullmatch(r"    (\w+) +(.+)", line):
            rows.append((section, slot, trick[1], trick[2]))
        elif found := re.fullmatch(r"  (\w+)", line):
            slot = found[1]
        elif found := re.fullmatch(r"(\d .+)", line):
            section = found[1]
    return rows


def test_every_file_of_a_trick_or_net_is_listed_once(command, entries):
    wanted = {(folder, name) for folder in FOLDERS for name in files(ROOT / folder)}
    wanted |= {("net", name) for name in files(ROOT.parent / "models")}
    listed = [(entry.slot, entry.name) for entry in entries]
    assert len(listed) == len(set(listed))
    assert set(listed) == wanted
    answer = command("tricks")
    assert (answer.code, answer.err) == (0, "")
    titles = {number: f"{number} {title}" for number, title, _ in SECTIONS}
    lines = [(titles[entry.section], entry.slot, entry.name, idea(entry)) for entry in entries]
    assert parsed(answer.out) == lines


def test_ideas_are_sentences(entries):
    for entry in entries:
        assert idea(entry).endswith("."), entry.name
        assert "\n" not in entry.summary
        assert entry.card.replace("\n", " ").startswith(entry.summary[:40])


def test_a_card_is_printed_with_its_options(command):
    answer = command("tricks", "mixup")
    assert answer.code == 0
    assert answer.out.startswith("mix.mixup\n\nMixup: train on convex pairs")
    assert "Source    Zhang et al." in answer.out
    assert re.search(r"^  alpha  0\.2$", answer.out, re.MULTILINE)
    assert "Off at alpha 0.0\n" in answer.out
    assert "--set mix=mixup\n" in answer.out
    assert "--set mix.mixup.alpha=0.2\n" in answer.out


def test_what_is_printed_to_choose_a_trick_chooses_it(entries):
    for entry in entries:
        if entry.slot not in SLOTS:
            continue
        settings = [shlex.split(words)[0] for words in re.findall(r"--set (\S+=.*)", page(entry))]
        assert len(settings) == 1 + bool(entry.options)
        value = getattr(Recipe().override(settings), entry.slot)
        chosen = value[0] if SLOTS[entry.slot].many else value
        assert json.loads(json.dumps(named(chosen))) == json.loads(
            json.dumps({"name": entry.name, **entry.options})
        )


def test_a_trick_without_options_says_so(command):
    out = command("tricks", "activate.relu").out
    assert "No options" in out
    assert "Off at" not in out


def test_a_name_of_several_slots_needs_the_slot(command, refused):
    assert "write combine.none or " in refused("tricks", "none")
    assert command("tricks", "combine.none").out.startswith("combine.none\n\nSingle view")
    assert command("tricks", "schedule.constant").out.startswith("schedule.constant\n")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("mixip", r"^no trick or net called 'mixip' \(did you mean 'mixup'\?\)$"),
        ("mix.cutmx", r"^no trick or net called 'mix\.cutmx' \(did you mean 'cutmix'\?\)$"),
        ("mix.flip", r"^no trick or net called 'mix\.flip'"),
        ("agument.flip", r"^no slot 'agument' \(did you mean 'augment'\?\)$"),
        ("qqqqqqqq", r"^no trick or net called 'qqqqqqqq' \(`convclinic tricks` lists them\)$"),
        ("augment.", r"^no trick or net called 'augment\.'"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(entries, wanted, words):
    with pytest.raises(ConvclinicError, match=words):
        find(entries, wanted)


def test_a_wrong_name_on_the_command_line_is_refused(refused):
    assert "did you mean 'mixup'?" in refused("tricks", "mixip")


def test_json_has_all(command, entries):
    answer = command("tricks", "--json")
    plain = json.loads(answer.out)
    assert [(row["slot"], row["name"]) for row in plain] == [(e.slot, e.name) for e in entries]
    assert set(plain[0]) == {"slot", "name", "section", "summary", "options", "off", "card"}
    (flip,) = [row for row in plain if (row["slot"], row["name"]) == ("augment", "flip")]
    assert (flip["section"], flip["options"], flip["off"]) == (1, {"p": 0.5}, {"p": 0.0})
    assert json.loads(command("tricks", "flip", "--json").out) == flip
