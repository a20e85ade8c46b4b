"""The engine of studies, without training."""

from __future__ import annotations

from pathlib import Path

import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.recipe import Recipe
from convclinic.study import comparing
from convclinic.study.comparing import Kept, Mean, Score, choose, mean_of


def test_scores_count_classes_and_images() -> None:
    score = Score((90, 1, 0), (100, 2, 0))
    assert score.accuracy == pytest.approx(91 / 102)
    assert score.recalls == (0.9, 0.5, None)
    assert score.balanced_accuracy == pytest.approx(0.7)
    assert Score((0,), (0,)).balanced_accuracy == 0.0


def test_the_interval_is_students() -> None:
    # tables of Student's t with two degrees of freedom: 97.5 % lie below 4.303
    found = mean_of([1.0, 2.0, 6.0])
    assert (found.mean, found.spread) == (3.0, pytest.approx(7**0.5))
    assert found.high - found.mean == pytest.approx(4.303 * (7 / 3) ** 0.5, rel=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert mean_of([0.3]) == Mean(1, 0.3)


def test_labels_are_found_by_their_first_word_and_kept_in_order() -> None:
    known = ["leaky (a = 100)", "ReLU", "leaky (a = 5.5)"]
    assert choose(["LEAKY"], known, "activation") == ("leaky (a = 100)", "leaky (a = 5.5)")
    assert choose([], known, "activation") == tuple(known)
    with pytest.raises(ConvclinicError, match=r"no activation 'relo'.*ReLU"):
        choose(["relo"], known, "activation")


def test_a_study_is_found_again_as_it_was_kept(tmp_path: Path) -> None:
    wish = {"question": "x", "settings": ["a=1"]}
    assert comparing.find(tmp_path, wish) is None
    kept = Kept(Recipe(seed=4), 77)
    comparing.keep(tmp_path, wish, kept)
    assert comparing.find(tmp_path, wish) == kept
    with pytest.raises(ConvclinicError, match="other settings"):
        comparing.find(tmp_path, {**wish, "settings": []})


def test_a_study_of_an_older_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / comparing.FILE).write_text('{"identity": {}, "steps": 3, "outcomes": []}')
    with pytest.raises(ConvclinicError, match="other settings"):
        comparing.find(tmp_path, {})
