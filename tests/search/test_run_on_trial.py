"""Observers of a run get all values of a trial, and their errors do not end the study."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtsearch import TrialEnd, api
from mtsearch.search.results import StudyResults
from tests.helpers.trainers import FormulaTrainer, make_factory, slow_formula
from tests.search.test_run import SPACE, define, trials_of

EXECUTORS: dict[str, dict[str, Any]] = {
    "alone": {"make_trainer": make_factory(FormulaTrainer())},
    "workers": {"make_trainer": slow_formula, "workers": 2},
}
everywhere = pytest.mark.parametrize("executor", EXECUTORS.values(), ids=list(EXECUTORS))


def go(
    data: str, path: Path, executor: dict[str, Any], on_trial: Callable[[TrialEnd], None], **tables: Any
) -> StudyResults:
    return api.run(define(data, **tables), 5, storage=str(path), on_trial=on_trial, **executor)


@pytest.mark.slow
@everywhere
def test_an_observer_gets_params_metrics_curve_and_state(data: str, tmp_path: Path, executor: dict[str, Any]) -> None:
    ends: list[TrialEnd] = []
    pids: set[int] = set()

    def log(end: TrialEnd) -> None:
        ends.append(end)
        pids.add(os.getpid())

    results = go(data, tmp_path / "a.db", executor, log, fixed={"epochs": 3})
    assert pids == {os.getpid()}
    assert sorted(end.trial for end in ends) == [0, 1, 2, 3, 4]
    rows = {row.trial: row for row in results.rows}
    for end in ends:
        assert (end.state, end.values) == ("complete", rows[end.trial].values)
        assert (end.params, end.metrics) == (rows[end.trial].params, rows[end.trial].metrics)
        assert [epoch["epoch"] for epoch in end.curve] == [1, 2, 3]
        assert end.curve[-1]["metrics"] == end.metrics
        assert end.curve[0]["losses"] == {"rating": 1.0, "retrieval": 8.0}


def test_a_failed_trial_has_its_state_params_and_curve_and_no_metrics(data: str, tmp_path: Path) -> None:
    ends: list[TrialEnd] = []
    diverging = {**SPACE, "learning_rate": {"low": 0.91, "high": 0.99}}
    go(data, tmp_path / "a.db", EXECUTORS["alone"], ends.append, space=diverging)
    assert {(end.state, end.values, end.counted) for end in ends} == {("fail", None, True)}
    for end in ends:
        assert set(end.params) == set(SPACE)
        assert (dict(end.metrics), list(end.curve)) == ({}, [])


def test_changes_by_an_observer_do_not_reach_the_study(data: str, tmp_path: Path) -> None:
    def spoil(end: TrialEnd) -> None:
        for epoch in end.curve:
            epoch["metrics"].clear()
        for mapping in (end.params, end.metrics):
            assert isinstance(mapping, dict)
            mapping.clear()

    results = go(data, tmp_path / "a.db", EXECUTORS["alone"], spoil)
    assert all(row.params and row.metrics for row in results.rows)
    assert all(
        epoch["metrics"] for trial in trials_of(tmp_path / "a.db") for epoch in trial.user_attrs["mtsearch:curve"]
    )


@pytest.mark.slow
@everywhere
def test_an_observers_exception_is_logged_and_the_study_goes_on(
    data: str, tmp_path: Path, executor: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(end: TrialEnd) -> None:
        raise ConnectionError(f"no tracking server for {end.trial}")

    with caplog.at_level(logging.WARNING, "mtsearch"):
        results = go(data, tmp_path / "a.db", executor, fail)
    assert results.states == {"complete": 5}
    warned = [each.getMessage() for each in caplog.records if "on_trial" in each.getMessage()]
    assert sorted(warned) == [f"on_trial failed at trial {n}, which is stored; the study goes on" for n in range(5)]
    assert "ConnectionError: no tracking server for 4" in caplog.text


def test_keyboard_interrupt_in_an_observer_ends_the_run_and_keeps_the_trial(data: str, tmp_path: Path) -> None:
    def interrupt(_end: TrialEnd) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(data, tmp_path / "a.db", EXECUTORS["alone"], interrupt)
    assert api.load_study(storage=str(tmp_path / "a.db")).states == {"complete": 1}


def test_a_trial_end_prints_as_one_short_line(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(data, tmp_path / "a.db", EXECUTORS["alone"], print)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("TrialEnd(trial=0, values=(")
    assert max(map(len, lines)) < 500
