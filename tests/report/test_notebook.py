"""Tests of a study in a notebook: a table of front and baselines in which no name is read as markup."""

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest

from mtsearch.report import as_study
from mtsearch.search.results import StudyResults
from tests.helpers.results import BASELINES, OBJECTIVES, hostile, realistic, repeated, results, row

ATTACK = "<img src=x onerror=alert(1)>"


class Read(HTMLParser):
    """Parser that collects the elements of a page and the cells of each line of its table."""

    def __init__(self, study: StudyResults) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.lines: list[list[str]] = []
        self.text = ""
        self.feed(as_study(study)._repr_html_())
        self.close()

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(name)
        assert not [key for key, _ in attrs if key.startswith("on") or key in ("src", "href")]
        if name == "tr":
            self.lines.append([])
        elif name in ("th", "td"):
            self.lines[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.lines and self.elements[-1] in ("th", "td"):
            self.lines[-1][-1] += data


def test_it_names_study_state_hypervolume_front_and_baselines() -> None:
    study = realistic()
    read = Read(study)
    assert read.text.startswith(f"ml-100k: 50 complete, 2 failed, hypervolume {study.hypervolume:.4g}")
    names = [line[0] for line in read.lines]
    assert names == ["", *(f"trial {each.trial}" for each in study.front), "chance", "popularity", "biases"]
    knee = next(line for line in read.lines if line[-1] == "knee")
    assert knee[:3] == ["trial 43", "0.9952", "0.2701"]


def test_repeated_trials_show_their_spread() -> None:
    study = repeated()
    read = Read(study)
    assert "mean ± standard deviation over 3 seeds" in read.text
    first, second = study.spread(43) or (0.0, 0.0)
    knee = next(line for line in read.lines if line[-1] == "knee")
    assert knee[1:5] == ["0.9952", f"±{first:.4f}", "0.2701", f"±{second:.4f}"]
    assert {len(line) for line in read.lines} == {len(read.lines[0])}


def test_names_and_choices_are_text() -> None:
    rows = [row(0, 0.9, 0.3, optimizer=ATTACK), row(1, 1.0, 0.4, **{ATTACK: 1})]
    baselines = {**BASELINES, ATTACK: {"rmse": 2.0, "top_100": 0.0}}
    study = results(rows, name=ATTACK, states={ATTACK: 2}, baselines=baselines)
    read = Read(study)
    assert set(read.elements) == {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert read.text.count(ATTACK) >= 5
    assert set(Read(hostile()).elements) == set(read.elements)


@pytest.mark.parametrize("study", [results(), results(baselines={}, states={})], ids=["no trials", "nothing"])
def test_a_study_without_trials_says_so(study: StudyResults) -> None:
    assert "No trial has completed yet" in Read(study).text


def test_a_cell_is_small_and_the_figure_is_asked_for() -> None:
    study = as_study(realistic())
    assert len(study._repr_html_()) < 10_000
    assert isinstance(study.figure(), go.Figure)
    assert study.figure().data[1].name == "front"


def test_repr_is_one_line() -> None:
    study = as_study(replace(realistic(), name="a\nb"))
    assert repr(study) == f"<study a b: 51 trials, 12 on the front, hypervolume {study.hypervolume:.4g}>"
    assert as_study(study) == study


@pytest.mark.parametrize("number", OBJECTIVES)
def test_of_any_number_of_objectives(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number])
    read = Read(study)
    trial = study.front[0]
    line = next(each for each in read.lines if each[0] == f"trial {trial.trial}")
    assert line[1 : number + 1] == [f"{value:.4f}" for value in trial.values]
    front = f"{len(study.front)} on the front" if number > 1 else "best RMSE 0.9353"
    assert repr(as_study(study)) == f"<study ml-100k: 51 trials, {front}, hypervolume {study.hypervolume:.4g}>"


def test_showing_loads_no_plotly() -> None:
    code = (
        "import sys\n"
        "from mtsearch.report import as_study\n"
        "from tests.helpers.results import realistic\n"
        "as_study(realistic())._repr_html_()\n"
        "sys.exit('plotly' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
