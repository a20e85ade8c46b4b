"""convclinic clinic: the list of causes, the card of one, and what a wrong name is answered with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import convclinic.clinic.causes

FILES = Path(convclinic.clinic.causes.__path__[0]).glob("*.py")
CAUSES = sorted(file.stem for file in FILES if not file.stem.startswith("_"))


def test_every_file_of_a_cause_is_listed_with_a_line(command):
    answer = command("clinic")
    assert (answer.code, answer.err) == (0, "")
    *lines, blank, hint = answer.out.splitlines()
    assert [line.split()[0] for line in lines] == CAUSES
    assert all(len(line.split()) > 4 for line in lines)
    assert (blank, hint) == ("", "`convclinic clinic CAUSE` prints the card of one")


@pytest.mark.parametrize("cause", CAUSES)
def test_a_card_has_its_headings(command, cause):
    out = command("clinic", cause).out
    assert out.startswith(f"{cause}\n\n")
    places = [out.index(f"\n{heading} ") for heading in ("Looks at", "Why", "Confused", "Source")]
    assert places == sorted(places)


def test_symptoms_are_causes(command):
    entries = json.loads(command("clinic", "--json").out)
    assert [entry["name"] for entry in entries] == CAUSES
    assert {symptom for entry in entries for symptom in entry["explains"]} <= set(CAUSES)
    (leak,) = [entry for entry in entries if entry["name"] == "lr_too_high"]
    assert json.loads(command("clinic", "lr_too_high", "--json").out) == leak
    assert f"Explains  {', '.join(leak['explains'])}" in command("clinic", "lr_too_high").out


@pytest.mark.parametrize(
    ("wanted", "words"), [("lr_to_high", "did you mean 'lr_too_high'?"), ("qqqqqq", "lists them")]
)
def test_a_wrong_name_is_answered_with_the_nearest(refused, wanted, words):
    assert words in refused("clinic", wanted)


def test_torch_is_not_loaded():
    script = (
        "import sys; sys.argv = ['convclinic', 'clinic', 'dead_relu']\n"
        "from convclinic.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("dead_relu\n")
    assert done.stdout.splitlines()[-1] == "False"
