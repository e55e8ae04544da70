"""Runs with several worker processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from mtsearch import api
from mtsearch.errors import MachineError, StudyMismatch
from mtsearch.search import ownership
from mtsearch.search.results import StudyResults
from mtsearch.search.trial import TrialEnd
from tests.helpers.killing import kill_one
from tests.helpers.trainers import (
    ENOUGH_STARTED,
    dying_formula,
    every_second_dying_formula,
    killing_formula,
    raising_formula,
    silent_death_formula,
    slow_formula,
    stuck_formula,
)
from tests.search.test_run import SPACE, define, trials_of


def go(data: str, path: Path, trials: int, **kwargs: Any) -> StudyResults:
    return api.run(define(data), trials, workers=3, storage=str(path), **{"make_trainer": slow_formula, **kwargs})


def pid_of(trial: optuna.trial.FrozenTrial) -> int:
    return int(trial.user_attrs["mtsearch:worker"]["pid"])


def test_exactly_the_trials_asked_for_by_several_processes(
    data: str, tmp_path: Path, together: Callable[[int], None]
) -> None:
    together(3)
    ends: list[TrialEnd] = []
    results = go(data, tmp_path / "a.db", 20, on_trial=ends.append)
    trials = trials_of(tmp_path / "a.db")
    assert results.counting == len(trials) == len(ends) == 20
    assert [end.counting for end in ends] == sorted(end.counting for end in ends)
    assert len({pid_of(trial) for trial in trials}) == 3
    assert os.getpid() not in {pid_of(trial) for trial in trials}
    assert len({str(trial.params) for trial in trials}) == 20
    assert results.provenance["trainer"]["workers"] == 3


@pytest.mark.slow
def test_killed_worker_is_replaced_and_its_trial_tried_again(
    data: str, tmp_path: Path, together: Callable[[int], None]
) -> None:
    together(3)
    killed: list[int] = []

    def kill_once(_end: TrialEnd) -> None:
        if not killed and (number := kill_one(lambda: trials_of(tmp_path / "a.db"))) is not None:
            killed.append(number)

    results = go(data, tmp_path / "a.db", 15, on_trial=kill_once)
    trials = trials_of(tmp_path / "a.db")
    assert results.counting == 15
    assert not [t for t in trials if t.state == TrialState.RUNNING]
    (dead,) = [t for t in trials if t.state == TrialState.FAIL]
    assert dead.number == killed[0]
    assert dead.user_attrs["mtsearch:reason"] == {"kind": "died", "text": "its worker died"}
    (again,) = [t for t in trials if t.user_attrs.get("mtsearch:retry_of") == dead.number]
    assert again.state == TrialState.COMPLETE
    assert {**again.params, **dead.params} == again.params


@pytest.mark.slow
def test_a_trial_stored_by_a_worker_that_died_before_saying_so_counts(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTSEARCH_TEST_NOTES", str(tmp_path / "died"))
    ends: list[TrialEnd] = []
    results = go(data, tmp_path / "a.db", 8, make_trainer=silent_death_formula, on_trial=ends.append)
    assert (tmp_path / "died").exists()
    assert results.states == {"complete": 8}
    assert sorted(end.trial for end in ends) == list(range(8))


@pytest.mark.slow
def test_a_worker_that_never_begins_its_trial_is_replaced(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MTSEARCH_TEST_NOTES", str(tmp_path / "given"))
    monkeypatch.setattr(ownership, "GRACE_SECONDS", 8.0)
    results = api.run(define(data), 4, workers=2, storage=str(tmp_path / "a.db"), make_trainer=stuck_formula)
    assert results.states == {"complete": 4}
    assert caplog.text.count("has not begun its trial for a long time and is replaced") == 1


@pytest.mark.slow
def test_workers_that_die_at_once_end_the_run(data: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="5 workers in a row died without a trial to run"):
        go(data, tmp_path / "a.db", 4, make_trainer=dying_formula)


@pytest.mark.slow
def test_a_script_without_a_main_guard_gets_a_remedy(data: str, tmp_path: Path) -> None:
    """The workers import the script, and would run it again."""
    (tmp_path / "script.py").write_text(
        "from mtsearch import run\nfrom tests.search.test_run import define\n"
        "from tests.helpers.trainers import slow_formula\n"
        f"run(define({data!r}), 4, workers=2, storage={str(tmp_path / 'a.db')!r}, make_trainer=slow_formula)\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert "a worker process could not start; its error message is printed above" in last
    assert 'under `if __name__ == "__main__":`' in last


@pytest.mark.slow
def test_deaths_between_trials_that_end_do_not_add_up(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTSEARCH_TEST_NOTES", str(tmp_path / "born"))
    results = api.run(
        define(data), 9, workers=2, storage=str(tmp_path / "a.db"), make_trainer=every_second_dying_formula
    )
    assert results.counting == 9
    assert (tmp_path / "born").stat().st_size >= ENOUGH_STARTED  # half of them, one more than may be in a row


def signalled_at(trial: int, signals: list[int]) -> Callable[[TrialEnd], None]:
    """Return an observer that sends the signals to this process and its children after a number of trials."""

    sent: list[int] = []

    def observe(end: TrialEnd) -> None:
        if end.counting >= trial and not sent:
            sent.append(end.counting)
            family = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
            for number in signals:
                for pid in family:
                    os.kill(pid, number)

    return observe


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_whole_group_ends_every_workers_trial(data: str, tmp_path: Path, number: int) -> None:
    results = go(data, tmp_path / "a.db", 10_000, on_trial=signalled_at(4, [number]))
    assert results.interrupted
    assert "running" not in results.states
    assert 0 < results.counting < 10_000


@pytest.mark.slow
def test_second_interrupt_leaves_no_trial_running(data: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(data, tmp_path / "a.db", 10_000, on_trial=signalled_at(4, [signal.SIGINT, signal.SIGINT]))
    states = {trial.state for trial in trials_of(tmp_path / "a.db")}
    assert TrialState.RUNNING not in states
    assert go(data, tmp_path / "a.db", 2).counting >= 6


@pytest.mark.slow
def test_bug_in_a_trainer_ends_the_run_with_its_traceback(data: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)a worker failed:.*ZeroDivisionError: a bug"):
        go(data, tmp_path / "a.db", 5, make_trainer=raising_formula)
    assert TrialState.RUNNING not in {trial.state for trial in trials_of(tmp_path / "a.db")}


@pytest.mark.slow
def test_configuration_that_kills_its_worker_fails_and_the_study_goes_on(data: str, tmp_path: Path) -> None:
    definition = define(data, trials=[{"embedding_size": 7}], space={**SPACE, "embedding_size": {"choices": [7, 8]}})
    results = api.run(definition, 6, workers=2, storage=str(tmp_path / "a.db"), make_trainer=killing_formula)
    listed = [failure for failure in results.failures if failure.counted]
    assert results.counting == 6
    assert listed
    assert "tried 3 times, last error: its worker died (out of memory?)" in listed[0].reason
    assert "running" not in results.states
    assert "waiting" not in results.states


@pytest.mark.slow
def test_worker_that_finds_other_data_ends_the_run(data: str, tmp_path: Path) -> None:
    def edit_and_kill(_end: TrialEnd) -> None:
        ratings = Path(data) / "u.data"
        ratings.write_text(ratings.read_text().replace("\t1\t", "\t2\t"))
        kill_one(lambda: trials_of(tmp_path / "a.db"))

    with pytest.raises(StudyMismatch, match="was changed while the study ran"):
        go(data, tmp_path / "a.db", 10_000, on_trial=edit_and_kill)
    assert TrialState.RUNNING not in {trial.state for trial in trials_of(tmp_path / "a.db")}
