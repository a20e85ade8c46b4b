"""convclinic as an estimator of scikit-learn, on arrays of images.

    from convclinic.sklearn import ConvClassifier
    cross_val_score(ConvClassifier(budget="1m"), images, labels)

Images are (n, h, w) or (n, h, w, c), c 1 or 3: bytes, or floats in [0, 1] or [0, 255]. Rows of flattened
images (n, h * w * c), as pipelines give them, need `image_shape`.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d

from convclinic.data.decode import decode
from convclinic.data.sources import open_source
from convclinic.evaluate import CHUNK, split_logits
from convclinic.ground.files import read_json
from convclinic.ground.stats import fit_temperature
from convclinic.job.display import Silent
from convclinic.job.fitting import model_of, pace_of, read_wish
from convclinic.job.planning import make_plan
from convclinic.job.training import train
from convclinic.job.watching import CLINIC
from convclinic.model import Model
from convclinic.model_file import load
from convclinic.recipe import Recipe

FEWEST = 8  # pixels of a side


class ConvClassifier(ClassifierMixin, BaseEstimator):
    """What `convclinic fit` trains on these images; all of them train or validate, none is set aside to test.

    budget: seconds or text such as "2m", for one call of `fit`; recipe: a Recipe or a file to follow instead
    of planning; settings: changes such as "run.steps=200"; clinic: off, watch or treat; device: cpu, cuda or
    None for the best there is; image_shape: (h, w) or (h, w, c) of flattened images; random_state: an
    integer, a RandomState, or None for another training each time.

    After `fit`: classes_ (k,), recipe_ as it was trained, findings_ of the clinic, n_features_in_ numbers an
    image. Raises ValueError for what can be no images,
    ConvclinicError for settings that make no sense and classes of fewer than three images.
    """

    def __init__(
        self,
        *,
        budget: str | float | None = "1m",
        recipe: str | Path | Recipe | None = None,
        settings: Sequence[str] = (),
        clinic: str = "watch",
        device: str | None = None,
        image_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
    ) -> None:
        self.budget = budget
        self.recipe = recipe
        self.settings = settings
        self.clinic = clinic
        self.device = device
        self.image_shape = image_shape
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on images X, see above, and labels y (n,) of any kind."""
        if y is None:  # pyright: ignore[reportUnnecessaryComparison] - pipelines may pass it
            raise ValueError("requires y to be passed, but the target y is None")
        images = self._shaped(X)
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_consistent_length(images, labels)
        check_classification_targets(labels)
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("the classifier cannot be trained when only one class is present")
        self.n_features_in_ = math.prod(images.shape[1:])
        self.scale_ = _scale(images)
        with tempfile.TemporaryDirectory(prefix="convclinic-") as scratch:
            model = self._trained(_bytes(images, self.scale_), encoded, Path(scratch))
            self.recipe_, self.findings_ = model.recipe, self._findings(Path(scratch))
            model.save(Path(scratch) / "model.safetensors")
            self.model_file_ = (Path(scratch) / "model.safetensors").read_bytes()
        self._model = model
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """(n, k) calibrated probabilities, in the order of classes_."""
        check_is_fitted(self)
        images = self._shaped(X)
        if math.prod(images.shape[1:]) != self.n_features_in_:
            raise ValueError(
                f"X has {math.prod(images.shape[1:])} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        model = self._loaded()
        pixels, size = _bytes(images, self.scale_), model.recipe.data
        shape = (size.height, size.width, size.channels)
        parts = [
            model.logits(np.stack([decode(one, shape, name="X").image for one in pixels[at : at + CHUNK]]))
            for at in range(0, len(pixels), CHUNK)
        ]
        order = np.argsort([int(name) for name in model.classes])
        return model.probabilities(np.concatenate(parts))[:, order]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """(n,) the most likely class."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def __getstate__(self) -> dict[str, Any]:
        """Without the net, whose file says it all."""
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_model"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.non_deterministic = self.random_state is None
        tags.classifier_tags.poor_score = True  # of scikit-learn's made data, which are no images
        return tags

    def _shaped(self, X: ArrayLike) -> NDArray[Any]:
        """X as (n, h, w) or (n, h, w, c)."""
        images = check_array(X, allow_nd=True, ensure_2d=False, dtype="numeric", input_name="X")
        if images.ndim == 2 and self.image_shape is not None:
            if math.prod(self.image_shape) != images.shape[1]:
                raise ValueError(
                    f"rows of {images.shape[1]} numbers are no images of {self.image_shape}: give "
                    "image_shape as (h, w) or (h, w, c)"
                )
            images = images.reshape(len(images), *self.image_shape)
        if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
            raise ValueError(
                f"X has the shape {images.shape}, and images are (n, h, w) or (n, h, w, c), c 1 or 3: give "
                "image_shape for flattened images, or move the channels to the end"
            )
        return images

    def _trained(self, images: NDArray[np.uint8], labels: NDArray[np.int64], scratch: Path) -> Model:
        np.savez(scratch / "x.npz", x=images, y=labels)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        wish = read_wish(
            scratch / "x.npz",
            self.budget,
            seed,
            self.recipe,
            tuple(self.settings),
            self.device,
            None,
            False,
            {},
        )
        planned = make_plan(wish, open_source(wish.data), scratch, Silent())
        data = planned.data
        data = dataclasses.replace(data, splits=np.where(data.splits == 2, 0, data.splits).astype(np.int8))
        pace = pace_of(wish, planned)
        recipe, state = train(planned.plan.recipe, data, scratch, wish.device, Silent(), pace, self.clinic)
        model = model_of(recipe, data, state)
        logits, truth = split_logits(model, data, "validation")
        facts = {"temperature": fit_temperature(truth, logits.astype(np.float64))}
        return dataclasses.replace(model, facts=facts)

    def _findings(self, scratch: Path) -> list[dict[str, Any]]:
        path = scratch / CLINIC
        return read_json(path) if path.exists() else []

    def _loaded(self) -> Model:
        if not hasattr(self, "_model"):
            with tempfile.TemporaryDirectory(prefix="convclinic-") as scratch:
                path = Path(scratch) / "model.safetensors"
                path.write_bytes(self.model_file_)
                self._model = load(path)
        return self._model


def _scale(images: NDArray[Any]) -> float:
    """What values are multiplied by to lie in [0, 255]."""
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 255:
        raise ValueError(
            f"values of X lie between {low:g} and {high:g}: give images as they are, in [0, 1] or [0, 255]; "
            "they are standardised here"
        )
    return 255.0 if np.issubdtype(images.dtype, np.floating) and high <= 1 else 1.0


def _bytes(images: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    """Images (n, h, w) or (n, h, w, c) as bytes; small ones are enlarged by whole factors."""
    made = images if images.dtype == np.uint8 else np.clip(np.rint(images * scale), 0, 255).astype(np.uint8)
    factor = math.ceil(FEWEST / min(made.shape[1:3]))
    return made if factor == 1 else made.repeat(factor, 1).repeat(factor, 2)
