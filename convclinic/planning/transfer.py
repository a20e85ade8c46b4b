"""The two-by-two table of fine-tuning (little or much data, similar to or different from what the net was
trained on), decided from measurements.

    evidence = probing.measure(net, prepare, fitted, data, device, size, seconds=60, seed=0)
    advice = decide(evidence)  # pure: the same evidence, the same advice
    advice.cell, advice.strategy, advice.stage, advice.reasons

Similarity is what the pretrained weights are worth here: a linear probe on the features of several stages, by
cross-validation on training images alone, beside the same probes on the same net with random weights. The
data are similar where the last stage is clearly above the random net and no earlier stage is clearly above
the last. Size is images per class. Where each threshold comes from stands beside it.

Source    Yosinski et al., How transferable are features in deep neural networks?, 2014, arXiv:1411.1792
          (earlier stages are more general); Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015 (the
          table); Kornblith et al., Do better ImageNet models transfer better?, 2019, arXiv:1805.08974 (probes
          foretell fine-tuning)
"""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from convclinic.ground.errors import ConvclinicError, nearest

# What `fit` makes of them is planning/tuning.py's: every head begins at the probe's solution and is trained
# further on augmented images.
STRATEGIES = {
    "linear": "a linear classifier on the features of the last stage",
    "early_linear": "a linear classifier on the features of an earlier stage",
    "early_svm": "a linear SVM on the features of an earlier stage",
    "last_stages": "fine-tune the last stages, the lower ones frozen",
    "all": "fine-tune all stages, the lower ones with smaller LRs",
    "freeze_then_tenth": "train the head first, then everything at a tenth of its LR",
    "scratch": "train from random weights",
}
CLEAR = 2.0  # standard errors of a difference that is taken for sure
LEAST_GAIN = 0.02  # of balanced accuracy: below, a difference is not worth a decision
# Of the last stage above the best one of the random net, and in standard errors. With MobileNetV2 and 25 or
# more images per class it was 13 to 21 points on TrashNet, 24 to 36 on CIFAR-10 and -3 to +1 on blood cells.
SIMILAR_GAIN, SIMILAR_ERRORS = 0.05, 1.0
# Standard errors by which an earlier stage must be better to be taken. Of 0 to 2, on TrashNet, BCCD, CIFAR-10
# and Fashion-MNIST with 5 to 50 images per class (64 draws, MobileNetV2), 0 and 0.5 lost least on images held
# out (1.5 points to the best of six stages in hindsight; 2 lost 2.7, the last stage always 3.1).
EARLIER = 0.5
# Images per class from which fine-tuning beats a head alone. Points of balanced accuracy above the best head
# of six stages (in hindsight; MobileNetV2, 97 or 129 pixels, one to four draws), the head beginning at the
# probe's solution, as in `fit`. Last stages on TrashNet: +1 with 10, -1 with 20, +4 with 30, +2 with 40, +5
# with 130. All stages on CIFAR-10: +5 with 10 and 20, +9 with 40; on Fashion-MNIST 0 with 10 and 20, +1 with
# 40; on blood cells -1 with 10. In whole runs of `fit` (TrashNet, 10 images per class, two draws, 60 images
# of validation each) the last stages validated at 55.0 and 66.7 %, the head alone at 53.3 and 55.0 %.
MUCH = 10
ADAPTS = 30  # images per class from which batch norm may take statistics of its own
FEWEST_EPOCHS = 3.0  # of fine-tuning, else only the head is trained

Size: TypeAlias = Literal["little", "much"]
Similarity: TypeAlias = Literal["similar", "different"]


class Difference(NamedTuple):
    """Of two balanced accuracies on the same images, with its standard error."""

    gain: float
    error: float

    def above(self, least: float, errors: float = CLEAR) -> bool:
        """Whether the gain is at least so large, and so many standard errors."""
        return self.gain >= max(least, errors * self.error)

    @property
    def reversed(self) -> Difference:
        return Difference(-self.gain, self.error)

    def __str__(self) -> str:
        return f"{100 * self.gain:+.1f} points (standard error {100 * self.error:.1f})"


class Probe(NamedTuple):
    """What a logistic regression on one stage's features reaches in cross-validation."""

    stage: str
    balanced_accuracy: float
    standard_error: float


