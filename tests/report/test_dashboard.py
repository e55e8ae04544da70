"""Tests of the note and the figures for optuna-dashboard: small, and without markup from names."""

import json
import re

import pytest

from mtsearch.report.dashboard import MOST_TRIALS, dashboard_content, dashboard_note
from mtsearch.report.plot_data import by_end, improvements
from mtsearch.text import shell_command
from tests.helpers.results import HOSTILE, OBJECTIVES, hostile, realistic, results, row, with_history
from tests.report.test_front_plot_figure import texts

pytestmark = pytest.mark.quick


def test_the_note_says_what_it_is_what_is_best_and_what_next() -> None:
    text = dashboard_note(realistic(), "mine.db").replace("\\", "")
    for part in ("# ml-100k", "51 trials so far", "| knee | 43 | 0.9952 | 0.2701 |", "| best RMSE | 8 |",
                 "| biases | 0.942 | 0.183 |", "The front beats the best baseline of each objective.",
                 "mtsearch export --study ml-100k --storage mine.db --pick knee -o best.toml"):  # fmt: skip
        assert part in text


def test_a_study_without_trials_has_a_note() -> None:
    assert "No trial has completed yet" in dashboard_note(results(baselines={})).replace("\\", "")


def test_hostile_names_are_no_markdown_and_no_html() -> None:
    text, _, code = dashboard_note(hostile()).partition("~~~~")
    assert "\\<img src\\=x onerror\\=alert\\(1\\)\\>" in text
    assert not re.search(r"(?<!\\)[<>`*\[\]$&!]", text)
    assert HOSTILE in code.replace("'\"'\"'", "'")  # a code block shows it as it is
    assert code.count("~~~~") == 1


def test_a_name_cannot_end_the_code_block() -> None:
    text = dashboard_note(results(name="~~~~\n<img src=x>"))
    assert [line for line in text.splitlines() if line.startswith("~~~~")] == ["~~~~", "~~~~"]


@pytest.mark.parametrize("number", OBJECTIVES)
def test_the_note_has_the_best_of_each_objective(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number])
    text = dashboard_note(study).replace("\\", "")
    for index, metric in enumerate(study.objectives):
        best = (min if metric.direction == "minimize" else max)(each.values[index] for each in study.front)
        (line,) = [line for line in text.splitlines() if line.startswith(f"| best {metric.label} |")]
        assert line.split(" | ")[2 + index] == f"{best:.4g}"
    assert ("knee" in text) == (number > 1)
    assert f"--pick {'knee' if number > 1 else 'rmse'} -o" in text


@pytest.mark.slow
@pytest.mark.parametrize("number", OBJECTIVES)
def test_figures_of_a_thousand_trials_are_small(number: int) -> None:
    study = with_history(realistic(trials=1000, objectives=OBJECTIVES[number]), epochs=50)
    published = dashboard_content(study)
    curves = {f"curves-{key}" for key in OBJECTIVES[number]}
    # Of one objective the hypervolume is what the first figure shows.
    assert set(published.figures) == {"front-with-baselines", *({"hypervolume"} if number > 1 else ()), *curves}
    sizes = {name: len(figure.to_json()) for name, figure in published.figures.items()}
    assert max(sizes.values()) < 250_000, sizes
    data = json.loads(published.figures["front-with-baselines"].to_json())["data"]
    fronts = [trace["customdata"] for trace in data if trace["name"] == "front"]
    others = [trace["x"] for trace in data if trace["name"] == "trials"]
    panels = number * (number - 1) // 2
    assert fronts == [[each.trial for each in study.front]] * panels
    assert sum(map(len, others)) == MOST_TRIALS // max(1, panels) * max(1, panels)


def test_of_one_objective_the_progress_of_a_thousand_trials_is_whole() -> None:
    study = with_history(realistic(trials=1000, objectives=OBJECTIVES[1]))
    steps = improvements(by_end(study), 1.0)
    data = json.loads(dashboard_content(study).figures["front-with-baselines"].to_json())["data"]
    (shown,) = [trace for trace in data if trace["name"] == "best so far" and "customdata" in trace]
    assert list(zip(shown["x"], shown["customdata"], strict=True)) == [(place, each.trial) for place, each in steps]
    assert len(steps) > 3
    assert all("learning_rate" in label for label in shown["hovertext"])


@pytest.mark.parametrize("number", OBJECTIVES)
def test_hostile_text_is_escaped_in_the_figures(number: int) -> None:
    for figure in dashboard_content(with_history(hostile(OBJECTIVES[number]))).figures.values():
        shown = [text for text in texts(json.loads(figure.to_json())) if text != HOSTILE]  # a shape's identifier
        assert not [text for text in shown if "<img" in text or "<script" in text]


@pytest.mark.parametrize("number", OBJECTIVES)
def test_small_studies_are_published(number: int) -> None:
    keys = OBJECTIVES[number]
    one = results([row(0, *(1.0, 0.1, 0.2, 0.3)[:number])], keys)
    for study in (results((), keys), results((), keys, baselines={}), one):
        assert "front-with-baselines" in dashboard_content(study).figures


def test_commands_are_for_a_shell() -> None:
    assert shell_command("plot", "a b; $(rm)", None) == "mtsearch plot --study 'a b; $(rm)'"
