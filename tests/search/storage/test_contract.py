"""The contract of all storages of a study: SQLite, PostgreSQL, and Optuna's gRPC proxy before a database."""

import contextlib
import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage, get_storage, run_grpc_proxy_server
from optuna.trial import FrozenTrial, TrialState

from mtsearch import api
from mtsearch.errors import StorageError, StudyMismatch, StudyNotFound
from mtsearch.search.attributes import REASON, RETRY_OF, WORKER
from mtsearch.search.ownership import OwnershipWatch, fail_trial
from mtsearch.search.storage import close_storage, open_writer, reading_storage
from mtsearch.search.storage.url import mask_url, proxy_address, resolve_url
from mtsearch.search.trial import TrialEnd
from mtsearch.study_file.config import TrialConfig
from tests.helpers.killing import kill_one
from tests.helpers.trainers import FormulaTrainer, slow_formula
from tests.search.test_run import define, go, trials_of

ELSEWHERE = {"host": "elsewhere", "space": "", "pid": 1, "began": ""}


def serve(url: str, port: int) -> None:
    """Run the proxy until its process ends."""
    run_grpc_proxy_server(get_storage(open_writer(url, create=True)), host="127.0.0.1", port=port)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = resolve_url(str(tmp_path / "behind.db"))
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(url, port))
    process.start()
    try:
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert time.monotonic() < end, "the proxy does not start"
            time.sleep(0.05)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.join()


