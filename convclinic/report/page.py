"""From a run's folder to one HTML page that opens anywhere, offline, and asks nothing of any server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from convclinic.ground.files import write_text
from convclinic.report.answers import calibration, confusion, mistakes, per_class
from convclinic.report.clinic_section import data_health
from convclinic.report.findings import next_steps
from convclinic.report.folder import Run, load, mapping
from convclinic.report.markup import Html, join, name, script, tag
from convclinic.report.members_section import is_ensemble, members
from convclinic.report.sections import checkup, headline, moment, plan, reproduce
from convclinic.report.training import training

SECTIONS = (
    ("result", "Result", headline),
    ("members", "Members", members),
    ("next", "What to do", next_steps),
    ("training", "Training", training),
    ("classes", "Classes", per_class),
    ("confusion", "Confusions", confusion),
    ("calibration", "Confidence", calibration),
    ("mistakes", "Mistakes", mistakes),
    ("health", "Data health", data_health),
    ("plan", "Plan", plan),
    ("data", "Data", checkup),
    ("reproduce", "Repeat", reproduce),
)


def write_report(folder: Path) -> Path:
    """Write `folder/report.html` from what the run left there, whole or not at all; returns its path.

    Only metrics.json must exist: a section whose file is missing says so. Raises ConvclinicError when the
    folder is no run's, a file cannot be read, or the page cannot be written.
    """
    path = folder / "report.html"
    write_text(path, render(load(folder)))
    return path


def render(run: Run) -> str:
    """The whole page. Its security policy allows our own scripts by their hash and no request at all."""
    source = mapping(run.data).get("source")
    body = [
        tag("a", "Skip to the result", href="#result", class_="skip"),
        _header(run, source),
        tag("main", *[build(run) for _, _, build in _shown(run)]),
        tag("footer", tag("p", "Written by convclinic. This page is one file and works offline.")),
    ]
    drawn = [script(get_plotlyjs()), script(_own("page.js"))]
    title = f"convclinic report: {Path(str(source or run.folder)).name}"
    head = _head(title, [digest for _, digest in drawn])
    page = tag("html", head, tag("body", *body, *[element for element, _ in drawn]), lang="en-GB")
    return f"<!doctype html>\n{page}\n"


def _shown(run: Run) -> list[tuple[str, str, Callable[[Run], Html]]]:
    """All sections; that about members for ensembles alone."""
    return [one for one in SECTIONS if one[0] != "members" or is_ensemble(run)]


def _own(file: str) -> str:
    return (files("convclinic.report") / file).read_text(encoding="utf-8")


def _head(title: str, digests: Sequence[str]) -> Html:
    policy = f"default-src 'none'; script-src {' '.join(digests)}; style-src 'unsafe-inline'; "
    policy += "img-src data: blob:; base-uri 'none'; form-action 'none'"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(_own("page.css"))),
    )


def _header(run: Run, source: object) -> Html:
    links = [tag("li", tag("a", short, href=f"#{ident}")) for ident, short, _ in _shown(run)]
    k, created = len(run.classes), moment(mapping(run.recipe).get("created"))
    about = [f"{k} classes" if k else None, run.metrics.get("device"), created]
    return tag(
        "header",
        tag("p", "convclinic report", class_="brand"),
        tag("h1", name(Path(str(source or run.folder)).name)),
        tag("p", join(" · ".join(str(part) for part in about if part)), class_="note"),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        tag("noscript", tag("p", "The figures need JavaScript; every number is in the text and tables too.")),
    )
