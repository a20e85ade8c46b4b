"""The section about training, and how any figure is put on the page."""

from __future__ import annotations

from collections.abc import Sequence

from convclinic.history import Record
from convclinic.report import figures
from convclinic.report.clinic_section import reading, readings, treatments
from convclinic.report.folder import Run
from convclinic.report.markup import Html, absent, finite, json_script, number, percent, section, tag

LOSS_HINT = (
    "A good curve falls fast and smoothly and ends low. Slow and nearly straight: learning rate too "
    "low. Fast, then stuck high: too high. Jumping or rising: far too high. Augmentation can lift "
    "training above validation."
)
BATCH_HINT = (
    "Nearly straight: learning rate too low. Hardly falling: too high. A very wide band: batches too small."
)
SHAPES = (
    "Under each figure stands how the program reads its shape, which is no verdict: a finding under “What to "
    "do next” rests on more than the curve."
)
ACCURACY = "Training and validation accuracy"
ACCURACY_HINT = (
    "A wide gap means overfitting: more images or more regularisation. No gap at a low level means that "
    "the net is too small or training too short."
)


def training(run: Run) -> Html:
    """The three figures of a run, each with what to look for and what this run shows; remedies tried."""
    title, records = "How training went", run.history
    if not records:
        return section("training", title, absent("No training history was recorded for this run."))
    last = records[-1]
    read = readings(run)
    ended = f"the last mini-batch, at step {last.step}, had loss {number(last.loss)}"
    lowest = _lowest(records) or ended
    drawn = (
        ("epoch-loss", "Loss by epoch", figures.epoch_loss(records), LOSS_HINT, lowest),
        ("batch-loss", "Loss of every mini-batch", figures.batch_loss(records), BATCH_HINT, ended),
        ("accuracy", ACCURACY, figures.accuracies(records), ACCURACY_HINT, _gap(records)),
    )
    plots = [plot(*parts, read=reading(read.get(i))) for i, parts in enumerate(drawn, 1)]
    shown = tag("div", *plots, class_="figures")
    return section("training", title, tag("p", SHAPES), shown, treatments(run))


def _lowest(records: Sequence[Record]) -> str | None:
    known = [(loss, record.epoch) for record in records if (loss := finite(record.val_loss)) is not None]
    if not known:
        return None
    loss, epoch = min(known)
    when = f"at epoch {number(epoch)} of {number(records[-1].epoch)}"
    return f"the lowest validation loss was {number(loss)}, {when}"


def _gap(records: Sequence[Record]) -> str:
    train = [r.train_accuracy for r in records if r.train_accuracy is not None]
    validation = [r.val_accuracy for r in records if r.val_accuracy is not None]
    if not validation:
        return "validation was not measured during training"
    ended = f"validation accuracy ended at {percent(validation[-1])}"
    return f"{ended}, training accuracy at {percent(train[-1])}" if train else ended


def plot(
    ident: str,
    title: str,
    figure: figures.Figure,
    hint: str,
    here: str,
    width: int | None = None,
    read: Html | None = None,
) -> Html:
    """A figure that page.js draws from the JSON beside it; `width` in pixels is its natural one, `read` what
    the program sees in it."""
    style = f"height:{figure['layout']['height']}px"
    if width:
        style += f";min-width:{width}px;max-width:{max(width, 480)}px"
    spoken = f"{title}: {here}"
    canvas = tag("div", class_="plot", id=f"plot-{ident}", role="img", aria_label=spoken, style=style)
    words = [tag("b", title), tag("span", f"Here: {here}."), read, tag("span", hint, class_="note")]
    frame = tag("div", canvas, class_="scroll")
    return tag("figure", tag("figcaption", *words), frame, json_script(f"plot-{ident}-data", figure))
