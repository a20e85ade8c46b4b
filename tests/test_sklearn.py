"""The estimator among scikit-learn's own tools."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_array

from convclinic.ground.errors import ConvclinicError
from convclinic.recipe import Input, Recipe
from convclinic.sklearn import ConvClassifier

digits = load_digits()
FEW = slice(0, 300)
IMAGES, LABELS = digits.images[FEW] / 16, digits.target[FEW]
SMALL = (
    "net.widths=[8,16,16]", "run.steps=60", "run.batch_size=32", "run.evaluate_every=30", "optimise=adamw",
    "optimise.lr=0.02",
)  # fmt: skip


QUICK = Recipe(data=Input(16, 16, 1)).override(["net=fast", "augment=none", *SMALL])


def quick(**options) -> ConvClassifier:
    return ConvClassifier(**{"budget": None, "recipe": QUICK, "random_state": 0, "device": "cpu", **options})


@pytest.fixture(scope="module")
def fitted() -> ConvClassifier:
    return quick().fit(IMAGES[:250], LABELS[:250])


def test_it_learns_and_its_probabilities_are_some(fitted: ConvClassifier) -> None:
    assert fitted.score(IMAGES[250:], LABELS[250:]) > 0.6
    shares = fitted.predict_proba(IMAGES[250:])
    assert shares.shape == (50, 10) and np.allclose(shares.sum(1), 1)
    assert (fitted.classes_[shares.argmax(1)] == fitted.predict(IMAGES[250:])).all()
    assert fitted.recipe_.run.steps == 60 and fitted.findings_ == []


def test_labels_may_be_words_and_come_back_in_their_order() -> None:
    words = np.array([f"class {label}" for label in LABELS])
    made = quick().fit(IMAGES, words)
    assert list(made.classes_) == sorted(set(words))
    assert (made.predict(IMAGES) == words).mean() > 0.6


def test_equal_seeds_make_equal_nets(fitted: ConvClassifier) -> None:
    again = clone(fitted).fit(IMAGES[:250], LABELS[:250])
    assert np.array_equal(again.predict_proba(IMAGES), fitted.predict_proba(IMAGES))
    other = clone(fitted).set_params(random_state=1).fit(IMAGES[:250], LABELS[:250])
    assert not np.array_equal(other.predict_proba(IMAGES), fitted.predict_proba(IMAGES))


def test_it_is_pickled_with_what_it_learnt(fitted: ConvClassifier) -> None:
    back = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(back.predict_proba(IMAGES), fitted.predict_proba(IMAGES))


def test_it_goes_through_cross_validation_search_and_pipelines() -> None:
    assert cross_val_score(quick(), IMAGES, LABELS, cv=2).mean() > 0.5
    lrs = [(*SMALL, "optimise.lr=1e-9"), SMALL]
    found = GridSearchCV(quick(), {"settings": lrs}, cv=2).fit(IMAGES, LABELS)
    assert found.best_params_["settings"] == SMALL
    flat = make_pipeline(FunctionTransformer(np.ascontiguousarray), quick(image_shape=(8, 8)))
    assert flat.fit(digits.data[FEW], LABELS).score(digits.data[FEW], LABELS) > 0.6


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_bytes_integers_and_floats_are_the_same_images(fitted: ConvClassifier, kind: type) -> None:
    as_bytes = np.rint(IMAGES * 255)
    made = quick().fit(as_bytes[:250].astype(kind), LABELS[:250])
    np.testing.assert_allclose(
        made.predict_proba(as_bytes[250:].astype(kind)), fitted.predict_proba(IMAGES[250:]), atol=1e-6
    )


def test_dark_images_are_scaled_as_those_trained_on() -> None:
    made = quick().fit(digits.images[FEW], LABELS)  # values up to 16 of 255
    assert made.scale_ == 1.0
    dim = np.minimum(digits.images[FEW], 1.0)  # alone they would look like images in [0, 1]
    assert np.array_equal(made.predict_proba(dim), made.predict_proba(dim.astype(np.uint8)))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (digits.data, "image_shape"), (IMAGES - 1, "between -1 and"), (IMAGES * 300, "between 0 and 300"),
        (np.zeros((20, 3, 8, 8)), "channels to the end"), (np.full((20, 8, 8), np.nan), "NaN"),
    ],
)  # fmt: skip
def test_what_can_be_no_images_is_refused(images: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        quick().fit(images, np.arange(len(images)) % 2)


def test_misuse_is_told(fitted: ConvClassifier) -> None:
    with pytest.raises(NotFittedError):
        quick().predict(IMAGES)
    with pytest.raises(ValueError, match="64 features"):
        fitted.predict(np.zeros((2, 9, 9)))
    with pytest.raises(ValueError, match="one class"):
        quick().fit(IMAGES, np.zeros(len(IMAGES)))
    with pytest.raises(ConvclinicError, match="at least 3"):
        quick().fit(IMAGES[:5], [0, 0, 0, 1, 1])


class Rows(ConvClassifier):
    """Takes the checks' tables, rows of a few numbers of any range, as small gray images."""

    def __init__(
        self, *, budget=None, recipe=None, settings=(), clinic="off", device="cpu", random_state=0
    ) -> None:
        super().__init__(
            budget=budget, recipe=recipe, settings=settings, clinic=clinic, device=device,
            random_state=random_state,
        )  # fmt: skip

    def _shaped(self, X):
        table = check_array(X, dtype="numeric", input_name="X")
        return (np.sin(table.astype(float))[:, None, :] + 1) / 2


@parametrize_with_checks([Rows(recipe=QUICK.override(["run.steps=4"]))])
def test_scikit_learns_own_checks(estimator: ConvClassifier, check) -> None:
    check(estimator)
