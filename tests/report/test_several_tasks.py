"""Studies of several tasks, whose metrics have the task in their keys, in every table, figure and file."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mtsearch.report.comparison import compare_studies, comparison_json, write_comparison
from mtsearch.report.dashboard import dashboard_note
from mtsearch.report.front_plot import front_figure, front_view, hover_text
from mtsearch.report.page import write_page
from mtsearch.report.plot_data import plot_json
from mtsearch.report.plots import hypervolume_figure
from mtsearch.report.tables import best_baselines, front_csv, front_rows, front_table, published_table, verdict
from mtsearch.search.results import StudyResults
from mtsearch.study_file.definition import StudyDefinition
from tests.helpers.results import OBJECTIVES, TASK_KEYS, TASKS, realistic, results, row, with_history, with_tasks

OF_MANY = pytest.mark.parametrize("number", [3, 4])
LABELS = ["stars RMSE (points)", "purchase top-100 accuracy", "view coverage@100", "view nDCG@10"]


def study(number: int) -> StudyResults:
    return with_tasks(with_history(realistic(objectives=OBJECTIVES[number])))


def keys(number: int) -> list[str]:
    return [TASK_KEYS[key] for key in OBJECTIVES[number]]


def printed(made: StudyResults, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(front_table(made))
    return console.export_text()


@OF_MANY
def test_the_front_in_json_and_csv(number: int) -> None:
    made = study(number)
    front = json.loads(json.dumps(front_rows(made)))
    assert [list(each) for each in front] == [["trial", *keys(number), "params", "metrics"]] * len(made.front)
    assert [tuple(each[key] for key in keys(number)) for each in front] == [each.values for each in made.front]
    lines = list(csv.DictReader(io.StringIO(front_csv(made))))
    assert [tuple(float(line[key]) for key in keys(number)) for line in lines] == [each.values for each in made.front]
    assert list(lines[0])[: number + 1] == ["trial", *keys(number)]


@OF_MANY
def test_the_table_fits_a_terminal_and_breaks_no_number(number: int) -> None:
    made = study(number)
    params = {"weight.purchase": 0.25, "weight.stars": 1.5}
    text = printed(replace(made, rows=tuple(replace(each, params=params) for each in made.rows)))
    assert max(map(len, text.splitlines())) <= 80
    for each in made.front:
        assert all(f"{value:.4f}" in text for value in each.values)
    assert all(word in text for word in ("purchase", "stars", "(points)", "weight."))
    assert "purchase top-100 accuracy" in verdict(made) or "The front beats" in verdict(made)


@OF_MANY
def test_labels_have_the_task_and_its_unit(number: int) -> None:
    made = study(number)
    view = front_view(made)
    lines = hover_text(made.rows[0], view).split("<br>")
    assert [line.rpartition(":")[0] for line in lines[1 : number + 1]] == [
        label.removesuffix(" (points)") for label in LABELS[:number]
    ]
    assert any(line.startswith("purchase MRR: ") for line in lines)
    figure = front_figure(made).to_plotly_json()["layout"]
    titles = " ".join(str(axis["title"]["text"]) for name, axis in figure.items() if "axis" in name and "title" in axis)
    assert all(label in titles.replace("<br>", " ") for label in LABELS[:number])


@OF_MANY
def test_the_page_and_its_data(number: int, tmp_path: Path) -> None:
    made = study(number)
    data = json.loads(json.dumps(plot_json(made), allow_nan=False))
    assert data["objectives"] == keys(number)
    assert list(data["baselines"]["chance"]) == keys(number)
    assert list(data["importance"]) == keys(number)
    page = write_page(made, tmp_path).read_text(encoding="utf-8")
    assert "purchase top-100 accuracy" in page and "stars RMSE" in page
    assert "purchase top\\-100 accuracy" in dashboard_note(made, None)


@OF_MANY
def test_a_comparison(number: int, tmp_path: Path) -> None:
    one, other = study(number), replace(with_tasks(realistic(1, objectives=OBJECTIVES[number])), name="other")
    compared = compare_studies([one, other])
    assert list(comparison_json(compared)["studies"][0]["best"]) == keys(number)
    page = write_comparison(compared, tmp_path / "both.html").read_text(encoding="utf-8")
    assert "purchase top-100 accuracy" in page


def partial(number: int = 3) -> StudyResults:
    """A study with a baseline that ranks items and predicts no number."""
    made = study(number)
    ranking = {"purchase.top_100": 0.99, "view.coverage": 0.5, "view.ndcg_10": 0.2}
    return replace(made, baselines={**made.baselines, "popularity_of_all": ranking})


def test_a_baseline_of_some_tasks_has_empty_cells_and_can_be_the_best() -> None:
    made = partial()
    values = made.baseline_values("popularity_of_all")
    assert math.isnan(values[0]) and values[1:] == (0.99, 0.5)
    assert [best.name for best in best_baselines(made)] == ["biases", "popularity_of_all", "popularity_of_all"]
    text = printed(made, 120)
    assert "nan" not in text and "*0.9900" in text
    assert "popularity_of_all in purchase top-100 accuracy (0.99)" in verdict(made)


def test_a_baseline_of_some_tasks_is_no_point_of_the_others(tmp_path: Path) -> None:
    made = partial()
    data = json.loads(json.dumps(plot_json(made), allow_nan=False))
    assert list(data["baselines"]["popularity_of_all"]) == ["purchase.top_100", "view.coverage"]
    assert "nan" not in dashboard_note(made, None).lower()
    lines = [each for each in front_figure(made).data if each.name == "popularity_of_all"]
    assert "RMSE" not in lines[0].hovertext[0]
    drawn = hypervolume_figure(made)
    assert drawn is not None
    assert drawn.data[1].y == hypervolume_figure(study(3)).data[1].y  # type: ignore[union-attr]
    assert "NaN" not in write_page(made, tmp_path).read_text(encoding="utf-8").rpartition("plotly.js")[2]
    good = results([row(0, 0.5, 0.995, 0.9)], OBJECTIVES[3])
    better = replace(with_tasks(good), baselines=made.baselines)
    assert better.beaten_by(better.rows[0]) == ["chance", "popularity", "biases"]


def test_published_values_may_be_named_without_their_task() -> None:
    definition = StudyDefinition.from_mapping({
        "study": {"name": "s", "objectives": ["rmse", "purchase.top_100"]},
        "tasks": TASKS,
        "trials": [{"weight.view": 0.5}],
        "published": [{"rmse": 0.875, "purchase.top_100": 0.125}],
    })  # fmt: skip
    measured = with_tasks(results([row(0, 0.9, 0.25)]))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(published_table(replace(measured, initial={0: "[[trials]] 1"}), definition))
    text = console.export_text()
    assert "0.900 / 0.875" in text and "0.250 / 0.125" in text
