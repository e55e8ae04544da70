"""The owner of a study: one process runs it, a second one is refused, and the study of a dead one goes on."""

import contextlib
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from mtsearch import StudyDefinition, api
from mtsearch.errors import StudyInUse
from mtsearch.host import identity
from mtsearch.search import ownership
from mtsearch.search.attributes import OWNER, REASON
from mtsearch.search.ownership import own_study
from mtsearch.search.storage import open_writer, reading_storage, writing_storage
from mtsearch.search.storage.url import resolve_url
from mtsearch.study_file.config import TrialConfig
from tests.helpers.killing import wait_for
from tests.helpers.trainers import FormulaTrainer, struck_formula
from tests.search.test_run import define, go, send_at, trials_in

ELSEWHERE = {"host": "elsewhere", "space": "", "pid": 1, "began": 0.0, "since": "2026-01-02T03:04:05+00:00", "run": "r"}
NOBODY = identity(2**22 + 1)  # above the largest number of a process


def owner_in(url: str) -> dict[str, Any] | None:
    with reading_storage(resolve_url(url)) as storage:
        found: dict[str, Any] | None = optuna.load_study(study_name="s", storage=storage).user_attrs.get(OWNER)
        return found


def set_owner(url: str, **changes: Any) -> None:
    """Change the stored owner, as no program would."""
    with writing_storage(resolve_url(url)) as storage:
        study = optuna.load_study(study_name="s", storage=storage)
        study.set_user_attr(OWNER, {**study.user_attrs.get(OWNER, {}), "beat": 0, **changes})


@contextlib.contextmanager
def owned(url: str) -> Iterator[None]:
    """Let this process own the study within the context."""
    storage = open_writer(resolve_url(url))
    with own_study(storage, "s"):
        yield
    storage.engine.dispose()


def break_down(_config: TrialConfig, _epoch: int) -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("end", ["regular", "interrupted", "broken"])
def test_a_study_has_an_owner_for_as_long_as_its_run(data: str, url: str, end: str) -> None:
    seen: list[dict[str, Any] | None] = []
    trainers = {"interrupted": FormulaTrainer(send_at(1, 2)), "broken": FormulaTrainer(break_down)}
    go(define(data), url, 1, FormulaTrainer(lambda _config, _epoch: seen.append(owner_in(url))))
    with pytest.raises(RuntimeError, match="a bug") if end == "broken" else contextlib.nullcontext():
        go(define(data), url, 1, trainers.get(end))
    assert owner_in(url) is None
    assert seen[0] and (seen[0]["pid"], seen[0]["host"]) == (os.getpid(), socket.gethostname())


def test_a_second_run_is_refused_at_once(data: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "WATCH_SECONDS", 10_000.0)  # which nothing here waits for
    go(define(data), url, 1)
    before, begun = trials_in(url), datetime.now().replace(microsecond=0)
    with owned(url), pytest.raises(StudyInUse) as caught:
        go(define(data), url, 1)
    said, _, rest = str(caught.value).partition(" since ")
    assert said == f"study s is being run by process {os.getpid()} on host {socket.gethostname()}"
    since, _, remedy = rest.partition("; ")
    assert begun <= datetime.strptime(since, "%Y-%m-%d %H:%M:%S") <= datetime.now()
    assert remedy == "wait for it or take another --study"
    assert trials_in(url) == before


def test_other_studies_of_the_storage_run(data: str, url: str) -> None:
    go(define(data), url, 1)
    with owned(url):
        assert go(define(data, study={"name": "other", "seed": 3}), url, 2).counting == 2


def test_of_many_that_begin_at_once_one_becomes_the_owner(data: str, url: str) -> None:
    go(define(data), url, 1)
    storages = [open_writer(resolve_url(url)) for _ in range(6)]
    for first in (None, NOBODY):  # the study has no owner, or a dead one
        if first:
            set_owner(url, **first, since="2026-01-02T03:04:05+00:00")
        gate = threading.Barrier(len(storages))
        claims = [ownership.Ownership(storage, "s") for storage in storages]

        def take(claim: ownership.Ownership, gate: threading.Barrier = gate) -> bool:
            gate.wait()
            with contextlib.suppress(StudyInUse):
                claim.take()
                return True
            return False

        with ThreadPoolExecutor(len(storages)) as pool:
            taken = [claim for claim, done in zip(claims, pool.map(take, claims), strict=True) if done]
        assert len(taken) == 1
        taken[0].release()
        assert owner_in(url) is None
    for storage in storages:
        storage.engine.dispose()


@pytest.mark.slow
def test_of_two_commands_that_begin_a_study_at_once_one_runs(data: str, url: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        f'study.name = "s"\ndata.source = "{data}"\nspace.learning_rate = {{ low = 0.01, high = 0.8 }}\n'
    )
    run = [sys.executable, "-m", "tests.helpers.formula", "run", str(tmp_path / "s.toml"), "--trials", "100000"]
    root, said = Path(__file__).parents[2], tmp_path / "said"
    with said.open("w") as stderr:
        commands = [subprocess.Popen([*run, "--storage", url], cwd=root, stderr=stderr) for _ in range(2)]
    try:
        wait_for(lambda: any(command.poll() is not None for command in commands))
        refused, runs = sorted(commands, key=lambda command: command.poll() is None)
        assert refused.returncode == 1
        assert f"study s is being run by process {runs.pid} on host" in said.read_text()
        wait_for(lambda: len(trials_in(url)) > 2)
        runs.send_signal(signal.SIGINT)
        assert runs.wait(300) == 130
    finally:
        for command in commands:
            command.kill()
            command.wait()
    assert owner_in(url) is None
    assert TrialState.RUNNING not in {trial.state for trial in trials_in(url)}


