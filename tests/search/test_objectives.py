"""A study of one, three and four objectives, from its first trial to its export."""

import math
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from mtsearch import StudyDefinition, TrialEnd, api
from mtsearch.errors import PickError, StudyMismatch
from mtsearch.metrics import METRICS
from mtsearch.search.results import StudyResults
from mtsearch.search.selection import select
from mtsearch.search.storage import open_reader
from mtsearch.search.storage.url import resolve_url
from mtsearch.study_file.export import Export
from tests.helpers.fixtures import small_data
from tests.helpers.trainers import FormulaTrainer, slow_formula
from tests.search.test_run import SPACE, define, go, send_at, trials_of

KEYS = ("rmse", "ndcg_10", "mae", "mrr")
RATE = {"learning_rate": SPACE["learning_rate"]}  # the lowest is the best in every objective, or as good as any
each_number = pytest.mark.parametrize("number", [1, pytest.param(3, marks=pytest.mark.slow), 4])
one_and_four = pytest.mark.parametrize("number", [1, 4])


def define_of(data: str, number: int, study: dict[str, Any] | None = None, **tables: Any) -> StudyDefinition:
    """Return the definition of a study with the first objectives of `KEYS`."""
    return define(data, study={"name": "s", "seed": 3, "objectives": list(KEYS[:number]), **(study or {})}, **tables)


def losses(keys: Sequence[str], values: Sequence[float]) -> list[float]:
    return [METRICS[key].sign * value for key, value in zip(keys, values, strict=True)]


def best_numbers(path: Path) -> list[int]:
    """Return the numbers of the trials on Optuna's front."""
    study = optuna.load_study(study_name="s", storage=open_reader(resolve_url(str(path))))
    return [trial.number for trial in study.best_trials]


class Run(NamedTuple):
    data: str
    path: Path
    results: StudyResults
    ends: list[TrialEnd]


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Run]:
    """Give a function that returns a run of 12 trials of so many objectives, which tests only read or copy."""

    @cache
    def run(number: int) -> Run:
        folder, ends = tmp_path_factory.mktemp("twelve"), list[TrialEnd]()
        data, path = small_data(folder), folder / "a.db"
        return Run(data, path, go(define_of(data, number), path, 12, on_trial=ends.append), ends)

    return run


@pytest.mark.slow
@each_number
def test_a_study_runs_and_its_results_are_stored(twelve: Callable[[int], Run], number: int) -> None:
    keys, (_, path, results, ends) = KEYS[:number], twelve(number)
    assert api.load_study("s", path).rows == results.rows
    assert results.counting == 12
    assert tuple(metric.key for metric in results.objectives) == keys
    rows = {row.trial: row for row in results.rows}
    for trial, end in zip(trials_of(path), ends, strict=True):
        assert trial.values == [trial.user_attrs["mtsearch:metrics"][key] for key in keys]
        assert end.values == rows[trial.number].values == tuple(trial.values)
    assert sorted(row.trial for row in results.front) == best_numbers(path)
    assert results.knee in results.front
    assert len(results.ideal) == len(results.signs) == len(results.baseline_values("chance")) == number
    assert 0 < results.hypervolume < 1


def test_with_one_objective_the_front_is_the_best_trial(data: str, tmp_path: Path) -> None:
    results = go(define_of(data, 1), tmp_path / "a.db", 8)
    (best,) = results.front
    assert best == results.knee
    assert best.values[0] == min(row.values[0] for row in results.rows)
    chance = results.baselines["chance"]["rmse"]
    assert results.hypervolume == pytest.approx((chance - best.values[0]) / chance)
    assert results.beaten_by(best) == [name for name, had in results.baselines.items() if best.values[0] < had["rmse"]]


@pytest.mark.slow
@each_number
def test_a_study_in_parts_equals_one_in_one_go(data: str, tmp_path: Path, number: int) -> None:
    whole, parts = tmp_path / "a.db", tmp_path / "b.db"
    definition = define_of(data, number, study={"sampler": {"kind": "tpe", "n_startup_trials": 4}})
    go(definition, whole, 10)
    for place in (3, 4):
        assert go(definition, parts, None, FormulaTrainer(send_at(place, 2)), until=10).interrupted
    go(definition, parts, None, until=10)
    complete = [[t for t in trials_of(path) if t.state == TrialState.COMPLETE] for path in (whole, parts)]
    assert [(t.params, t.values) for t in complete[0]] == [(t.params, t.values) for t in complete[1]]
    assert len(complete[0]) == 10


@pytest.mark.slow
@one_and_four
def test_several_workers(data: str, tmp_path: Path, number: int) -> None:
    definition = define_of(data, number, study={"sampler": {"kind": "tpe", "n_startup_trials": 2}})
    results = api.run(definition, 6, workers=2, storage=str(tmp_path / "a.db"), make_trainer=slow_formula)
    assert results.counting == len(results.rows) == 6
    assert sorted(row.trial for row in results.front) == best_numbers(tmp_path / "a.db")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kind"), [(1, "halving"), (3, "dominated"), (4, "halving")])
