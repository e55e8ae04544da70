"""Tests of the options of `mtsearch run` that end a run or begin it; a formula replaces the model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mtsearch import api
from tests.cli.conftest import Command
from tests.helpers.fixtures import small_data

Run = Callable[..., list[str]]


@pytest.fixture
def run(formula: Command, tmp_path: Path) -> Run:
    """Return a function that runs `s.toml` with options on `a.db` and returns the lines of stderr."""
    definition = tmp_path / "s.toml"
    definition.write_text(
        f'[study]\nname = "s"\n[data]\nsource = "{small_data(tmp_path)}"\n'
        "[space]\nlearning_rate = {low = 0.1, high = 0.8}\nretrieval_weight = {low = 0.01, high = 1.0}\n"
    )

    def invoke(*options: str, status: int = 0) -> list[str]:
        done = formula("run", str(definition), "--storage", str(tmp_path / "a.db"), *options)
        assert (done.status, done.out) == (status, ""), done.err
        return done.err.splitlines()

    return invoke


@pytest.mark.slow
def test_a_timeout_too_short_for_any_trial(run: Run) -> None:
    lines = run("--timeout", "0.001")
    assert "stopped early: no trial was run: timeout = 0.001 s had passed" in lines
    assert any(line.startswith("0 trials, hypervolume 0 (") for line in lines)


@pytest.mark.slow
def test_a_name_alone_that_no_study_has_is_said(formula: Command, tmp_path: Path) -> None:
    source = small_data(tmp_path)
    command = ["run", "--study", "typo", "--trials", "1", "--storage", "a.db", "--set", f'data.source="{source}"']

    def said() -> str:
        done = formula(*command)
        assert done.status == 0, done.err
        return done.err

    told = "the storage has no study of this name; a new one begins with the definition ml-100k"
    assert told in said()
    assert told not in said()


@pytest.mark.slow
def test_an_objective_that_all_models_reach_is_said(run: Run) -> None:
    told = (
        "top_100 is the same for every model, because the catalogue has only 30 items; "
        "choose another objective under [study]"
    )
    assert [line.startswith(told) for line in run("--trials", "1")].count(True) == 1
    assert told not in " ".join(run("--trials", "1", "--set", 'study.objectives=["rmse", "mrr"]', "--study", "t"))


@pytest.mark.slow
def test_patience_that_ran_out(run: Run) -> None:
    # Every item of this small catalogue is in the first 100, so that nothing can be gained on chance.
    lines = run("--patience", "3")
    assert "stopped early: the hypervolume has not moved in the last 3 trials" in lines
    assert any(line.startswith("3 trials, hypervolume") for line in lines)


@pytest.mark.slow
def test_seed_need_not_be_said_again(run: Run, tmp_path: Path) -> None:
    run("--trials", "2", "--seed", "7", "--sampler", "random")
    assert "study s goes on as it was begun: seed: 42 -> 7, sampler.kind: tpe -> random" in run("--trials", "1")
    refused = run("--trials", "1", "--seed", "8", status=1)
    assert refused[-1].startswith("error: study 's' was begun with another definition")
    assert "study.seed: 7 -> 8" in refused[-1]
    assert api.load_study("s", str(tmp_path / "a.db")).counting == 3


@pytest.mark.slow
def test_warm_start_from_a_study_of_the_storage(run: Run, tmp_path: Path) -> None:
    missing = run("--warm-start", "t", status=1)
    assert missing[-1] == (
        f"error: there is no study 't' to start from: no database at {tmp_path / 'a.db'}; "
        "name the storage that holds it with --storage"
    )
    assert not (tmp_path / "a.db").exists()
    run("--trials", "4")
    assert "to start from" not in run("--trials", "1", "--study", "u", "--warm-start", "t", status=1)[-1]
    run("--trials", "5", "--study", "t", "--warm-start", "s")
    run("--until", "6", "--study", "t", "--warm-start", "s")
    front = api.load_study("s", str(tmp_path / "a.db")).front
    labels = list(api.load_study("t", str(tmp_path / "a.db")).initial.values())
    assert labels[0] == "starting point"
    assert set(labels[1:]) <= {"weights 1/1", *(f"s #{row.trial}" for row in front)}
    assert len(labels) == len(set(labels)) > 1
