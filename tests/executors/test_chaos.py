"""Workers, owners and nodes die at random moments while others read; no trial is lost or done twice."""

import json
import multiprocessing
import random
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
import psutil
import pytest
from optuna.trial import TrialState

from mtsearch import api
from mtsearch.errors import StudyNotFound
from mtsearch.search.attributes import counts, retry_history
from mtsearch.search.storage import reading_storage
from mtsearch.search.storage.url import resolve_url
from tests.helpers.clusters import NODE, actors, remove_node, running_cluster
from tests.helpers.killing import wait_for, wait_until_gone, workers_of
from tests.helpers.trainers import slow_formula
from tests.search.test_run import define, trials_in

pytestmark = [
    pytest.mark.slow,
    # Ray leaves pipes and processes to the end of this process.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PATIENCE = 300.0  # seconds, for what takes ten
ENDLESS = 100_000  # so that no machine is fast enough to end the study before what must happen has happened


def owner(data: str, url: str, until: int, ray: str | None) -> None:
    """Run the study with several workers; the body of a process."""
    api.run(define(data), until=until, workers=3 if ray else 4, ray=ray, storage=url, make_trainer=slow_formula)


class Chaos:
    """Disturbs runs at random moments, and begins a new one after each that it kills.

    Args:
        data, url, ray: of the runs.
        seed: of what happens when.

    Attributes:
        happened: how often what was done.
    """

    def __init__(self, data: str, url: str, seed: int, ray: str | None = None) -> None:
        self._data, self._url, self._ray, self._rng = data, url, ray, random.Random(seed)
        self.happened: Counter[str] = Counter()
        self.owner: BaseProcess | None = None

    def wreak(self, runs: int, *strikes: Callable[[], object]) -> None:
        """Run the study several times; in each kill workers, strike once, and kill the owner at last."""
        for run in range(runs):
            self.begin(ENDLESS)
            for _ in range(2):
                self._wait_for_trials(3)
                self._kill_worker()
            for strike in strikes[run : run + 1]:
                strike()
                self.happened["struck"] += 1
            self._wait_for_trials(2)
            time.sleep(self._rng.uniform(0.0, 0.5))
            orphans = self._workers()
            self.kill()
            # All that was in their hands is lost; what they still wrote, nobody reads.
            wait_until_gone(orphans)

    def finish(self, trials: int) -> int:
        """Run some more trials to a regular end, and return the number of counting trials that there should be."""
        until = sum(map(counts, trials_in(self._url))) + trials
        self.begin(until)
        assert self.owner is not None
        self.owner.join(PATIENCE)
        assert self.owner.exitcode == 0, dict(self.happened)
        return until

    def begin(self, until: int) -> None:
        """Begin a run."""
        body = self._data, self._url, until, self._ray
        self.owner = multiprocessing.get_context("spawn").Process(target=owner, args=body)
        self.owner.start()

    def kill(self) -> None:
        """Kill the owner, if there is one."""
        if self.owner is not None:
            self.happened["owner killed"] += self.owner.is_alive()
            self.owner.kill()
            self.owner.join()

    def _workers(self) -> list[psutil.Process]:
        assert self.owner is not None and self.owner.is_alive(), f"the run ended, {dict(self.happened)}"
        return actors() if self._ray else workers_of(self.owner.pid)

    def _kill_worker(self) -> None:
        workers = self._workers()
        with suppress(psutil.NoSuchProcess, IndexError):
            self._rng.choice(workers).kill()
            self.happened["worker killed"] += 1

    def _wait_for_trials(self, number: int) -> None:
        """Wait until this run has ended some more trials."""
        aim = sum(map(counts, trials_in(self._url))) + number
        wait_for(lambda: sum(map(counts, trials_in(self._url))) >= aim, PATIENCE)


class Reader(threading.Thread):
    """Reads the results and the views several times a second.

    Attributes:
        readings: how many there were.
        wrong: what was not as it should be.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._over = url, threading.Event()
        self.readings, self.wrong = 0, list[str]()

    def run(self) -> None:
        while not self._over.wait(0.2):
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
        with reading_storage(self._url) as reader:
            study = optuna.load_study(study_name="s", storage=reader)
            before = _front(study)
            with reader.engine.connect() as connection:
                view = _view(connection.exec_driver_sql("SELECT trial, objectives, params FROM pareto_front"))
                connection.exec_driver_sql("SELECT count(*) FROM learning_curves").fetchall()
            # A front only ever moves on: the same before and after is what it was in between.
            if before == _front(study) and before != view:
                self.wrong.append(f"the view has {view}, best_trials {before}")
        seen = api.load_study("s", self._url)
        if len(seen.rows) > seen.counting:
            self.wrong.append("more rows than counting trials")
        self.readings += 1


def _front(study: optuna.Study) -> list[tuple[Any, ...]]:
    return sorted((t.number, *t.values, tuple(sorted(t.params.items()))) for t in study.best_trials)


def _view(rows: Any) -> list[tuple[Any, ...]]:
    return sorted((n, *json.loads(v).values(), tuple(sorted(json.loads(p).items()))) for n, v, p in rows)


@contextmanager
def disturbed(chaos: Chaos, url: str) -> Iterator[Reader]:
    """Read the study within the context, and end what runs at its end."""
    reader = Reader(url)
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()
        chaos.kill()


def check(url: str, until: int, happened: Counter[str], reader: Reader) -> None:
    trials = trials_in(url)
    states = Counter(trial.state.name for trial in trials)
    told = f"{dict(happened)}, {dict(states)}, {reader.readings} readings"
    assert sum(map(counts, trials)) == until, told
    assert states.keys() <= {"COMPLETE", "FAIL"}, told
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    firsts = [[trial, *retry_history(trials, trial)][-1].number for trial in complete]
    assert len(set(firsts)) == len(complete), "a configuration was completed twice"
    assert len({str(sorted(trial.params.items())) for trial in complete}) == len(complete)
    assert all("mtsearch:reason" in trial.user_attrs for trial in trials if trial.state == TrialState.FAIL)
    assert happened["owner killed"] == 3 and happened["worker killed"] > 3, told
    assert reader.wrong == []
    assert reader.readings > 5, told


def test_on_sqlite(data: str, tmp_path: Path) -> None:
    url = resolve_url(str(tmp_path / "a.db"))
    chaos = Chaos(data, url, seed=5)
    with disturbed(chaos, url) as reader:
        chaos.wreak(3)
        until = chaos.finish(12)
    check(url, until, chaos.happened, reader)
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_on_postgresql(data: str, new_postgres: Callable[[], str]) -> None:
    url = resolve_url(new_postgres())
    chaos = Chaos(data, url, seed=6)
    with disturbed(chaos, url) as reader:
        chaos.wreak(3)
        until = chaos.finish(12)
    check(url, until, chaos.happened, reader)


def test_on_ray(data: str, tmp_path: Path) -> None:
    url = resolve_url(str(tmp_path / "a.db"))
    with running_cluster(nodes=3) as cluster:
        chaos = Chaos(data, url, seed=7, ray=cluster.address)
        with disturbed(chaos, url) as reader:
            chaos.wreak(3, lambda: remove_node(cluster), lambda: cluster.add_node(**NODE))
            until = chaos.finish(12)
    check(url, until, chaos.happened, reader)
    assert chaos.happened["struck"] == 2
