"""Tests of `mtsearch studies`: list, rename, delete and upgrade."""

import json
import os
import pty
import sqlite3
import sys
from pathlib import Path

import pytest

from mtsearch import api
from tests.cli.conftest import Command
from tests.helpers.fixtures import small_data
from tests.helpers.trainers import FormulaTrainer
from tests.search.test_run import define, go, send_at


@pytest.fixture
def database(tmp_path: Path) -> str:
    source = small_data(tmp_path)
    path = tmp_path / "studies" / "mtsearch.db"
    for name in ("a", "b"):
        go(define(source, study={"name": name, "seed": 3}), path, 3)
    return str(path)


def test_json_has_definition_provenance_runs_and_initial_trials(mtsearch: Command, database: str) -> None:
    first, second = json.loads(mtsearch("studies", "--storage", database, "--format", "json").out)
    assert (first["study"], second["study"]) == ("a", "b")
    assert first["definition"]["study"]["seed"] == 3
    assert first["passport"]["cores"] >= 1
    assert [run["data"] for run in first["runs"]] == [first["passport"]["data"]]
    assert first["listed"] == [{"trial": 0, "from": "starting point"}]


@pytest.mark.slow
def test_rename_and_delete(mtsearch: Command, database: str) -> None:
    renamed = mtsearch("studies", "rename", "a", "c")
    assert (renamed.status, renamed.out, renamed.err) == (0, "", "study a is now c\n")
    refused = mtsearch("studies", "rename", "c", "b")
    assert (refused.status, refused.err) == (
        1, "error: a study 'b' is in the storage already; choose another name\n")  # fmt: skip
    unasked = mtsearch("studies", "delete", "b")
    assert unasked.status == 2
    assert "cannot ask whether to delete b (3 trials): no terminal; confirm with --yes" in unasked.err
    assert [results.name for results in api.studies(database)] == ["b", "c"]
    for name in ("b", "c"):
        assert mtsearch("studies", "delete", name, "--yes").err == f"study {name} is deleted\n"
    assert json.loads(mtsearch("studies", "--format", "json").out) == []
    assert "no studies" in mtsearch("studies").out
    gone = mtsearch("studies", "delete", "c", "--yes")
    assert (gone.status, gone.err) == (1, "error: the storage holds no study; `mtsearch run` makes one\n")


@pytest.mark.slow
@pytest.mark.parametrize("subcommand", [["delete", "a", "--yes"], ["rename", "a", "c"], ["upgrade"]])
def test_a_storage_before_the_subcommand_is_refused(mtsearch: Command, database: str, subcommand: list[str]) -> None:
    """Refuse it, because the listing alone would take it, and a study of another storage would be deleted."""
    refused = mtsearch("studies", "--storage", "other.db", *subcommand)
    assert (refused.status, refused.out) == (2, "")
    assert f"--storage before {subcommand[0]} has no effect: write it after {subcommand[0]}" in refused.err
    assert "--format before" in mtsearch("studies", "--format", "json", *subcommand).err
    assert [results.name for results in api.studies(database)] == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "left"), [(b"y\n", ["b"]), (b"n\n", ["a", "b"]), (b"\n", ["a", "b"])])
def test_delete_asks_on_a_terminal(
    mtsearch: Command, monkeypatch: pytest.MonkeyPatch, database: str, answer: bytes, left: list[str]
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        done = mtsearch("studies", "delete", "a", "--storage", database)
    os.close(ours)
    assert "delete study a with its 3 trials? [y/N]" in done.err
    assert done.out == ""
    assert [results.name for results in api.studies(database)] == left


@pytest.mark.slow
def test_upgrade_says_one_line(mtsearch: Command, database: str) -> None:
    result = mtsearch("studies", "upgrade", "--storage", database)
    assert (result.status, result.out, result.err) == (0, "", f"{database} is up to date\n")
    with sqlite3.connect(database) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE '%trials_study_id'"
        ((index,),) = connection.execute(query).fetchall()
        connection.execute(f"DROP INDEX {index}")
        connection.execute("UPDATE alembic_version SET version_num = 'v3.0.0.c'")
    assert mtsearch("studies", "upgrade", "--storage", database).err == f"{database} is up to date\n"


@pytest.mark.parametrize("command", ["front", "plot"])
def test_a_study_named_without_its_option(mtsearch: Command, command: str) -> None:
    result = mtsearch(command, "my study")
    assert result.status == 2
    assert "Error: unexpected argument 'my study'; to name a study, use --study 'my study'" in result.err


def test_front_says_what_became_of_the_trials(mtsearch: Command, tmp_path: Path) -> None:
    definition = define(small_data(tmp_path), trials=[{"learning_rate": 0.95}, {"learning_rate": 0.92}],
                        space={"learning_rate": {"low": 0.1, "high": 0.99, "default": 0.2}})  # fmt: skip
    go(definition, tmp_path / "a.db", 6)
    result = mtsearch("front", "--study", "s", "--storage", "a.db")
    verdict, counts, reasons, listed = result.err.splitlines()
    assert verdict.startswith("The front ")
    failed = counts.split(", ")[1]
    assert counts.startswith("6 trials, ")
    assert failed.endswith(" failed")
    assert "from chance to ideal: RMSE" in counts
    assert reasons == f"{failed}: non-finite loss at epoch 1, step 3; lower learning_rate"
    assert listed.startswith("initial trials: [[trials]] 1 = trial 0, [[trials]] 2 = trial 1, starting point = trial 2")
    assert mtsearch("front", "--study", "s", "--storage", "a.db", "--format", "json").err == ""


def test_interrupted_is_not_failed(mtsearch: Command, tmp_path: Path) -> None:
    definition = define(small_data(tmp_path))
    assert go(definition, tmp_path / "a.db", 6, FormulaTrainer(send_at(2, 1))).interrupted
    said = mtsearch("front", "--study", "s", "--storage", "a.db").err.splitlines()
    assert said[1].startswith("1 trial, 1 interrupted, hypervolume")
