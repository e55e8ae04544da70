"""Tests of `mtsearch baselines --strong`: what it shows, and what it stores with which study."""

import csv
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mtsearch import api
from mtsearch.cli.console import BaselineProgress
from tests.cli.conftest import Command
from tests.cli.test_clicks import write as write_clicks

STUDY = """
[study]
name = "{name}"
[data]
source = "data"
[space]
learning_rate = {{ low = 0.05, high = 0.5 }}
"""


@pytest.fixture
def studied(formula: Command, data: str, tmp_path: Path) -> Command:
    """Return the function that runs a command, in a folder where the study `films` of `s.toml` is stored."""
    (tmp_path / "s.toml").write_text(STUDY.format(name="films"))
    ran = formula("run", "s.toml", "--trials", "2")
    assert ran.status == 0, ran.err
    return formula


def stored(study: str = "films") -> Mapping[str, Mapping[str, float]]:
    return api.load_study(study).baselines


def last_line(err: str) -> str:
    return err.splitlines()[-1]


def test_strong_baselines_are_on_the_front_of_the_study(studied: Command) -> None:
    before = stored()
    for _ in range(2):  # the second time nothing changes
        done = studied("baselines", "s.toml", "--strong", "--format", "json")
        assert done.status == 0, done.err
        assert last_line(done.err) == (
            "stored with study films; to see them on its front: mtsearch front --study films"
        )
        shown = {row.pop("baseline"): row for row in json.loads(done.out)}
        assert list(shown) == ["chance", "popularity", "biases", "ials", "bayesian_fm"]
        assert stored() == {**before, "ials": shown["ials"], "bayesian_fm": shown["bayesian_fm"]}
    assert "bayesian_fm, rating: 100% trained" in done.err
    assert "top_100" in shown["ials"] and "rmse" not in shown["ials"]
    assert "rmse" in shown["bayesian_fm"] and "top_100" not in shown["bayesian_fm"]
    # Everything that shows a study's baselines shows these.
    front = studied("front")
    assert front.status == 0
    assert "ials" in front.out and "bayesian_fm" in front.out
    drawn = json.loads(studied("plot", "--format", "json").out)["baselines"]
    assert drawn["bayesian_fm"] == {"rmse": shown["bayesian_fm"]["rmse"]}
    assert studied("plot", "-o", "page.html").status == 0
    assert "bayesian_fm" in Path("page.html").read_text(encoding="utf-8")
    assert "bayesian_fm" in studied("export", "-o", "best.toml").err


def test_a_run_that_goes_on_keeps_them(studied: Command) -> None:
    studied("baselines", "s.toml", "--strong")
    assert studied("run", "s.toml", "--trials", "1").status == 0
    assert {"ials", "bayesian_fm"} < set(stored())


def test_the_table_has_empty_cells_and_names_that_are_whole(studied: Command) -> None:
    out = studied("baselines", "s.toml", "--strong").out
    rows = [line.split() for line in out.splitlines()]
    assert ["chance", "popularity", "biases", "ials", "fm", "best"] in rows
    assert all(len(line) <= 80 for line in out.splitlines())
    text = studied("baselines", "s.toml", "--strong", "--format", "csv").out
    cells = {row["baseline"]: row for row in csv.DictReader(io.StringIO(text))}
    assert cells["ials"]["rmse"] == cells["bayesian_fm"]["mrr"] == ""


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        (["--set", "split.seed=7"], "split"),
        (["--set", "data.rating_range=[2,5]", "--set", 'data.out_of_range="drop"'], "data and split"),
        (["--set", 'tasks.seen.kind="retrieval"', "--set", 'tasks.stars.kind="rating"'], "tasks"),
    ],
    ids=["split", "data", "tasks"],
)
def test_a_study_of_other_rows_does_not_get_them(studied: Command, change: list[str], differing: str) -> None:
    before = stored()
    done = studied("baselines", "s.toml", "--strong", *change)
    assert done.status == 0, done.err
    assert last_line(done.err) == f"not stored: study 'films' has other {differing}; name its own definition"
    assert "ials" in done.out
    assert stored() == before


def test_without_its_study_they_are_shown_and_not_stored(mtsearch: Command, data: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(STUDY.format(name="films"))
    done = mtsearch("baselines", "s.toml", "--strong", "--storage", "none.db")
    assert (done.status, "bayesian_" in done.out) == (0, True)
    assert last_line(done.err).startswith("not stored: no database at ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "s.toml"]


def test_the_study_is_named_and_its_storage(studied: Command, tmp_path: Path) -> None:
    studied("run", "s.toml", "--trials", "1", "--study", "other", "--storage", "b.db")
    done = studied("baselines", "--strong", "--study", "other", "--storage", "b.db")  # the stored definition
    assert last_line(done.err).endswith("mtsearch front --study other --storage b.db")
    assert "ials" in api.load_study("other", tmp_path / "b.db").baselines
    assert "ials" not in stored()
    done = studied("baselines", "s.toml", "--strong", "--study", "other")
    assert last_line(done.err) == "not stored: no study 'other' made by mtsearch in the storage; it holds: films"
    unknown = studied("baselines", "--study", "third")
    assert (unknown.status, unknown.out) == (1, "")
    assert unknown.err == "error: no study 'third' in the storage; name a DEFINITION, or see `mtsearch studies`\n"


def test_without_the_extra_the_remedy_is_named(studied: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "myfm", None)
    done = studied("baselines", "s.toml", "--strong")
    assert (done.status, done.out) == (1, "")
    assert last_line(done.err) == (
        "error: the strong baselines need myfm, which is not installed; pip install 'mtsearch[reference]'"
    )
    assert studied("baselines", "s.toml").status == 0  # the others need nothing


def test_an_interrupt_within_a_training_stores_nothing(studied: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    before, told = stored(), []

    def move(_progress: BaselineProgress, name: str, _share: float) -> None:
        told.append(name)
        if told.count("bayesian_fm, rating") == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(BaselineProgress, "move", move)
    done = studied("baselines", "s.toml", "--strong")
    assert (done.status, done.out) == (130, "")
    assert last_line(done.err) == "interrupted; what was finished is kept"
    assert told[-1] == "bayesian_fm, rating" and len(told) < 30  # of 15 and 300 iterations
    assert stored() == before


@pytest.mark.parametrize("more", ["", 'feedback = "count"'])
def test_clicks_have_them_too(mtsearch: Command, tmp_path: Path, more: str) -> None:
    """Where every rating is 1, there is nothing to learn, and nothing that is not finite."""
    write_clicks(tmp_path, more=more)
    done = mtsearch("baselines", "s.toml", "--strong", "--format", "json")
    assert done.status == 0, done.err
    rows = {row["baseline"]: row for row in json.loads(done.out)}
    if not more:
        assert rows["bayesian_fm"]["rmse"] < 0.1
    assert rows["ials"]["top_10"] > 0
