"""The sections about the run as a whole: its result, the plan, the data, how to repeat it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from convclinic.ground.units import duration, size
from convclinic.report.folder import Data, Run, items, mapping
from convclinic.report.markup import (
    NBSP,
    Html,
    absent,
    bar,
    escape,
    facts,
    finite,
    join,
    measure,
    name,
    number,
    percent,
    section,
    table,
    tag,
)

OPTIMISTIC = (
    "There is no test split: these are validation images, which helped to choose the net, so the "
    "numbers are too good by some unknown amount."
)
TOP5_CLASSES = 20  # below this, naming five classes is hardly an answer
_PROFILE = {
    "n_train": "training images",
    "n_validation": "validation images",
    "n_test": "test images",
    "n_classes": "classes",
}


def headline(run: Run) -> Html:
    """The two numbers that matter, with what they are worth and what they compare with."""
    scores, baselines = run.scores, mapping(run.metrics.get("baselines"))
    if not scores:
        return section("result", "Result", absent("No scores were recorded for this run."))
    cards = [
        _card(f"{run.split} accuracy", scores, "accuracy", "share of images named rightly"),
        _card(
            "balanced accuracy", scores, "balanced_accuracy", "mean over classes: small ones count as much"
        ),
    ]
    if len(run.classes) >= TOP5_CLASSES and finite(scores.get("top5_accuracy")) is not None:
        cards.append(
            _card("top-5 accuracy", scores, "top5_accuracy", "the right class is among its best five")
        )
    return section(
        "result",
        "Result",
        tag("p", run.metrics["verdict"], class_="verdict") if run.metrics.get("verdict") else None,
        tag("div", *cards, class_="cards"),
        tag("p", OPTIMISTIC) if run.split != "test" else None,
        _comparison(scores, baselines),
    )


def _card(title: str, scores: Data, key: str, meaning: str) -> Html:
    interval = ends(scores.get(f"{key}_interval"))
    sure = f"95{NBSP}% interval: {percent(interval[0])} to {percent(interval[1])}" if interval else None
    return tag(
        "div",
        tag("p", title, class_="card-title"),
        tag("p", percent(scores.get(key)), class_="card-figure"),
        tag("p", sure, class_="card-interval") if sure else None,
        tag("p", meaning, class_="note"),
        class_="card",
    )


def ends(value: object) -> tuple[float, float] | None:
    """The two ends of an interval, where both are numbers."""
    known = [end for end in map(finite, items(value)) if end is not None]
    return (known[0], known[1]) if len(known) == 2 else None


def _comparison(scores: Data, baselines: Data) -> Html:
    majority, probe = mapping(baselines.get("majority")), mapping(baselines.get("linear_probe"))
    always = escape("always the commonest class")
    if majority.get("class") is not None:
        always = join(["always “", name(majority["class"]), "”"])
    simple = join(["linear probe", f" on {probe['features']}" if probe.get("features") else None])
    rows = [
        [label, measure(part.get("accuracy"), a, tone), measure(part.get("balanced_accuracy"), b, tone)]
        for label, part, a, b, tone in (
            (
                tag("b", "this net"),
                scores,
                ends(scores.get("accuracy_interval")),
                ends(scores.get("balanced_accuracy_interval")),
                "accent",
            ),
            (simple, probe, None, None, "faint"),
            (always, majority, None, None, "faint"),
        )
        if part
    ]
    lead = f"{number(scores.get('n'))} images that the net never learnt from. The thin line on a bar is the "
    lead += f"95{NBSP}% interval: with other images of the same kind the score would mostly fall inside it."
    grid = table("This net beside simple baselines", ["who answers", "accuracy", "balanced accuracy"], rows)
    missing = None if majority or probe else absent("No baselines were measured.")
    return join([tag("p", lead), grid, tag("p", _worth(scores, probe, majority)), missing])


def _worth(scores: Data, probe: Data, majority: Data) -> str | None:
    """Whether the net is clearly better than the best baseline, in a sentence."""
    known = [value for value in (finite(b.get("accuracy")) for b in (probe, majority)) if value is not None]
    interval, ours = ends(scores.get("accuracy_interval")), finite(scores.get("accuracy"))
    if not known or interval is None or ours is None:
        return None
    best = max(known)
    if interval[0] > best:
        return f"That is {100 * (ours - best):.1f} points above the best baseline, more than chance explains."
    if interval[1] < best:
        return "The best baseline is better than this net: mend what is found below before using it."
    return "The best baseline lies inside the interval: the net is not clearly better than it."


def plan(run: Run) -> Html:
    """Every choice of the planner with its reason, and the whole recipe."""
    if run.recipe is None:
        return section("plan", "The plan and its reasons", absent("No recipe was recorded for this run."))
    reasons = [mapping(item) for item in items(run.recipe.get("reasons"))]
    lines = [[row.get("choice"), tag("code", row.get("value")), row.get("reason")] for row in reasons]
    grid = table("The plan's choices", ["choice", "value", "reason"], lines)
    whole = json.dumps(run.recipe.get("recipe"), indent=2, ensure_ascii=False)
    return section(
        "plan",
        "The plan and its reasons",
        grid if lines else absent("No reasons were recorded: the recipe was given by hand."),
        tag("details", tag("summary", "The whole recipe"), tag("pre", whole, tabindex="0")),
    )


def checkup(run: Run) -> Html:
    """What the data check-up measured; what it found wrong stands among the findings."""
    if run.data is None:
        return section("data", "The check-up of the data", absent("No check-up of the data was recorded."))
    profile = mapping(run.data.get("profile"))
    known = {**{key: run.data[key] for key in run.data if key not in ("profile", "classes")}, **profile}
    pairs = [(_PROFILE.get(key, key.replace("_", " ")), _plain(value)) for key, value in known.items()]
    counted = profile.get("class_counts")
    pairs_of = mapping(counted) or dict(zip(run.classes, items(counted), strict=False))
    counts = {key: int(finite(value) or 0) for key, value in pairs_of.items()}
    most = max(counts.values(), default=0) or 1
    lines = [
        [name(key), join([tag("span", count, class_="figure"), bar(count / most)])]
        for key, count in sorted(counts.items(), key=lambda pair: -pair[1])
    ]
    return section(
        "data",
        "The check-up of the data",
        tag("p", "Problems that the check-up found are listed under “What to do next”."),
        facts((term, value) for term, value in pairs if value is not None),
        table("Images of each class", ["class", "images"], lines) if lines else None,
    )


def _plain(value: Any) -> str | None:
    """A scalar or a short list of scalars in words; None for what needs more room."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        parts = [_plain(item) for item in items(value)]
        return ", ".join(map(str, parts)) if 0 < len(parts) <= 6 and None not in parts else None
    return number(value) if isinstance(value, str | int | float) else None


