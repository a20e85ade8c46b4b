"""Help, version, import cost and options: what a person meets first."""

import inspect
import re
import subprocess
import sys
from importlib import import_module

import pytest

import convclinic as cc
from convclinic import __version__
from convclinic.cli import VERBS

HEAVY = {"torch", "numpy", "PIL", "sklearn", "scipy", "plotly", "safetensors", "yaml"}
SHARED = {
    "fit": {
        "--budget",
        "--clinic",
        "--out",
        "--seed",
        "--recipe",
        "--set",
        "--device",
        "--quiet",
        "--json",
    },
    "check": {"--out", "--seed", "--quiet", "--json"},
    "plan": {"--budget", "--out", "--seed", "--recipe", "--set", "--device", "--quiet", "--json"},
    "resume": {"--extend", "--device", "--quiet", "--json"},
    "evaluate": {"--out", "--device", "--quiet", "--json"},
    "predict": {"--out", "--device", "--quiet", "--json", "--csv"},
    "report": {"--out", "--quiet", "--json"},
    "diagnose": {"--classes", "--validation", "--json"},
    "clinic": {"--json"},
    "study": {
        "--data",
        "--net",
        "--seeds",
        "--budget",
        "--only",
        "--out",
        "--set",
        "--device",
        "--quiet",
        "--json",
    },
    "search": {
        "--space",
        "--trials",
        "--budget",
        "--sampler",
        "--storage",
        "--top",
        "--out",
        "--seed",
        "--recipe",
        "--set",
        "--workers",
        "--cluster",
        "--device",
        "--quiet",
        "--json",
    },
    "evidence": {
        "--data",
        "--net",
        "--seeds",
        "--budget",
        "--out",
        "--set",
        "--workers",
        "--cluster",
        "--device",
        "--quiet",
        "--json",
    },
    "crossval": {
        "--folds",
        "--budget",
        "--out",
        "--seed",
        "--recipe",
        "--set",
        "--workers",
        "--cluster",
        "--device",
        "--clinic",
        "--quiet",
        "--json",
    },
    "ensemble": {
        "--members",
        "--method",
        "--folds",
        "--out",
        "--workers",
        "--device",
        "--quiet",
        "--json",
    },
    "features": {
        "--weights",
        "--backbone",
        "--stages",
        "--head",
        "--side",
        "--out",
        "--cache",
        "--seed",
        "--device",
        "--quiet",
        "--json",
    },
    "tricks": {"--json"},
    "demo": {"--budget", "--out", "--seed", "--device", "--quiet", "--json"},
}
LOADED = """
import sys
{what}
print(sorted({heavy!r} & set(sys.modules)))
"""


def loaded(what: str) -> str:
    """The heavy packages that a fresh interpreter holds after `what`."""
    script = LOADED.format(what=what, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_importing_the_package_loads_nothing_heavy():
    assert loaded("import convclinic; assert len(dir(convclinic)) > 5") == "[]"


@pytest.mark.parametrize(
    "words", [["--help"], ["fit", "--help"], ["predict", "--help"], ["clinic", "--help"], ["--version"]]
)
def test_help_never_loads_torch(words):
    what = f"""
sys.argv = ["convclinic", *{words!r}]
from convclinic.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert loaded(what) == "[]"


@pytest.mark.parametrize(
    "name",
    [
        "ConvclinicError",
        "Run",
        "fit",
        "resume",
        "plan",
    ],
)
def test_the_python_names_are_those_promised(name):
    cc.fit  # noqa: B018 - the first use of any name loads what lies behind it
    assert name in cc.__all__
    assert getattr(cc, name).__name__ == name


def test_the_python_interface_begins_like_the_command_line():
    assert list(inspect.signature(cc.fit).parameters)[:2] == ["data", "budget"]
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = cc.fitt


def test_every_verb_is_listed_with_a_line_of_help(command):
    answer = command("--help")
    assert answer.code == 0
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b +[A-Z`]\w+", answer.out), verb
    assert answer.err == ""
    assert set(VERBS) == set(SHARED)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_its_options(command, verb):
    answer = command(verb, "--help")
    assert answer.code == 0
    listed = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", answer.out))
    assert listed - {"--help"} >= SHARED[verb]
    text = " ".join(answer.out.split())
    for option in SHARED[verb]:
        said = re.split(r" --[a-z]", text[text.rindex(option) + len(option) :])[0]
        assert re.search(r"[A-Za-z].*\S\.", said), f"{option} has no sentence"
    summary = (import_module(f"convclinic.cli.{verb}").run.__doc__ or "").split(".")[0]
    assert summary[:40] in " ".join(answer.out.split())


def test_the_version_is_printed(command):
    assert command("--version").out == f"convclinic {__version__}\n"


def test_python_dash_m_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "convclinic", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"convclinic {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fot", "photos"], ["No such command 'fot'", "fit"]),
        (["fit", "photos", "--bugdet", "3m"], ["No such option: --bugdet", "--budget"]),
        (["fit"], ["Missing argument"]),
        (["fit", "photos", "--seed", "three"], ["--seed", "valid integer"]),
        (["resume"], ["Missing argument"]),
        (["predict", "run"], ["Missing argument"]),
        (["evaluate", "run"], ["Missing argument"]),
    ],
)
def test_a_mistyped_command_line_is_told_on_standard_error(refused, words, said):
    err = refused(*words)
    for part in said:
        assert part in err
