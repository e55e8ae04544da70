"""Trials of processes that have died, were stopped or run elsewhere: each fails once and is retried once."""

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from mtsearch import api
from mtsearch.host import identity, is_gone
from mtsearch.search import ownership
from mtsearch.search.attributes import ALIVE, REASON, RETRY_OF, WORKER, counts, reason
from mtsearch.search.ownership import Heartbeat, OwnershipWatch, enqueue_lost, fail_trial
from mtsearch.search.storage import open_writer
from mtsearch.search.storage.url import resolve_url
from mtsearch.search.study import load_study_to_run
from mtsearch.search.trial import TrialEnd, TrialRunner
from mtsearch.signals import catch_termination
from mtsearch.study_file.config import TrialConfig
from tests.helpers.trainers import FormulaTrainer, fast_heartbeat_formula, slow_formula
from tests.search.test_run import define, go, trials_of

ELSEWHERE = {"host": "elsewhere", "space": "", "pid": 1, "began": ""}


def study_in(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_writer(resolve_url(str(path))))


def begun_elsewhere(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    trial.set_user_attr(WORKER, ELSEWHERE)
    return trial


@pytest.fixture
def study(data: str, tmp_path: Path) -> optuna.Study:
    """Create a study with one finished trial."""
    go(define(data), tmp_path / "a.db", 1)
    return study_in(tmp_path / "a.db")


def check_for(watch: OwnershipWatch, seconds: float) -> dict[int, Any]:
    """Check again and again for some seconds, and return the lost trials."""
    found: dict[int, Any] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found |= watch.check()
        time.sleep(0.02)
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def test_a_running_trial_has_a_heartbeat(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.05)
    trial = study.ask()

    def count() -> int:
        return int(study.get_trials()[trial.number].user_attrs.get(ALIVE, 0))

    with Heartbeat(trial) as heartbeat:
        wait_for(lambda: count() >= 3)
        assert not heartbeat.lost
        fail_trial(study, trial.number, "died", "taken")
        wait_for(lambda: heartbeat.lost)


def test_a_trial_without_a_heartbeat_fails_and_one_with_it_does_not(study: optuna.Study) -> None:
    alive, silent = begun_elsewhere(study), begun_elsewhere(study)
    silent.set_user_attr(ALIVE, 4)
    watch = OwnershipWatch(study, grace=0.8)
    lost: dict[int, Any] = {}
    for count in range(20):
        alive.set_user_attr(ALIVE, count)
        lost |= check_for(watch, 0.1)
    assert lost == {silent.number: ELSEWHERE}
    trials = study.get_trials()
    assert trials[alive.number].state == TrialState.RUNNING
    assert trials[silent.number].user_attrs[REASON] == {"kind": "died", "text": "no sign of life for 0.8 s"}
    assert [t.user_attrs[RETRY_OF] for t in trials if t.state == TrialState.WAITING] == [silent.number]


@pytest.mark.slow
def test_the_watchers_own_sleep_does_not_fail_trials(study: optuna.Study) -> None:
    begun_elsewhere(study)
    watch = OwnershipWatch(study, grace=2.0)
    time.sleep(2.5)
    assert watch.check() == {}
    time.sleep(2.5)
    assert watch.check() == {}


def test_a_dead_process_of_this_machine_needs_no_grace(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "LOOK_SECONDS", 0.0)
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    assert process.pid
    trial = study.ask()
    trial.set_user_attr(WORKER, identity(process.pid))
    watch = OwnershipWatch(study, grace=30)
    assert watch.check() == {}
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: is_gone(trial.user_attrs[WORKER]))  # a zombie, until join
    assert list(watch.check()) == [trial.number]
    process.join()


def test_check_returns_trials_that_another_watcher_failed(study: optuna.Study) -> None:
    silent, ended = begun_elsewhere(study), begun_elsewhere(study)
    first, second = OwnershipWatch(study, grace=0.8), OwnershipWatch(study, grace=1.2)
    seen = [first.check(), second.check()]
    study.tell(ended, [1.0, 0.5])
    lost: list[dict[int, Any]] = [{}, {}]
    for _ in range(15):
        for place, watch in enumerate((first, second)):
            lost[place] |= check_for(watch, 0.05)
    assert seen == [{}, {}]
    assert lost == [{silent.number: ELSEWHERE}] * 2


