"""The initial trials of a study: [[trials]], the starting point, weights 1/1, and another study's front."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from mtsearch import api
from mtsearch.errors import DefinitionError, StudyMismatch, StudyNotFound
from mtsearch.search.space import initial_trials
from mtsearch.search.storage import open_writer
from mtsearch.search.storage.url import resolve_url
from mtsearch.study_file.definition import StudyDefinition
from tests.helpers.trainers import FormulaTrainer, slow_formula
from tests.search.test_run import SPACE, define, go, send_at, trials_of

START = {"rating_weight": 0.5, "retrieval_weight": 0.01, "embedding_size": 16, "learning_rate": 0.2}
UNIT = {**START, "rating_weight": 1.0, "retrieval_weight": 1.0}


def with_defaults(**tables: Any) -> dict[str, Any]:
    return {"space": {name: {**SPACE[name], "default": START[name]} for name in SPACE}, **tables}


def listed(path: Path, name: str = "s") -> list[tuple[int, str]]:
    trials = trials_of(path, name)
    return [(t.number, t.user_attrs["mtsearch:listed"]) for t in trials if "mtsearch:listed" in t.user_attrs]


def test_own_list_then_starting_point_then_unit_weights(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    results = go(define(data, **with_defaults(trials=[{"learning_rate": 0.7}])), path, 5)
    trials = trials_of(path)
    assert results.counting == len(trials) == 5
    assert trials[0].params["learning_rate"] == 0.7
    assert [t.params for t in trials[1:3]] == [START, UNIT]
    assert results.initial == {0: "[[trials]] 1", 1: "starting point", 2: "weights 1/1"}
    assert dict(listed(path)) == results.initial


def shop(**space: Any) -> StudyDefinition:
    """A definition of three tasks; it is not run here."""
    tasks = {
        "view": {"kind": "retrieval", "where": "event = 'view'"},
        "purchase": {"kind": "retrieval", "where": "event = 'purchase'"},
        "stars": {"kind": "rating", "target": "stars"},
    }
    return StudyDefinition.from_mapping({
        "study": {"name": "shop", "objectives": ["purchase.top_100", "rmse"]},
        "tasks": tasks,
        "space": {"learning_rate": {"low": 0.01, "high": 0.1, "default": 0.02}, **space},
    })  # fmt: skip


def test_several_tasks_begin_with_equal_weights_and_with_each_task_above_all() -> None:
    weight = {"low": 0.05, "high": 2.0, "log": True, "default": 0.5}
    names = ("weight.view", "weight.purchase", "weight.stars")
    found = initial_trials(shop(**dict.fromkeys(names, weight)), None)
    assert [(each.label, *(each.params[name] for name in names)) for each in found] == [
        ("starting point", 0.5, 0.5, 0.5),
        ("equal weights", 1.0, 1.0, 1.0),
        ("view above all", 2.0, 0.05, 0.05),
        ("purchase above all", 0.05, 2.0, 0.05),
        ("stars above all", 0.05, 0.05, 2.0),
    ]
    assert all(each.params["learning_rate"] == 0.02 for each in found)


def test_the_weight_of_one_task_alone_is_searched() -> None:
    """With its weight at the bottom neither of the other two would be above all."""
    found = initial_trials(shop(**{"weight.view": {"choices": [0.1, 1, 4]}}), None)
    assert [(each.label, each.params["weight.view"]) for each in found] == [
        ("starting point", 1),
        ("view above all", 4),
    ]
    assert [each.label for each in initial_trials(shop(), None)] == ["starting point"]


def test_a_configuration_is_an_initial_trial_only_once(data: str, tmp_path: Path) -> None:
    results = go(define(data, **with_defaults(trials=[UNIT, START, UNIT])), tmp_path / "a.db", 4)
    assert results.initial == {0: "[[trials]] 1", 1: "[[trials]] 2"}
    assert [t.params for t in trials_of(tmp_path / "a.db")[:2]] == [UNIT, START]


def test_definition_without_space_has_its_list_alone(data: str, tmp_path: Path) -> None:
    results = go(
        define(data, space={}, trials=[{"learning_rate": 0.1}, {"learning_rate": 0.2}]), tmp_path / "a.db", None
    )
    assert results.initial == {0: "[[trials]] 1", 1: "[[trials]] 2"}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 2])
def test_initial_trials_are_never_run_twice_and_keep_their_slot(data: str, tmp_path: Path, cut: int) -> None:
    definition = define(data, **with_defaults())
    go(definition, tmp_path / "whole.db", 15)
    assert go(definition, tmp_path / "a.db", None, FormulaTrainer(send_at(cut, 1)), until=15).interrupted
    for until in (1, 2, 15):
        go(definition, tmp_path / "a.db", None, until=until)
    done = [trial for trial in trials_of(tmp_path / "a.db") if trial.state.name == "COMPLETE"]
    assert [trial.params for trial in done] == [trial.params for trial in trials_of(tmp_path / "whole.db")]
    assert [trial.user_attrs.get("mtsearch:listed") for trial in done[:3]] == ["starting point", "weights 1/1", None]


@pytest.mark.slow
def test_several_workers_run_each_initial_trial_once(data: str, tmp_path: Path) -> None:
    definition = define(data, **with_defaults(trials=[{"learning_rate": rate / 10} for rate in range(1, 6)]))
    api.run(definition, 9, workers=3, storage=str(tmp_path / "a.db"), make_trainer=slow_formula)
    trials = trials_of(tmp_path / "a.db")
    assert [number for number, _ in listed(tmp_path / "a.db")] == list(range(7))
    assert [trial.params["learning_rate"] for trial in trials[:5]] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert [trial.params for trial in trials[5:7]] == [START, UNIT]


@pytest.mark.slow
def test_warm_start_runs_the_other_front_once(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    front = go(define(data), path, 12).front
    # The front holds weights 1/1, which both studies begin with and which are listed once.
    front = [row for row in front if row.params["rating_weight"] < 1]
    assert len(front) > 2
    space = {name: {**SPACE[name], "default": START[name]} for name in ("rating_weight", "retrieval_weight")}
    definition = define(data, study={"name": "t", "seed": 3}, space=space)
    until = 2 + len(front) + 3
    go(definition, path, 3, warm_start="s")
    results = go(definition, path, None, until=until, warm_start="s")
    wanted = [{name: row.params[name] for name in space} for row in front]
    assert [t.params for t in trials_of(path, "t")[2 : 2 + len(front)]] == wanted
    assert list(results.initial.values())[2:] == [f"s #{row.trial}" for row in front]
    assert results.counting == until
    assert go(definition, path, 1).counting == until + 1  # what it was begun with need not be said again


def test_warm_start_takes_what_lies_in_the_space_and_the_rest_from_the_starting_point(
    data: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    front = go(define(data, trials=[{"embedding_size": 32}]), path, 6).front
    space = {
        **with_defaults()["space"],
        "embedding_size": {"choices": [8, 32], "default": 8},
        "item_bias": {"choices": [False, True]},
    }
    go(define(data, study={"name": "t"}, space=space), path, 2 + len(front), warm_start="s")
    warm = [t for t in trials_of(path, "t") if t.user_attrs["mtsearch:listed"].startswith("s #")]
    by_label = {f"s #{row.trial}": row.params for row in front}
    assert len(warm) == len(front)
    for trial in warm:
        theirs = by_label[trial.user_attrs["mtsearch:listed"]]
        expected = 32 if theirs["embedding_size"] == 32 else 8
        assert trial.params == {**theirs, "embedding_size": expected, "item_bias": False}


def test_a_refused_warm_start_writes_nothing(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with pytest.raises(StudyNotFound, match="no database at"):
        go(define(data), path, 1, warm_start="t")
    assert not path.exists()
    go(define(data), path, 2)
    other = define(data, study={"name": "t"}, space={"hidden_dropout": {"low": 0.0, "high": 0.5}})
    for definition, name, error, message in [
        (other, "nonsense", StudyNotFound, r"no study 'nonsense'.*it holds: s"),
        (other, "t", StudyNotFound, r"no study 't'"),
        (other, "s", StudyMismatch, r"no parameter of study 's' lies in this space \(hidden_dropout\)"),
        (define(data, study={"name": "t"}, space={}, trials=[START]), "s", DefinitionError, r"has no \[space\]"),
        (define(data), "s", StudyMismatch, "warm start: nothing -> s"),
    ]:
        with pytest.raises(error, match=message):
            go(definition, path, 1, warm_start=name)
    assert optuna.get_all_study_names(open_writer(resolve_url(str(path)))) == ["s"]


def test_warm_start_from_an_empty_front_is_refused(data: str, tmp_path: Path) -> None:
    go(define(data), tmp_path / "a.db", 5, timeout=1e-9)
    with pytest.raises(StudyMismatch, match="'s' has no front to start from"):
        go(define(data, study={"name": "t"}), tmp_path / "a.db", 1, warm_start="s")
