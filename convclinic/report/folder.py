"""What a run folder holds, read once and handed to every section of the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

from convclinic import history
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import read_json
from convclinic.history import Record

Data: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One finished run. None means that the file is not there; an empty list, that it says "nothing"."""

    folder: Path
    metrics: Data
    recipe: Data | None
    history: list[Record] | None
    findings: list[Data] | None
    data: Data | None
    mistakes: list[Data] | None
    suspects: list[Data]
    treatments: list[Data] = field(default_factory=list["Data"])

    @property
    def split(self) -> str:
        """The split that the report speaks about: test, or validation where there is no test split."""
        return "test" if mapping(self.metrics.get("test")) else "validation"

    @property
    def scores(self) -> Data:
        return mapping(self.metrics.get(self.split))

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the net's outputs."""
        listed = items(mapping(self.data).get("classes"))
        return [str(row.get("class")) for row in rows(self.scores.get("per_class"))] or list(map(str, listed))


def mapping(value: object) -> Data:
    """`value` where it is a JSON object, else an empty one."""
    return cast("Data", value) if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """`value` where it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def rows(value: object) -> list[Data]:
    """The objects of a JSON array."""
    return [mapping(item) for item in items(value) if isinstance(item, dict)]


def load(folder: Path) -> Run:
    """Read a run folder. Raises ConvclinicError when it has no metrics.json or a file cannot be read."""
    if not (folder / "metrics.json").is_file():
        raise ConvclinicError(
            f"no metrics.json in {folder}",
            fix="give the folder of a finished run, the one that 'convclinic fit' wrote",
        )
    findings, recipe, data = (_json(folder / f"{word}.json") for word in ("findings", "recipe", "data"))
    clinic = _json(folder / "clinic.json")  # what was found while it trained, beside what was found before
    if clinic is not None:
        findings = [*rows(clinic), *rows(findings)]
    mistakes = _json(folder / "mistakes.json")
    listed = mapping(mistakes).get("mistakes") if isinstance(mistakes, dict) else mistakes
    return Run(
        folder=folder,
        metrics=mapping(_json(folder / "metrics.json")),
        recipe=None if recipe is None else mapping(recipe),
        history=_history(folder / "history.jsonl"),
        findings=None if findings is None else rows(findings),
        data=None if data is None else mapping(data),
        mistakes=None if mistakes is None else rows(listed),
        suspects=rows(mapping(mistakes).get("label_suspects")),
        treatments=rows(_json(folder / "treatments.json")),
    )


def _json(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _history(path: Path) -> list[Record] | None:
    return history.read(path) if path.is_file() else None
