"""Processes die, stop and start again at random moments while others read; no trial is lost or done twice."""

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from mtsearch import api
from mtsearch.errors import StudyNotFound
from mtsearch.host import is_gone
from mtsearch.search import ownership, results
from mtsearch.search.attributes import WORKER, counts
from mtsearch.search.ownership import retry_history
from mtsearch.search.storage import open_reader
from mtsearch.search.storage.url import resolve_url, sqlite_path
from tests.helpers.trainers import fast_heartbeat_formula
from tests.search.test_run import define

pytestmark = pytest.mark.slow
GRACE = 4.0
PATIENCE = 300.0  # seconds, for what takes ten
ENDLESS = 100_000  # so that no machine is fast enough to end the study before what must happen has happened


def parent(data: str, url: str, until: int) -> None:
    """Run the study with four workers and a short grace; the body of a process."""
    ownership.GRACE_SECONDS = GRACE
    api.run(define(data), until=until, workers=4, storage=url, make_trainer=fast_heartbeat_formula)


class Chaos:
    """Disturbs a run at random moments, and begins it again whenever it dies.

    Args:
        begin: makes the process of a run towards so many counting trials.
        trials: reads the study's trials.
        seed: of what happens when.
    """

    def __init__(self, begin: Callable[[int], BaseProcess], trials: Callable[[], list[FrozenTrial]], seed: int) -> None:
        self._begin, self._trials, self._rng = begin, trials, random.Random(seed)
        self.happened: Counter[str] = Counter()
        self._stopped: dict[str, Any] | None = None
        self._waking: threading.Timer | None = None
        self.parent = begin(ENDLESS)
        self.parent.start()

    def wreak(self, seconds: float) -> None:
        """Kill a worker or the parent every second or two, and once stop a worker for longer than the grace."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or not self._all_happened(end + PATIENCE):
            assert self.parent.exitcode is None, f"{dict(self.happened)}, the run ended with {self.parent.exitcode}"
            time.sleep(self._rng.uniform(0.7, 2.0))
            workers = [t.user_attrs[WORKER] for t in self._trials() if self._is_at_work(t)]
            if not workers:
                continue
            victim = self._rng.choice(workers)
            if self._stopped is None and time.monotonic() > end - seconds * 0.8:
                self._stop(victim)
            elif self._rng.random() < 0.2:
                self._kill_parent()
                self._begin_again()
            else:
                self._kill(victim["pid"])

    def finish(self, trials: int) -> int:
        """Run some more trials to a regular end, after the stopped worker has woken up and lost its trial and parent.

        Returns:
            The number of counting trials that the last run should reach.
        """
        if self._waking:
            self._waking.join()
        self._kill_parent()
        until = sum(map(counts, self._trials())) + trials  # of which its orphans may end some
        self._begin_again(until)
        self.parent.join(PATIENCE)
        states = Counter(trial.state.name for trial in self._trials())
        assert self.parent.exitcode == 0, f"{dict(self.happened)}, {dict(states)}"
        end = time.monotonic() + PATIENCE
        while self._stopped is not None and not is_gone(self._stopped):
            assert time.monotonic() < end, "the worker that was stopped goes on"
            time.sleep(0.1)
        return until

    def _all_happened(self, latest: float) -> bool:
        happened = all(self.happened[what] for what in ("worker killed", "worker stopped", "parent killed"))
        assert happened or time.monotonic() < latest, dict(self.happened)
        return happened

    def _is_at_work(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get(WORKER)
        if trial.state != TrialState.RUNNING or worker is None or worker == self._stopped:
            return False
        return not is_gone(worker)

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.happened["worker killed"] += 1

    def _kill_parent(self) -> None:
        assert self.parent.pid
        os.kill(self.parent.pid, signal.SIGKILL)
        self.parent.join()
        self.happened["parent killed"] += 1

    def _begin_again(self, until: int = ENDLESS) -> None:
        self.parent = self._begin(until)
        self.parent.start()

    def _stop(self, worker: dict[str, Any]) -> None:
        """Stop a worker and kill its parent, so that another run fails its trial."""
        with suppress(ProcessLookupError):
            os.kill(worker["pid"], signal.SIGSTOP)
            self.happened["worker stopped"] += 1
            self._stopped = worker
            self._kill_parent()
            self._begin_again()
            self._waking = threading.Timer(3 * GRACE + 5, self._wake, [worker["pid"]])
            self._waking.start()

    def _wake(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            self.happened["worker woken"] += 1


class Reader(threading.Thread):
    """Reads the results and the views as fast as it can.

    Attributes:
        readings: how many there were.
        wrong: what was not as it should be.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._over = url, threading.Event()
        self.readings, self.wrong = 0, list[str]()

    def run(self) -> None:
        while not self._over.wait(0.05):
            try:
                self._read()
            except StudyNotFound:  # not begun yet
                pass
            except Exception as error:
                self.wrong.append(repr(error))

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _read(self) -> None:
        reader = open_reader(self._url)
        assert isinstance(reader, RDBStorage)
        try:
            seen = results.read_results(reader, "s")
            study = optuna.load_study(study_name="s", storage=reader)
            before = _front(study)
            with reader.engine.connect() as connection:
                view = _view(connection.exec_driver_sql("SELECT trial, objectives, params FROM pareto_front"))
                connection.exec_driver_sql("SELECT count(*) FROM learning_curves").fetchall()
            # A front only ever moves on: the same before and after is what it was in between.
            if before == _front(study) and before != view:
                self.wrong.append(f"the view has {view}, best_trials {before}")
            if len(seen.rows) > seen.counting:
                self.wrong.append("more rows than counting trials")
            self.readings += 1
        finally:
            reader.engine.dispose()


