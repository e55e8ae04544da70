"""Tests of the front's figure: it draws exactly the data of the view, and no text is read as markup."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.report.front_plot import front_figure, front_view, hover_text
from mtsearch.report.plot_data import by_end, improvements
from mtsearch.search.results import StudyResults
from tests.helpers.results import (
    BASELINES,
    HOSTILE,
    OBJECTIVES,
    hostile,
    realistic,
    repeated,
    results,
    row,
    with_drawn_users,
    with_history,
)

pytestmark = pytest.mark.quick


def drawn(study: StudyResults) -> dict[str, Any]:
    figure: dict[str, Any] = json.loads(front_figure(study).to_json())
    return figure


def traces(study: StudyResults) -> dict[str, Any]:
    return {trace["name"]: trace for trace in drawn(study)["data"]}


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for child in inner for text in texts(child)]


def test_points_are_the_views() -> None:
    study, by_name = realistic(), traces(realistic())
    view = front_view(study)
    for name, rows in {"front": view.front, "trials": view.dominated, "knee": (view.knee,)}.items():
        assert list(zip(by_name[name]["x"], by_name[name]["y"], strict=True)) == [r.values for r in rows if r]
    for point in view.baselines:
        assert (by_name[point.name]["x"][0], by_name[point.name]["y"][0]) == point.values


def test_a_still_figure_says_nothing_of_clicks() -> None:
    titles = [front_figure(realistic(), still=still).layout.xaxis.title.text for still in (False, True)]
    assert ["outside the view" in title for title in titles] == [True, True]
    assert ["double click" in title for title in titles] == [True, False]


def test_kinds_differ_by_symbol_and_not_only_by_colour() -> None:
    symbols = [trace["marker"]["symbol"] for trace in traces(realistic()).values()]
    assert len(symbols) == len(set(symbols)) == 6


def test_axes_say_unit_and_direction_and_show_the_view() -> None:
    layout = drawn(realistic())["layout"]
    ranges = front_view(realistic()).ranges
    assert ranges is not None
    assert layout["xaxis"]["title"]["text"].startswith("RMSE (stars), lower is better<br>")
    assert "<i>1 trial outside the view</i>" in layout["xaxis"]["title"]["text"]
    assert layout["yaxis"]["title"]["text"] == "top-100 accuracy, higher is better"
    assert (layout["xaxis"]["range"], layout["yaxis"]["range"]) == (list(ranges[0]), list(ranges[1]))


def test_lines_of_the_best_baselines() -> None:
    layout = drawn(realistic())["layout"]
    vertical, horizontal = layout["shapes"]
    assert (vertical["x0"], vertical["x1"], vertical["yref"]) == (0.942, 0.942, "paper")
    assert (horizontal["y0"], horizontal["y1"], horizontal["xref"]) == (0.295, 0.295, "paper")
    assert [note["text"] for note in layout["annotations"]] == ["biases 0.942", "popularity 0.295"]


def test_hover_names_trial_objectives_parameters_and_other_metrics() -> None:
    study = results([row(17, 0.9345678, 0.2)])
    assert hover_text(study.rows[0], front_view(study)).split("<br>") == [
        "<b>trial 17, knee</b>", "RMSE: 0.9346", "top-100 accuracy: 0.2", " ",
        "loss_ratio: 0.25", "embedding_size: 64", "learning_rate: 0.1235", " ", "MAE: 0.7654",
    ]  # fmt: skip


@pytest.mark.parametrize("number", OBJECTIVES)
def test_bars_in_every_panel_are_the_spreads(number: int) -> None:
    study = repeated(objectives=OBJECTIVES[number])
    named = "best so far" if number == 1 else "front"
    panels = [each for each in drawn(study)["data"] if each["name"] in (named, "trials") and "customdata" in each]
    assert len(panels) == 2 * max(1, number * (number - 1) // 2)
    for trace in panels:
        spreads = [study.spread(trial) or () for trial in trace["customdata"]]
        first, second = int(trace.get("xaxis", "x")[1:] or 1) - 1, int(trace.get("yaxis", "y")[1:] or 1)
        bars = {"error_x": first, "error_y": second} if number > 1 else {"error_y": 0}
        for bar, index in bars.items():
            assert trace[bar]["array"] == [spread[index] for spread in spreads]
        assert ("error_x" in trace) == (number > 1)


@pytest.mark.parametrize("study", [repeated(), with_drawn_users()], ids=["repeated", "of some users"])
def test_bars_are_the_spreads_in_both_objectives(study: StudyResults) -> None:
    view, by_name = front_view(study), traces(study)
    for name, rows in {"front": view.front, "trials": view.dominated}.items():
        ends = zip(by_name[name]["error_x"]["array"], by_name[name]["error_y"]["array"], strict=True)
        assert list(ends) == [study.spread(each.trial) for each in rows]
    assert not [key for name in ("knee", "biases") for key in by_name[name] if key.startswith("error")]
    assert "error_x" not in traces(realistic())["front"]


def test_bars_of_standard_errors_say_of_what() -> None:
    title = drawn(with_drawn_users())["layout"]["xaxis"]["title"]["text"]
    assert "bars: standard error, 300 of 943 users evaluated" in title


def test_hover_names_every_objective() -> None:
    for number, keys in OBJECTIVES.items():
        study = results([row(17, *(0.9345678, 0.2, 0.3, 0.05)[:number])], keys)
        lines = hover_text(study.rows[0], front_view(study)).split("<br>")
        expected = ["RMSE: 0.9346", "top-100 accuracy: 0.2", "coverage@100: 0.3", "nDCG@10: 0.05"]
        assert lines[: number + 2] == [f"<b>trial 17, {'best' if number == 1 else 'knee'}</b>", *expected[:number], " "]


def test_hover_says_the_spread() -> None:
    study = results([row(0, 1.1, 0.2)], repeats={0: [{"rmse": each, "top_100": 0.2} for each in (1.0, 1.1, 1.2)]})
    assert "RMSE: 1.1 ± 0.1<br>top-100 accuracy: 0.2 ± 0" in hover_text(study.rows[0], front_view(study))


@pytest.mark.parametrize("number", OBJECTIVES)
def test_hostile_text_is_escaped_wherever_plotly_shows_text(number: int) -> None:
    allowed = re.compile(r"</?(b|i)>|<br>")
    shown = [allowed.sub("", text) for text in texts(drawn(hostile(OBJECTIVES[number])))]
    assert any("&lt;img src=x onerror=alert(1)&gt; &amp; " in text for text in shown)
    # `name` of a shape is an identifier that is never shown.
    assert not [text for text in shown if "<" in text and text != HOSTILE]


@pytest.mark.parametrize("number", OBJECTIVES)
@pytest.mark.parametrize(
    "made",
    [
        lambda keys: results((), keys),
        lambda keys: results((), keys, baselines={}),
        lambda keys: results([row(0, *(1.0, 0.1, 0.2, 0.3)[: len(keys)])], keys),
        lambda keys: results([row(n, *(1.0, 0.1, 0.2, 0.3)[: len(keys)]) for n in range(4)], keys),
    ],
    ids=["no trials", "nothing", "one", "all equal"],
)
def test_degenerate_studies_draw(number: int, made: Callable[[Sequence[str]], StudyResults]) -> None:
    study = made(OBJECTIVES[number])
    points = [trace for trace in drawn(study)["data"] if trace["name"] in ("trials", "front", "best so far")]
    trials = [trial for trace in points for trial in trace.get("customdata", ())]
    panels = max(1, number * (number - 1) // 2)
    assert sorted(trials) == sorted([*range(len(study.rows))] * panels)


@pytest.mark.parametrize("number", [1, 2])
def test_baseline_outside_the_view_is_not_in_the_legend(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number])
    by_name = traces(replace(study, baselines={**study.baselines, "nonsense": {"rmse": 40.0, "top_100": 0.1}}))
    assert not by_name["nonsense"]["showlegend"]
    assert by_name["biases"]["showlegend"]


@pytest.mark.parametrize("number", [3, 4])
def test_a_matrix_has_a_panel_for_each_pair_with_every_point_in_it(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number])
    view, figure = front_view(study), drawn(study)
    expected = {"front": view.front, "trials": view.dominated, "knee": (view.knee,)}
    pairs = list(combinations(range(number), 2))
    for name, rows in expected.items():
        panels = [trace for trace in figure["data"] if trace["name"] == name]
        points = {(trace["xaxis"], trace["yaxis"]): list(zip(trace["x"], trace["y"], strict=True)) for trace in panels}
        assert len(points) == len(pairs)
        for first, second in pairs:
            # A column of panels shares its horizontal axis, a row its vertical one.
            axes = f"x{first + 1}".removesuffix("1"), f"y{second}".removesuffix("1")
            assert points[axes] == [(each.values[first], each.values[second]) for each in rows if each]
    for point in view.baselines:
        panels = [trace for trace in figure["data"] if trace["name"] == point.name]
        found = [(trace["x"][0], trace["y"][0]) for trace in panels]
        assert sorted(found) == sorted(combinations(point.values, 2))
    assert {trace["mode"] for trace in figure["data"]} == {"markers"}  # no line: it is no staircase


@pytest.mark.parametrize("number", OBJECTIVES)
def test_every_kind_of_point_is_once_in_the_legend(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number])
    shown = [trace["name"] for trace in drawn(study)["data"] if trace.get("showlegend", True)]
    own = ["trials", "best so far", "best trial"] if number == 1 else ["trials", "front", "knee"]
    assert shown == [*own, *study.baselines]


@pytest.mark.parametrize("number", [3, 4])
def test_axes_of_a_matrix_say_unit_and_direction_and_show_the_view(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number])
    layout, ranges = drawn(study)["layout"], front_view(study).ranges
    assert ranges is not None
    axes = {name: each for name, each in layout.items() if name[1:].startswith("axis")}
    assert len(axes) == 2 * (number - 1)
    assert layout["xaxis"]["title"]["text"] == "RMSE (stars)<br>lower is better"
    assert layout[f"yaxis{number - 1}"]["title"]["text"].endswith("<br>higher is better")
    for name, each in axes.items():
        index = int(name[5:] or 1) - (name[0] == "x")
        assert each["range"] == list(ranges[index])
    for letter in "xy":  # panels lie beside each other, not over each other
        domains = sorted(each["domain"] for name, each in axes.items() if name[0] == letter)
        assert all(low < high for low, high in domains)
        assert all(before[1] < after[0] for before, after in pairwise(domains))
    notes = [each["text"] for each in layout["annotations"] if each["xref"] == "paper"]
    assert notes == ["<i>1 trial outside some panel</i><br><i>double click shows all</i>"]


@pytest.mark.parametrize("number", [3, 4])
def test_the_best_baseline_of_an_objective_is_a_line_in_each_panel_that_has_it(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number])
    layout = drawn(study)["layout"]
    for index, line in enumerate(front_view(study).lines):
        upright = [each for each in layout["shapes"] if each["x0"] == each["x1"] == line.value]
        level = [each for each in layout["shapes"] if each["y0"] == each["y1"] == line.value]
        assert (len(upright), len(level)) == (number - 1 - index, index)
        labels = [each for each in layout["annotations"] if each["text"] == line.label]
        assert len(labels) == (index < number - 1) + (index > 0)


def test_one_objective_is_the_best_so_far_in_the_order_of_the_ends() -> None:
    """Trial 0 ends last: by then its 0.93 is no progress."""
    study = with_history(results([row(n, v) for n, v in enumerate((0.93, 1.1, 1.0, 1.05, 0.92))], OBJECTIVES[1]))
    late = replace(study.times[0], ended=datetime(2025, 3, 2))
    figure = drawn(replace(study, times={**study.times, 0: late}))
    trials, line, best, knee = figure["data"][:4]
    assert list(zip(trials["customdata"], trials["x"], trials["y"], strict=True)) == [(0, 5, 0.93), (3, 3, 1.05)]
    assert list(zip(best["customdata"], best["x"], best["y"], strict=True)) == [(1, 1, 1.1), (2, 2, 1.0), (4, 4, 0.92)]
    assert list(zip(line["x"], line["y"], strict=True)) == [(1, 1.1), (2, 1.0), (4, 0.92), (5, 0.92)]
    assert (knee["x"], knee["y"]) == ([4], [0.92])
    for trace, baseline in zip(figure["data"][4:], BASELINES.values(), strict=True):
        assert set(trace["y"]) == {baseline["rmse"]}
        assert (trace["x"][0], trace["x"][-1]) == (0, 6)
    assert [note["text"] for note in figure["layout"]["annotations"]] == ["biases 0.942"]
    assert figure["layout"]["yaxis"]["title"]["text"] == "RMSE (stars), lower is better"


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=12), st.sampled_from(["rmse", "top_100"]))
def test_improvements_are_what_is_better_than_all_before(values: list[float], key: str) -> None:
    study = results([row(number, value) for number, value in enumerate(values)], [key])
    pick = min if key == "rmse" else max
    expected = [
        (place, value)
        for place, value in enumerate(values, start=1)
        if place == 1 or pick(values[: place - 1]) != pick(values[:place])
    ]
    found = improvements(by_end(study), study.signs[0])
    assert [(place, each.values[0]) for place, each in found] == expected


def test_of_one_objective_so_many_of_the_other_trials_are_drawn() -> None:
    study = realistic(objectives=OBJECTIVES[1])
    trials, _, best = json.loads(front_figure(study, most=5).to_json())["data"][:3]
    assert trials["customdata"] == [45, 46, 47, 48, 49]
    assert best["customdata"] == [0, 1, 8]  # the progress is whole
