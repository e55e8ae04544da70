"""Tests of `mtsearch init`, whose file can be checked and run as it is."""

import json
from pathlib import Path

import pytest

from mtsearch.study_file.definition import DEFAULT, StudyDefinition
from tests.cli.conftest import Command


@pytest.mark.slow
def test_what_it_writes_checks_and_runs(mtsearch: Command, tmp_path: Path) -> None:
    written = mtsearch("init")
    assert (written.status, written.out) == (0, "")
    assert written.err == "wrote study.toml; next: mtsearch check study.toml\n"
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]
    assert mtsearch("check", "study.toml").status == 0
    ran = mtsearch("run", "study.toml", "--trials", "1", "--set", "fixed.epochs=1")
    assert ran.status == 0, ran.err
    assert json.loads(mtsearch("studies", "--format", "json").out)[0]["study"] == "study"


def test_a_file_of_another_name(mtsearch: Command, tmp_path: Path) -> None:
    assert mtsearch("init", "my own.toml").status == 0
    text = (tmp_path / "my own.toml").read_text(encoding="utf-8")
    assert "mtsearch check 'my own.toml'" in text
    definition = StudyDefinition.load("my own.toml")
    assert definition.study.name == "my own"
    assert definition.space == StudyDefinition.load(DEFAULT).space
    assert not [line for line in text.splitlines() if line.endswith(".:")]


def test_editors_are_pointed_at_the_schema(mtsearch: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTSEARCH_CACHE", "my cache")
    assert mtsearch("init").status == 0
    (schema,) = (tmp_path / "my cache").iterdir()
    first, rest = (tmp_path / "study.toml").read_text(encoding="utf-8").split("\n", 1)
    assert first == f"#:schema {schema.as_uri()}"
    assert json.loads(schema.read_text(encoding="utf-8"))["title"] == "mtsearch study"
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTSEARCH_CACHE", str(tmp_path / "file"))  # where nothing can be written
    assert mtsearch("init", "other.toml").status == 0
    assert (tmp_path / "other.toml").read_text(encoding="utf-8") == rest.replace("study.toml", "other.toml").replace(
        'name = "study"', 'name = "other"'
    )


def test_nothing_is_overwritten(mtsearch: Command, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("mine")
    result = mtsearch("init")
    assert result.status == 1
    assert result.err == "error: study.toml already exists; name another file, or remove it first\n"
    assert (tmp_path / "study.toml").read_text() == "mine"


@pytest.mark.parametrize("file", ["gone/study.toml", "a\nb.toml", "x" * 300 + ".toml", "."])
def test_where_nothing_can_be_written(mtsearch: Command, tmp_path: Path, file: str) -> None:
    result = mtsearch("init", file)
    assert result.status == 1
    assert len(result.err.splitlines()) == 1 and result.err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_shipped_definition_would_be_read_as_that(mtsearch: Command, tmp_path: Path) -> None:
    refused = mtsearch("init", "ml-100k")
    assert (refused.status, list(tmp_path.iterdir())) == (1, [])
    assert refused.err == (
        "error: ml-100k is the name of a shipped definition, which `mtsearch run ml-100k` reads; "
        "name the file ml-100k.toml\n"
    )
    assert mtsearch("init", "ml-100k.toml").status == 0


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (".", ". is a folder; name a file in it, such as study.toml"),
        ("", ". is a folder; name a file in it, such as study.toml"),
        ("a\nb.toml", r"'a\nb.toml' cannot be the name of a study: 'a\nb' has a character that cannot be printed"),
        (" a.toml", "' a.toml' cannot be the name of a study: ' a' begins or ends with a space"),
        ("x" * 201 + ".toml", "cannot be the name of a study: string should have at most 200 characters"),
    ],
)
def test_names_that_no_study_can_have(mtsearch: Command, tmp_path: Path, file: str, said: str) -> None:
    result = mtsearch("init", file)
    assert result.status == 1
    assert said in result.err
    assert "ml-100k" not in result.err
    assert list(tmp_path.iterdir()) == []
