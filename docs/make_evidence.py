"""Write docs/evidence.md from the measurements in docs/evidence/*.json.

    python docs/make_evidence.py

Each of these files is an `evidence.json` as `convclinic evidence` writes it, made smaller by
`python docs/make_evidence.py --take FILE NAME`, which keeps what stands there already about the file:

    about           a sentence on where and how it was measured
    set_aside       {trick: why its row says nothing}, for what was found to be wrong afterwards
    step_times      false where the times of steps are not to be trusted

Nothing else is written by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convclinic.cli.tricks import SECTIONS
from convclinic.study.comparing import Mean
from convclinic.study.evidence import timed

FOLDER = Path(__file__).parent
PAGE, DATA = FOLDER / "evidence.md", FOLDER / "evidence"
OWN_WORDS = ("about", "set_aside", "step_times")
HELPS, HURTS, NONE_SEEN = "helps", "hurts", "no effect seen"
RUN_SECTION = {"run": 4, "regularise": 6}
HEAD = """# Evidence

What each trick brought when nothing else was changed: the same recipe trained with and without it, for
equally many steps, paired by seed, each net judged once on the test images with its last weights
(`convclinic evidence`, see [Using it](using.md)). Gains are percentage points of test accuracy with
Student's 95 % interval over the seeds; "helps" and "hurts" mean that the interval leaves out zero. Of so
many questions, one in twenty without any effect will look as if it had one. Step times are those with the
trick over those without, a few steps of each in turn, with the interval over the rounds. **The trainings
are short**: what works against overfitting has little to work on in a few epochs, and usually costs
something; a long run can turn such a row round. This page is made by `python docs/make_evidence.py` from
the data in [docs/evidence](evidence).
"""


def page() -> str:
    """The text of docs/evidence.md."""
    return "\n".join([HEAD, *(line for path in _measured() for line in _chapter(path))])


def _measured() -> list[Path]:
    return sorted(DATA.glob("*.json"), key=lambda path: path.stem)


def _chapter(path: Path) -> Iterator[str]:
    facts: dict[str, Any] = json.loads(path.read_text())
    recipe, aside = facts["recipe"], facts.get("set_aside", {})
    rows = [row for row in facts["rows"] if row["trick"] not in aside]
    net = recipe["net"]["name"]
    yield f"## {facts['data']}, net {net}, {facts['epochs']:.0f} epochs, {facts['machine']}\n"
    yield f"{facts['about']}\n" if facts.get("about") else ""
    size = f"{recipe['data']['height']} x {recipe['data']['width']}"
    run, plain = recipe["run"], facts["plain"]
    sentences = (
        f"{facts['training_images']:,} training images of {size} pixels",
        f"{facts['test_images']:,} of test",
        f"{facts['steps']} steps of {run['batch_size']}, {facts['epochs']:.1f} epochs",
        f"{facts['seeds']} seeds",
        f"{facts['machine']}, torch {facts['versions']['torch']}. "
        f"The base recipe ({_words(recipe)}) reaches {plain['base']:.1%}, "
        f"a linear classifier {plain['linear_probe']:.1%}.\n",
    )
    yield "; ".join(sentences)
    yield from _claims(rows)
    for number, title, slots in SECTIONS:
        asked = [row for row in rows if _section(row["trick"], slots, number)]
        if asked:
            yield f"### {number} {title}\n"
            yield from _table(asked, facts.get("step_times", True))
    if aside:
        yield "Set aside:\n"
        yield from (f"- `{trick}`: {why}" for trick, why in sorted(aside.items()))
        yield ""
    failed = {what.rpartition(", seed")[0]: why for what, why in facts["failed"].items()}
    if failed:
        yield "Not possible in this net:\n"
        yield from (f"- `{trick}`: {why}" for trick, why in sorted(failed.items()))
        yield ""


def _words(recipe: dict[str, Any]) -> str:
    optimise = recipe["optimise"]
    augment = ", ".join(one["name"] for one in recipe["augment"])
    schedule = ", ".join(one["name"] for one in recipe["schedule"])
    return (
        f"{augment}; {recipe['activate']['name']}; {optimise['name']} at {optimise['lr']:g}, momentum "
        f"{optimise.get('momentum', 0):g}; {schedule}; {recipe['run']['precision']}"
    )


def _section(trick: str, slots: tuple[str, ...], number: int) -> bool:
    slot = trick.partition(".")[0]
    return slot in slots or RUN_SECTION.get(slot) == number


def _claims(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The claims of the sources that did not hold here."""
    against = [row for row in rows if {row["claim"], row["verdict"]} == {HELPS, HURTS}]
    unseen = [row for row in rows if row["claim"] in (HELPS, HURTS) and row["verdict"] == NONE_SEEN]
    if against:
        yield "**Claims of the sources that did not hold here**, the opposite was seen:\n"
        yield from (
            f"- `{row['trick']}` ({_claim(row)}): {_gain(row)} beside {row['beside']}" for row in against
        )
        yield ""
    if unseen:
        words = ", ".join(f"`{row['trick']}` ({_gain(row)})" for row in unseen)
        yield f"**Claims for which no effect was seen** at this size: {words}.\n"


def _claim(row: dict[str, Any]) -> str:
    return "said to help" if row["claim"] == HELPS else "said to hurt"


def _gain(row: dict[str, Any]) -> str:
    gain = row["gain"]
    return f"{100 * gain['mean']:+.2f}, {100 * gain['low']:+.2f} to {100 * gain['high']:+.2f}"


def _table(rows: list[dict[str, Any]], times: bool) -> Iterator[str]:
    heads = [
        "trick",
        "beside",
        "accuracy",
        "gain, points (95 %)",
        *(["step time"] if times else []),
        "verdict",
    ]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        cells = [f"`{row['trick']}`", row["beside"], f"{row['accuracy']['mean']:.1%}", _gain(row)]
        ratio = row["step_time"]
        cells += [timed(None if ratio is None else Mean(**ratio))] if times else []
        verdict = row["verdict"] if row["verdict"] == NONE_SEEN else f"**{row['verdict']}**"
        yield "| " + " | ".join([*cells, verdict]) + " |"
    yield ""


def take(path: Path, name: str) -> None:
    """Keep a measurement under docs/evidence, with fewer digits and what was said about it before."""
    target = DATA / f"{name}.json"
    before = json.loads(target.read_text()) if target.exists() else {}
    facts = {**json.loads(path.read_text()), **{key: before[key] for key in OWN_WORDS if key in before}}
    target.write_text(json.dumps(_rounded(facts), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--take", nargs=2, metavar=("FILE", "NAME"))
    options = parser.parse_args()
    if options.take:
        take(Path(options.take[0]), options.take[1])
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
