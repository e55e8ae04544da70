"""Tests of `mtsearch compare`, from the storage to the page."""

import json
from pathlib import Path

import pytest

from mtsearch import api
from tests.cli.conftest import Command
from tests.helpers.fixtures import small_data
from tests.helpers.trainers import FormulaTrainer, make_factory
from tests.search.test_run import define


@pytest.fixture
def stored(tmp_path: Path) -> str:
    path, data = str(tmp_path / "a.db"), small_data(tmp_path)
    for name, seed in (("a", 1), ("b", 2)):
        definition = define(data, study={"name": name, "seed": seed})
        api.run(definition, 4, storage=path, make_trainer=make_factory(FormulaTrainer()))
    return path


def test_table_json_and_page(mtsearch: Command, stored: str) -> None:
    table = mtsearch("compare", "a", "b", "--storage", stored)
    assert table.status == 0
    assert "hypervolume" in table.out
    assert "b, definition: study.seed: 1 -> 2" in table.out
    shown = mtsearch("compare", "b", "a", "--storage", stored, "--format", "json", "-o", "c.html")
    parsed = json.loads(shown.out)
    assert [each["study"] for each in parsed["studies"]] == ["b", "a"]
    assert parsed["same_data"] is True
    assert len(parsed["studies"][0]["progress"]) == 4
    assert shown.err.strip() == "c.html"
    assert "What differs from b" in Path("c.html").read_text(encoding="utf-8")


def test_what_cannot_be_compared(mtsearch: Command, stored: str) -> None:
    assert mtsearch("compare", "a", "--storage", stored).status == 2
    assert mtsearch("compare", "a", "a", "--storage", stored).status == 2
    missing = mtsearch("compare", "a", "c", "--storage", stored)
    assert missing.status == 1
    assert missing.err.strip() == "error: no study 'c' made by mtsearch in the storage; it holds: a, b"
