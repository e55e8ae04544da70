"""Renaming, deleting and upgrading studies."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage

from mtsearch import StudyDefinition, api
from mtsearch.errors import DefinitionError, StorageError, StudyInUse, StudyMismatch, StudyNotFound
from mtsearch.search import ownership
from mtsearch.search.storage import open_writer, writing_storage
from mtsearch.search.storage.url import resolve_url
from tests.search.test_ownership import ELSEWHERE, NOBODY, owned, set_owner
from tests.search.test_run import define, go


def named(data: str, name: str) -> StudyDefinition:
    return define(data, study={"name": name, "seed": 3})


def names(storage: str) -> list[str]:
    return [results.name for results in api.studies(storage)]


@pytest.mark.slow
def test_renamed_study_goes_on_under_its_new_name(data: str, url: str, tmp_path: Path) -> None:
    go(named(data, "old"), url, 12)
    before = api.load_study("old", url)
    api.rename("old", "new name", url)
    after = api.load_study("new name", url)
    assert names(url) == ["new name"]
    assert after.rows == before.rows
    assert after.definition == {**before.definition, "study": {**before.definition["study"], "name": "new name"}}
    assert go(named(data, "new name"), url, 3).counting == 15
    go(named(data, "whole"), tmp_path / "whole.db", 15)
    whole = api.load_study("whole", str(tmp_path / "whole.db"))
    assert [row.params for row in api.load_study("new name", url).rows] == [row.params for row in whole.rows]
    with pytest.raises(StudyNotFound):
        api.load_study("old", url)


@pytest.mark.slow
def test_a_refused_new_name_changes_nothing(data: str, url: str) -> None:
    for name in ("a", "b"):
        go(named(data, name), url, 1)
    with writing_storage(resolve_url(url)) as writer:
        optuna.create_study(study_name="theirs", storage=writer)
    for old, new, error, message in [
        ("a", "b", StorageError, "a study 'b' is in the storage already; choose another name"),
        ("a", "a", StorageError, "'a' is in the storage already"),
        ("a", "theirs", StorageError, "'theirs' is in the storage already"),
        ("gone", "c", StudyNotFound, "no study 'gone'.*it holds: a, b"),
        ("theirs", "c", StudyNotFound, "no study 'theirs' made by mtsearch"),
        ("a", "", DefinitionError, "is not a valid name"),
        ("a", "x" * 201, DefinitionError, "is not a valid name"),
        ("a", "line\nbreak", DefinitionError, "has a character that cannot be printed"),
    ]:
        with pytest.raises(error, match=message):
            api.rename(old, new, url)
    assert names(url) == ["a", "b"]


@pytest.mark.slow
def test_deleted_study_is_gone_and_the_others_are_whole(data: str, url: str) -> None:
    for name in ("a", "b"):
        go(named(data, name), url, 3)
    kept = api.load_study("b", url)
    api.delete("a", url)
    assert names(url) == ["b"]
    assert api.load_study("b", url).rows == kept.rows
    api.delete("b", url)
    assert names(url) == []
    with pytest.raises(StudyNotFound, match="the storage holds no study"):
        api.delete("b", url)
    assert go(named(data, "a"), url, 1).counting == 1


CHANGES: dict[str, Callable[[str], object]] = {
    "renamed": lambda storage: api.rename("s", "t", storage),
    "deleted": lambda storage: api.delete("s", storage),
    "upgraded": api.upgrade,
}


@pytest.mark.parametrize("done", CHANGES)
def test_a_study_that_a_process_runs_is_not_changed(data: str, url: str, done: str) -> None:
    go(define(data), url, 1)
    with owned(url), pytest.raises(StudyInUse) as caught:
        CHANGES[done](url)
    process = f"process {os.getpid()} on host {socket.gethostname()}"
    assert str(caught.value).startswith(f"study s cannot be {done}, since it is being run by {process} since 2")
    assert str(caught.value).endswith("; end that process first (Ctrl-C keeps the finished trials)")
    assert names(url) == ["s"]


@pytest.mark.parametrize("done", CHANGES)
@pytest.mark.parametrize("owner", [NOBODY, ELSEWHERE], ids=["here", "elsewhere"])
def test_the_study_of_a_dead_process_is_changed(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: str, owner: dict[str, Any]
) -> None:
    monkeypatch.setattr(ownership, "WATCH_SECONDS", 0.5)
    storage = str(tmp_path / "a.db")
    go(define(data), storage, 1)
    set_owner(storage, **{**ELSEWHERE, **owner})
    CHANGES[done](storage)
    assert names(storage) == {"renamed": ["t"], "deleted": [], "upgraded": ["s"]}[done]


def test_a_rename_that_breaks_off_changes_nothing(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    go(define(data), path, 1)
    writer = open_writer(resolve_url(str(path)))
    assert isinstance(writer, RDBStorage)
    with writer.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE UPDATE ON study_user_attributes BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(StorageError):
        api.rename("s", "t", str(path))
    assert names(str(path)) == ["s"]
    with pytest.raises(StudyMismatch, match="another definition"):
        go(define(data, fixed={"epochs": 9}), path, 1)