@dataclass(frozen=True)
class Evidence:
    """What `decide` looks at; plain data.

    class_counts: training images of each class; pretrained and control (random weights): probes by depth, the
    last stage at the end of `pretrained`; over_control: the last pretrained stage above the best of
    `control`; best_over_control: the best pretrained stage above it; over_earlier: the last stage above the
    best earlier one; svm: an SVM above the logistic regression, on the best stage; own_statistics: the last
    stage with batch norm statistics of these images above those of the file, None for a net without batch
    norm or where there was no time; epochs: of fine-tuning all stages that the budget has room for, None
    without a budget.
    """

    class_counts: tuple[int, ...]
    n_probed: int
    pretrained: tuple[Probe, ...]
    control: tuple[Probe, ...]
    over_control: Difference
    best_over_control: Difference
    over_earlier: Difference | None
    svm: Difference | None = None
    own_statistics: Difference | None = None
    epochs: float | None = None
    seconds: float = 0.0

    @property
    def images_per_class(self) -> float:
        """The median over the classes."""
        return float(statistics.median(self.class_counts))

    @property
    def best(self) -> Probe:
        """The stage that the classifier would take: an earlier one only where it is clearly above the
        last."""
        last, over = self.pretrained[-1], self.over_earlier
        if over is None or -over.gain <= EARLIER * over.error:
            return last
        return max(self.pretrained[:-1], key=lambda probe: probe.balanced_accuracy)


@dataclass(frozen=True)
class Advice:
    """Where in the table the data lie, what to do there, and why. `stage` is the one whose features the
    linear strategies take; batch_norm says which statistics fine-tuning should use: the file's ("frozen") or
    those of each batch ("adaptive")."""

    size: Size
    similarity: Similarity
    strategy: str
    stage: str
    batch_norm: Literal["frozen", "adaptive"]
    reasons: tuple[str, ...]

    @property
    def cell(self) -> str:
        return f"{self.size} data, {self.similarity}"


def decide(evidence: Evidence) -> Advice:
    """The cell of the table and its strategy."""
    similarity, likeness = _similarity(evidence)
    size: Size = "much" if evidence.images_per_class >= MUCH else "little"
    strategy, why = _strategy(evidence, size, similarity)
    batch_norm, statistics_words = _batch_norm(evidence)
    words = (
        f"{evidence.images_per_class:g} training images per class (median); {MUCH} are enough for fine-tuning"
    )
    return Advice(
        size, similarity, strategy, evidence.best.stage, batch_norm, (words, likeness, why, statistics_words)
    )


def known_strategy(strategy: str) -> None:
    """Raise ConvclinicError, with the nearest right word, unless there is such a strategy."""
    if strategy not in STRATEGIES:
        raise ConvclinicError(f"no strategy '{strategy}'", fix=nearest(strategy, STRATEGIES))


def overruled(advice: Advice, strategy: str) -> Advice:
    """The advice with the user's own strategy. Raises ConvclinicError for an unknown one."""
    known_strategy(strategy)
    if strategy == advice.strategy:
        return advice
    words = f"the user chose {strategy}; what was measured speaks for {advice.strategy}"
    return dataclasses.replace(advice, strategy=strategy, reasons=(*advice.reasons, words))


def _similarity(evidence: Evidence) -> tuple[Similarity, str]:
    last = evidence.pretrained[-1]
    best_control = max(evidence.control, key=lambda probe: probe.balanced_accuracy)
    words = (
        f"a linear probe on {evidence.n_probed} training images reaches {last.balanced_accuracy:.1%} on the "
        f"last stage ({last.stage}), and {best_control.balanced_accuracy:.1%} at best with random weights: "
        f"{evidence.over_control}"
    )
    over = evidence.over_earlier
    if evidence.best is not last and over is not None:
        best = evidence.best
        words += f"; {best.stage} reaches {best.balanced_accuracy:.1%}, beside which the last has {over}"
    above = evidence.over_control.above(SIMILAR_GAIN, SIMILAR_ERRORS)
    similar = above and not (over is not None and over.reversed.above(LEAST_GAIN))
    return ("similar" if similar else "different"), words


def _strategy(evidence: Evidence, size: Size, similarity: Similarity) -> tuple[str, str]:
    if evidence.best_over_control.reversed.above(LEAST_GAIN):
        return "scratch", (
            "random weights give better features than these at every stage: the file does not fit, or its "
            "preprocessing is wrong"
        )
    short = evidence.epochs is not None and evidence.epochs < FEWEST_EPOCHS
    if size == "much" and not short:
        if similarity == "similar":
            return (
                "last_stages",
                "the last stages are close to what is needed, and there are images to move them",
            )
        return "all", "the images differ from those of the weights, and there are enough to move every stage"
    late = evidence.best is evidence.pretrained[-1]
    why = (
        f"the budget has room for {evidence.epochs:.1f} epochs of fine-tuning"
        if size == "much"
        else "too few images to move the net's weights without overfitting"
    )
    if late:
        return "linear", why
    svm = evidence.svm is not None and evidence.svm.above(LEAST_GAIN)
    return ("early_svm" if svm else "early_linear"), f"{why}; an earlier stage is the more general one"


def _batch_norm(evidence: Evidence) -> tuple[Literal["frozen", "adaptive"], str]:
    own = evidence.own_statistics
    if own is None:
        return "frozen", "batch norm keeps the file's statistics: those of these images were not measured"
    if evidence.images_per_class >= ADAPTS and own.above(0.0):
        return "adaptive", f"batch norm adapts: with these images' own statistics the probe has {own}"
    return "frozen", f"batch norm keeps the file's statistics: with these images' own the probe has {own}"
