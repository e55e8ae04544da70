"""Tests of the page as text: its content, its completeness, and names that stay text."""

import base64
import gzip
import hashlib
import json
import os
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mtsearch.errors import MachineError
from mtsearch.report.html import Html, packed, tag
from mtsearch.report.page import OPEN_FAILURES, page, page_data, write_page
from mtsearch.report.plot_style import plotly_js
from mtsearch.report.tables import verdict
from mtsearch.search.results import Failure, StudyResults
from tests.helpers.results import HOSTILE, OBJECTIVES, hostile, realistic, results, row, with_history

VOID = {"meta", "link", "br"}


class Outline(HTMLParser):
    """Parser that collects the elements with their attributes, and the text outside scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attrs)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data + " "


def outline(study: StudyResults) -> Outline:
    parsed = Outline(page(study).replace(plotly_js(), ""))
    assert parsed.open == []
    return parsed


def test_headlines() -> None:
    study = realistic()
    assert study.knee is not None
    text = outline(study).text
    for part in ("ml-100k", "50 complete, 2 failed", "knee: trial 43", "RMSE 0.9952 and top-100 accuracy 0.2701"):
        assert part in text
    assert f"{study.hypervolume:.4g}" in text
    assert "biases, beaten" in text
    assert "2025-03-01 09:30 to 2025-03-01 09:42" in text


def test_failures_and_provenance() -> None:
    parsed = outline(realistic())
    assert "non-finite loss at epoch 2, step 14" in parsed.text
    assert "packages.tensorflow" in parsed.text
    assert "2.21.0" in parsed.text


def test_many_failures_are_folded() -> None:
    many = tuple(Failure(number, "out of memory", counted=True) for number in range(OPEN_FAILURES + 1))
    assert "11 failed trials" in outline(replace(realistic(), failures=many)).text
    assert "failed trials" not in outline(replace(realistic(), failures=many[1:])).text


def test_verdicts() -> None:
    assert verdict(results()) == "No trial has completed yet, so there is no front."
    assert "does not beat popularity in top-100 accuracy (0.295)" in verdict(results([row(0, 0.93, 0.2)]))
    both = verdict(results([row(0, 0.95, 0.2)]))
    assert "does not beat biases in RMSE (0.942) and popularity in top-100 accuracy (0.295)" in both
    searched = results([row(0, 0.93, 0.2)], definition={"space": {"learning_rate": {"low": 0.1, "high": 1.0}}})
    assert verdict(searched).endswith("no trial is better. A longer or wider search may find a better trial.")
    assert both.endswith("no trial is better.")  # nothing is searched, so nothing can be searched longer
    assert verdict(results([row(0, 0.93, 0.3)])).endswith(
        "Its knee is better than chance, popularity and biases in both objectives at once."
    )
    assert verdict(results([row(0, 0.93, 0.3)], baselines={})).startswith(
        "1 trial on the front; the study has no baselines"
    )


def test_verdicts_of_one_objective_speak_of_the_best_trial() -> None:
    def said(*values: float, **changes: object) -> str:
        return verdict(results([row(number, value) for number, value in enumerate(values)], ("rmse",), **changes))

    assert said() == "No trial has completed yet."
    assert said(0.95, 0.93) == "The best trial is better than chance, popularity and biases."
    assert said(0.95) == "No trial is better than biases in RMSE (0.942)."
    space = {"space": {"learning_rate": {"low": 0.1, "high": 1.0}}}
    assert said(0.95, definition=space).endswith("(0.942). A longer or wider search may find a better trial.")
    assert said(0.95, baselines={}) == "The study has no baselines to compare the best trial with."


def test_verdicts_of_more_objectives_name_their_number() -> None:
    for number in (3, 4):
        study = results([row(0, *(0.93, 0.3, 0.4, 0.07)[:number])], OBJECTIVES[number])
        assert verdict(study).endswith(f"chance, popularity and biases in all {number} objectives at once.")
    behind = results([row(0, 0.93, 0.3, 0.2)], OBJECTIVES[3])
    assert verdict(behind) == "The front does not beat biases in coverage@100 (0.33): no trial is better."


@pytest.mark.parametrize("number", OBJECTIVES)
@pytest.mark.parametrize("baselines", [None, {}])
@pytest.mark.parametrize("trials", [0, 1])
def test_small_studies_have_a_whole_page(number: int, baselines: dict[str, object] | None, trials: int) -> None:
    rows = [row(trial, *(1.0, 0.1, 0.2, 0.3)[:number]) for trial in range(trials)]
    changes = {} if baselines is None else {"baselines": baselines}
    study = results(rows, OBJECTIVES[number], begun=None, ended=None, provenance={}, **changes)
    assert ("Pareto front" if number > 1 else "Best so far") in outline(study).text


@pytest.mark.parametrize("number", OBJECTIVES)
def test_headlines_of_any_number(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number])
    assert study.knee is not None
    text = outline(study).text
    knee = [f"{metric.label} {value:.4g}" for metric, value in zip(study.objectives, study.knee.values, strict=True)]
    said = ", ".join(knee[:-1]) + " and " + knee[-1] if number > 1 else knee[0]
    assert f"{'knee' if number > 1 else 'best'}: trial {study.knee.trial}" in text
    assert said in text
    for index, metric in enumerate(study.objectives):
        best = min(study.front, key=lambda each: metric.sign * each.values[index])
        assert (f"best {metric.label}" in text) == (number > 1)
        assert (f"trial {best.trial}: " in text) == (number > 1) or best == study.knee
        assert f"best baseline, {metric.label}" in text
    assert ("of the way from chance to the ideal" in text) == (number == 1)
    assert ("The best trial beside the baselines" in text) == (number == 1)
    assert ("The front beside the baselines" in text) == (number > 1)


@pytest.mark.parametrize("number", OBJECTIVES)
def test_the_scripts_data_is_of_each_objective(number: int) -> None:
    study = with_history(realistic(objectives=OBJECTIVES[number]))
    data = json.loads(page_data(study, None))
    assert [each["label"] for each in data["objectives"]] == [metric.label for metric in study.objectives]
    assert data["values"] == [[pytest.approx(each.values[i], rel=1e-4) for each in study.rows] for i in range(number)]
    epochs, *values = data["curves"]["0"]
    assert epochs == list(range(1, 11))
    assert [each[-1] for each in values] == [
        pytest.approx(study.curves[0][-1]["metrics"][key], rel=1e-4) for key in OBJECTIVES[number]
    ]


@pytest.mark.parametrize("number", OBJECTIVES)
def test_hostile_text_stays_text(number: int) -> None:
    ordinary, attacked = outline(realistic(objectives=OBJECTIVES[number])), outline(hostile(OBJECTIVES[number]))
    assert {name for name, _ in attacked.elements} <= {name for name, _ in ordinary.elements}
    assert not [key for _, attributes in attacked.elements for key in attributes if key.startswith("on")]
    scripts = [
        [each.get("type") for name, each in parsed.elements if name == "script"] for parsed in (ordinary, attacked)
    ]
    assert scripts[0] == scripts[1]
    assert scripts[1].count(None) == 2  # plotly.js and ours; the rest is data
    assert attacked.text.count(HOSTILE) > (20 if number > 1 else 10)  # the table of one objective has one trial


def test_nothing_is_fetched_and_only_the_pages_scripts_run() -> None:
    parsed = outline(realistic())
    policy = next(a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert [a for name, a in parsed.elements if "src" in a or (name == "link" and a["href"] != "data:,")] == []


def test_plotly_from_its_server_must_be_what_is_installed() -> None:
    text = page(realistic(), plotlyjs="cdn")
    assert len(text) < 300_000
    (source,) = [each for _, each in Outline(text).elements if "src" in each]
    assert (source["src"] or "").startswith("https://cdn.plot.ly/plotly-")
    digest = base64.b64encode(hashlib.sha256(plotly_js().encode()).digest()).decode()
    assert source["integrity"] == f"sha256-{digest}"
    policy = next(a["content"] for _, a in Outline(text).elements if a.get("http-equiv")) or ""
    assert f"script-src {source['src']} 'sha256-" in policy


@pytest.mark.parametrize("number", OBJECTIVES)
def test_each_objective_has_its_figures(number: int) -> None:
    figures = [
        each["aria-label"] or ""
        for _, each in outline(with_history(realistic(objectives=OBJECTIVES[number]))).elements
        if each.get("role") == "group"
    ]
    over = ["the epochs of every trial", "loss_ratio", "embedding_size", "learning_rate"]
    labels = ["RMSE", "top-100 accuracy", "coverage@100", "nDCG@10"][:number]
    assert [each for each in figures if " over " in each] == [
        f"{label} over {what}" for what in over for label in labels
    ]
    # Of one objective the first figure is its progress already.
    assert ("Hypervolume after each trial" in figures) == (number > 1)


def test_sections_come_with_their_data() -> None:
    full, bare = outline(with_history(realistic())).text, outline(results([row(0, 1.0, 0.1)])).text
    for title in ("Hypervolume over trials", "Learning curves", "Parallel coordinates", "Importance", "Time per trial"):
        assert title in full
    assert "Learning curves" not in bare
    assert "Parallel coordinates" not in bare
    assert "Time per trial" not in bare
    without = outline(replace(with_history(realistic()), importances={})).text
    assert "Not computed: no parameter differs between the best trials and the others." in without
    few = replace(with_history(realistic()), importances={}, rows=realistic().rows[:9])
    assert "Not computed: it needs 20 complete trials, and there are 9." in outline(few).text


@pytest.mark.slow
def test_a_thousand_trials_stay_under_seven_megabytes() -> None:
    study, random = with_history(realistic(trials=1000), epochs=100), np.random.default_rng(0)
    more = [f"parameter_{number}" for number in range(12)]
    wide = tuple(
        replace(each, params={**each.params, **dict(zip(more, random.normal(size=12).tolist(), strict=True))})
        for each in study.rows
    )
    assert len(page(replace(study, rows=wide)).encode()) < 7_000_000


def test_packed_data_is_what_it_was_and_no_markup() -> None:
    script = packed(HOSTILE, "data")
    content = script.removeprefix('<script type="application/gzip" id="data">').removesuffix("</script>")
    assert content.isascii()
    assert not set("<>&\"'") & set(content)
    assert gzip.decompress(base64.b64decode(content)).decode() == HOSTILE
    assert packed(HOSTILE, "data") == script  # the same page twice is the same file


def test_markup_escapes_whatever_is_not_html() -> None:
    assert tag("p", "<b>", Html("<i></i>"), class_='"x"') == '<p class="&quot;x&quot;">&lt;b&gt;<i></i></p>'


def test_write_page_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for study in (results(), replace(realistic(), name="Ärger \ud800")):
        assert write_page(study, folder) == folder / "index.html"
    assert "Ärger" in (folder / "index.html").read_text(encoding="utf-8")
    assert os.listdir(folder) == ["index.html"]  # noqa: PTH208 # hidden files too


def test_a_name_that_ends_in_html_is_the_file(tmp_path: Path) -> None:
    for name in ("p.html", "P.HTM"):
        assert write_page(results(), tmp_path / "new" / name) == tmp_path / "new" / name
    assert sorted(each.name for each in (tmp_path / "new").iterdir() if each.is_file()) == ["P.HTM", "p.html"]
    (tmp_path / "folder.html").mkdir()
    assert write_page(results(), tmp_path / "folder.html") == tmp_path / "folder.html" / "index.html"


def test_a_failed_write_keeps_the_old_page(tmp_path: Path) -> None:
    (tmp_path / "index.html").mkdir()  # cannot be replaced by a file
    with pytest.raises(
        MachineError, match=r"cannot write .*index\.html: .*; choose a place that can be written with -o"
    ):
        write_page(results(), tmp_path)
    assert os.listdir(tmp_path) == ["index.html"]  # noqa: PTH208


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="choose a place"):
        write_page(results(), tmp_path / "file" / "folder")