def reproduce(run: Run) -> Html:
    """Commands, versions, time and memory: what someone needs to get the same net again."""
    recipe, metrics = run.recipe or {}, run.metrics
    steps, planned = metrics.get("steps"), metrics.get("planned_steps")
    wall, budget = finite(metrics.get("wall_seconds")), finite(metrics.get("budget_seconds"))
    memory = finite(metrics.get("peak_memory_bytes"))
    pairs = [
        ("command", tag("code", recipe["command"]) if recipe.get("command") else None),
        ("seed", mapping(recipe.get("recipe")).get("seed")),
        ("created", moment(recipe.get("created"))),
        ("versions", _versions(recipe)),
        ("device", metrics.get("device")),
        ("steps", f"{steps} of {planned} planned" if planned and steps is not None else steps),
        ("time", _time(wall, budget)),
        ("peak memory", size(memory) if memory is not None else None),
    ]
    seconds = {key: finite(value) or 0.0 for key, value in mapping(metrics.get("seconds")).items()}
    total = sum(seconds.values()) or 1.0
    lines = [
        [key, join([tag("span", duration(value), class_="figure"), bar(value / total)])]
        for key, value in seconds.items()
    ]
    return section(
        "reproduce",
        "How to get the same net again",
        tag("p", "The file recipe.json in the run's folder holds every choice, the seed included.")
        if recipe
        else None,
        facts((term, value) for term, value in pairs if value is not None),
        table("Time of each stage", ["stage", "time"], lines) if lines else absent("No times were recorded."),
    )


def moment(iso: object) -> str | None:
    """An ISO 8601 moment for people; other text as it is."""
    if not iso:
        return None
    try:
        when = datetime.fromisoformat(str(iso))
    except ValueError:
        return str(iso)
    return f"{when.day} {when:%B %Y}, {when:%H:%M} {when.tzname() or ''}".strip()


def _versions(recipe: Data) -> str | None:
    known = [f"{key} {recipe[key]}" for key in ("convclinic", "torch") if recipe.get(key)]
    return ", ".join(known) or None


def _time(wall: float | None, budget: float | None) -> str | None:
    if wall is None:
        return None
    return duration(wall) + (f" of a budget of {duration(budget)}" if budget is not None else "")
