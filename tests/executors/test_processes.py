"""Runs with several worker processes."""

import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from mtsearch import api
from mtsearch.data import Split
from mtsearch.errors import MachineError
from mtsearch.executors import workers
from mtsearch.executors.processes import _load_split, _store_split
from mtsearch.search.attributes import counts
from mtsearch.search.results import StudyResults
from mtsearch.search.trial import TrialEnd
from mtsearch.study_file.config import TrialConfig
from tests.helpers.killing import wait_for, wait_until_gone, workers_of
from tests.helpers.trainers import (
    ENOUGH_STARTED,
    FormulaTrainer,
    dying_formula,
    every_second_dying_formula,
    killing_formula,
    raising_formula,
    slow_formula,
    struck_formula,
    take_turn,
)
from tests.search.test_run import SPACE, define, trials_in, trials_of


def go(data: str, path: Path, trials: int, **kwargs: Any) -> StudyResults:
    return api.run(define(data), trials, workers=3, storage=path, **{"make_trainer": slow_formula, **kwargs})


def test_exactly_the_trials_asked_for_by_several_processes(
    data: str, tmp_path: Path, together: Callable[[int], None]
) -> None:
    together(3)
    ends: list[TrialEnd] = []
    seen: list[psutil.Process] = []

    def note(end: TrialEnd) -> None:
        ends.append(end)
        seen.extend(workers_of())

    results = go(data, tmp_path / "a.db", 20, on_trial=note)
    trials = trials_of(tmp_path / "a.db")
    assert results.counting == len(trials) == len(ends) == 20
    assert [end.counting for end in ends] == sorted(end.counting for end in ends)
    assert len({worker.pid for worker in seen}) == 3
    assert len({str(trial.params) for trial in trials}) == 20
    assert results.provenance["trainer"]["workers"] == 3
    assert workers_of() == []


@pytest.mark.slow
def test_killed_workers_are_replaced_and_their_trials_tried_again(
    data: str, tmp_path: Path, together: Callable[[int], None]
) -> None:
    together(3)
    results = go(data, tmp_path / "a.db", 15, make_trainer=partial(struck_formula, tmp_path, signal.SIGKILL, 2))
    trials = trials_of(tmp_path / "a.db")
    assert results.states == {"complete": 15, "fail": 2}
    for dead in (trial for trial in trials if trial.state == TrialState.FAIL):
        assert dead.user_attrs["mtsearch:reason"] == {"kind": "died", "text": "its worker died"}
        (again,) = [t for t in trials if t.user_attrs.get("mtsearch:retry_of") == dead.number]
        assert (again.state, again.params) == (TrialState.COMPLETE, dead.params)


@pytest.mark.slow
def test_a_stopped_worker_is_replaced_and_its_trial_tried_again(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: Callable[[int], None]
) -> None:
    together(2)
    stopped: list[psutil.Process] = []

    def lose_patience(_end: TrialEnd) -> None:
        monkeypatch.setattr(workers, "SILENCE_SECONDS", 15.0)  # both have begun, which may take longer
        stopped.extend(each for each in workers_of() if each.status() == psutil.STATUS_STOPPED)

    results = api.run(
        define(data),
        12,
        workers=2,
        storage=tmp_path / "a.db",
        make_trainer=partial(struck_formula, tmp_path, signal.SIGSTOP, 1),
        on_trial=lose_patience,
    )
    assert results.states == {"complete": 12, "fail": 1}
    (failure,) = results.failures
    assert failure.reason == "no sign of life for 15 s"
    assert stopped and not stopped[0].is_running()


@pytest.mark.slow
def test_a_sleep_of_the_owner_makes_no_worker_silent(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: Callable[[int], None]
) -> None:
    together(3)
    patience = iter([4.0])

    def sleep(_end: TrialEnd) -> None:
        monkeypatch.setattr(workers, "SILENCE_SECONDS", seconds := next(patience, 120.0))
        if seconds < 120.0:
            time.sleep(seconds + 1)

    assert go(data, tmp_path / "a.db", 12, on_trial=sleep).states == {"complete": 12}


