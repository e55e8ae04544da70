"""Tests of compared studies: common baselines, an oracle for dominance, and studies that are refused."""

import json
from dataclasses import replace
from itertools import combinations
from operator import le
from pathlib import Path
from typing import Any

import pytest

from mtsearch.errors import StudyMismatch
from mtsearch.report.comparison import (
    compare_studies,
    comparison_json,
    comparison_lines,
    comparison_page,
    difference_lines,
    fronts_figure,
    progress_figure,
    write_comparison,
)
from mtsearch.report.plot_style import plotly_js
from tests.helpers.results import BASELINES, HOSTILE, OBJECTIVES, hostile, realistic, results, row, with_history
from tests.report.test_front_plot_figure import texts
from tests.report.test_page import Outline

pytestmark = pytest.mark.quick

PROVENANCE = {"data": {"fingerprint": "5f3c"}, "split": {"fingerprint": "77aa"}, "python": "3.11.7"}


def study(name: str, *points: tuple[float, float], **changes: Any) -> Any:
    rows = [row(number, *point) for number, point in enumerate(points)]
    return results(rows, name=name, **{"provenance": PROVENANCE, **changes})


def test_all_are_measured_by_the_baselines_of_the_first() -> None:
    first = study("a", (0.95, 0.2))
    other = study("b", (0.95, 0.2), baselines={"chance": {"rmse": 2.0, "top_100": 0.0}})
    compared = compare_studies([first, other])
    assert compared.same_data
    assert compared.warning == ""
    assert [each.results.hypervolume for each in compared.studies] == [first.hypervolume] * 2
    assert compared.studies[1].progress[-1].volume == first.hypervolume


@pytest.mark.parametrize("part", ["data", "split"])
def test_other_rows_are_measured_by_their_own_and_said(part: str) -> None:
    provenance = {**PROVENANCE, part: {"fingerprint": "other"}}
    other = study("b", (0.95, 0.2), provenance=provenance, baselines={"chance": {"rmse": 2.0, "top_100": 0.0}})
    compared = compare_studies([study("a", (0.95, 0.2)), other])
    assert compared.studies[1].results.hypervolume == other.hypervolume
    assert compared.warning.startswith("b: other data or another split than a; each hypervolume is measured against ")
    assert compared.dominated(0, 1) is None


def test_dominated_members_of_the_front() -> None:
    compared = compare_studies([realistic(0), realistic(3), results(name="c")])
    for index, other in ((0, 1), (1, 0)):
        mine, theirs = compared.studies[index].results.front, compared.studies[other].results.front
        counted = 0
        for m in mine:
            better = [
                t for t in theirs
                if t.values[0] <= m.values[0] and t.values[1] >= m.values[1] and t.values != m.values
            ]  # fmt: skip
            counted += bool(better)
        assert 0 < counted < len(mine)
        assert compared.dominated(index, other) == counted
    assert compared.dominated(0, 2) == compared.dominated(2, 0) == 0


def test_equal_points_do_not_dominate_each_other() -> None:
    compared = compare_studies([study("a", (0.95, 0.2)), study("b", (0.95, 0.2))])
    assert (compared.dominated(0, 1), compared.dominated(1, 0)) == (0, 0)


def test_differences_of_definition_and_provenance() -> None:
    first = study("a", definition={"study": {"name": "a", "seed": 1}, "fixed": {"epochs": 3}})
    other = study("b", definition={"study": {"name": "b", "seed": 2}}, provenance={**PROVENANCE, "python": "3.13.0"})
    assert list(difference_lines(compare_studies([first, other]))) == [
        "b, definition: study.seed: 1 -> 2",
        "b, definition: fixed: {'epochs': 3} -> nothing",
        "b, passport: python: 3.11.7 -> 3.13.0",
    ]


def test_other_objectives_are_refused() -> None:
    other = replace(study("b"), objectives=results(objectives=("mae", "top_100")).objectives)
    with pytest.raises(StudyMismatch, match="a optimises rmse and top_100, b mae and top_100; compare studies of the"):
        compare_studies([study("a"), other])


def test_lines_of_the_table() -> None:
    compared = compare_studies([study("a", (0.95, 0.2), (0.97, 0.3)), study("b", (0.94, 0.2))])
    lines = {title.replace("\u00a0", " "): cells for title, cells in comparison_lines(compared)}
    assert lines["best RMSE (stars) ↓"] == ["0.9500", "0.9400"]
    assert lines["best top-100 accuracy ↑"] == ["0.3000", "0.2000"]
    assert lines["dominated by b"] == ["1", ""]
    assert lines["on the front"] == ["2", "1"]
    assert lines["minutes of trials"] == ["", ""]


def test_json_is_plain_and_whole() -> None:
    shown = comparison_json(compare_studies([with_history(realistic()), with_history(realistic(3))]))
    first = json.loads(json.dumps(shown, allow_nan=False))["studies"][0]
    assert first["progress"][-1]["hypervolume"] == first["hypervolume"]
    assert first["progress"][-1]["minutes"] == pytest.approx((8 * 50 + 49) / 60)
    assert set(first["best"]) == {"rmse", "top_100"}
    assert len(first["front"]) == 12


def test_studies_without_trials_or_baselines() -> None:
    compared = compare_studies([study("a"), study("b", baselines={})])
    assert comparison_json(compared)["studies"][0]["best"] == {}
    assert "Hypervolume over" not in comparison_page(compared).replace(plotly_js(), "")