@pytest.fixture(params=["sqlite", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("postgresql", "grpc"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "a.db")
    if request.param == "postgresql":
        return str(request.getfixturevalue("new_postgres")())
    return str(request.getfixturevalue("proxy"))


def trials_in(url: str) -> list[FrozenTrial]:
    with reading_storage(resolve_url(url)) as storage:
        return optuna.load_study(study_name="s", storage=storage).get_trials()


class ContractTests:
    @pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_deleted_under_a_run_it_ends_the_run_in_one_line(self, data: str, url: str, workers: int) -> None:
        def delete(end: TrialEnd) -> None:
            if end.counting >= 3:  # another tool does not ask
                storage = open_writer(resolve_url(url))
                optuna.delete_study(study_name="s", storage=storage)
                close_storage(storage)

        with pytest.raises(StudyNotFound, match=r"the study was deleted from .* while it was in use"):
            api.run(define(data), 1000, workers=workers, storage=url, make_trainer=slow_formula, on_trial=delete)

    def test_the_study_is_the_same_in_every_storage(self, data: str, url: str, tmp_path: Path) -> None:
        """A study run in two parts equals one run in one go in an SQLite file."""
        go(define(data), url, 3)
        results = go(define(data), url, None, until=7)
        assert results.counting == 7
        go(define(data), tmp_path / "whole.db", 7)
        whole = trials_of(tmp_path / "whole.db")
        assert [(t.params, t.values) for t in trials_in(url)] == [(t.params, t.values) for t in whole]
        assert [row.trial for row in api.load_study("s", url).front] == [
            row.trial for row in api.load_study("s", str(tmp_path / "whole.db")).front
        ]
        assert trials_in(url)[-1].user_attrs["mtsearch:curve"] == whole[-1].user_attrs["mtsearch:curve"]

    def test_refusals(self, data: str, url: str) -> None:
        with pytest.raises(StudyNotFound):
            api.load_study("s", url)
        go(define(data), url, 1)
        with pytest.raises(StudyMismatch):
            go(define(data, fixed={"epochs": 5}), url, 1)
        with pytest.raises(StudyNotFound, match="it holds: s"):
            api.load_study("t", url)

    @pytest.mark.slow
    def test_several_workers_one_of_them_killed(self, data: str, url: str, together: Callable[[int], None]) -> None:
        together(2)
        killed: list[int] = []

        def kill_once(_end: TrialEnd) -> None:
            if not killed and (number := kill_one(lambda: trials_in(url))) is not None:
                killed.append(number)

        results = api.run(define(data), 10, workers=2, storage=url, make_trainer=slow_formula, on_trial=kill_once)
        trials = trials_in(url)
        assert results.counting == 10
        assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
        assert [t.user_attrs[RETRY_OF] for t in trials if RETRY_OF in t.user_attrs] == killed
        assert len({str(t.params) for t in trials if t.state == TrialState.COMPLETE}) == 10

    def test_a_silent_trial_of_elsewhere_is_taken_and_wakes_up_to_that(self, data: str, url: str) -> None:
        taken: list[int] = []

        def be_taken(_config: TrialConfig, epoch: int) -> None:
            if epoch != 2 or taken:
                return
            storage = open_writer(resolve_url(url))
            study = optuna.load_study(study_name="s", storage=storage)
            (number,) = [t.number for t in study.get_trials() if t.state == TrialState.RUNNING]
            study._storage.set_trial_user_attr(study.get_trials()[number]._trial_id, WORKER, ELSEWHERE)
            watches = [OwnershipWatch(study, grace=0.4), OwnershipWatch(study, grace=0.4)]
            while not taken:
                time.sleep(0.05)
                taken.extend(number for watch in watches for number in watch.check())
            assert set(taken) == {number}  # one has done it, and both may tell
            assert not fail_trial(study, number, "died", "late")
            close_storage(storage)

        results = go(define(data), url, 3, FormulaTrainer(be_taken))
        trials = trials_in(url)
        assert results.states == {"complete": 3, "fail": 1}
        assert trials[0].user_attrs[REASON]["text"] == "no sign of life for 0.4 s"
        assert trials[1].params == trials[0].params

    @pytest.mark.slow
    def test_another_machine_joins_by_name(self, data: str, url: str) -> None:
        go(define(data), url, 2)
        assert join_by_name(url, "--trials", "3").wait(600) == 0
        trials = trials_in(url)
        assert [t.state for t in trials] == [TrialState.COMPLETE] * 5
        assert all(t.user_attrs["mtsearch:config"]["seed"] == 3 for t in trials)

    def test_a_study_is_deleted(self, data: str, url: str) -> None:
        go(define(data), url, 1)
        api.delete("s", url)
        assert api.studies(url) == []


def join_by_name(url: str, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.helpers.formula", "run", "--storage", url, "--study", "s", *options]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_two_machines_end_together_with_exactly_what_was_asked(
    data: str, new_postgres: Callable[[], str], together: Callable[[int], None]
) -> None:
    url = new_postgres()
    go(define(data), url, 1)
    together(3)
    runs = [join_by_name(url, "--until", "40", "--workers", workers) for workers in ("2", "1")]
    assert [run.wait(600) for run in runs] == [0, 0]
    trials = trials_in(url)
    assert [t.state for t in trials].count(TrialState.COMPLETE) == 40
    assert TrialState.RUNNING not in {t.state for t in trials}
    assert len({t.user_attrs[WORKER]["pid"] for t in trials if WORKER in t.user_attrs}) == 4


class ProxyTests:
    @pytest.mark.parametrize(
        ("given", "address"),
        [("grpc://h:5", ("h", 5)), ("grpc://h", ("h", 13000)), ("grpc://10.0.0.1:99", ("10.0.0.1", 99)),
         ("postgresql://h:5/n", None), ("sqlite:///x.db", None)],
    )  # fmt: skip
    def test_address(self, given: str, address: tuple[str, int] | None) -> None:
        assert proxy_address(given) == address
        if address:
            assert resolve_url(given) == mask_url(given) == given

    def test_nobody_answers(self, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mtsearch.search.storage.CONNECT_SECONDS", 0.5)
        with pytest.raises(StorageError, match=r"grpc://127\.0\.0\.1:1 does not answer; check that the server runs"):
            go(define(data), "grpc://127.0.0.1:1", 1)

    @pytest.mark.slow
    def test_operations_that_need_the_database_are_refused(self, data: str, proxy: str) -> None:
        go(define(data), proxy, 1)
        with pytest.raises(StorageError, match="studies cannot be renamed through a proxy"):
            api.rename("s", "t", proxy)
        with pytest.raises(StorageError, match="is a proxy; name the database behind it with --storage"):
            api.upgrade(proxy)

    @pytest.mark.slow
    def test_views_are_those_of_the_database(self, data: str, proxy: str, tmp_path: Path) -> None:
        go(define(data), proxy, 4)
        storage = open_writer(resolve_url(str(tmp_path / "behind.db")))
        assert isinstance(storage, RDBStorage)
        assert "pareto_front" not in inspect_views(storage)
        storage.engine.dispose()


def inspect_views(storage: RDBStorage) -> Any:
    with storage.engine.connect() as connection:
        return connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'view'").scalars().all()


@pytest.mark.slow
def test_no_password_in_what_others_can_see_of_a_worker(data: str, new_postgres: Callable[[], str]) -> None:
    url = resolve_url(new_postgres())
    url += ("&" if "?" in url else "?") + "password=s3cr3t"
    seen: list[bytes] = []

    def look(_end: TrialEnd) -> None:
        for child in multiprocessing.active_children():
            seen.extend(Path(f"/proc/{child.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))

    api.run(define(data), 2, workers=2, storage=url, make_trainer=slow_formula, on_trial=look)
    assert len(seen) >= 4
    assert not [text for text in seen if b"s3cr3t" in text]
