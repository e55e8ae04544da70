"""Tests of the rows for JSON and CSV, letter by letter, and of the tables on a terminal."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from statistics import stdev

import pytest
from rich.console import Console
from rich.table import Table

from mtsearch.metrics import METRICS
from mtsearch.report.html import front_html
from mtsearch.report.plot_data import plot_csv, plot_json
from mtsearch.report.tables import baseline_table, front_csv, front_rows, front_table, table_rows
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
)

pytestmark = pytest.mark.quick


def printed(table: Table, width: int = 400) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_json_contract() -> None:
    study = results([row(0, 1.0, 0.3, size=64), row(1, 0.9, 0.2, size=32, name="a"), row(2, 1.1, 0.1)])
    rows = front_rows(study)
    assert json.loads(json.dumps(rows)) == rows == [
        {"trial": 1, "rmse": 0.9, "top_100": 0.2, "params": {"size": 32, "name": "a"},
         "metrics": {"rmse": 0.9, "top_100": 0.2, "mae": 0.7654321}},
        {"trial": 0, "rmse": 1.0, "top_100": 0.3, "params": {"size": 64},
         "metrics": {"rmse": 1.0, "top_100": 0.3, "mae": 0.7654321}},
    ]  # fmt: skip
    assert list(rows[0]) == ["trial", "rmse", "top_100", "params", "metrics"]


def test_json_uses_the_objectives_own_keys() -> None:
    assert list(front_rows(results([row(0, 0.1, 0.9)], ("mrr", "mae"), baselines={}))[0])[1:3] == ["mrr", "mae"]


def test_csv_has_a_column_for_each_parameter_and_quotes() -> None:
    text = front_csv(results([row(0, 1.0, 0.3, size=64), row(1, 0.9, 0.2, size=32, name='a,"b"\nc')]))
    assert text.startswith('trial,rmse,top_100,size,name,mae\r\n1,0.9,0.2,32,"a,""b""\nc",0.7654321\r\n0,1.0,0.3,64,,')
    assert [line["name"] for line in csv.DictReader(io.StringIO(text, newline=""))] == ['a,"b"\nc', ""]


def test_csv_of_an_empty_front_is_its_header() -> None:
    assert front_csv(results()) == "trial,rmse,top_100\r\n"


def test_rows_mark_knee_and_best_baselines() -> None:
    study = realistic()
    assert study.knee is not None
    notes = {shown.name: shown.note for shown in table_rows(study) if shown.note}
    assert notes == {f"trial {study.knee.trial}": "knee", "popularity": "best top-100 accuracy", "biases": "best RMSE"}


def test_front_table_aligns_its_numbers() -> None:
    lines = printed(front_table(realistic()))
    values = [line for line in lines if "trial " in line or "biases" in line]
    ends = {line.index(".") for line in values}
    assert len(values) == len(realistic().front) + 1
    assert len(ends) == 1
    assert any(
        "RMSE (stars)\u00a0↓" in line and "top-100 accuracy\u00a0↑" in line and "ratio" in line for line in lines
    )


def test_front_table_fits_eighty_columns() -> None:
    lines = printed(front_table(realistic()), width=80)
    assert any("trial 43" in line and "0.9952" in line and "0.2701" in line and "◆" in line for line in lines)
    assert any("biases" in line and "*0.9420" in line for line in lines)


def test_spread_over_seeds_stands_behind_its_mean() -> None:
    seeds = [{"rmse": rmse, "top_100": 0.2} for rmse in (1.0, 1.1, 1.2)]  # deviations -0.1, 0, 0.1: 0.02 / 2
    study = results([row(0, 1.1, 0.2, size=64), row(1, 1.2, 0.3, size=32)], repeats={0: seeds})
    lines = printed(front_table(study))
    assert next(line for line in lines if "trial 0" in line).split() == [
        "trial", "0", "◆", "1.1000", "±0.1000", "0.2000", "±0.0000", "64",
    ]  # fmt: skip
    assert "±" not in next(line for line in lines if "trial 1" in line)
    assert "0.9420*" in next(line for line in lines if "biases" in line)
    assert " ".join(" ".join(lines).split()).endswith("mean ± standard deviation over 3 seeds")
    assert "±" not in "".join(printed(front_table(realistic())))


def test_seeds_in_json_and_their_spread_in_csv() -> None:
    study = repeated()
    for shown, plain in zip(front_rows(study), front_rows(realistic()), strict=True):
        assert shown == {**plain, "repeats": study.repeats[plain["trial"]]}
    assert plot_json(study)["trials"][3]["repeats"] == study.repeats[3]
    assert "repeats" not in plot_json(realistic())["trials"][3]
    for text, trials in ((front_csv(study), study.front), (plot_csv(study), study.rows)):
        lines = list(csv.DictReader(io.StringIO(text)))
        assert list(lines[0])[-2:] == ["standard_deviation_rmse", "standard_deviation_top_100"]
        for line, each in zip(lines, trials, strict=True):
            rmse = stdev(seed["rmse"] for seed in study.repeats[each.trial])
            assert float(line["standard_deviation_rmse"]) == pytest.approx(rmse)


def test_spread_of_some_trials_alone() -> None:
    seeds = [{"rmse": rmse, "top_100": 0.2} for rmse in (1.0, 1.1, 1.2)]
    study = results([row(0, 1.1, 0.2), row(1, 1.2, 0.3), row(2, 1.3, 0.4)], repeats={0: seeds, 1: seeds[:1]})
    assert [each.get("repeats") for each in front_rows(study)] == [seeds, seeds[:1], None]
    lines = list(csv.DictReader(io.StringIO(front_csv(study))))
    assert float(lines[0]["standard_deviation_rmse"]) == pytest.approx(0.1)
    assert [line["standard_deviation_rmse"] for line in lines[1:]] == ["", ""]


def test_front_table_with_spreads_fits_eighty_columns() -> None:
    study = repeated()
    wider = replace(study, rows=tuple(replace(each, params={**each.params, "epochs": 10}) for each in study.rows))
    lines = printed(front_table(wider), width=80)
    at = next(number for number, line in enumerate(lines) if "trial 43" in line)
    assert lines[at].split()[3:5] == ["0.9952", "0.2701"]
    assert [each.spread for each in table_rows(study) if each.name == "trial 43"] == [study.spread(43)]
    assert [word for word in " ".join(lines[at : at + 2]).split() if word.startswith("±")] == [
        f"±{value:.4f}" for value in study.spread(43) or ()
    ]
    assert all(len(line) <= 80 for line in lines)


def test_standard_errors_stand_behind_their_values_and_say_of_what() -> None:
    study = with_drawn_users()
    lines = printed(front_table(study))
    knee = next(line for line in lines if "◆" in line and "trial" in line).split()
    assert study.knee is not None
    assert knee[4] == f"±{0.01 + study.knee.trial / 1e4:.4f}"
    assert "± standard error, 300 of 943 users evaluated" in " ".join(" ".join(lines).split())
    assert "± standard error, 300 of 943 users evaluated" in front_html(study)


def test_standard_errors_in_json_and_csv() -> None:
    study = with_drawn_users()
    for shown, plain in zip(front_rows(study), front_rows(realistic()), strict=True):
        assert shown == {**plain, "standard_errors": study.standard_errors[plain["trial"]]}
    lines = list(csv.DictReader(io.StringIO(front_csv(study))))
    assert list(lines[0])[-3:] == ["standard_error_rmse", "standard_error_top_100", "standard_error_mae"]
    for line, each in zip(lines, study.front, strict=True):
        assert float(line["standard_error_rmse"]) == study.standard_errors[each.trial]["rmse"]
    plotted_rows = {each["trial"]: each for each in plot_json(study)["trials"]}
    assert plotted_rows[3]["standard_errors"] == study.standard_errors[3]
    assert "standard_errors" not in plot_json(realistic())["trials"][3]
    line = list(csv.DictReader(io.StringIO(plot_csv(study))))[3]
    assert float(line["standard_error_rmse"]) == study.standard_errors[3]["rmse"]


def test_rich_markup_and_terminal_escapes_are_text() -> None:
    lines = "\n".join(printed(front_table(hostile())))
    assert lines.count("[red]x[/red]") == lines.count(HOSTILE) > 10
    title = printed(front_table(replace(realistic(), name="a\x1b[31m\nb")))[0]
    assert title.strip() == "a [31m b: the front"


@pytest.mark.parametrize("rows", [(), (row(0, 1.0, 0.1),)])
def test_front_table_of_small_studies(rows: tuple[()]) -> None:
    assert any("chance" in line for line in printed(front_table(results(rows))))
    printed(front_table(results(rows, baselines={})))


def test_baseline_table_has_each_metric_with_its_best() -> None:
    objectives = ("rmse", "top_100")
    table = printed(baseline_table(BASELINES, objectives, METRICS), width=80)
    lines = [line for line in table if "↓ " in line or "↑ " in line]
    best = {re.split("[↓↑]", line)[0].strip(): line.split()[-1] for line in lines}
    assert not [line for line in lines if "…" in line]
    assert best["RMSE (stars)"] == "biases"
    assert best["top-100 accuracy"] == "popularity"
    assert best["MAE (stars)"] == "biases"


def test_baseline_table_leaves_a_missing_metric_empty() -> None:
    lines = printed(baseline_table({**BASELINES, "[b]bare[/b]": {"rmse": 1.0}}, ["rmse", "top_100"], METRICS))
    assert any("[b]bare[/b]" in line for line in lines)
    assert next(line for line in lines if "MAE" in line).split()[-4:] == ["0.9440", "0.9440", "0.7440", "biases"]


@pytest.mark.parametrize("number", OBJECTIVES)
def test_each_objective_has_its_key_in_the_studys_order(number: int) -> None:
    keys = list(OBJECTIVES[number])
    study = realistic(objectives=keys)
    rows = front_rows(study)
    assert [list(each) for each in rows] == [["trial", *keys, "params", "metrics"]] * len(study.front)
    assert [tuple(each[key] for key in keys) for each in rows] == [each.values for each in study.front]
    for text, trials in ((front_csv(study), study.front), (plot_csv(study), study.rows)):
        lines = list(csv.DictReader(io.StringIO(text)))
        assert list(lines[0])[: number + 1] == ["trial", *keys]
        assert [tuple(float(line[key]) for key in keys) for line in lines] == [each.values for each in trials]
    shown = plot_json(study)
    assert shown["objectives"] == keys
    assert [tuple(each[key] for key in keys) for each in shown["trials"]] == [each.values for each in study.rows]
    assert shown["baselines"]["biases"] == {key: study.baselines["biases"][key] for key in keys}
    assert sum(each["knee"] for each in shown["trials"]) == 1


@pytest.mark.parametrize("number", OBJECTIVES)
def test_the_table_has_each_objective_of_the_front_and_of_the_baselines(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number], trials=12)
    lines = printed(front_table(study))
    for name, values in {
        **{f"trial {each.trial}": each.values for each in study.front},
        **{name: study.baseline_values(name) for name in study.baselines},
    }.items():
        (cells,) = [line.split() for line in lines if re.match(rf" *{name}( |$)", line)]
        assert [cell.strip("*") for cell in cells if "." in cell][:number] == [f"{value:.4f}" for value in values]
    starred = [cell for line in lines for cell in line.split() if re.match(r"\*\d", cell)]
    best = [
        min(metric.sign * study.baseline_values(name)[index] for name in study.baselines) * metric.sign
        for index, metric in enumerate(study.objectives)
    ]
    assert sorted(starred) == sorted(f"*{value:.4f}" for value in best)
    narrow = printed(front_table(study), width=80)
    whole = [
        value for each in study.front for value in (f"{each.values[-1]:.4f}", f"{each.params['learning_rate']:.4g}")
    ]
    assert all(any(value in line for line in narrow) for value in whole)


def test_with_one_objective_it_is_the_best_trial_and_no_knee() -> None:
    study = realistic(objectives=OBJECTIVES[1])
    lines = printed(front_table(study))
    assert lines[0].strip() == "ml-100k: the best trial"
    assert [line.split()[:2] for line in lines if line.startswith(" trial")] == [["trial", "8"]]
    assert "◆" not in "".join(lines)
    assert [shown.note for shown in table_rows(study)] == ["", "", "", "best baseline"]
    two = replace(study, rows=(*study.rows, replace(study.front[0], trial=50)))
    lines = printed(front_table(two))
    assert lines[0].strip() == "ml-100k: the best trials"
    assert [line.split()[1] for line in lines if line.startswith(" trial")] == ["8", "50"]


@pytest.mark.parametrize("number", OBJECTIVES)
@pytest.mark.parametrize("made", [repeated, with_drawn_users])
def test_each_objective_has_its_spread(number: int, made: Callable[..., StudyResults]) -> None:
    study = made(objectives=OBJECTIVES[number])
    trial = study.front[0]
    (cells,) = [line.split() for line in printed(front_table(study)) if line.startswith(f" trial {trial.trial} ")]
    spreads = [f"±{spread:.4f}" for spread in study.spread(trial.trial) or ()]
    assert len(spreads) == number
    assert [cell for cell in cells if "±" in cell] == spreads
    assert all(spread in front_html(study) for spread in spreads)