def test_figures_hold_every_front_and_its_progress() -> None:
    compared = compare_studies([with_history(realistic()), with_history(replace(realistic(3), name="wide"))])
    fronts = json.loads(fronts_figure(compared).to_json())["data"]
    assert [trace["name"] for trace in fronts] == ["ml-100k", "wide", "baselines"]
    assert len({trace["marker"]["symbol"] for trace in fronts}) == 3
    for trace, each in zip(fronts, compared.studies, strict=False):
        assert list(zip(trace["x"], trace["y"], strict=True)) == [r.values for r in each.results.front]
    assert len(fronts[2]["x"]) == len(BASELINES)
    for over, last in (("trials", 50), ("minutes", pytest.approx((8 * 50 + 49) / 60, rel=1e-4))):
        traces = json.loads(progress_figure(compared, over).to_json())["data"]
        assert [trace["x"][-1] for trace in traces] == [last, last]


def test_a_front_of_few_is_in_view_beside_one_of_many() -> None:
    many = study("many", *((0.895 + n * 8e-4, 0.30 + n * 1e-3) for n in range(16)))
    few = study("few", *((0.97 + n * 0.03, 0.35 + n * 0.01) for n in range(3)))
    layout = json.loads(fronts_figure(compare_studies([many, few])).to_json())["layout"]
    for axis_, index in (("xaxis", 0), ("yaxis", 1)):
        low, high = layout[axis_]["range"]
        assert all(low < each.values[index] < high for one in (many, few) for each in one.front)


@pytest.mark.parametrize("number", OBJECTIVES)
def test_the_best_of_each_objective_and_what_is_dominated(number: int) -> None:
    keys = OBJECTIVES[number]
    compared = compare_studies([realistic(objectives=keys), realistic(3, objectives=keys)])
    shown = comparison_json(compared)
    lines = {title.replace("\u00a0", " "): cells for title, cells in comparison_lines(compared)}
    for place, each in enumerate(compared.studies):
        front, other = each.results.front, compared.studies[1 - place].results.front
        for index, metric in enumerate(each.results.objectives):
            best = (min if metric.direction == "minimize" else max)(row.values[index] for row in front)
            assert shown["studies"][place]["best"][metric.key]["value"] == best
            arrow = "↓" if metric.direction == "minimize" else "↑"
            assert lines[f"best {metric.axis} {arrow}"][place] == f"{best:.4f}"
        losses = [
            [[s * v for s, v in zip(each.results.signs, r.values, strict=True)] for r in rows]
            for rows in (front, other)
        ]
        beaten = sum(any(t != m and all(map(le, t, m)) for t in losses[1]) for m in losses[0])
        assert compared.dominated(place, 1 - place) == beaten
    assert ("on the front" in lines) == (number > 1)


@pytest.mark.parametrize("number", [3, 4])
def test_fronts_of_more_objectives_are_in_each_panel(number: int) -> None:
    keys = OBJECTIVES[number]
    compared = compare_studies([realistic(objectives=keys), replace(realistic(3, objectives=keys), name="wide")])
    figure = json.loads(fronts_figure(compared).to_json())
    for name, rows in (
        *((each.results.name, [r.values for r in each.results.front]) for each in compared.studies),
        ("baselines", [compared.studies[0].results.baseline_values(name) for name in BASELINES]),
    ):
        panels = [trace for trace in figure["data"] if trace["name"] == name]
        found = [list(zip(trace["x"], trace["y"], strict=True)) for trace in panels]
        assert sorted(found) == sorted([(r[i], r[j]) for r in rows] for i, j in combinations(range(number), 2))
        assert [trace["showlegend"] for trace in panels] == [True] + [False] * (len(panels) - 1)
        assert {trace["mode"] for trace in panels} == {"markers"}


def test_of_one_objective_each_study_has_its_best_so_far() -> None:
    first, other = ([row(n, v) for n, v in enumerate(values)] for values in ((1.0, 1.1, 0.9), (0.95, 0.96)))
    compared = compare_studies([results(first, ["rmse"], name="a"), results(other, ["rmse"], name="b")])
    traces = {trace["name"]: trace for trace in json.loads(fronts_figure(compared).to_json())["data"]}
    assert list(traces) == ["a", "b", *BASELINES]
    assert list(zip(traces["a"]["x"], traces["a"]["y"], strict=True)) == [(1, 1.0), (3, 0.9), (3, 0.9)]
    assert list(zip(traces["b"]["x"], traces["b"]["y"], strict=True)) == [(1, 0.95), (2, 0.95)]
    assert set(traces["biases"]["y"]) == {0.942}
    assert "Best so far" in comparison_page(compared)


@pytest.mark.parametrize("number", OBJECTIVES)
def test_a_page_of_studies_without_trials(number: int) -> None:
    compared = compare_studies(
        [results((), OBJECTIVES[number]), results((), OBJECTIVES[number], name="b", baselines={})]
    )
    assert Outline(comparison_page(compared).replace(plotly_js(), "")).open == []


@pytest.mark.parametrize("number", OBJECTIVES)
def test_hostile_names_stay_text(tmp_path: Path, number: int) -> None:
    keys = OBJECTIVES[number]
    compared = compare_studies([with_history(hostile(keys)), with_history(realistic(objectives=keys))])
    for text in texts(json.loads(fronts_figure(compared).to_json())):
        assert "<img" not in text
    file = write_comparison(compared, tmp_path / "c.html")
    parsed = Outline(file.read_text(encoding="utf-8").replace(plotly_js(), ""))
    assert "img" not in {name for name, _ in parsed.elements}
    assert HOSTILE in parsed.text
    assert len([1 for name, each in parsed.elements if name == "script" and "type" not in each]) == 2
