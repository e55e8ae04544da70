"""The contract of all storages of a study: an SQLite file and PostgreSQL."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mtsearch import api
from mtsearch.errors import StudyMismatch, StudyNotFound
from mtsearch.search.storage import close_storage, open_writer
from mtsearch.search.storage.url import resolve_url
from mtsearch.search.trial import TrialEnd
from tests.helpers.trainers import FormulaTrainer, slow_formula
from tests.search.test_run import define, go, send_at, trials_in, trials_of


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
        """A study run in parts, one of them interrupted, equals one run in one go in an SQLite file."""
        go(define(data), url, 3)
        assert go(define(data), url, None, FormulaTrainer(send_at(2, 2)), until=7).interrupted
        results = go(define(data), url, None, until=7)
        assert results.counting == 7
        go(define(data), tmp_path / "whole.db", 7)
        whole = trials_of(tmp_path / "whole.db")
        done = [trial for trial in trials_in(url) if trial.state == TrialState.COMPLETE]
        assert [(t.params, t.values) for t in done] == [(t.params, t.values) for t in whole]
        front = api.load_study("s", str(tmp_path / "whole.db")).front
        assert [row.values for row in results.front] == [row.values for row in front]
        assert done[-1].user_attrs["mtsearch:curve"] == whole[-1].user_attrs["mtsearch:curve"]

    def test_refusals(self, data: str, url: str) -> None:
        with pytest.raises(StudyNotFound):
            api.load_study("s", url)
        go(define(data), url, 1)
        with pytest.raises(StudyMismatch):
            go(define(data, fixed={"epochs": 5}), url, 1)
        with pytest.raises(StudyNotFound, match="it holds: s"):
            api.load_study("t", url)

    @pytest.mark.slow
    def test_another_machine_goes_on_by_name(self, data: str, url: str) -> None:
        go(define(data), url, 2)
        command = [sys.executable, "-m", "tests.helpers.formula", "run", "--storage", url, "--study", "s"]
        root = Path(__file__).parents[3]
        subprocess.run([*command, "--trials", "3"], cwd=root, stderr=subprocess.DEVNULL, check=True)
        trials = trials_in(url)
        assert [t.state for t in trials] == [TrialState.COMPLETE] * 5
        assert all(t.user_attrs["mtsearch:config"]["seed"] == 3 for t in trials)

    def test_a_study_is_deleted(self, data: str, url: str) -> None:
        go(define(data), url, 1)
        api.delete("s", url)
        assert api.studies(url) == []


@pytest.mark.slow
def test_workers_know_nothing_of_the_storage(data: str, new_postgres: Callable[[], str]) -> None:
    """No worker has the password where others can see it, or a connection to the database."""
    url = resolve_url(new_postgres())
    url += ("&" if "?" in url else "?") + "password=s3cr3t"
    seen: list[bytes] = []

    def look(_end: TrialEnd) -> None:
        for child in multiprocessing.active_children():
            seen.extend(Path(f"/proc/{child.pid}/{name}").read_bytes() for name in ("cmdline", "environ", "maps"))

    api.run(define(data), 2, workers=2, storage=url, make_trainer=slow_formula, on_trial=look)
    assert len(seen) >= 4
    assert not [text for text in seen if b"s3cr3t" in text or b"psycopg" in text]