def killed_in_epoch_2(data: str, url: str) -> None:
    """Run the study until this process kills itself in the second epoch of a trial; the body of a process."""
    go(define(data), url, 5, FormulaTrainer(lambda _config, epoch: os.kill(os.getpid(), 9) if epoch == 2 else None))


@pytest.mark.slow
def test_the_study_of_a_killed_owner_goes_on_with_its_trial(data: str, url: str) -> None:
    for _ in range(3):
        process = multiprocessing.get_context("spawn").Process(target=killed_in_epoch_2, args=(data, url))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert (owner_in(url) or {})["pid"] == process.pid
    assert [t.state.name for t in trials_in(url)] == ["FAIL", "FAIL", "RUNNING"]
    results = go(define(data), url, 2)
    trials = trials_in(url)
    assert [t.state.name for t in trials] == ["FAIL", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[0].user_attrs[REASON] == {"kind": "died", "text": "its run ended"}
    assert [t.params for t in trials[:3]] == [trials[0].params] * 3
    assert results.counting == 3  # the configuration that was there three times counts as failed
    assert [failure.counted for failure in results.failures] == [False, False, True]


def test_the_trial_of_a_dead_owner_is_counted_once(data: str, url: str) -> None:
    go(define(data), url, 2)
    with writing_storage(resolve_url(url)) as storage:
        left = optuna.load_study(study_name="s", storage=storage).ask()
        left.suggest_float("learning_rate", 0.01, 0.8, log=True)
    set_owner(url, **NOBODY, since="2026-01-02T03:04:05+00:00")
    results = go(define(data), url, None, until=3)
    *_, failed, again = trials_in(url)
    assert (failed.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert again.params["learning_rate"] == failed.params["learning_rate"]
    assert results.counting == 3


class ElsewhereTests:
    """Tests of owners on another machine, which only their beat shows."""

    @pytest.fixture(autouse=True)
    def _begun(self, data: str, url: str) -> None:
        go(define(data), url, 1)
        set_owner(url, **ELSEWHERE)

    def test_a_silent_one_is_taken_over(self, data: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ownership, "WATCH_SECONDS", 0.5)
        assert go(define(data), url, 1).counting == 2

    @pytest.mark.usefixtures("watched_for_long")
    def test_one_that_beats_is_not(self, data: str, url: str) -> None:
        with changing(lambda beat: set_owner(url, beat=beat)), pytest.raises(StudyInUse, match="on host elsewhere"):
            go(define(data), url, 1)
        assert len(trials_in(url)) == 1

    @pytest.mark.usefixtures("watched_for_long")
    def test_one_that_ends_meanwhile_is_waited_for(self, data: str, url: str) -> None:
        with changing(lambda _beat: end_owner(url)):
            assert go(define(data), url, 1).counting == 2

    @pytest.fixture
    def watched_for_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ownership, "WATCH_SECONDS", 300.0)


def end_owner(url: str) -> None:
    """Remove the stored owner."""
    storage = open_writer(resolve_url(url))
    with storage.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM study_user_attributes WHERE key = '{OWNER}'")
    storage.engine.dispose()


@contextlib.contextmanager
def changing(change: Callable[[int], None]) -> Iterator[None]:
    """Call a function with a count once a second in a thread, until it has run out of the context."""
    over = threading.Event()

    def repeat() -> None:
        beat = 0
        while not over.wait(1.0):
            change(beat := beat + 1)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


LONG = 60  # epochs of a trial


def define_long(data: str) -> StudyDefinition:
    return define(data, fixed={"epochs": LONG})


def run_until_refused(data: str, path: Path, notes: Path) -> None:
    """Run the study, stop in its first trial, and note why the run ended; the body of a process."""
    ownership.BEAT_SECONDS = 0.2
    trainer = partial(struck_formula, notes, signal.SIGSTOP, 1)
    try:
        api.run(define_long(data), until=3, storage=path, make_trainer=trainer)
    except BaseException as error:
        (notes / "end").write_text(f"{type(error).__name__}: {error}")


def is_locked(path: Path) -> bool:
    """Tell whether another process holds the write lock for a second."""
    with contextlib.closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


@pytest.mark.slow
def test_a_suspended_owner_that_lost_its_study_changes_nothing_any_more(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, notes = tmp_path / "a.db", tmp_path / "notes"
    notes.mkdir()
    owner = multiprocessing.get_context("spawn").Process(target=run_until_refused, args=(data, path, notes))
    owner.start()
    assert owner.pid
    process = psutil.Process(owner.pid)
    try:
        wait_for(lambda: process.status() == psutil.STATUS_STOPPED)
        while is_locked(path):  # stopped while it beats, it would keep all others from writing
            process.resume()
            time.sleep(0.1)
            process.suspend()
        # To the taker it runs on another machine, where nobody sees that it is only suspended.
        monkeypatch.setattr(ownership, "WATCH_SECONDS", 0.5)
        set_owner(str(path), host="elsewhere")
        assert go(define_long(data), path, None, until=3).counting == 3
        after = trials_in(str(path))
        process.resume()
        owner.join(300)
    finally:
        owner.kill()
        owner.join()
    assert (notes / "end").read_text() == (
        "StudyInUse: another process has taken over study s while this one was suspended; "
        "wait for it; what was finished is kept"
    )
    assert trials_in(str(path)) == after
    assert [trial.state.name for trial in after] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
