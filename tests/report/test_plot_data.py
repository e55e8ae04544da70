"""Tests of the data of plots: the progress of a study against brute force, and edge cases."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.report.plot_data import Curve, busy_minutes, curves, hypervolume_steps
from mtsearch.search.results import TrialTime
from tests.helpers.results import OBJECTIVES, realistic, results, row, with_history

pytestmark = pytest.mark.quick

BEGUN = datetime(2025, 3, 1)
SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=12)


@given(points=st.lists(st.tuples(st.floats(0, 1.3), st.floats(0, 1)), max_size=15))
def test_each_step_is_the_hypervolume_of_the_trials_so_far(points: list[tuple[float, float]]) -> None:
    study = results([row(number, *point) for number, point in enumerate(points)])
    steps = hypervolume_steps(study)
    assert [step.trial for step in steps] == list(range(len(points)))
    for done, step in enumerate(steps, start=1):
        assert step.volume == pytest.approx(study.volume(points[:done]), abs=1e-12)
        assert step.minutes is None


@given(st.data())
def test_each_step_is_the_hypervolume_of_any_number_of_objectives(data: st.DataObject) -> None:
    number = data.draw(st.sampled_from([1, 3, 4]))
    # A few values each, so that points are often equal, dominated, or outside the box.
    values = [[0.2, 0.6, 1.1, 1.3], [0.0, 0.1, 0.5, 1.0], [0.1, 0.3, 0.7], [0.0, 0.2, 0.9]][:number]
    points = data.draw(st.lists(st.tuples(*map(st.sampled_from, values)), max_size=12))
    study = results([row(place, *point) for place, point in enumerate(points)], OBJECTIVES[number])
    steps = hypervolume_steps(study)
    assert [step.volume for step in steps] == [
        pytest.approx(study.volume(points[: done + 1]), abs=1e-12) for done in range(len(points))
    ]


def test_steps_are_in_the_order_of_their_ends() -> None:
    study = with_history(realistic())
    late = replace(study.times[0], ended=datetime(2025, 3, 2))
    steps = hypervolume_steps(replace(study, times={**study.times, 0: late}))
    assert [step.trial for step in steps] == [*range(1, 50), 0]
    assert steps[-1].volume == pytest.approx(study.hypervolume)
    assert hypervolume_steps(replace(study, baselines={})) == []


@given(spans=SPANS)
def test_busy_minutes_count_each_minute_once(spans: list[tuple[int, int]]) -> None:
    def moment(minute: int) -> datetime:
        return BEGUN + timedelta(minutes=minute)

    times = {n: TrialTime(moment(begin), moment(begin + length), {}) for n, (begin, length) in enumerate(spans)}
    busy = busy_minutes(results(times=times))
    for number, (begin, length) in enumerate(spans):
        covered = {minute for first, long in spans for minute in range(first, first + long)}
        assert busy[number] == pytest.approx(len({minute for minute in covered if minute < begin + length}))


def test_curves_are_thinned_and_keep_their_ends() -> None:
    study = with_history(realistic(), epochs=100)
    thinned = curves(study, points=500)
    assert {len(curve.epochs) for curve in thinned.values()} == {10}
    assert {(curve.epochs[0], curve.epochs[-1]) for curve in thinned.values()} == {(1, 100)}
    first = study.rows[0]
    assert thinned[0].values[0][-1] == first.values[0] + 0.3 / 100
    assert {len(curve.epochs) for curve in curves(study, points=1).values()} == {5}


def test_what_is_not_finite_or_not_there_is_a_gap() -> None:
    stored = [{"epoch": 1, "metrics": {"rmse": float("nan"), "top_100": 0.1}}, {"epoch": 2, "metrics": {"rmse": 1.0}}]
    study = results([row(0, 1.0, 0.1)], curves={0: stored, 1: []})
    assert curves(study) == {0: Curve((1, 2), ((None, 1.0), (0.1, None)))}
