"""What the clinic adds to the report: the health of the data as the trained net sees it, the figures of the
training as the program reads them, and the remedies that were tried.

Findings stand under "What to do next", the suspected images among the mistakes.
"""

from __future__ import annotations

from convclinic.clinic import curves
from convclinic.clinic.figures import Figure
from convclinic.clinic.figures import read as read_figures
from convclinic.report.folder import Data, Run, mapping, rows
from convclinic.report.markup import (
    Html,
    absent,
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

TITLE = "The health of the data"
COVERED = (
    "Judged on {} validation and test images, from which the net did not learn. The training images are not "
    "looked through: of those a net repeats the labels it was given, the wrong ones too."
)
MAX_PAIRS = 20
PAIRS = (
    "Pairs of classes that are mixed up more often than mistakes fall on other classes in general. The thin "
    "line on a bar is the interval, as wide as it must be for all pairs together."
)
SUSPECTED = (
    "An image is suspected when its label gets less than a tenth of the confidence usual in its class. "
    "Mistakes of the net are among them: look before changing anything."
)


def data_health(run: Run) -> Html:
    """What `clinic.data_health.examine` found, from the run's metrics."""
    found = mapping(run.metrics.get("data_health"))
    if not found:
        return section("health", TITLE, absent("The health of the data was not examined after this run."))
    covered = tag("p", COVERED.format(number(found.get("images"))))
    return section("health", TITLE, covered, *_labels(found), *_pairs(found), _leaks(found))


def _labels(found: Data) -> list[Html]:
    random = mapping(found.get("random_labels"))
    if random:
        share = f"About {percent(random.get('share'))} of the labels are wrong at random"
        share += f" (99 % interval: {percent(random.get('low'))} to {percent(random.get('high'))})."
    else:
        share = "How many labels are wrong at random cannot be told from so few classes or images."
    listed = f"{number(found.get('suspected'))} labels are suspected. {SUSPECTED}"
    return [tag("p", share), tag("p", listed)]


def _pairs(found: Data) -> list[Html]:
    pairs = rows(found.get("confused"))
    if not pairs:
        return [tag("p", "No two classes are mixed up more often than chance explains.")]
    lines = [
        [name(pair.get("first")), name(pair.get("second")), *_shares(pair)] for pair in pairs[:MAX_PAIRS]
    ]
    head = ["class", "taken for", "share of the class", "by chance", "the other way"]
    return [tag("p", PAIRS), table("Classes that are confused", head, lines, numeric=2)]


def _shares(pair: Data) -> list[object]:
    count, of, low, high = (finite(pair.get(key)) or 0.0 for key in ("count", "of", "low", "high"))
    back, back_of = finite(pair.get("back")), finite(pair.get("back_of"))
    other = percent(back / back_of) if back is not None and back_of else None
    return [measure(count / (of or 1.0), (low, high), "wrong"), percent(pair.get("chance")), other]


def _leaks(found: Data) -> Html:
    leaks = rows(found.get("leaks"))
    if not leaks:
        return tag("p", "No evaluated image was found again in training.")
    return tag("p", f"Evaluated images that show the same as a training image: {len(leaks)}.")


def readings(run: Run) -> dict[int, Figure]:
    """The three figures by number, as the program reads them; none where nothing was recorded."""
    if not run.history:
        return {}
    return {figure.figure: figure for figure in read_figures(curves.read(run.folder / "history.jsonl"))}


def reading(figure: Figure | None) -> Html | None:
    """The shape that was seen in a figure, and what to try first where it is not a good one."""
    if figure is None:
        return None
    advice = f"; try first: {figure.advice}" if figure.advice else ""
    return tag("span", "Read as: ", tag("b", figure.shape), f"{advice}.", class_="reading")


TRIED = (
    "Each was trained beside the unchanged recipe from the same state, for equally many steps. What was kept "
    "had the lowest loss on the validation images, below that without it by more than two paired standard "
    "errors."
)


def treatments(run: Run) -> Html | None:
    """Every remedy that was tried, and what it brought; None where none was."""
    if not run.treatments:
        return None
    kept = sum(bool(trial.get("kept")) for trial in run.treatments)
    head = ["cause", "remedy", "steps", "loss without", "loss with it", "gain", "cost", "outcome"]
    grid = table("Remedies that were tried", head, map(_trial, run.treatments))
    told = tag("p", f"{len(run.treatments)} tried, {kept} kept. {TRIED} The cost is a share of a training.")
    return join([tag("h3", "Remedies that were tried"), told, grid])


def _trial(trial: Data) -> list[object]:
    gain, error = finite(trial.get("gain")), finite(trial.get("error"))
    since, steps = (number(trial.get(key)) for key in ("since", "steps"))
    return [
        str(trial.get("cause")).replace("_", " "),
        tag("code", trial.get("edit")),
        f"{steps} from step {since}",
        _loss(trial, "nothing"),
        _loss(trial, "remedy"),
        None if gain is None else f"{gain:.3g} ± {number(error)}",
        percent(trial.get("cost")),
        "kept" if trial.get("kept") else "reverted",
    ]


def _loss(trial: Data, key: str) -> str:
    """A loss that was no number is stored as none."""
    return "not a number" if trial.get(key) is None else number(trial[key])
