"""The figure draws exactly what the view holds, and no text in it is markup."""

import json
import re
from typing import Any

import pytest

from mtsearch.report.figures import front_figure, hover_text
from mtsearch.report.front_view import front_view
from mtsearch.search.record import StudyRecord
from tests.report.records import HOSTILE, hostile, of_some_users, realistic, record, repeated, row


def drawn(study: StudyRecord) -> dict[str, Any]:
    figure: dict[str, Any] = json.loads(front_figure(study).to_json())
    return figure


def traces(study: StudyRecord) -> dict[str, Any]:
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
    study = record([row(17, 0.9345678, 0.2)])
    assert hover_text(study.rows[0], front_view(study)).split("<br>") == [
        "<b>trial 17, knee</b>", "RMSE: 0.9346", "top-100 accuracy: 0.2", " ",
        "loss_ratio: 0.25", "embedding_size: 64", "learning_rate: 0.1235", " ", "MAE: 0.7654",
    ]  # fmt: skip


@pytest.mark.parametrize("study", [repeated(), of_some_users()], ids=["repeated", "of some users"])
def test_bars_are_the_spreads_in_both_objectives(study: StudyRecord) -> None:
    view, by_name = front_view(study), traces(study)
    for name, rows in {"front": view.front, "trials": view.dominated}.items():
        ends = zip(by_name[name]["error_x"]["array"], by_name[name]["error_y"]["array"], strict=True)
        assert list(ends) == [study.spread(each.trial) for each in rows]
    assert not [key for name in ("knee", "biases") for key in by_name[name] if key.startswith("error")]
    assert "error_x" not in traces(realistic())["front"]


def test_bars_of_standard_errors_say_of_what() -> None:
    title = drawn(of_some_users())["layout"]["xaxis"]["title"]["text"]
    assert "bars: standard error, 300 of 943 users judged" in title


def test_hover_says_the_spread() -> None:
    study = record([row(0, 1.1, 0.2)], repeats={0: [{"rmse": each, "top_100": 0.2} for each in (1.0, 1.1, 1.2)]})
    assert "RMSE: 1.1 ± 0.1<br>top-100 accuracy: 0.2 ± 0" in hover_text(study.rows[0], front_view(study))


def test_hostile_text_is_escaped_wherever_plotly_shows_text() -> None:
    allowed = re.compile(r"</?(b|i)>|<br>")
    shown = [allowed.sub("", text) for text in texts(drawn(hostile()))]
    assert any("&lt;img src=x onerror=alert(1)&gt; &amp; " in text for text in shown)
    # `name` of a shape is an identifier that is never shown.
    assert not [text for text in shown if "<" in text and text != HOSTILE]


@pytest.mark.parametrize(
    "study",
    [record(), record(baselines={}), record([row(0, 1.0, 0.1)]), record([row(n, 1.0, 0.1) for n in range(4)])],
    ids=["no trials", "nothing", "one", "all equal"],
)
def test_degenerate_studies_draw(study: StudyRecord) -> None:
    assert len(traces(study)["front"]["x"]) == len(study.rows)


def test_baseline_outside_the_view_is_not_in_the_legend() -> None:
    far = {**realistic().baselines, "nonsense": {"rmse": 40.0, "top_100": 0.1}}
    by_name = traces(record(realistic().rows, baselines=far))
    assert not by_name["nonsense"]["showlegend"]
    assert by_name["biases"]["showlegend"]
