"""The report of a run: what is on the page, what never is, and what it does when something is missing."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_json
from convclinic.history import Record
from convclinic.kinds import Evidence, Finding
from convclinic.report import page as module
from convclinic.report.folder import load
from convclinic.report.page import SECTIONS, render, write_report

HOSTILE = "</script><img src=x onerror=alert(1)>"
PIXEL = "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA=="
VOID = {"meta", "img", "link", "br"}


class Page(html.parser.HTMLParser):
    """The elements of a page, the text outside scripts, and the JSON blocks by id."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.figures: dict[str, Any] = {}
        self.feed(source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes = self.elements[-1][1]
            if attributes.get("type") == "application/json":
                self.figures[str(attributes["id"])] = json.loads(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def scores(classes: list[str], wrong: int = 2) -> dict[str, Any]:
    k = len(classes)
    matrix = [[10 if i == j else 0 for j in range(k)] for i in range(k)]
    matrix[0][0], matrix[0][1] = 10 - wrong, wrong
    row = {"precision": 0.9, "recall": 0.8, "f1": 0.85, "support": 10}
    return {
        "n": 10 * k,
        "accuracy": 0.931,
        "accuracy_interval": [0.912, 0.946],
        "balanced_accuracy": 0.874,
        "balanced_accuracy_interval": [0.851, 0.895],
        "log_loss": 0.2,
        "per_class": [{"class": name, **row} for name in classes],
        "confusion": matrix,
        "calibration": {"ece": 0.034, "points": [{"confidence": 0.9, "accuracy": 0.85, "count": 40}]},
        "top5_accuracy": 0.998,
    }


def history(n: int = 60) -> list[Record]:
    records = [Record(s, s / 10, 0.1 / s, 2.0 / s + (s % 3) / 9, min(1, s / n), 1.0) for s in range(1, n + 1)]
    ends = {"val_loss": 0.61, "val_accuracy": 0.9, "train_accuracy": 0.97}
    return [replace(r, **ends) if r.step % 10 == 0 else r for r in records]


def fill(folder: Path, classes: list[str], **changes: Any) -> Path:
    """A whole run folder; `changes` go into metrics.json."""
    metrics = {
        "test": scores(classes),
        "validation": scores(classes),
        "baselines": {
            "majority": {"accuracy": 0.142, "balanced_accuracy": 1 / len(classes), "class": classes[0]},
            "linear_probe": {"accuracy": 0.61, "balanced_accuracy": 0.55, "features": "small pixels"},
        },
        "reject": {"threshold": 0.71, "coverage": 0.92, "accuracy": 0.97, "wanted": 0.95},
        "temperature": 1.1,
        "seconds": {"check-up": 3.1, "train": 500.0},
        "wall_seconds": 520.0,
        "budget_seconds": 600.0,
        "peak_memory_bytes": 1_300_000_000,
        "steps": 60,
        "planned_steps": 64,
        "device": "2-core CPU",
        "verdict": "A good net.",
        "data_health": {"images": 40, "suspected": 1, "confused": [], "leaks": []},
    }
    write_json(folder / "metrics.json", metrics | changes)
    (folder / "history.jsonl").write_text("".join(r.line() for r in history()), encoding="utf-8")
    findings = [
        Finding(
            "near_duplicates", "info", summary="Some images are nearly the same.", examples=(classes[0],)
        ),
        Finding("lr_too_low", "warning", 0.6, summary="Slow."),
        Finding("overfitting", "warning", 0.8, evidence=(Evidence("gap", 0.061, "under 0.05", 40),)),
        Finding("label_noise", "critical", action="three were set aside", remedies=("balance.tau=1.0",)),
    ]
    write_json(folder / "findings.json", [finding.to_dict() for finding in findings])
    reason = {"choice": "net", "value": "fast (64, 256, 256)", "reason": f"best for {classes[0]}"}
    recipe = {"recipe": {"seed": 7, "net": {"name": "fast"}}, "reasons": [reason], "torch": "2.13.0"}
    write_json(folder / "recipe.json", recipe | {"command": "convclinic fit photos/ --budget 10m"})
    profile = {"n_train": 480, "class_counts": {name: 40 + i for i, name in enumerate(classes)}}
    write_json(
        folder / "data.json", {"source": f"/photos/{classes[0]}", "classes": classes, "profile": profile}
    )
    mistake = {
        "name": f"{classes[0]}/1.jpg",
        "label": classes[0],
        "predicted": classes[1],
        "probability": 0.99996,
    }
    write_json(folder / "mistakes.json", [mistake | {"thumbnail": PIXEL}])
    return folder


def page(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_every_section_is_there_and_is_linked(tmp_path: Path) -> None:
    seen = page(fill(tmp_path, ["cat", "dog", "owl"]))
    idents = [ident for ident, _, _ in SECTIONS if ident != "members"]  # of ensembles alone
    assert [section["id"] for section in seen.all("section")] == idents
    assert {f"#{ident}" for ident in idents} <= {link["href"] for link in seen.all("a")}
    assert len(seen.all("h1")) == 1 and len(seen.all("h2")) == len(idents)
    assert "absent" not in {element.get("class") for _, element in seen.elements}


def test_the_score_stands_with_its_interval_and_baselines(tmp_path: Path) -> None:
    text = page(fill(tmp_path, ["cat", "dog", "owl"])).text.replace("\xa0", " ")
    for words in (
        "A good net.",
        "test accuracy 93.1 %",
        "95 % interval: 91.2 % to 94.6 %",
        "balanced accuracy 87.4 %",
        "linear probe on small pixels 61.0 %",
        "14.2 % 33.3 %",
        "32.1 points above the best baseline",
        "Below a confidence of 0.71 it answers “not sure”: 8.0 % of images; of the rest 97.0 % are right.",
        "60 of 64 planned",
        "8 min 40 s of a budget of 10 min 00 s",
        "convclinic fit photos/ --budget 10m",
        ">99.9 % sure",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("interval", "words"),
    [([0.55, 0.70], "not clearly better"), ([0.30, 0.45], "best baseline is better than this net")],
)
def test_a_net_no_better_than_a_baseline_is_told_so(
    tmp_path: Path, interval: list[float], words: str
) -> None:
    poor = scores(["cat", "dog"]) | {"accuracy": sum(interval) / 2, "accuracy_interval": interval}
    assert words in page(fill(tmp_path, ["cat", "dog"], test=poor)).text


def test_findings_are_ranked_by_severity_then_confidence(tmp_path: Path) -> None:
    text = page(fill(tmp_path, ["cat", "dog"])).text
    causes = ["Label noise", "Overfitting", "Learning rate too low", "Near duplicates"]
    assert sorted(causes, key=text.index) == causes
    assert "three were set aside" in text and "balance.tau=1.0" in text
    assert re.search(r"gap: 0.061 +\(expected under 0.05; step 40\)", text)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    folder = fill(tmp_path, [HOSTILE, "a\u2028\u202e<b>", '"><svg onload=x>'])
    raw = write_report(folder).read_text(encoding="utf-8")
    ours = raw[: raw.index("<script>/*")] + raw[raw.rindex("</script><script>") :]
    assert "<img src=x" not in raw and "<svg onload" not in ours and "<b>\u2028" not in ours
    seen = Page(raw)
    assert HOSTILE in seen.text and all(image["src"] == PIXEL for image in seen.all("img"))
    assert not any(key.startswith("on") for _, element in seen.elements for key in element)
    ticks = seen.figures["plot-confusion-data"]["layout"]["xaxis"]["ticktext"]
    assert ticks[0].startswith("&lt;/script&gt;") and not any("<" in tick for tick in ticks)


def test_undecodable_file_names_and_foreign_pictures_do_no_harm(tmp_path: Path) -> None:
    folder = fill(tmp_path, ["cat", "dog"])
    row = {"label": "cat", "predicted": "dog", "probability": None, "thumbnail": "https://evil.example/x.png"}
    (folder / "mistakes.json").write_text(json.dumps([row | {"name": "a\udc80.jpg"}]), encoding="utf-8")
    seen = page(folder)
    assert "a\ufffd.jpg" in seen.text and "no picture" in seen.text and not seen.all("img")


def test_the_page_asks_no_server_for_anything(tmp_path: Path) -> None:
    seen = page(fill(tmp_path, ["cat", "dog"]))
    for name, element in seen.elements:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            assert not element.get(key) or re.match(r"#|data:image/", str(element[key])), (name, element)
    style = Path(module.__file__).with_name("page.css").read_text(encoding="utf-8")
    assert "url(" not in style and "@import" not in style
    policy = next(m["content"] for m in seen.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert (
        policy and "default-src 'none'" in policy and "http" not in policy and "'unsafe-eval'" not in policy
    )


def test_the_policy_lets_our_own_scripts_run_and_no_others(tmp_path: Path) -> None:
    raw = write_report(fill(tmp_path, ["cat", "dog"])).read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", raw, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in scripts]
    assert "Plotly.react" in scripts[1]
    assert f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}';" in raw


def test_figures_are_valid_plotly_and_hold_the_data(tmp_path: Path) -> None:
    found = page(fill(tmp_path, ["cat", "dog"])).figures
    names = ("epoch-loss", "batch-loss", "accuracy", "confusion", "calibration")
    assert set(found) == {f"plot-{name}-data" for name in names}
    assert [trace["name"] for trace in found["plot-epoch-loss-data"]["data"]] == ["training", "validation"]
    raw = found["plot-batch-loss-data"]["data"][0]
    assert raw["x"] == list(range(1, 61)) and raw["y"] == [record.loss for record in history()]
    right, wrong = found["plot-confusion-data"]["data"]
    assert right["z"] == [[0.8, None], [None, 1.0]] and wrong["z"] == [[None, 0.2], [None, None]]
    for figure in found.values():
        go.Figure(_coloured(figure))  # raises on a property that plotly does not know


def _coloured(value: Any) -> Any:
    """The figure as page.js hands it to plotly: colours filled in."""
    if isinstance(value, dict):
        return {key: _coloured(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_coloured(item) for item in value]
    return "#123456" if isinstance(value, str) and value.startswith("--") else value


def test_every_colour_of_a_figure_is_a_variable_of_the_style_sheet(tmp_path: Path) -> None:
    raw = write_report(fill(tmp_path, ["cat", "dog"])).read_text(encoding="utf-8")
    used = set(re.findall(r'"(--[a-z-]+)"', json.dumps(Page(raw).figures)))
    light, dark = raw.split("@media (prefers-color-scheme: dark)")[:2]
    assert used
    assert all(f"{name}:" in light and f"{name}:" in dark.split("* {")[0] for name in used)


@pytest.mark.parametrize(("k", "shown"), [(2, False), (19, False), (20, True)])
def test_top_5_needs_twenty_classes(tmp_path: Path, k: int, shown: bool) -> None:
    assert ("top-5" in page(fill(tmp_path, [f"c{i}" for i in range(k)])).text.lower()) is shown


def test_many_classes_get_a_table_of_confusions_in_place_of_a_map(tmp_path: Path) -> None:
    seen = page(fill(tmp_path, [f"species {i}" for i in range(51)]))
    assert "plot-confusion-data" not in seen.figures
    assert re.search(r"share of the class species 0 species 1 2 20.0\s%", seen.text)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("history.jsonl", "No training history was recorded"),
        ("findings.json", "No findings were recorded"),
        ("recipe.json", "No recipe was recorded"),
        ("data.json", "No check-up of the data was recorded"),
        ("mistakes.json", "No mistakes were recorded"),
    ],
)
def test_a_missing_file_is_said_in_its_section(tmp_path: Path, file: str, words: str) -> None:
    folder = fill(tmp_path, ["cat", "dog"])
    assert words not in page(folder).text
    (folder / file).unlink()
    assert words in page(folder).text


def test_metrics_full_of_nulls_still_make_a_page(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", {})
    assert "No scores were recorded" in page(tmp_path).text
    empty = {key: None for key in scores(["cat", "dog"])} | {"n": 20}
    write_json(tmp_path / "metrics.json", {"test": empty, "baselines": None, "reject": None, "seconds": None})
    text = page(tmp_path).text
    assert "test accuracy –" in text and "No confusion matrix" in text and "No calibration curve" in text


def test_without_a_test_split_the_page_says_what_validation_numbers_are_worth(tmp_path: Path) -> None:
    text = page(fill(tmp_path, ["cat", "dog"], test=None)).text
    assert "validation accuracy" in text and "There is no test split" in text


def test_nothing_wrong_and_no_mistakes_are_good_news(tmp_path: Path) -> None:
    folder = fill(tmp_path, ["cat", "dog"], test=scores(["cat", "dog"], wrong=0))
    write_json(folder / "findings.json", [])
    write_json(folder / "mistakes.json", [])
    text = page(folder).text
    assert "Nothing was found" in text and "made no mistake" in text and "confused nothing" in text


def test_label_suspects_are_shown_beside_the_mistakes(tmp_path: Path) -> None:
    folder = fill(tmp_path, ["cat", "dog"])
    rows = json.loads((folder / "mistakes.json").read_text(encoding="utf-8"))
    write_json(
        folder / "mistakes.json", {"mistakes": rows, "label_suspects": [rows[0] | {"name": "doubt.jpg"}]}
    )
    text = page(folder).text
    assert "Labels that may be wrong" in text and "doubt.jpg" in text and "cat/1.jpg" in text


def test_the_program_says_how_it_reads_the_figures_and_what_it_tried(tmp_path: Path) -> None:
    folder = fill(tmp_path, ["cat", "dog"])
    assert page(folder).text.count("Read as:") == 3 and "Remedies" not in page(folder).text
    trial = {"cause": "lr_too_high", "edit": "optimise.lr=0.1", "since": 0, "steps": 20, "kept": True}
    write_json(
        folder / "treatments.json", [trial | {"nothing": 2.0, "remedy": 1.0, "gain": 1.0, "error": 0.1}]
    )
    assert "1 tried, 1 kept" in page(folder).text


def test_a_run_whose_data_were_not_examined_says_so(tmp_path: Path) -> None:
    assert "was not examined" in page(fill(tmp_path, ["cat", "dog"], data_health=None)).text


def test_tables_have_scoped_headers_and_pictures_a_description(tmp_path: Path) -> None:
    seen = page(fill(tmp_path, ["cat", "dog"]))
    assert seen.all("th") and all(cell["scope"] in ("row", "col") for cell in seen.all("th"))
    assert [image["alt"] for image in seen.all("img")] == ["cat, taken for dog"]
    plots = [element for element in seen.all("div") if element.get("class") == "plot"]
    assert len(plots) == 5 and all(plot["role"] == "img" and plot["aria-label"] for plot in plots)


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path, ["cat", "dog"])
    before = write_report(folder).read_bytes()
    assert before.endswith(b"</html>\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConvclinicError, match="no space left"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before
    assert not list(folder.glob(".report.html.*"))


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    folder = fill(tmp_path, ["cat", "dog"])
    assert render(load(folder)) == render(load(folder))


def test_a_folder_that_is_no_run_and_a_broken_file_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConvclinicError, match=r"no metrics\.json"):
        write_report(tmp_path)
    folder = fill(tmp_path, ["cat", "dog"])
    (folder / "history.jsonl").write_text("nonsense\n{}\n", encoding="utf-8")
    with pytest.raises(ConvclinicError, match=r"line 1, is damaged"):
        write_report(folder)
