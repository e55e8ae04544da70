"""Several processes on one study."""

import os
import signal
import threading
import time
from pathlib import Path

import optuna
from optuna.trial import TrialState

from mtsearch import api
from mtsearch.search.record import StudyRecord
from mtsearch.search.runner import TrialEnd

from .test_run import define, trials_of
from .trainers import slow_formula


def go(data: str, path: Path, trials: int, **kwargs: object) -> StudyRecord:
    return api.run(define(data), trials, workers=3, storage=str(path), make_trainer=slow_formula, **kwargs)  # type: ignore[arg-type]


def pid_of(trial: optuna.trial.FrozenTrial) -> int:
    return int(trial.user_attrs["mtsearch:worker"].rpartition(":")[2])


def test_exactly_the_trials_asked_for_by_several_processes(data: str, tmp_path: Path) -> None:
    ends: list[TrialEnd] = []
    record = go(data, tmp_path / "a.db", 20, observer=ends.append)
    trials = trials_of(tmp_path / "a.db")
    assert record.counting == len(trials) == len(ends) == 20
    assert [end.counting for end in ends] == sorted(end.counting for end in ends)
    assert len({pid_of(trial) for trial in trials}) == 3
    assert os.getpid() not in {pid_of(trial) for trial in trials}
    assert len({str(trial.params) for trial in trials}) == 20
    assert record.passport["trainer"]["workers"] == 3


def test_killed_worker_is_replaced_and_its_trial_tried_again(data: str, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_once(_end: TrialEnd) -> None:
        running = [t for t in trials_of(tmp_path / "a.db") if t.state == TrialState.RUNNING]
        if not killed and running and "mtsearch:worker" in running[0].user_attrs and running[0].params:
            killed.append(running[0].number)
            os.kill(pid_of(running[0]), signal.SIGKILL)

    record = go(data, tmp_path / "a.db", 15, observer=kill_once)
    trials = trials_of(tmp_path / "a.db")
    assert record.counting == 15
    assert not [t for t in trials if t.state == TrialState.RUNNING]
    (dead,) = [t for t in trials if t.state == TrialState.FAIL]
    assert dead.number == killed[0]
    assert dead.user_attrs["mtsearch:reason"] == {"kind": "died", "text": "worker died"}
    (again,) = [t for t in trials if t.user_attrs.get("mtsearch:retry_of") == dead.number]
    assert again.state == TrialState.COMPLETE
    assert {**again.params, **dead.params} == again.params


def test_interrupt_ends_every_workers_trial(data: str, tmp_path: Path) -> None:
    def later() -> None:
        time.sleep(3)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=later)
    timer.start()
    record = go(data, tmp_path / "a.db", 10_000)
    timer.join()
    assert record.interrupted
    assert "running" not in record.states
    assert 0 < record.counting < 10_000
