"""Storages with an outage, short or long, and full disks."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from mtsearch import api
from mtsearch.errors import StorageError
from mtsearch.search.storage import open_writer, owner
from mtsearch.search.storage.owner import OwnerStorage, is_transient, retry_transient
from mtsearch.search.storage.url import resolve_url
from mtsearch.search.trial import TrialEnd
from mtsearch.study_file.config import TrialConfig
from tests.helpers.trainers import FormulaTrainer, slow_formula
from tests.search.test_ownership import end_owner
from tests.search.test_run import define, go, trials_of


def driver(words: str) -> OperationalError:
    return OperationalError("SELECT 1", {}, sqlite3.OperationalError(words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("database is locked", True),
        ("connection failed: FATAL:  the database system is starting up", True),
        ("terminating connection due to administrator command", True),
        ("connection to server at 127.0.0.1, port 5432 failed: Connection refused", True),
        ("Can't reconnect until invalid transaction is rolled back.", True),
        ("database or disk is full", False),
        ("attempt to write a readonly database", False),
        ("password authentication failed for user", False),
        ("database disk image is malformed", False),
        ('database "x" does not exist', False),
    ],
)
def test_transient_errors_are_recognised(words: str, expected: bool) -> None:
    error = StorageInternalError("Optuna's words")
    error.__cause__ = driver(words)
    assert is_transient(driver(words)) is is_transient(error) is expected
    assert not is_transient(ValueError(words))


def test_retries_end_after_the_outage_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "OUTAGE_SECONDS", 1.0)
    calls = []

    def fail() -> None:
        calls.append(time.monotonic())
        raise driver("database is locked")

    with pytest.raises(OperationalError):
        retry_transient(fail)
    assert len(calls) >= 3
    assert calls[-1] - calls[0] < 10


def test_permanent_errors_are_tried_once() -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise driver("database or disk is full")

    with pytest.raises(OperationalError):
        retry_transient(fail)
    assert len(calls) == 1


@contextmanager
def lock(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def lock_for(path: Path, seconds: float) -> threading.Thread:
    """Hold the write lock for some seconds in a thread; return once it is held."""
    held = threading.Event()

    def hold() -> None:
        with lock(path):
            held.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    return thread


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SQLite itself not wait for a lock."""
    monkeypatch.setattr("mtsearch.search.storage.BUSY_SECONDS", 0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_an_operation_is_retried_while_the_database_is_locked(data: str, tmp_path: Path) -> None:
    threads: list[threading.Thread] = []

    def hold(_config: TrialConfig, epoch: int) -> None:
        if epoch == 2 and not threads:
            threads.append(lock_for(tmp_path / "a.db", 2.0))

    assert go(define(data), tmp_path / "a.db", 4, FormulaTrainer(hold)).states == {"complete": 4}
    threads[0].join()


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_lock_that_stays_ends_the_run_with_its_remedy(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "OUTAGE_SECONDS", 0.5)
    threads: list[threading.Thread] = []

    def hold(_config: TrialConfig, epoch: int) -> None:
        if epoch == 2:
            threads.append(lock_for(tmp_path / "a.db", 6.0))

    with pytest.raises(StorageError, match="is locked by another program; end that program"):
        go(define(data), tmp_path / "a.db", 4, FormulaTrainer(hold))
    threads[0].join()
    # The owner could not be removed: it is this process, which lives on.
    end_owner(str(tmp_path / "a.db"))
    assert go(define(data), tmp_path / "a.db", None, until=4).counting == 4


@contextmanager
def smaller_disk(pages: int) -> Iterator[None]:
    """Let SQLite report a full disk once the database has this number of pages of 4 KiB."""

    def bound(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(Engine, "connect", bound)
    try:
        yield
    finally:
        event.remove(Engine, "connect", bound)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_spoils_nothing(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    go(define(data), path, 2)
    with closing(sqlite3.connect(path)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    with smaller_disk(pages + 6), pytest.raises(StorageError, match=r"no space is left for .*; free some"):
        go(define(data), path, 200)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    done = api.load_study("s", str(path)).counting
    assert done > 2
    results = go(define(data), path, None, until=done + 3)
    assert results.counting == done + 3
    assert set(results.states) <= {"complete", "fail"}
    assert len({str(t.params) for t in trials_of(path) if t.values}) == results.states["complete"]


@pytest.mark.slow
def test_a_connection_lost_while_trials_are_read(
    data: str, postgres_server: Any, new_postgres: Callable[[], str]
) -> None:
    url, lost = new_postgres(), list[str]()
    go(define(data), url, 2)
    storage = open_writer(resolve_url(url))
    assert isinstance(storage, RDBStorage)

    def lose(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM trial_values" in statement and not lost:
            lost.append(statement)
            postgres_server.psql(
                f"SELECT pg_terminate_backend({connection.connection.driver_connection.info.backend_pid})"
            )

    event.listen(storage.engine, "before_cursor_execute", lose)
    study = optuna.load_study(study_name="s", storage=OwnerStorage(storage))
    assert [len(trial.values) for trial in study.get_trials()] == [2, 2]
    assert lost
    storage.engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_restarts(data: str, postgres_server: Any, new_postgres: Callable[[], str], workers: int) -> None:
    restarted: list[int] = []

    def restart(end: TrialEnd) -> None:
        if end.trial == 3 and not restarted:
            postgres_server.stop()
            starting = threading.Timer(3.0, postgres_server.start)
            starting.start()
            restarted.append(end.trial)

    trainer: dict[str, Any] = {"make_trainer": slow_formula, "workers": workers}
    results = api.run(define(data), 12, storage=new_postgres(), on_trial=restart, **trainer)
    assert restarted == [3]
    assert results.counting == 12
    assert "running" not in results.states
