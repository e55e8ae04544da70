"""Tests of the standard errors of metrics of some users: by hand, and by repeated samples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

from mtsearch.data import load, make_split
from mtsearch.data.split import Split
from mtsearch.evaluation import Evaluator
from mtsearch.evaluation.baselines import biases
from mtsearch.evaluation.evaluator import Means
from mtsearch.metrics import METRICS, metrics_of
from mtsearch.study_file.sections import DataSection, SplitSection
from tests.helpers.evaluation_cases import Tables, random_cases

pytestmark = pytest.mark.quick

OF_USERS = np.array([0, 0, 0, 1, 1, 2])
"""Three users of three, two and one rows."""


def test_a_mean_over_rows_by_hand() -> None:
    means = Means(OF_USERS, drawn_from=12)
    means.add(METRICS["top_10"], np.array([1.0, 1.0, 0.0, 0.0, 0.0, 1.0]))
    # Sums 2, 0, 1 of 3, 2, 1 rows: R = 1/2, residuals 1/2, -1, 1/2; a quarter of the users; 2 rows each on average.
    assert means.values == {"top_10": 0.5}
    assert means.errors == {"top_10": pytest.approx(math.sqrt((1 - 3 / 12) / 3 * 1.5 / 2) / 2)}


def test_a_mean_over_users_by_hand() -> None:
    means = Means(OF_USERS, drawn_from=12)
    means.add(METRICS["recall_100"], np.array([1.0, 1.0, 0.0, 0.0, 0.0, 1.0]))
    # 2/3, 0 and 1: mean 5/9, residuals 1/9, -5/9, 4/9.
    assert means.values == {"recall_100": pytest.approx(5 / 9)}
    assert means.errors == {"recall_100": pytest.approx(math.sqrt((1 - 3 / 12) / 3 * (42 / 81) / 2))}


def test_a_root_by_hand() -> None:
    means = Means(OF_USERS, drawn_from=12)
    means.add(METRICS["mae"], np.array([4.0, 4.0, 0.0, 0.0, 0.0, 4.0]))
    means.add(METRICS["rmse"], np.array([4.0, 4.0, 0.0, 0.0, 0.0, 4.0]))
    assert means.values["rmse"] == pytest.approx(math.sqrt(2))
    assert means.errors["rmse"] == pytest.approx(means.errors["mae"] / (2 * math.sqrt(2)))


def test_a_root_of_nothing_has_no_error() -> None:
    means = Means(OF_USERS, drawn_from=12)
    means.add(METRICS["rmse"], np.zeros(6))
    assert means.errors == {"rmse": 0}


def test_without_a_sample_nothing_has_an_error() -> None:
    means = Means(OF_USERS)
    means.add(METRICS["rmse"], np.ones(6))
    assert means.errors == {}


@settings(max_examples=50, deadline=None)
@given(random_cases())
def test_every_mean_has_one_and_nothing_else_changes(case: tuple[Split, Tables]) -> None:
    split, tables = case
    users = len(np.unique(split.validation.users))
    if users < 2:
        return
    values, none = Evaluator(split, split.validation).measure(tables)
    same, errors = Evaluator(split, split.validation, drawn_from=users + 1).measure(tables)
    assert same == values
    assert none == {}
    assert set(errors) == {key for key, metric in metrics_of().items() if metric.per != "catalogue"}
    _, whole = Evaluator(split, split.validation, drawn_from=users).measure(tables)
    assert set(whole.values()) == {0.0}


@pytest.mark.slow
def test_the_value_of_all_users_is_within_1_96_errors_in_19_of_20_samples() -> None:
    """The ratings are real and the scorer is fixed; a sample is 150 of the users with validation rows."""
    split = make_split(load(DataSection()), SplitSection())
    rows, scorer, draw = split.validation, biases(split), np.random.default_rng(7)
    everyone = np.unique(rows.users)
    truth = Evaluator(split, rows).evaluate(scorer)
    within = dict.fromkeys(metrics_of(), 0)
    estimates: dict[str, list[float]] = {key: [] for key in metrics_of()}
    predicted: dict[str, list[float]] = {key: [] for key in metrics_of()}
    samples = 600
    for _ in range(samples):
        drawn = draw.choice(everyone, 150, replace=False)
        some = rows.take(np.flatnonzero(np.isin(rows.users, drawn)))
        values, errors = Evaluator(split, some, drawn_from=len(everyone)).measure(scorer)
        for key, error in errors.items():
            within[key] += abs(values[key] - truth[key]) <= 1.96 * error
            estimates[key].append(values[key])
            predicted[key].append(error)
    for key in (key for key, metric in metrics_of().items() if metric.per != "catalogue"):
        # 0.95 give or take 2 standard deviations of 600 draws, and the skew of 150 users.
        assert 0.925 <= within[key] / samples <= 0.97, key
        spread = np.std(estimates[key], ddof=1)
        assert np.mean(predicted[key]) == pytest.approx(spread, rel=0.1), key
