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
}
CHOSEN = "Chosen by the log loss on validation images: {}."


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
        tag("p", join([METHODS.get(method, method), " ", CHOSEN.format(listed) if listed else ""])),
        table("Members, their weights and accuracies", head, table_rows, numeric=3),
        tag("p", _gain(found)),
    )


def _gain(found: Data) -> str:
    gain, low, high = [*(100 * (finite(value) or 0.0) for value in items(found.get("gain"))), 0.0, 0.0, 0.0][
        :3
    ]
    return (
        f"On the test images {gain:+.1f} points beside the member that is best on validation (95 % interval "
        f"{low:+.1f} to {high:+.1f}, paired by image). Two members answer "
        f"{percent(found.get('diversity'))} of them differently."
    )
