"""The figures of the report as plotly JSON: plain dictionaries, drawn in the browser by page.js.

A colour such as "--train" names a variable of page.css, so that figures follow the light or dark scheme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from convclinic.history import Record
from convclinic.report.folder import Data
from convclinic.report.markup import clean, finite, percent

Figure: TypeAlias = dict[str, Any]
MAX_POINTS = 3000
FEW_EPOCHS = 5


def label(text: object, longest: int = 60) -> str:
    """A foreign name as plotly shows it: plotly reads a little HTML in its texts, so it is escaped."""
    short = clean(text)
    return html.escape(short if len(short) <= longest else short[: longest - 1] + "…", quote=False)


def epoch_loss(records: Sequence[Record]) -> Figure:
    """Mean training loss of each epoch, and the validation loss where it was measured."""
    train = epoch_means([(record.epoch, record.loss) for record in records])
    validation = [(record.epoch, record.val_loss) for record in records if record.val_loss is not None]
    traces = [_line("training", train, "--train"), _line("validation", validation, "--validation")]
    return _figure(traces, "epoch", "loss", log=_wide(train + validation))


def batch_loss(records: Sequence[Record]) -> Figure:
    """Loss of every mini-batch, its smoothed course, and the learning rate on a second axis."""
    points = [(float(record.step), record.loss) for record in records]
    smooth = smoothed(points)
    raw = _line("each mini-batch", thin(points), "--band") | {"mode": "lines"}
    raw["line"] = {"color": "--band", "width": 1}
    course = _line("smoothed", thin(smooth), "--train") | {"mode": "lines"}
    figure = _figure([raw, course], "step", "loss", log=_wide(smooth))
    if len({record.lr for record in records}) > 1:
        lr = _line("learning rate", thin([(float(r.step), r.lr) for r in records]), "--lr")
        lr |= {"mode": "lines", "line": {"color": "--lr", "width": 1.2, "dash": "dot"}, "yaxis": "y2"}
        figure["data"].append(lr)
        figure["layout"]["yaxis2"] = _axis("learning rate") | {
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
            "rangemode": "tozero",
            "tickmode": "auto",
            "nticks": 5,
            "tickformat": ".2~g",
        }
    return figure


def accuracies(records: Sequence[Record]) -> Figure:
    """Training and validation accuracy; without measured training accuracy, the mini-batches' mean."""
    train = [(record.epoch, record.train_accuracy) for record in records if record.train_accuracy is not None]
    name = "training"
    if not train:
        name, train = "training (mini-batches)", epoch_means([(r.epoch, r.accuracy) for r in records])
    validation = [(r.epoch, r.val_accuracy) for r in records if r.val_accuracy is not None]
    traces = [_line(name, train, "--train"), _line("validation", validation, "--validation")]
    figure = _figure(traces, "epoch", "accuracy")
    figure["layout"]["yaxis"] |= {"tickformat": ".0%"}
    return figure


def calibration_curve(points: Sequence[Data]) -> Figure:
    """Share right against stated confidence; the dashed diagonal is a net that says what it means."""
    pairs = [(finite(point.get("confidence")), finite(point.get("accuracy"))) for point in points]
    counts = [int(finite(point.get("count")) or 0) for point in points]
    most = max(counts, default=1) or 1
    ideal = _line("ideal", [(0.0, 0.0), (1.0, 1.0)], "--lr")
    ideal |= {"mode": "lines", "hoverinfo": "skip", "line": {"color": "--lr", "width": 1.2, "dash": "dash"}}
    curve = _line("this net", pairs, "--train") | {"text": [f"{count} images" for count in counts]}
    curve["marker"] = {"color": "--train", "size": [6 + 12 * math.sqrt(count / most) for count in counts]}
    curve["hovertemplate"] = "says %{x:.0%}, right %{y:.0%}<br>%{text}<extra></extra>"
    figure = _figure([ideal, curve], "confidence", "share right")
    for axis in ("xaxis", "yaxis"):
        figure["layout"][axis] |= {"range": [-0.03, 1.05], "tickformat": ".0%", "dtick": 0.2}
    figure["layout"]["hovermode"] = "closest"
    return figure


