"""[constraints]: trials that exceed them are stored, and are on no front (of reports, views, optuna-dashboard)."""

import json
import math
import sqlite3
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import pytest

from mtsearch.models.trainer import TrialResult
from mtsearch.search.storage import open_reader
from mtsearch.search.storage.url import resolve_url
from mtsearch.search.trial import TrialEnd, constraint_excesses
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import ConstraintsSection
from tests.helpers.trainers import FormulaTrainer
from tests.search.test_run import SPACE, define, go, trials_of


class Sized(FormulaTrainer):
    """A trainer of a model with 1,000 weights and one second of training per embedding dimension."""

    def train(self, config: TrialConfig, on_epoch: Any) -> TrialResult:
        result = super().train(config, on_epoch)
        size, seconds = 1000 * config.embedding_size, float(config.embedding_size)
        times = {"prepare": 99.0, "train": seconds, "evaluate": 99.0}
        return TrialResult(result.metrics, result.curve, result.best_epoch, size, times)


@pytest.mark.slow
@pytest.mark.parametrize(
    "limit", [{"max_parameters": 20_000}, {"max_seconds": 20.0}, {"max_parameters": 20_000, "max_seconds": 16.0}]
)
def test_infeasible_trials_are_on_no_front(data: str, tmp_path: Path, limit: dict[str, float]) -> None:
    path = tmp_path / "a.db"
    results = go(define(data, constraints=limit), path, 14, Sized())
    trials = trials_of(path)
    too_large = {t.number for t in trials if t.params["embedding_size"] == 32}
    assert results.counting == 14
    assert 0 < len(too_large) < 14
    assert set(results.infeasible) == too_large
    assert {row.trial for row in results.rows} == {t.number for t in trials} - too_large
    front = {row.trial for row in results.front}
    study = optuna.load_study(study_name="s", storage=open_reader(resolve_url(str(path))))
    assert {t.number for t in study.best_trials} == front
    with sqlite3.connect(path) as connection:
        assert {number for (number,) in connection.execute("select trial from pareto_front")} == front
    assert all(limit.keys() <= t.constraints.keys() for t in trials)  # under their names
    everything = {t.number for t in trials}
    assert front.isdisjoint(too_large) and front < everything


def test_seconds_are_those_of_one_seed(data: str, tmp_path: Path) -> None:
    definition = define(data, study={"name": "s", "seed": 3, "repeats": 3}, constraints={"max_seconds": 40.0})
    results = go(definition, tmp_path / "a.db", 4, Sized())  # 16 or 32 s each
    assert (results.counting, results.infeasible) == (4, ())


def test_the_observer_gets_infeasible_trials(data: str, tmp_path: Path) -> None:
    ends: list[TrialEnd] = []
    results = go(define(data, constraints={"max_seconds": 20.0}), tmp_path / "a.db", 8, Sized(), on_trial=ends.append)
    assert results.infeasible == tuple(end.trial for end in ends if not end.feasible) != ()


def test_optuna_dashboard_shows_infeasible_trials(data: str, tmp_path: Path) -> None:
    limit = {"max_parameters": 16_000, "max_seconds": 32.0}
    go(define(data, constraints=limit), tmp_path / "a.db", 8, Sized())
    environ: dict[str, Any] = {"PATH_INFO": "/api/studies/1"}
    setup_testing_defaults(environ)
    app = optuna_dashboard.wsgi(open_reader(resolve_url(str(tmp_path / "a.db"))))
    (study,) = (json.loads(part) for part in app(environ, lambda *_: None))
    told = {trial["number"]: trial["constraints"] for trial in study["trials"]}
    sizes = {t.number: t.params["embedding_size"] for t in trials_of(tmp_path / "a.db")}
    assert set(sizes.values()) == {16, 32}
    assert told == {number: [size / 16 - 1, size / 32 - 1] for number, size in sizes.items()}


@pytest.mark.slow
def test_sampler_learns_from_them(data: str, tmp_path: Path) -> None:
    """TPE proposes few of its 30 trials in a region that was infeasible before."""
    space = {**SPACE, "embedding_size": {"low": 8, "high": 64}}
    go(define(data, space=space, constraints={"max_parameters": 20_000}), tmp_path / "a.db", 42, Sized())
    go(define(data, space=space), tmp_path / "b.db", 42, Sized())
    sizes = {name: [t.params["embedding_size"] for t in trials_of(tmp_path / name)[12:]] for name in ("a.db", "b.db")}
    too_large = {name: sum(size > 20 for size in values) for name, values in sizes.items()}
    assert too_large["a.db"] < too_large["b.db"] / 2


def test_excess_is_a_share_of_the_limit() -> None:
    limits = ConstraintsSection(max_parameters=100, max_seconds=2.0)
    assert constraint_excesses(limits, 150, 1.0) == {"max_parameters": 0.5, "max_seconds": -0.5}
    assert constraint_excesses(limits, 100, 2.0) == {"max_parameters": 0.0, "max_seconds": 0.0}
    assert constraint_excesses(ConstraintsSection(), 150, math.inf) == {}
