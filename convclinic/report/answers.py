"""The sections about the net's answers: by class, which it confuses, how sure it is, where it errs."""

from __future__ import annotations

from convclinic.report import figures
from convclinic.report.folder import Data, Run, items, mapping, rows
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
    thumbnail,
)
from convclinic.report.training import plot

PER_CLASS = (
    "Precision: of the images it called so, the share that are. Recall: of the images that are so, the "
    "share it found. F1 joins the two. The weakest class comes first."
)
CONFUSION_HINT = (
    "Each row is a true class, each column an answer. The diagonal is right; elsewhere, the stronger "
    "the colour, the larger the share of that class that went wrong."
)
CALIBRATION_HINT = (
    "On the dashed line, images named with 80 % confidence are right 80 % of the time. Below it the net "
    "is too sure of itself, above it too modest. Larger dots stand for more images."
)
MAX_MAP = 50  # classes that a confusion map can show
MAX_PAIRS = 30
COLUMN = 560  # pixels that a figure has beside text


def per_class(run: Run) -> Html:
    """Precision, recall, F1 and support of each class, the weakest first."""
    listed = rows(run.scores.get("per_class"))
    if not listed:
        return section("classes", "Class by class", absent("No scores by class were recorded."))
    weakest = sorted(listed, key=lambda row: (finite(row.get("f1")) is None, finite(row.get("f1")) or 0.0))
    lines = [
        [
            name(row.get("class")),
            measure(row.get("precision")),
            measure(row.get("recall")),
            measure(row.get("f1")),
            number(row.get("support")),
        ]
        for row in weakest
    ]
    head = ["class", "precision", "recall", "F1", "images"]
    grid = table("Scores of each class", head, lines, numeric=1)
    return section("classes", "Class by class", tag("p", PER_CLASS), grid)


def confused_pairs(matrix: list[list[int]]) -> list[tuple[int, int, int]]:
    """(count, true, answer) of each kind of mistake: most frequent first, of equals the smallest class's."""
    pairs = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j and n]
    return sorted(pairs, key=lambda pair: (-pair[0], sum(matrix[pair[1]]), pair))


def confusion(run: Run) -> Html:
    """A map of true class against answer; with many classes the commonest confusions alone."""
    title, k = "What it confuses", len(run.classes)
    matrix = [[int(finite(count) or 0) for count in items(row)] for row in items(run.scores.get("confusion"))]
    if not matrix or len(matrix) != k or any(len(row) != k for row in matrix):
        return section("confusion", title, absent("No confusion matrix was recorded."))
    pairs = confused_pairs(matrix)
    if not pairs:
        most = tag("p", "It confused nothing: every image was named rightly.")
    else:
        most = _pairs_table(run, matrix, pairs) if k > MAX_MAP else _pairs_list(run, matrix, pairs)
    if k > MAX_MAP:
        return section("confusion", title, tag("p", f"The commonest confusions among {k} classes."), most)
    drawing = plot(
        "confusion",
        "Confusion matrix",
        figures.confusion_map(matrix, run.classes),
        CONFUSION_HINT,
        f"{sum(count for count, _, _ in pairs)} of {sum(map(sum, matrix))} images were named wrongly",
        width := figures.confusion_width(k),
    )
    layout = "beside" if width <= COLUMN else "above"
    return section("confusion", title, tag("div", drawing, tag("div", most), class_=layout))


def _pairs_list(run: Run, matrix: list[list[int]], pairs: list[tuple[int, int, int]]) -> Html:
    lines = [
        tag(
            "li",
            *(name(run.classes[i]), " taken for ", name(run.classes[j])),
            tag("span", f": {count} of {sum(matrix[i])} images", class_="note"),
        )
        for count, i, j in pairs[:6]
    ]
    return join([tag("h3", "Most often"), tag("ol", *lines, class_="pairs")])


def _pairs_table(run: Run, matrix: list[list[int]], pairs: list[tuple[int, int, int]]) -> Html:
    lines = [
        [name(run.classes[i]), name(run.classes[j]), count, measure(count / sum(matrix[i]), tone="wrong")]
        for count, i, j in pairs[:MAX_PAIRS]
    ]
    return table("The commonest confusions", ["true class", "answer", "images", "share of the class"], lines)


def calibration(run: Run) -> Html:
    """Whether its confidence can be trusted, and below which it had better not answer."""
    measured = mapping(run.scores.get("calibration"))
    points = rows(measured.get("points"))
    temperature, error = finite(run.metrics.get("temperature")), finite(measured.get("ece"))
    words = tag(
        "div",
        tag("p", _temperature(temperature)) if temperature is not None else None,
        tag("h3", "When to answer “not sure”"),
        tag("p", reject(mapping(run.metrics.get("reject")))),
    )
    title = "How far to trust its confidence"
    if not points:
        return section("calibration", title, absent("No calibration curve was recorded."), words)
    drawing = plot(
        "calibration",
        "Calibration curve",
        figures.calibration_curve(points),
        CALIBRATION_HINT,
        _error(error),
    )
    return section("calibration", title, tag("div", drawing, words, class_="beside"))


def _error(error: float | None) -> str:
    if error is None:
        return "the error was not recorded"
    return f"its stated confidence is on average {percent(error)} off (the expected calibration error)"


def _temperature(temperature: float) -> str:
    """What the fitted temperature says about the net."""
    way = "about right"
    if abs(temperature - 1) > 0.02:
        way = "too sure of itself" if temperature > 1 else "too modest"
    return f"A temperature of {temperature:.2f} corrects its confidences; without it the net was {way}."


def reject(found: Data) -> str:
    """The reject threshold in a sentence."""
    threshold, coverage = finite(found.get("threshold")), finite(found.get("coverage"))
    right, wanted = finite(found.get("accuracy")), finite(found.get("wanted"))
    if threshold is None or coverage is None:
        return "No reject threshold was fitted, so it always answers."
    if coverage >= 1:
        return f"Not needed: it may answer every image, and {percent(right)} of the answers are right."
    sentence = (
        f"Below a confidence of {threshold:.2f} it answers “not sure”: {percent(1 - coverage)} of images; "
    )
    sentence += f"of the rest {percent(right)} are right."
    if wanted is not None and right is not None and right < wanted:
        sentence += f" The {percent(wanted)} that was asked for could not be reached."
    return sentence


def mistakes(run: Run) -> Html:
    """The most confident mistakes, and the labels that look wrong, as pictures."""
    if run.mistakes is None:
        shown = absent("No mistakes were recorded for this run.")
    elif not run.mistakes:
        shown = tag("p", f"It made no mistake on the {run.split} images.")
    else:
        lead = "These are the wrong answers it was surest of. Look first whether the label is the mistake."
        shown = join([tag("p", lead), _gallery(run.mistakes)])
    suspects = None
    if run.suspects:
        lead = "Images whose label the net doubts most. Check them by eye before changing anything."
        suspects = join([tag("h3", "Labels that may be wrong"), tag("p", lead), _gallery(run.suspects)])
    return section("mistakes", "Most confident mistakes", shown, suspects)


def _gallery(listed: list[Data]) -> Html:
    return tag("ul", *map(_picture, listed), class_="gallery")


def _picture(row: Data) -> Html:
    label, predicted = row.get("label"), row.get("predicted")
    return tag(
        "li",
        thumbnail(row.get("thumbnail"), f"{label}, taken for {predicted}"),
        tag("span", name(label), " → ", tag("b", name(predicted)), class_="verdicts"),
        tag("span", percent(row.get("probability")), " sure", class_="note"),
        tag("span", name(row.get("name")), class_="file"),
    )