def confusion_map(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Rows are true classes, columns answers: right in one hue on the diagonal, mistakes in another.

    Colours are shares of the row, so that a small class shows as clearly as a large one.
    """
    k = len(matrix)
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    worst = max((shares[i][j] for i in range(k) for j in range(k) if i != j), default=0.0)
    full, short = [label(name) for name in classes], [label(name, 14) for name in classes]
    counted = [
        [f"{matrix[i][j]} images, {percent(shares[i][j])} of the class" for j in range(k)] for i in range(k)
    ]
    hover = [[f"true: {full[i]}<br>answer: {full[j]}<br>{counted[i][j]}" for j in range(k)] for i in range(k)]
    traces = [
        _heatmap(matrix, shares, hover, diagonal=True, top=1.0),
        _heatmap(matrix, shares, hover, diagonal=False, top=max(worst, 0.05)),
    ]
    small = {"size": 13 if k <= 25 else 11}
    ticks = {"tickvals": list(range(k)), "tickfont": small, "showgrid": False}
    figure = _figure(traces, "answer", "true class")
    layout = figure["layout"]
    layout["xaxis"] |= ticks | {
        "automargin": True,
        "ticktext": short,
        "tickangle": 0 if k <= 4 else -45 if k <= 25 else -90,
        "range": [-0.5, k - 0.5],
    }
    layout["yaxis"] |= ticks | {"ticktext": short, "range": [k - 0.5, -0.5]}
    layout |= {"height": _cell(k) * k + 140, "hovermode": "closest"}
    return figure


def confusion_width(k: int) -> int:
    """Pixels across that the confusion map of k classes wants."""
    return _cell(k) * k + 160


def _cell(k: int) -> int:
    """Pixels of a side of the map's cells."""
    return max(16, min(44, 400 // k))


def epoch_means(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """(mean epoch, mean value) of each epoch; of each tenth of the run when there are few epochs.

    Epochs are fractional: the first one is (0, 1]. Values that are not finite are left out.
    """
    last = max((epoch for epoch, _ in points), default=0.0)
    width = 1.0 if last >= FEW_EPOCHS or last <= 0 else last / 10
    blocks: dict[int, list[tuple[float, float]]] = {}
    for epoch, value in points:
        known = finite(value)
        if known is not None:
            blocks.setdefault(max(1, math.ceil(epoch / width - 1e-9)), []).append((epoch, known))
    means = (list(map(_mean, zip(*blocks[index], strict=True))) for index in sorted(blocks))
    return [(epoch, value) for epoch, value in means]


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float | None]]:
    """Exponential moving average, half-life a fiftieth of the run, corrected for its start (Adam's way)."""
    decay = 0.5 ** (1 / max(5.0, len(points) / 50))
    total, weight, course = 0.0, 0.0, list[tuple[float, float | None]]()
    for x, y in points:
        if math.isfinite(y):
            total, weight = decay * total + (1 - decay) * y, decay * weight + (1 - decay)
            course.append((x, total / weight))
    return course


def thin(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most MAX_POINTS of the points: each stretch's lowest and highest, so a band keeps its width."""
    if len(points) <= MAX_POINTS:
        return list(points)
    kept: list[tuple[float, float | None]] = []
    stretches = MAX_POINTS // 2
    for index in range(stretches):
        part = points[index * len(points) // stretches : (index + 1) * len(points) // stretches]
        known = [point for point in part if finite(point[1]) is not None] or list(part[:1])
        ends = {min(known, key=lambda point: point[1] or 0.0), max(known, key=lambda point: point[1] or 0.0)}
        kept += sorted(ends, key=lambda point: point[0])
    return kept


def _wide(points: Sequence[tuple[float, float | None]]) -> bool:
    """Whether values span so much that a linear axis would hide the lower part."""
    known = [value for _, value in points if value is not None and math.isfinite(value)]
    return bool(known) and min(known) > 0 and max(known) > 50 * min(known)


def _line(name: str, points: Sequence[tuple[float | None, float | None]], colour: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines" if len(points) > 40 else "lines+markers",
        "name": name,
        "x": [finite(x) for x, _ in points],
        "y": [finite(y) for _, y in points],
        "line": {"color": colour, "width": 2.2},
        "marker": {"color": colour, "size": 6},
    }


def _heatmap(
    counts: Sequence[Sequence[int]],
    shares: Sequence[Sequence[float]],
    hover: Sequence[Sequence[str]],
    *,
    diagonal: bool,
    top: float,
) -> Figure:
    size, hue = range(len(counts)), "right" if diagonal else "wrong"
    shown = [[(i == j) == diagonal and (diagonal or counts[i][j] > 0) for j in size] for i in size]
    trace: Figure = {
        "type": "heatmap",
        "z": [[shares[i][j] if shown[i][j] else None for j in size] for i in size],
        "hovertext": hover,
        "hoverinfo": "text",
        "hoverongaps": False,
        "zmin": 0,
        "zmax": top,
        "colorscale": [[0, f"--{hue}-low"], [1, f"--{hue}-high"]],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
    }
    if len(counts) <= 15:
        trace["text"] = [[str(counts[i][j]) if shown[i][j] else "" for j in size] for i in size]
        trace["texttemplate"] = "%{text}"
    return trace


def _axis(title: str) -> Figure:
    return {
        "title": {"text": title, "standoff": 8},
        "automargin": True,
        "gridcolor": "--grid",
        "linecolor": "--grid",
        "zeroline": False,
    }


def _figure(traces: list[Figure], x: str, y: str, log: bool = False) -> Figure:
    layout: Figure = {
        "height": 320,
        "margin": {"l": 48, "r": 24, "t": 34, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "--soft", "size": 13},
        "hovermode": "x unified",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "--lr", "activecolor": "--ink"},
        "hoverlabel": {"bgcolor": "--surface", "bordercolor": "--line", "font": {"color": "--ink"}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": _axis(x) | {"automargin": False},
        "yaxis": _axis(y) | ({"type": "log"} if log else {}),
    }
    return {"data": [trace for trace in traces if trace["type"] == "heatmap" or trace["x"]], "layout": layout}
