"""Tests of the data of the front's plot: drawn trials, visible ranges, and points left out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.report.front_plot import FrontView, axis_range, front_view
from tests.helpers.results import BASELINES, MORE, OBJECTIVES, realistic, repeated, results, row

pytestmark = pytest.mark.quick

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def width(view: FrontView, index: int) -> float:
    assert view.ranges is not None
    low, high = view.ranges[index]
    return high - low


@pytest.mark.parametrize("number", OBJECTIVES)
def test_every_trial_is_drawn_once_and_the_front_is_the_records(number: int) -> None:
    study = realistic(objectives=OBJECTIVES[number])
    view = front_view(study)
    drawn = [point.trial for point in view.front + view.dominated]
    assert sorted(drawn) == list(range(50))
    assert list(view.front) == study.front
    assert view.knee == study.knee is not None
    assert view.ranges is not None and len(view.ranges) == len(view.lines) == number
    assert [line.index for line in view.lines] == list(range(number))


def test_an_outlier_does_not_stretch_the_view_and_is_counted() -> None:
    view = front_view(realistic())
    assert width(view, 0) < 0.5
    assert (view.outside, view.outside_front) == (1, 0)
    assert view.notes == ("1 trial outside the view", "double click shows all")


@pytest.mark.parametrize("number", OBJECTIVES)
def test_bars_of_the_front_are_in_view_and_said(number: int) -> None:
    study = repeated(objectives=OBJECTIVES[number])
    view = front_view(study)
    assert view.ranges is not None
    assert view.notes[0] == "bars: standard deviation over 3 seeds"
    assert len(view.spreads) == len(study.rows)
    for point in view.front:
        for value, spread, (low, high) in zip(point.values, view.spreads[point.trial], view.ranges, strict=True):
            assert spread > 0
            assert low < value - spread < value + spread < high


def test_a_bar_widens_the_view() -> None:
    seeds = [{"rmse": 0.95 + shift, "top_100": 0.25} for shift in (-0.2, 0.2)]
    before, after = (front_view(results([row(0, 0.95, 0.25)], repeats=each)) for each in ({}, {0: seeds}))
    assert before.spreads == {}
    assert after.spreads[0] == pytest.approx((0.2 * 2**0.5, 0.0))  # two seeds: |a - b| / sqrt(2)
    assert width(after, 0) > width(before, 0)


def test_one_seed_has_no_spread() -> None:
    view = front_view(results([row(0, 0.95, 0.25)], repeats={0: [{"rmse": 0.95, "top_100": 0.25}]}))
    assert (view.spreads, view.notes) == ({}, ())


def test_without_outliers_everything_is_in_view_and_nothing_is_said() -> None:
    study = realistic()
    view = front_view(replace(study, rows=study.rows[:-1]))
    assert view.outside == 0
    assert view.notes == ()


def test_the_best_baselines_are_lines_with_their_numbers() -> None:
    lines = front_view(realistic()).lines
    assert [(line.index, line.label, line.value) for line in lines] == [
        (0, "biases 0.942", 0.942),
        (1, "popularity 0.295", 0.295),
    ]


def test_front_and_lines_lie_inside_the_view() -> None:
    view = front_view(realistic())
    assert view.ranges is not None
    for index, (low, high) in enumerate(view.ranges):
        assert all(low < point.values[index] < high for point in view.front)
        assert all(low < line.value < high for line in view.lines if line.index == index)


def test_a_baseline_far_away_is_a_point_outside_the_view() -> None:
    view = front_view(replace(realistic(), baselines={**BASELINES, "nonsense": {"rmse": 40.0, "top_100": 0.1}}))
    assert [point.name for point in view.baselines if not point.inside] == ["nonsense"]
    assert width(view, 0) < 0.5


def test_a_front_point_that_would_squeeze_the_rest_is_left_out_and_said_so() -> None:
    study = realistic()
    view = front_view(replace(study, rows=(*study.rows, row(50, 500.0, 0.9))))
    assert view.front[-1].trial == 50
    assert width(view, 0) < 0.5
    assert view.notes[0] == "2 trials outside the view, 1 of the front"


def test_three_initial_trials_far_apart_are_all_in_view() -> None:
    # The tutorial's: ratings only, both, retrieval only, whose ratings are untrained.
    view = front_view(results([row(0, 0.95, 0.06), row(1, 1.00, 0.28), row(2, 3.7, 0.30)]))
    assert view.outside == 0


def test_the_knee_is_in_view_of_a_study_of_few_trials() -> None:
    """Show the knee, although most trials lie at two baselines and the quartiles nearly coincide."""
    few = [(0, 1.1179, 0.0646), (1, 1.1277, 0.0601), (2, 1.1274, 0.0703), (3, 1.1276, 0.06), (4, 1.1277, 0.06)]
    baselines = {
        "chance": {"rmse": 1.1277, "top_100": 0.0601},
        "popularity": {"rmse": 1.1277, "top_100": 0.2983},
        "biases": {"rmse": 0.9479, "top_100": 0.184},
    }
    study = results([row(*each) for each in few], baselines=baselines)
    view = front_view(study)
    assert study.knee is not None and view.ranges is not None
    for (low, high), value in zip(view.ranges, study.knee.values, strict=True):
        assert low < value < high
    assert view.ranges[0][0] < 0.9479  # and with it the best baseline
    assert axis_range([*range(9), 100], [], [300.0])[1] > 300


def test_directions_swapped() -> None:
    view = front_view(results([row(0, 0.3, 0.95), row(1, 0.28, 0.94), row(2, 0.1, 1.2)], ("top_100", "rmse")))
    assert [point.trial for point in view.front] == [0, 1]
    assert [(line.index, line.name) for line in view.lines] == [(0, "popularity"), (1, "biases")]


def test_no_trials_shows_the_baselines() -> None:
    view = front_view(results())
    assert view.ranges is not None
    assert all(point.inside for point in view.baselines)
    assert view.notes == ("no trial has completed yet",)


def test_no_front_for_the_constraints_is_not_said_to_be_no_trial() -> None:
    assert front_view(results(infeasible=(0, 1))).notes == ("no trial keeps the [constraints]",)


def test_nothing_at_all_has_no_range() -> None:
    view = front_view(results(baselines={}))
    assert (view.ranges, view.lines, view.baselines, view.knee) == (None, (), (), None)


@pytest.mark.parametrize("copies", [1, 5])
def test_one_trial_or_equal_trials_without_baselines(copies: int) -> None:
    view = front_view(results([row(number, 0.95, 0.0) for number in range(copies)], baselines={}))
    assert len(view.front) == copies
    assert view.outside == 0
    assert width(view, 0) > 0
    assert width(view, 1) > 0


def test_range_of_one_outlier_by_hand() -> None:
    # Quartiles of 0..8 and 100: 2.25, 6.75; fences -4.5, 13.5; kept 0..8, padded by 6 %.
    assert axis_range([*range(9), 100], []) == pytest.approx((-0.48, 8.48))
    # An anchor at 20 widths beyond the bulk still counts, at more it does not.
    assert axis_range([*range(9), 100], [168]) == pytest.approx((-10.08, 178.08))
    assert axis_range([*range(9), 100], [168.1]) == pytest.approx((-0.48, 8.48))


def test_of_three_objectives_a_panel_is_enough_for_a_baseline_and_one_too_few_for_a_trial() -> None:
    """Far out in the third objective alone: in the panel of the other two a baseline is seen, a trial is not whole."""
    baselines = {name: {**values, **MORE[name]} for name, values in BASELINES.items()}
    far = {"far": {"rmse": 1.0, "top_100": 0.2, "coverage": -50.0}}
    farther = {"farther": {"rmse": 90.0, "top_100": 0.2, "coverage": -50.0}}
    study = realistic(objectives=OBJECTIVES[3])
    study = replace(study, rows=study.rows[:-1], baselines={**baselines, **far, **farther})
    view = front_view(study)
    assert [point.name for point in view.baselines if not point.inside] == ["farther"]
    more = front_view(replace(study, rows=(*study.rows, row(50, 1.0, 0.2, -50.0))))
    assert more.outside == view.outside + 1
    assert more.notes[0] == f"{more.outside} trials outside some panel"


def test_of_one_objective_a_baseline_far_away_is_outside() -> None:
    far = {**BASELINES, "nonsense": {"rmse": 40.0}}
    view = front_view(replace(realistic(objectives=OBJECTIVES[1]), baselines=far))
    assert [point.name for point in view.baselines if not point.inside] == ["nonsense"]
    assert view.notes == ("1 trial outside the view", "double click shows all")


@given(VALUES)
def test_a_range_has_width_and_holds_the_median_half(values: list[float]) -> None:
    low, high = axis_range(values, [])
    assert low < high
    assert sum(low <= value <= high for value in values) >= len(values) / 2
