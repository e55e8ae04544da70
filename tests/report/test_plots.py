"""Tests of the other figures of the page: they hold the study's numbers, and no text is read as markup."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mtsearch.report.front_plot import front_view
from mtsearch.report.plot_data import dimensions
from mtsearch.report.plots import (
    curve_figure,
    hypervolume_figure,
    importance_figure,
    parallel_figure,
    parameter_figures,
    time_figure,
)
from mtsearch.search.results import StudyResults
from tests.helpers.results import HOSTILE, OBJECTIVES, hostile, realistic, results, row, with_history
from tests.report.test_front_plot_figure import texts

pytestmark = pytest.mark.quick

STUDY = with_history(realistic())


def drawn(figure: Any) -> dict[str, Any]:
    assert figure is not None
    result: dict[str, Any] = json.loads(figure.to_json())
    return result


def every_figure(study: StudyResults) -> list[Any]:
    made = [
        hypervolume_figure(study),
        *(curve_figure(study, index) for index in range(len(study.objectives))),
        parallel_figure(study),
        importance_figure(study),
        time_figure(study),
        *(figure for _, figure in parameter_figures(study)),
    ]
    return [figure for figure in made if figure is not None]


def test_hypervolume_ends_at_the_studys() -> None:
    line, baselines = drawn(hypervolume_figure(STUDY))["data"]
    assert line["y"][-1] == pytest.approx(STUDY.hypervolume, rel=1e-4)
    assert baselines["y"][0] == pytest.approx(STUDY.volume([(0.942, 0.183), (1.129, 0.295)]))


def test_each_epoch_of_each_trial_is_on_the_curves_once() -> None:
    data = drawn(curve_figure(STUDY, 1))["data"]
    assert [trace["name"] for trace in data] == ["other trials", "front", "knee"]
    points = [(t, x) for trace in data for t, x in zip(trace["customdata"], trace["x"], strict=True) if t is not None]
    assert sorted(points) == [(trial, epoch) for trial in range(50) for epoch in range(1, 11)]
    assert data[2]["y"][9] == pytest.approx(STUDY.curves[43][9]["metrics"]["top_100"], rel=1e-4)


def test_parallel_lines_lie_where_the_values_do() -> None:
    knee = drawn(parallel_figure(STUDY))["data"][-1]
    assert knee["customdata"][0] == 43
    chosen = STUDY.rows[43].params
    logged = [each.place(43) for each in dimensions(STUDY)]
    assert knee["y"][:3] == pytest.approx(logged, abs=1e-3)
    sizes = [16, 32, 64, 128]
    assert logged[1] == sizes.index(chosen["embedding_size"]) / 3  # a choice: equal distances
    ends = [min(r.params["learning_rate"] for r in STUDY.rows), max(r.params["learning_rate"] for r in STUDY.rows)]
    geometric = replace(STUDY.rows[0], trial=99, params={**chosen, "learning_rate": (ends[0] * ends[1]) ** 0.5})
    with_middle = dimensions(replace(STUDY, rows=(*STUDY.rows, geometric)))
    assert with_middle[2].place(99) == pytest.approx(0.5)


def test_parameters_have_their_scales() -> None:
    axes = {label: drawn(figure)["layout"]["xaxis"] for label, figure in parameter_figures(STUDY)}
    assert len(axes) == 6
    assert axes["RMSE over learning_rate"]["type"] == "log"
    assert axes["RMSE over embedding_size"]["categoryarray"] == ["16", "32", "64", "128"]
    assert "type" not in axes["top-100 accuracy over loss_ratio"]


def test_choices_that_look_alike_keep_columns_of_their_own() -> None:
    layers = ["1024-1024-512-512-256-256-64", "1024-1024-512-512-256-256-32"]
    space = {"hidden_layers": {"choices": layers}}
    study = results([row(n, 0.9, 0.3, hidden_layers=layers[n]) for n in range(2)], definition={"space": space})
    figure = json.loads(parameter_figures(study)[0][1].to_json())
    columns = figure["layout"]["xaxis"]["categoryarray"]
    assert len(set(columns)) == 2
    assert sorted(x for trace in figure["data"] for x in trace["x"]) == sorted(columns)


def test_phases_and_the_rest_add_up_to_the_time() -> None:
    bars = {trace["name"]: trace["y"] for trace in drawn(time_figure(STUDY))["data"]}
    assert set(bars) == {"prepare", "train", "evaluate", "rest: waiting, storing"}
    assert [sum(parts) for parts in zip(*bars.values(), strict=True)] == [8 + trial % 3 for trial in range(50)]


def test_importance_is_in_per_cent() -> None:
    data = drawn(importance_figure(STUDY))["data"]
    assert dict(zip(data[0]["y"], data[0]["x"], strict=True)) == {
        "loss_ratio": 60, "learning_rate": 30, "embedding_size": 10
    }  # fmt: skip


@pytest.mark.parametrize(("number", "expected"), [(1, 9), (2, 14), (3, 19), (4, 24)])
def test_hostile_text_is_escaped_in_every_figure(number: int, expected: int) -> None:
    """Hypervolume, parallel coordinates, importance, time; curves of each objective; each of it over 4 parameters."""
    made = hostile(OBJECTIVES[number])
    varied = [replace(each, params={**each.params, HOSTILE: f"{HOSTILE}{each.trial % 2}"}) for each in made.rows]
    study = with_history(replace(made, rows=tuple(varied)))
    study = replace(study, importances={"rmse": {HOSTILE: 1.0}})
    figures = [drawn(figure) for figure in every_figure(study)]
    shown = [text for figure in figures for text in texts(figure)]
    assert len(figures) == expected
    assert any("&lt;img src=x" in text for text in shown)
    assert not [text for text in shown if "<img" in text or "<script" in text]


@pytest.mark.parametrize("number", OBJECTIVES)
def test_parallel_lines_go_through_every_objective(number: int) -> None:
    study = with_history(realistic(objectives=OBJECTIVES[number]))
    figure = drawn(parallel_figure(study))
    assert figure["layout"]["xaxis"]["ticktext"][3:] == [metric.label for metric in study.objectives]
    groups = {trace["name"]: trace for trace in figure["data"]}
    assert list(groups) == (["other trials", "best trial"] if number == 1 else ["other trials", "front", "knee"])
    ranges, knee = front_view(study).ranges, study.knee
    assert ranges is not None and knee is not None
    places = [(value - low) / (high - low) for value, (low, high) in zip(knee.values, ranges, strict=True)]
    assert figure["data"][-1]["y"][3 : 3 + number] == pytest.approx(places, abs=1e-3)


@pytest.mark.parametrize("number", OBJECTIVES)
def test_importance_has_bars_of_its_own_for_each_objective(number: int) -> None:
    figure = drawn(importance_figure(with_history(realistic(objectives=OBJECTIVES[number]))))
    bars = figure["data"]
    assert [bar["name"] for bar in bars] == ["RMSE", "top-100 accuracy", "coverage@100", "nDCG@10"][:number]
    assert len({bar["marker"]["color"] for bar in bars}) == number
    assert len({bar["marker"]["pattern"]["shape"] for bar in bars}) == number


@pytest.mark.parametrize("number", OBJECTIVES)
def test_each_parameter_is_shown_against_each_objective(number: int) -> None:
    study = with_history(realistic(objectives=OBJECTIVES[number]))
    figures = dict(parameter_figures(study))
    assert list(figures) == [f"{m.label} over {each.name}" for each in dimensions(study) for m in study.objectives]
    for index, metric in enumerate(study.objectives):
        points = {t: y for trace in drawn(figures[f"{metric.label} over loss_ratio"])["data"]
                  for t, y in zip(trace["customdata"], trace["y"], strict=True)}  # fmt: skip
        assert points == pytest.approx({each.trial: each.values[index] for each in study.rows}, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("number", OBJECTIVES)
def test_curves_of_each_objective_end_at_the_trials(number: int) -> None:
    study = with_history(realistic(objectives=OBJECTIVES[number]), epochs=1000)
    for index in range(number):
        knee = drawn(curve_figure(study, index))["data"][-1]
        assert knee["name"] == ("best trial" if number == 1 else "knee")
        assert study.knee is not None
        assert knee["y"][-2] == pytest.approx(study.knee.values[index], abs=1e-3)  # the last is a gap


@pytest.mark.parametrize("number", OBJECTIVES)
def test_hypervolume_of_any_number_ends_at_the_studys(number: int) -> None:
    study = with_history(realistic(objectives=OBJECTIVES[number]))
    figure = drawn(hypervolume_figure(study))
    assert figure["data"][0]["y"][-1] == pytest.approx(study.hypervolume, rel=1e-4)
    assert ("share of the way" in figure["layout"]["yaxis"]["title"]["text"]) == (number == 1)


@pytest.mark.parametrize(
    "study",
    [
        results(),
        results(baselines={}),
        results([row(0, 1.0, 0.1)]),
        results([row(n, 1.0, 0.1, a=True) for n in range(4)]),
    ],
    ids=["no trials", "nothing", "one", "all equal"],
)
def test_what_cannot_be_drawn_is_left_out(study: StudyResults) -> None:
    for made in (study, with_history(study)):
        for figure in every_figure(made):
            drawn(figure)
    assert parallel_figure(study) is None
    assert parameter_figures(study) == []
