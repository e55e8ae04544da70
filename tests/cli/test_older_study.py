"""A study of version 0.1.0: `front`, `plot`, `export` and `retrain` answer what that version answered."""

import gzip
import json
import math
import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mtsearch import StudyDefinition, api
from tests.cli.conftest import Command
from tests.helpers.trainers import FormulaTrainer, make_factory

OLD = Path(__file__).parents[1] / "fixtures" / "study-0.1"
ROWS: list[dict[str, Any]] = json.loads((OLD / "front.json").read_text())


@pytest.fixture
def storage(tmp_path: Path) -> str:
    path = tmp_path / "study.db"
    path.write_bytes(gzip.decompress((OLD / "study.db.gz").read_bytes()))
    return str(path)


def test_front(mtsearch: Command, storage: str) -> None:
    assert json.loads(mtsearch("front", "--storage", storage, "--format", "json").out) == ROWS
    assert mtsearch("front", "--storage", storage, "--format", "csv").out == (OLD / "front.csv").read_bytes().decode()
    shown = mtsearch("front", "--storage", storage)
    assert shown.status == 0
    assert "hypervolume 0.02204 (of the box from chance to ideal: RMSE 1.128 to 0, top-100 accuracy 0.0601 to 1)" in (
        shown.err
    )
    for row in ROWS:
        assert f"trial {row['trial']} " in shown.out


def test_plot(mtsearch: Command, storage: str, tmp_path: Path) -> None:
    assert mtsearch("plot", "--storage", storage, "-o", str(tmp_path / "p.html")).status == 0
    page = (tmp_path / "p.html").read_text()
    assert "0.02204" in page
    for row in ROWS:
        assert f"{row['rmse']:.4f}" in page


def test_export(mtsearch: Command, storage: str, tmp_path: Path) -> None:
    assert mtsearch("export", "--storage", storage, "--pick", "top_100", "-o", str(tmp_path / "e.toml")).status == 0
    now, then = (tomllib.loads(path.read_text()) for path in (tmp_path / "e.toml", OLD / "export.toml"))
    for export in (now, then):
        del export["provenance"]["exported"], export["provenance"]["exported_by"]
    assert now == then
    # The file that version wrote can still be read.
    assert api.load_export(OLD / "export.toml").config == api.load_export(tmp_path / "e.toml").config


def test_the_study_goes_on(storage: str) -> None:
    """New trials join the old ones, and the storage's views are those of this version."""
    definition = StudyDefinition.load("ml-100k-quick")
    results = api.run(definition, 3, storage=storage, make_trainer=make_factory(FormulaTrainer()))
    assert results.counting == 53
    with sqlite3.connect(storage) as database:
        objectives = database.execute("SELECT objectives FROM pareto_front").fetchall()
    assert {tuple(json.loads(each)) for (each,) in objectives} == {("rmse", "top_100")}


@pytest.mark.slow
def test_retrain(mtsearch: Command, tmp_path: Path) -> None:
    """The numbers are equal to the last bit on the same processor; others round in another order."""
    folder = tmp_path / "model"
    assert mtsearch("retrain", str(OLD / "export.toml"), "--on", "train", "-o", str(folder)).status == 0
    now, then = (json.loads(path.read_text()) for path in (folder / "metrics.json", OLD / "metrics.json"))
    assert now["baselines"] == then["baselines"]
    assert now["trial"] == then["trial"]
    for part in ("test", "validation"):
        for key, interval in then[part].items():
            assert math.isclose(now[part][key]["mean"], interval["mean"], rel_tol=0.02, abs_tol=1e-3), (part, key)