def test_two_processes_that_fail_a_trial_at_once_queue_one_retry(study: optuna.Study, tmp_path: Path) -> None:
    number = begun_elsewhere(study).number
    other = study_in(tmp_path / "a.db")
    stale = other.get_trials()  # both have seen it running

    def seen_before(**_: Any) -> list[FrozenTrial]:
        return stale

    assert fail_trial(study, number, "died", "first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(other, "get_trials", seen_before)
        assert not fail_trial(other, number, "died", "second")
    trials = study.get_trials()
    assert trials[number].user_attrs[REASON]["text"] == "first"
    assert [t.user_attrs[RETRY_OF] for t in trials if t.state == TrialState.WAITING] == [number]


def test_a_trial_failed_by_a_process_that_died_before_queueing_is_queued(
    data: str, study: optuna.Study, tmp_path: Path
) -> None:
    trial = begun_elsewhere(study)
    trial.suggest_float("learning_rate", 0.01, 0.8, log=True)
    trial.set_user_attr(REASON, reason("died", "its worker died"))
    study.tell(trial, state=TrialState.FAIL)
    results = go(define(data), tmp_path / "a.db", 1)
    (again,) = [t for t in trials_of(tmp_path / "a.db") if t.user_attrs.get(RETRY_OF) == trial.number]
    assert again.state == TrialState.COMPLETE
    assert again.params["learning_rate"] == trial.params["learning_rate"]
    assert results.counting == 2


def test_a_trial_queued_twice_runs_once(data: str, study: optuna.Study, tmp_path: Path) -> None:
    number = begun_elsewhere(study).number
    fail_trial(study, number, "interrupted", "here")
    study.enqueue_trial({}, user_attrs={RETRY_OF: number})
    results = go(define(data), tmp_path / "a.db", 3)
    retries = [t for t in trials_of(tmp_path / "a.db") if t.user_attrs.get(RETRY_OF) == number]
    assert [t.state for t in retries] == [TrialState.COMPLETE, TrialState.FAIL]
    assert retries[1].user_attrs[REASON]["text"] == "queued twice"
    assert results.counting == 4
    before = len(trials_of(tmp_path / "a.db"))
    enqueue_lost(study_in(tmp_path / "a.db"))
    assert len(trials_of(tmp_path / "a.db")) == before


def test_a_trial_that_another_process_failed_is_dropped_and_another_is_run(data: str, tmp_path: Path) -> None:
    taken: list[int] = []

    def take(_config: TrialConfig, epoch: int) -> None:
        if epoch == 2 and not taken:
            study = study_in(tmp_path / "a.db")
            (running,) = [t.number for t in study.get_trials() if t.state == TrialState.RUNNING]
            taken.append(running)
            assert fail_trial(study, running, "died", "taken")

    ends: list[TrialEnd] = []
    results = go(define(data), tmp_path / "a.db", 4, FormulaTrainer(take), on_trial=ends.append)
    assert results.counting == 4
    assert [end.state for end in ends] == ["fail", "complete", "complete", "complete", "complete"]
    trials = trials_of(tmp_path / "a.db")
    assert trials[0].user_attrs[REASON]["text"] == "taken"
    assert trials[1].user_attrs[RETRY_OF] == 0
    assert trials[1].params == trials[0].params


@pytest.mark.slow
def test_until_waits_for_trials_of_other_runs_and_replaces_failed_ones(
    data: str, study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "GRACE_SECONDS", 2.0)
    monkeypatch.setattr(ownership, "LOOK_SECONDS", 0.2)
    silent = begun_elsewhere(study).number
    results = go(define(data), tmp_path / "a.db", None, until=2)
    assert results.states == {"complete": 2, "fail": 1}
    assert trials_of(tmp_path / "a.db")[-1].user_attrs[RETRY_OF] == silent


def test_until_begins_no_trial_beyond_those_of_other_runs(data: str, study: optuna.Study, tmp_path: Path) -> None:
    """Another machine begins the last trial after this one has read the budget and before it asks for a trial."""
    others: list[optuna.Trial] = []

    def begin_one_elsewhere(end: TrialEnd) -> None:
        if end.trial == 2:
            others.append(begun_elsewhere(study))

    def end_it(_config: TrialConfig, _epoch: int) -> None:
        if others and study.get_trials()[others[0].number].state == TrialState.RUNNING:
            raise AssertionError("a trial too many")

    with ThreadPoolExecutor() as pool:
        trainer, options = FormulaTrainer(end_it), {"until": 4, "on_trial": begin_one_elsewhere}
        waiting = pool.submit(go, define(data), tmp_path / "a.db", None, trainer, **options)
        wait_for(lambda: others)
        time.sleep(1.5)
        assert not waiting.done()
        study.tell(others[0], [1.0, 0.1])
        assert waiting.result(60).states == {"complete": 4}


@pytest.mark.parametrize("from_the_queue", [False, True])
def test_one_of_two_runs_that_begin_the_last_trial_at_once_gives_way(
    data: str, study: optuna.Study, tmp_path: Path, from_the_queue: bool
) -> None:
    definition = define(data)
    mine = load_study_to_run(open_writer(resolve_url(str(tmp_path / "a.db"))), definition)
    if from_the_queue:
        fail_trial(
            study, begun_elsewhere(study).number, "interrupted", "here"
        )  # queued, with a number before the other's
        study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={WORKER: ELSEWHERE}))
    else:
        begun_elsewhere(study)
    runner = TrialRunner(definition, FormulaTrainer())
    with catch_termination() as interrupt:
        end = runner.run(mine, interrupt, until=2)
        assert (end.state, end.counted, end.reason) == ("fail", False, "the last of 2 trials runs elsewhere")
        assert runner.run(mine, interrupt, until=3).state == "complete"  # its retry


