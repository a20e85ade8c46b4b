"""What an ensemble adds to the report: its members, how they differ and what joining them gained."""

from __future__ import annotations

from convclinic.report.folder import Data, Run, items, mapping, rows
from convclinic.report.markup import Html, finite, join, name, number, percent, section, table, tag

TITLE = "The members of this ensemble"
METHODS = {
    "mean": "The mean of all members' probabilities.",
    "greedy": "A weighted mean; members were added one by one on validation images, some of them again.",
    "single": "No mixture did better on validation images than the best member alone.",
    "soup": "One net, whose weights are the mean of members' weights.",
    "fusion": "One linear classifier on the features that the members' last layers read (early fusion).",
    "stack": "One linear classifier on the members' log-probabilities (stacking), learnt from nets of the "
    "same recipes on images that these had not seen.",
}
CLASSIFIER = {
    "images": "training images it was fitted on",
    "inputs": "numbers that it reads of an image",
    "folds": "folds",
    "trained": "nets trained for it",
    "strength": "C, chosen by cross-validation",
}
SHARE = "A member's weight is its share in how the classifier's answers differ from image to image."
LOSSES = "Log loss on validation images that it was not chosen on: {}."


def is_ensemble(run: Run) -> bool:
    return bool(mapping(run.metrics.get("ensemble")))


def members(run: Run) -> Html:
    """The table of members, and what they gain together."""
    found = mapping(run.metrics.get("ensemble"))
    method = str(found.get("method"))
    losses = mapping(found.get("validation_log_loss"))
    ranked = sorted((value, word) for word, value in losses.items() if finite(value) is not None)
    listed = ", ".join(f"{word} {number(value)}" for value, word in ranked)
    table_rows = [
        (
            name(one.get("run")),
            number(one.get("weight")),
            percent(one.get("validation")),
            percent(one.get("test")),
        )
        for one in rows(found.get("members"))
    ]
    head = ("Member", "Weight", "Validation accuracy", "Test accuracy")
    return section(
        "members",
        TITLE,
        tag("p", join([METHODS.get(method, method), " ", LOSSES.format(listed) if listed else ""])),
        table("Members, their weights and accuracies", head, table_rows, numeric=3),
        _classifier(mapping(found.get("classifier"))),
        tag("p", _gain(found)),
    )


def _classifier(about: Data) -> Html | None:
    if not about:
        return None
    told = [f"{words}: {number(about[key])}" for key, words in CLASSIFIER.items() if key in about]
    return tag("p", join([f"{'; '.join(told)}. ", SHARE]))


def _gain(found: Data) -> str:
    if "expected_accuracy" in found:
        expected = percent(found.get("expected_accuracy"))
        return f"Expected accuracy {expected}: {found.get('measured')}. All figures here are of that kind."
    gain, low, high = [*(100 * (finite(value) or 0.0) for value in items(found.get("gain"))), 0.0, 0.0, 0.0][
        :3
    ]
    return (
        f"On the test images {gain:+.1f} points beside the member that is best on validation (95 % interval "
        f"{low:+.1f} to {high:+.1f}, paired by image). Two members answer "
        f"{percent(found.get('diversity'))} of them differently."
    )