def interrupting_formula(path: Path, _split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a formula trainer in one of two workers that interrupts the owner once three trials are running."""

    def interrupt(_config: TrialConfig, _epoch: int) -> None:
        wait_for(lambda: (path.parent / "turn 0").exists() or has_three(trials_of(path)))
        if take_turn(path.parent, 1):
            os.kill(os.getppid(), signal.SIGINT)

    def has_three(trials: list[FrozenTrial]) -> bool:
        return sum("mtsearch:config" in t.user_attrs and t.state == TrialState.RUNNING for t in trials) == 3

    return FormulaTrainer(interrupt), {"device": "formula", "threads": threads}


@pytest.mark.slow
def test_a_trial_is_proposed_ahead_and_an_interrupt_loses_none(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    trainer = partial(interrupting_formula, path)
    results = api.run(define(data), 10_000, workers=2, storage=path, make_trainer=trainer)
    assert results.interrupted
    assert results.states == {"fail": 3, "waiting": 3}
    before = trials_of(path)
    assert [t.user_attrs["mtsearch:reason"]["kind"] for t in before[:3]] == ["interrupted"] * 3
    assert ["mtsearch:curve" in t.user_attrs for t in before[:3]] == [True, True, False]
    results = api.run(define(data), until=6, workers=2, storage=path, make_trainer=slow_formula)
    assert results.states == {"complete": 6, "fail": 3}
    again = {t.user_attrs["mtsearch:retry_of"]: t.params for t in trials_of(path)[3:6]}
    assert again == {t.number: t.params for t in before[:3]}


@pytest.mark.parametrize("validation", [0.1, "test"])
def test_a_stored_split_is_the_same_and_is_not_copied(data: str, tmp_path: Path, validation: float | str) -> None:
    _, split = api.prepare(define(data, split={"validation": validation}, space={}, trials=[{}]))
    (tmp_path / "split").mkdir()
    _store_split(split, tmp_path / "split")
    loaded = _load_split(tmp_path / "split")
    assert (loaded.validation is loaded.test) is (split.validation is split.test) is (validation == "test")
    found, expected = arrays_of(loaded), arrays_of(split)
    assert found.keys() == expected.keys() and len(found) > 10
    for name, array in found.items():
        assert array.dtype == expected[name].dtype and np.array_equal(array, expected[name]), name
        assert array.dtype == object or (is_mapped(array) and not array.flags.writeable), name  # texts are copied
    assert loaded.fingerprint == split.fingerprint


def arrays_of(part: Any, prefix: str = "") -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays in a dataclass and in its fields, by name."""
    found = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, np.ndarray):
            found[f"{prefix}{field.name}"] = value
        elif is_dataclass(value):
            found |= arrays_of(value, f"{prefix}{field.name}.")
    return found


def is_mapped(array: Any) -> bool:
    """Tell whether an array's memory is a mapped file."""
    while isinstance(array, np.ndarray | memoryview):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return isinstance(array, mmap.mmap)


def run_for_long(data: str, path: Path) -> None:
    """Run the study with three workers; the body of a process."""
    go(data, path, 10_000)


@pytest.mark.slow
def test_workers_of_a_killed_owner_end_and_the_next_run_goes_on(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    owner = multiprocessing.get_context("spawn").Process(target=run_for_long, args=(data, path))
    owner.start()
    assert owner.pid
    try:
        wait_for(lambda: len(trials_in(str(path))) > 4)
        orphans = workers_of(owner.pid)
    finally:
        owner.kill()
        owner.join()
    wait_until_gone(orphans)
    until = sum(map(counts, trials_in(str(path)))) + 6
    results = api.run(define(data), until=until, workers=2, storage=path, make_trainer=slow_formula)
    assert results.counting == until == results.states["complete"]
    assert set(results.states) <= {"complete", "fail"}


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
