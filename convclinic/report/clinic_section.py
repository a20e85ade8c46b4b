"""The section about the health of the data, as the trained net sees it.

Findings stand under "What to do next", the suspected images among the mistakes; here are the figures behind.
"""

from __future__ import annotations

from convclinic.report.folder import Data, Run, mapping, rows
from convclinic.report.markup import Html, absent, finite, measure, name, number, percent, section, table, tag

TITLE = "The health of the data"
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
    return section("health", TITLE, *_labels(found), *_pairs(found), _leaks(found))


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
    return tag("p", f"Images that show the same on both sides of the split: {len(leaks)} pairs.")
