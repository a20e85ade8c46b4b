"""What joining models came to, for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convclinic.job.run import Run
from convclinic.study.comparing import columns


@dataclass(frozen=True)
class Ensembled:
    """run: of the joint model, like any other; facts: method, members with their weights, diversity, gain.

    Of the folds of a cross-validation there is no gain: `expected_accuracy` is the mean of their own tests.
    """

    run: Run
    facts: dict[str, Any]

    def table(self) -> str:
        """Members and what was gained, as text."""
        lines = [("member", "weight", "validation", "test")]
        for one in self.facts["members"]:
            lines.append(
                (one["run"], f"{one['weight']:.2f}", f"{one['validation']:.1%}", f"{one['test']:.1%}")
            )
        return f"{columns(lines)}\n\n{self.facts['method']}: {self._gained()}"

    def _gained(self) -> str:
        if "expected_accuracy" in self.facts:
            return f"expected accuracy {self.facts['expected_accuracy']:.1%}; {self.facts['measured']}"
        gain, low, high = (100 * value for value in self.facts["gain"])
        return (
            f"test accuracy {self.facts['accuracy']:.1%}, {gain:+.1f} points beside the best member by "
            f"validation ({low:+.1f} to {high:+.1f}); two members answer {self.facts['diversity']:.1%} of "
            "the images differently"
        )