def test_pruned(data: str, tmp_path: Path, number: int, kind: str) -> None:
    """TPE goes on after pruned trials, and the front holds complete trials only."""
    study = {"pruner": {"kind": kind, "grace": 1}, "sampler": {"kind": "tpe", "n_startup_trials": 5}}
    results = go(define_of(data, number, study=study, space=RATE, fixed={"epochs": 8}), tmp_path / "a.db", 20)
    assert results.counting == 20
    assert results.states["pruned"] > 0
    assert sorted(row.trial for row in results.front) == best_numbers(tmp_path / "a.db")


@each_number
def test_patience_ends_a_study_without_gain(data: str, tmp_path: Path, number: int) -> None:
    """The hypervolume has not moved: no trial of the last three lies outside what the others dominate."""
    results = go(define_of(data, number, space=RATE), tmp_path / "a.db", 100, patience=3)
    assert results.stopped == "the hypervolume has not moved in the last 3 trials"
    points = [losses(KEYS[:number], row.values) for row in results.rows]
    for place in range(len(points) - 3, len(points)):
        assert any(all(a <= b for a, b in zip(other, points[place], strict=True)) for other in points[:place])


@one_and_four
def test_constraints_keep_trials_from_the_front(data: str, tmp_path: Path, number: int) -> None:
    results = go(define_of(data, number, constraints={"max_parameters": 1}), tmp_path / "a.db", 3)
    assert results.front == []
    assert results.infeasible == (0, 1, 2)
    assert results.hypervolume == 0
    with pytest.raises(PickError, match=r"no trial keeps the \[constraints\]"):
        select(results)


@one_and_four
def test_repeats_have_a_spread_in_each_objective(data: str, tmp_path: Path, number: int) -> None:
    results = go(define_of(data, number, study={"repeats": 3}), tmp_path / "a.db", 3)
    spread = results.spread(0)
    assert spread is not None
    assert len(spread) == number
    assert spread[0] == pytest.approx(1e-3)  # the formula adds 0.001 to the RMSE from seed to seed


@pytest.mark.slow
@one_and_four
def test_importances_of_each_objective(data: str, tmp_path: Path, number: int) -> None:
    space = {name: SPACE[name] for name in ("learning_rate", "embedding_size")}
    go(define_of(data, number, study={"sampler": {"kind": "random"}}, space=space), tmp_path / "a.db", 30)
    shares = api.load_study("s", tmp_path / "a.db", importances=True).importances
    first = {key: next(iter(by_name)) for key, by_name in shares.items()}
    expected = {"rmse": "learning_rate", "ndcg_10": "learning_rate", "mae": "embedding_size", "mrr": "embedding_size"}
    assert first == {key: expected[key] for key in KEYS[:number]}


@pytest.mark.slow
@each_number
def test_a_trial_is_selected_and_exported(twelve: Callable[[int], Run], tmp_path: Path, number: int) -> None:
    key, (_, path, results, _) = KEYS[number - 1], twelve(number)
    loss = {row.trial: losses(KEYS[:number], row.values)[-1] for row in results.rows}
    on_front = sorted(loss[row.trial] for row in results.front)
    middle = on_front[len(on_front) // 2]
    rule = f"{key}{'<=' if METRICS[key].sign > 0 else '>='}{abs(middle)!r}"
    found = {}
    for pick in ("knee", key, "trial:3", rule):
        exported = api.export("s", path, pick=pick)
        assert (exported.provenance.objectives, exported.provenance.pick) == (KEYS[:number], pick)
        assert Export.load(exported.save(tmp_path / "best.toml")) == exported
        found[pick] = exported.provenance.trial
    assert results.knee is not None
    assert (found["knee"], found["trial:3"]) == (results.knee.trial, 3)
    assert loss[found[key]] == min(loss.values())
    assert loss[found[rule]] <= middle


@pytest.mark.slow
@one_and_four
def test_a_front_starts_another_study(twelve: Callable[[int], Run], tmp_path: Path, number: int) -> None:
    data, path, front = twelve(number).data, tmp_path / "a.db", twelve(number).results.front
    shutil.copy(twelve(number).path, path)
    again = define_of(data, number, study={"name": "t"})
    go(again, path, len(front) + 2, warm_start="s")
    later = [trial.params for trial in trials_of(path, "t")]
    assert all(row.params in later for row in front)


def test_infinite_values_are_on_no_front(data: str, tmp_path: Path) -> None:
    go(define_of(data, 3), tmp_path / "a.db", 2)
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'a.db'}")
    study.add_trial(create_trial(values=[-math.inf, 1.0, 0.0]))
    assert 2 not in {row.trial for row in api.load_study("s", tmp_path / "a.db").front}


@one_and_four
def test_another_number_of_objectives_is_another_study(data: str, tmp_path: Path, number: int) -> None:
    go(define(data, study={"name": "s", "seed": 3, "objectives": ["rmse", "ndcg_10"]}), tmp_path / "a.db", 1)
    with pytest.raises(StudyMismatch, match=r"study\.objectives: "):
        go(define_of(data, number), tmp_path / "a.db", 1)
