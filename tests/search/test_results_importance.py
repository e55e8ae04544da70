"""The importance of parameters for each objective."""

import math
from typing import Any

import optuna
import pytest

from mtsearch.search.attributes import DEFINITION
from mtsearch.search.results import FEWEST_FOR_IMPORTANCE, compute_importances


def studied(trials: int, values: Any) -> optuna.Study:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0))
    study.set_user_attr(DEFINITION, {"study": {"objectives": ["rmse", "top_100"]}})
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, values(trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)))
    return study


def test_each_objective_has_the_parameter_that_decides_it_first() -> None:
    found = compute_importances(studied(200, lambda a, b: (a, b)))
    assert {key: next(iter(shares)) for key, shares in found.items()} == {"rmse": "a", "top_100": "b"}
    assert all(sum(shares.values()) == pytest.approx(1) for shares in found.values())
    assert found["rmse"]["a"] > 0.8


def test_the_direction_of_an_objective_matters() -> None:
    # The best top_100 lie in the last tenth of b alone; its worst are spread over the rest.
    found = compute_importances(studied(200, lambda a, b: (a, 1.0 + b if b > 0.9 else a)))
    assert next(iter(found["top_100"])) == "b"


def test_infinite_and_infeasible_trials_are_left_out() -> None:
    sane = compute_importances(studied(200, lambda a, b: (a, b)))
    study = studied(200, lambda a, b: (a, b))
    for number in range(30):
        trial = study.ask()
        trial.suggest_float("a", 0, 1)
        trial.suggest_float("b", 0, 1)
        if number % 2:
            trial.set_constraint("size", 1.0)
        # Each would be the best of one objective.
        study.tell(trial, (-5.0, 0.5 if number % 2 else math.inf))
    assert compute_importances(study) == sane


def test_few_trials_or_no_variation_give_no_importances() -> None:
    assert compute_importances(studied(FEWEST_FOR_IMPORTANCE - 1, lambda a, b: (a, b))) == {}
    assert compute_importances(studied(FEWEST_FOR_IMPORTANCE, lambda a, b: (a, b))) != {}
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_user_attr(DEFINITION, {"study": {"objectives": ["rmse", "top_100"]}})
    for _ in range(30):
        study.tell(study.ask(), (1.0, 0.5))
    assert compute_importances(study) == {}
