"""What the figures are computed from: epoch means, smoothing, thinning, and values that are not finite."""

from __future__ import annotations

import json
import math

import pytest

from convclinic.history import Record
from convclinic.report import figures
from convclinic.report.markup import Html, escape, json_script, percent, tag, thumbnail


def test_epoch_means_average_whole_epochs() -> None:
    points = [((i + 1) / 4, float(i // 4)) for i in range(24)]  # six epochs of four steps
    assert figures.epoch_means(points) == [(e + 0.625, float(e)) for e in range(6)]


def test_a_run_of_one_epoch_still_gets_ten_points() -> None:
    points = [((i + 1) / 100, 1.0) for i in range(100)]
    assert len(figures.epoch_means(points)) == 10


def test_values_that_are_not_finite_are_left_out_of_means_and_smoothing() -> None:
    assert figures.epoch_means([(1.0, math.nan), (1.0, 2.0), (6.0, math.inf)]) == [(1.0, 2.0)]
    assert [y for _, y in figures.smoothed([(1, math.nan), (2, 3.0), (3, 3.0)])] == pytest.approx([3.0, 3.0])


def test_smoothing_starts_at_the_first_value_and_halves_a_step_in_its_half_life() -> None:
    points = [(float(i), 1.0 if i < 500 else 0.0) for i in range(1000)]  # half-life 20
    course = [y for _, y in figures.smoothed(points)]
    assert course[0] == pytest.approx(1.0)
    assert course[519] == pytest.approx(0.5, abs=1e-3)


def test_thinning_keeps_order_and_extremes() -> None:
    points = [(float(i), math.sin(i)) for i in range(50_000)]
    points[31_234] = (31_234.0, 99.0)
    kept = figures.thin(points)
    assert len(kept) <= figures.MAX_POINTS
    assert (31_234.0, 99.0) in kept and kept == sorted(kept) and set(kept) <= set(points)


def test_a_run_that_blew_up_still_draws() -> None:
    records = [Record(s, s / 10, 0.1, 2.0 if s < 5 else math.nan, 0.1, math.inf) for s in range(1, 20)]
    figure = figures.batch_loss(records)
    assert figure["data"][0]["y"][3:6] == [2.0, None, None]
    json.dumps([figure, figures.epoch_loss(records), figures.accuracies(records)], allow_nan=False)


def test_the_learning_rate_is_drawn_where_it_changes() -> None:
    def names(rates: list[float]) -> list[str]:
        records = [Record(s, s / 10, lr, 1.0, 0.5, 1.0) for s, lr in enumerate(rates, 1)]
        return [trace["name"] for trace in figures.batch_loss(records)["data"]]

    assert "learning rate" in names([0.1, 0.2, 0.1]) and "learning rate" not in names([0.1, 0.1])


def test_accuracy_falls_back_to_mini_batches_where_training_was_not_measured() -> None:
    records = [Record(1, 0.5, 0.1, 1.0, 0.5, 1.0, val_accuracy=0.4), Record(2, 1.0, 0.1, 1.0, 0.7, 1.0)]
    assert [trace["name"] for trace in figures.accuracies(records)["data"]] == [
        "training (mini-batches)",
        "validation",
    ]


def test_a_loss_over_orders_of_magnitude_gets_a_logarithmic_axis() -> None:
    def scale(last: float) -> str | None:
        records = [Record(s, float(s), 0.1, loss, 0.5, 1.0) for s, loss in enumerate([2.0] * 8 + [last], 1)]
        return figures.epoch_loss(records)["layout"]["yaxis"].get("type")

    assert scale(0.001) == "log" and scale(1.0) is None


def test_long_names_are_cut_before_they_are_escaped() -> None:
    assert figures.label("<" * 20, 4) == "&lt;&lt;&lt;…"


def test_markup_escapes_all_but_html() -> None:
    assert tag("p", "<i>", Html("<b>x</b>"), title='"&', hidden=True) == (
        '<p title="&quot;&amp;" hidden>&lt;i&gt;<b>x</b></p>'
    )
    assert escape(None) == "" and escape("a\udcff") == "a\ufffd"


def test_json_cannot_end_its_script() -> None:
    data = {"name": "</script><!--&\u2028\u2029"}
    markup = json_script("x", data)
    inner = markup.removeprefix('<script type="application/json" id="x">').removesuffix("</script>")
    assert json.loads(inner) == data and not set(inner) & set("<>&\u2028\u2029")


@pytest.mark.parametrize(
    ("share", "text"),
    [(1, "100.0 %"), (0.99949, "99.9 %"), (0.9996, ">99.9 %"), (0, "0.0 %"), (math.nan, "–"), ("x", "–")],
)
def test_only_a_true_one_reads_100_percent(share: object, text: str) -> None:
    assert percent(share).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    "source", ["data:image/svg+xml;base64,AAAA", 'data:image/png;base64,AA"onerror=', "x.png", None]
)
def test_only_embedded_bitmaps_become_pictures(source: object) -> None:
    assert "<img" not in thumbnail(source, "alt") and "<img" in thumbnail("data:image/png;base64,AAAA", "alt")