def parent(data: str, path: Path, until: int, workers: int = 2) -> None:
    """Run the study; the body of a process."""
    api.run(define(data), until=until, workers=workers, storage=str(path), make_trainer=fast_heartbeat_formula)


@contextlib.contextmanager
def running(data: str, path: Path, until: int, workers: int = 2) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=parent, args=(data, path, until, workers))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def owned_trials(path: Path, number: int = 0) -> list[FrozenTrial]:
    """Return the running trials from a number on that have an owner and parameters."""
    if not path.exists():
        return []
    try:
        trials = trials_of(path)
    except Exception:  # not made yet
        return []
    return [t for t in trials if t.state == TrialState.RUNNING and t.params and WORKER in t.user_attrs][number:]


@pytest.mark.slow
def test_a_worker_stopped_for_too_long_finds_its_trial_failed_and_goes_on(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with running(data, path, until=100) as process:
        victim = wait_for(lambda: stop_a_worker(path), 300)
        worker = victim.user_attrs[WORKER]
        watch = OwnershipWatch(study_in(path), grace=3.0)
        lost: dict[int, Any] = {}
        wait_for(lambda: lost.update(watch.check()) or victim.number in lost)
        os.kill(worker["pid"], signal.SIGCONT)
        process.join(300)
        assert process.exitcode == 0
    trials = trials_of(path)
    assert [t.state for t in trials].count(TrialState.COMPLETE) == 100
    assert TrialState.RUNNING not in {t.state for t in trials}
    assert trials[victim.number].user_attrs[REASON]["text"] == "no sign of life for 3 s"
    (again,) = [t for t in trials if t.user_attrs.get(RETRY_OF) == victim.number]
    assert again.state == TrialState.COMPLETE
    assert {**again.params, **trials[victim.number].params} == again.params
    assert any(t.user_attrs.get(WORKER) == worker for t in trials[victim.number + 1 :])


def is_locked(path: Path) -> bool:
    """Tell whether another process holds the write lock for a second."""
    with contextlib.closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


def stop_a_worker(path: Path) -> FrozenTrial | None:
    """Stop a worker during its trial and return the trial; None if no worker ran one."""
    for trial in owned_trials(path):
        pid = trial.user_attrs[WORKER]["pid"]
        os.kill(pid, signal.SIGSTOP)
        # Stuck while it writes, it would keep all others from writing; and it may have ended the trial meanwhile.
        if not is_locked(path) and trials_of(path)[trial.number].state == TrialState.RUNNING:
            return trial
        os.kill(pid, signal.SIGCONT)
    return None


@pytest.mark.slow
def test_a_stuck_worker_of_the_same_run_is_replaced(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: Callable[[int], None]
) -> None:
    together(2)
    monkeypatch.setattr(ownership, "GRACE_SECONDS", 3.0)
    stopped: list[dict[str, Any]] = []

    def stop_one(_end: TrialEnd) -> None:
        if not stopped and (trial := stop_a_worker(tmp_path / "a.db")):
            stopped.append(trial.user_attrs[WORKER])

    results = api.run(
        define(data),
        40,
        workers=2,
        storage=str(tmp_path / "a.db"),
        make_trainer=fast_heartbeat_formula,
        on_trial=stop_one,
    )
    assert stopped
    assert results.counting == 40
    assert "running" not in results.states
    assert is_gone(stopped[0])


@pytest.mark.slow
def test_workers_of_a_killed_parent_end_with_their_epoch_and_the_next_run_goes_on(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with running(data, path, until=10_000, workers=3) as process:
        wait_for(lambda: len(owned_trials(path)) == 3, 300)
        wait_for(lambda: len(trials_of(path)) > 4)
        workers = {str(t.user_attrs[WORKER]["pid"]): t.user_attrs[WORKER] for t in trials_of(path) if t.user_attrs}
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: all(is_gone(worker) for worker in workers.values()))
    states = [t.state for t in trials_of(path)]
    assert TrialState.RUNNING not in states  # each ended its own trial
    until = sum(map(counts, trials_of(path))) + 8
    results = api.run(define(data), until=until, workers=2, storage=str(path), make_trainer=slow_formula)
    assert results.counting == until
    assert set(results.states) <= {"complete", "fail"}
