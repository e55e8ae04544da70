"""Tests of note and figures in a real storage: written when trials have ended, without loss of a user's text."""

import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna_dashboard import get_note, save_note
from plotly.graph_objects import Figure

from mtsearch.errors import StudyNotFound
from mtsearch.report.dashboard import MARK, DashboardContent, DashboardSync, StudyAddress
from mtsearch.search.results import StudyResults
from mtsearch.search.storage import open_reader, open_writer, reading_storage
from mtsearch.search.storage.url import resolve_url
from tests.search.test_run import define, go


def publication(results: StudyResults) -> DashboardContent:
    return DashboardContent(f"{results.counting} trials", {"points": Figure({"data": [{"x": [results.counting]}]})})


@pytest.fixture
def url(data: str, tmp_path: Path) -> str:
    go(define(data), tmp_path / "a.db", 2)
    return resolve_url(str(tmp_path / "a.db"))


def publisher(url: str, make: Callable[[StudyResults], DashboardContent] = publication) -> DashboardSync:
    shown = StudyAddress(open_reader(url), "s")
    return DashboardSync(url, shown.storage, shown.name, make, threading.Lock())


def study_of(url: str) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_reader(url))


def test_published_again_only_when_trials_have_ended(url: str, data: str) -> None:
    made: list[int] = []

    def counted(results: StudyResults) -> DashboardContent:
        made.append(results.counting)
        return publication(results)

    ours = publisher(url, counted)
    assert ours.refresh()
    assert get_note(study_of(url)) == f"{MARK}\n\n2 trials"
    assert not ours.refresh()
    assert made == [2]  # not even drawn again
    go(define(data), url, 1)
    assert ours.refresh()
    assert get_note(study_of(url)).endswith("3 trials")
    study = study_of(url)
    stored = study._storage.get_study_system_attrs(study._study_id)
    assert '"x":[3]' in stored["dashboard:plot_data:points:0"]


def test_on_postgresql_too(new_postgres: Callable[[], str], data: str) -> None:
    url = resolve_url(new_postgres())
    go(define(data), url, 2)
    with reading_storage(url) as reader:
        shown = StudyAddress(reader, "s")
        ours = DashboardSync(url, shown.storage, shown.name, publication, threading.Lock())
        assert ours.refresh()
        go(define(data), url, 1)
        assert ours.refresh()
        assert get_note(optuna.load_study(study_name="s", storage=reader)) == f"{MARK}\n\n3 trials"


def test_what_a_user_wrote_above_is_kept(url: str) -> None:
    writer = open_writer(url)
    save_note(optuna.load_study(study_name="s", storage=writer), "My own words.\n\n")
    for _ in range(2):  # a second server, which knows nothing of the first
        assert publisher(url).refresh()
        assert get_note(study_of(url)) == f"My own words.\n\n{MARK}\n\n2 trials"


def test_a_study_that_is_deleted_meanwhile(url: str) -> None:
    ours = publisher(url)
    optuna.delete_study(study_name="s", storage=open_writer(url))
    with pytest.raises(StudyNotFound, match="'s' is no longer in the storage"):
        ours.refresh()


def test_the_study_written_last_is_shown(url: str, data: str) -> None:
    go(define(data, study={"name": "t", "seed": 1}), url, 1)
    shown = StudyAddress(open_reader(url), None)
    assert (shown.name, shown.number) == ("t", 2)
