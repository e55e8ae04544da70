"""Renaming and deleting studies."""

import os
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from mtsearch import StudyDefinition, api
from mtsearch.errors import DefinitionError, StorageError, StudyMismatch, StudyNotFound
from mtsearch.host import identity
from mtsearch.search import ownership
from mtsearch.search import study as study_module
from mtsearch.search.storage import open_writer, writing_storage
from mtsearch.search.storage.url import resolve_url
from tests.search.test_run import define, go, trials_of


def named(data: str, name: str) -> StudyDefinition:
    return define(data, study={"name": name, "seed": 3})


def names(storage: str) -> list[str]:
    return [results.name for results in api.studies(storage)]


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "a.db")
    new_postgres: Callable[[], str] = request.getfixturevalue("new_postgres")
    return new_postgres()


def running(storage: str, name: str, pid: int) -> None:
    with writing_storage(resolve_url(storage)) as writer:
        study = optuna.load_study(study_name=name, storage=writer)
        study.ask().set_user_attr("mtsearch:worker", identity(pid))


@pytest.mark.slow
def test_renamed_study_goes_on_under_its_new_name(data: str, storage: str, tmp_path: Path) -> None:
    go(named(data, "old"), storage, 12)
    before = api.load_study("old", storage)
    api.rename("old", "new name", storage)
    after = api.load_study("new name", storage)
    assert names(storage) == ["new name"]
    assert after.rows == before.rows
    assert after.definition == {**before.definition, "study": {**before.definition["study"], "name": "new name"}}
    assert go(named(data, "new name"), storage, 3).counting == 15
    go(named(data, "whole"), tmp_path / "whole.db", 15)
    whole = api.load_study("whole", str(tmp_path / "whole.db"))
    assert [row.params for row in api.load_study("new name", storage).rows] == [row.params for row in whole.rows]
    with pytest.raises(StudyNotFound):
        api.load_study("old", storage)


@pytest.mark.slow
def test_a_refused_new_name_changes_nothing(data: str, storage: str) -> None:
    for name in ("a", "b"):
        go(named(data, name), storage, 1)
    with writing_storage(resolve_url(storage)) as writer:
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
            api.rename(old, new, storage)
    assert names(storage) == ["a", "b"]


@pytest.mark.slow
def test_deleted_study_is_gone_and_the_others_are_whole(data: str, storage: str) -> None:
    for name in ("a", "b"):
        go(named(data, name), storage, 3)
    kept = api.load_study("b", storage)
    api.delete("a", storage)
    assert names(storage) == ["b"]
    assert api.load_study("b", storage).rows == kept.rows
    api.delete("b", storage)
    assert names(storage) == []
    with pytest.raises(StudyNotFound, match="the storage holds no study"):
        api.delete("b", storage)
    assert go(named(data, "a"), storage, 1).counting == 1


@pytest.mark.parametrize("change", [lambda path: api.delete("s", path), lambda path: api.rename("s", "t", path)])
def test_study_with_a_running_trial_is_not_changed(data: str, tmp_path: Path, change: Callable[[str], None]) -> None:
    path = tmp_path / "a.db"
    go(define(data), path, 1)
    running(str(path), "s", os.getpid())
    with pytest.raises(StorageError, match=rf"process {os.getpid()} on \S+ runs its trial 1; end that process first"):
        change(str(path))
    assert len(trials_of(path)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("lives", [True, False])
def test_a_trial_of_another_machine_shows_whether_it_lives(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    for module in (ownership, study_module):
        monkeypatch.setattr(module, "BEAT_SECONDS", 1.0)
    storage = str(tmp_path / "a.db")
    go(define(data), storage, 1)
    with writing_storage(resolve_url(storage)) as writer:
        trial = optuna.load_study(study_name="s", storage=writer).ask()
        trial.set_user_attr("mtsearch:worker", {**identity(os.getpid()), "host": "elsewhere"})
        if lives:
            with (
                ownership.Heartbeat(trial),
                pytest.raises(StorageError, match="on elsewhere runs its trial 1; end that process first"),
            ):
                api.delete("s", storage)
        else:
            api.delete("s", storage)
    assert names(storage) == (["s"] if lives else [])


def test_trial_of_a_dead_process_does_not_block_changes(data: str, tmp_path: Path) -> None:
    go(define(data), tmp_path / "a.db", 1)
    running(str(tmp_path / "a.db"), "s", 2**22 + 1)  # above the largest number of a process
    api.delete("s", str(tmp_path / "a.db"))
    assert names(str(tmp_path / "a.db")) == []


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