def _front(study: optuna.Study) -> list[tuple[Any, ...]]:
    return sorted((t.number, *t.values, tuple(sorted(t.params.items()))) for t in study.best_trials)


def _view(rows: Any) -> list[tuple[Any, ...]]:
    return sorted((n, *json.loads(v).values(), tuple(sorted(json.loads(p).items()))) for n, v, p in rows)


@contextmanager
def chaos(data: str, url: str, seed: int) -> Iterator[tuple[Chaos, Reader]]:
    context = multiprocessing.get_context("spawn")

    def trials() -> list[FrozenTrial]:
        with suppress(StudyNotFound):
            storage = open_reader(url)
            try:
                if "s" in optuna.get_all_study_names(storage):
                    return optuna.load_study(study_name="s", storage=storage).get_trials()
            finally:
                assert isinstance(storage, RDBStorage)
                storage.engine.dispose()
        return []

    reader = Reader(url)
    under_test = Chaos(lambda until: context.Process(target=parent, args=(data, url, until)), trials, seed)
    reader.start()
    try:
        yield under_test, reader
    finally:
        reader.stop()
        under_test.parent.kill()
        under_test.parent.join()


def check(url: str, until: int, happened: Counter[str], reader: Reader) -> None:
    storage = open_reader(url)
    assert isinstance(storage, RDBStorage)
    trials = optuna.load_study(study_name="s", storage=storage).get_trials()
    states = Counter(trial.state.name for trial in trials)
    told = f"{dict(happened)}, {dict(states)}, {reader.readings} readings"
    assert sum(map(counts, trials)) == until, told
    assert states["RUNNING"] == 0, told
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    firsts = [[trial, *retry_history(trials, trial)][-1].number for trial in complete]
    assert len(set(firsts)) == len(complete), "a configuration was completed twice"
    assert len({str(sorted(trial.params.items())) for trial in complete}) == len(complete)
    for trial in trials:
        if trial.state == TrialState.FAIL:
            assert "mtsearch:reason" in trial.user_attrs
    assert reader.wrong == []
    assert reader.readings > 5, told
    assert happened["worker woken"] == 1, told
    storage.engine.dispose()


def test_on_sqlite(data: str, tmp_path: Path) -> None:
    url = resolve_url(str(tmp_path / "a.db"))
    with chaos(data, url, seed=5) as (under_test, reader):
        under_test.wreak(45)
        until = under_test.finish(trials=20)
    check(url, until, under_test.happened, reader)
    path = sqlite_path(url)
    assert path is not None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_on_postgresql(data: str, new_postgres: Callable[[], str]) -> None:
    url = resolve_url(new_postgres())
    with chaos(data, url, seed=6) as (under_test, reader):
        under_test.wreak(30)
        until = under_test.finish(trials=20)
    check(url, until, under_test.happened, reader)
