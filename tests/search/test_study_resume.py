"""Resuming a study, which needs the definition and the data that it was begun with."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from mtsearch import api
from mtsearch.errors import StudyMismatch
from mtsearch.search.results import StudyResults
from tests.helpers.trainers import slow_formula
from tests.search.test_run import SPACE, define, go, trials_of

TABLES: dict[str, Any] = {
    "study": {"name": "s", "seed": 3},
    "trials": [{"learning_rate": 0.1}],
    "fixed": {"epochs": 2},
}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"study": {"name": "s", "seed": 4}}, r"study\.seed: 3 -> 4"),
        ({"study": {"name": "s", "seed": 3, "repeats": 2}}, r"study\.repeats: 1 -> 2"),
        ({"study": {"name": "s", "seed": 3, "sampler": {"kind": "random"}}}, r"study\.sampler\.kind: tpe -> random"),
        ({"study": {"name": "s", "seed": 3, "objectives": ["mae", "top_100"]}}, r"study\.objectives: "),
        ({"split": {"seed": 7}}, r"split\.seed: 42 -> 7"),
        ({"constraints": {"max_parameters": 10}}, r"constraints\.max_parameters: nothing -> 10"),
        ({"trials": []}, r"trials: \[\{'learning_rate': 0\.1\}\] -> \[\]"),
        ({"fixed": {"epochs": 3}}, r"fixed\.epochs: 2 -> 3"),
        ({"fixed": {"epochs": 2, "l2": 0.1}}, r"fixed\.l2: 0\.0 -> 0\.1"),
        ({"space": {**SPACE, "embedding_size": {"choices": [16]}}}, r"space\.embedding_size\.choices: "),
    ],
)  # fmt: skip
def test_each_difference_is_refused_before_data_are_read(
    data: str, tmp_path: Path, changes: dict[str, Any], difference: str
) -> None:
    go(define(data, **TABLES), tmp_path / "a.db", 1)
    gone = f"{data}/gone"
    with pytest.raises(StudyMismatch, match=rf"'s' was begun with another .*{difference}.*--study NAME"):
        go(define(gone, **{**TABLES, **changes}), tmp_path / "a.db", 1)
    assert len(trials_of(tmp_path / "a.db")) == 1


def test_published_values_and_the_place_of_the_data_may_change(data: str, tmp_path: Path) -> None:
    go(define(data, **TABLES), tmp_path / "a.db", 1)
    moved = (tmp_path / "moved").joinpath("ml")
    moved.parent.mkdir()
    Path(data).rename(moved)
    assert go(define(str(moved), **TABLES, published=[{"rmse": 1.0}]), tmp_path / "a.db", 1).counting == 2


def test_seed_and_sampler_that_are_not_named_are_those_it_was_begun_with(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = define(data, study={"name": "s", "seed": 7, "sampler": {"kind": "random"}})
    unnamed = define(data, study={"name": "s"})
    go(given, tmp_path / "whole.db", 6)
    go(given, tmp_path / "a.db", 3)
    caplog.set_level("INFO", "mtsearch")
    go(unnamed, tmp_path / "a.db", 3)
    assert [t.params for t in trials_of(tmp_path / "a.db")] == [t.params for t in trials_of(tmp_path / "whole.db")]
    assert [t.user_attrs["mtsearch:config"]["seed"] for t in trials_of(tmp_path / "a.db")] == [7] * 6
    assert "study s goes on as it was begun: seed: 42 -> 7, sampler.kind: tpe -> random" in caplog.messages


@pytest.mark.slow
def test_several_workers_take_the_seed_it_was_begun_with(data: str, tmp_path: Path) -> None:
    go(define(data, study={"name": "s", "seed": 7}), tmp_path / "a.db", 1)
    unnamed = define(data, study={"name": "s"})
    api.run(unnamed, 4, workers=2, storage=str(tmp_path / "a.db"), make_trainer=slow_formula)
    assert {t.user_attrs["mtsearch:config"]["seed"] for t in trials_of(tmp_path / "a.db")} == {7}


def test_a_seed_that_is_named_and_differs_is_refused(data: str, tmp_path: Path) -> None:
    go(define(data, study={"name": "s", "seed": 7}), tmp_path / "a.db", 1)
    with pytest.raises(StudyMismatch, match=r"study\.seed: 7 -> 42"):
        go(define(data, study={"name": "s", "seed": 42}), tmp_path / "a.db", 1)


def test_provenance_holds_what_the_numbers_depend_on(data: str, tmp_path: Path) -> None:
    results = go(define(data), tmp_path / "a.db", 1)
    assert results.provenance.keys() >= {"data", "split", "trainer", "python", "machine", "cores", "packages", "commit"}
    assert results.provenance["trainer"] == {"device": "formula", "threads": 1, "workers": 1}
    assert {"mtsearch", "numpy", "optuna", "tensorflow"} <= results.provenance["packages"].keys()
    assert len(results.provenance["data"]["fingerprint"]) == len(results.provenance["split"]["fingerprint"]) > 16
    assert results.definition["study"]["seed"] == 3
    assert results.definition["split"]["seed"] == 42


def test_each_run_with_other_versions_is_recorded(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def runs(results: StudyResults) -> list[str]:
        return [run["packages"]["numpy"] for run in results.runs]

    now = version("numpy")
    assert runs(go(define(data), tmp_path / "a.db", 1)) == [now]
    assert runs(go(define(data), tmp_path / "a.db", 1)) == [now]
    assert "this run differs" not in caplog.text
    monkeypatch.setattr("mtsearch.search.study.version", lambda _name: "0.0")
    results = go(define(data), tmp_path / "a.db", 1)
    assert runs(results) == [now, "0.0"]
    assert results.provenance["packages"]["numpy"] == now
    assert results.runs[0]["begun"] < results.runs[1]["begun"]
    assert f"this run differs from the one that began the study: packages.numpy: {now} -> 0.0" in caplog.messages
    monkeypatch.undo()
    assert runs(go(define(data), tmp_path / "a.db", 1)) == [now, "0.0", now]


def test_a_default_written_out_is_no_difference(data: str, tmp_path: Path) -> None:
    go(define(data), tmp_path / "a.db", 1)
    written_out = {"epochs": 3, "seed": 3, "optimizer": "adagrad"}
    assert go(define(data, fixed=written_out), tmp_path / "a.db", 1).counting == 2
    with pytest.raises(StudyMismatch, match=r"fixed\.seed: 3 -> 42"):
        go(define(data, fixed={"seed": 42}), tmp_path / "a.db", 1)
