"""Tests of the properties that every metric has, and of new metrics that only this module defines."""

import math
from collections.abc import Mapping
from statistics import fmean, median

import numpy as np
import pytest
from hypothesis import given, settings

from mtsearch.data.split import Split
from mtsearch.evaluation import Evaluator
from mtsearch.metrics import Metric, Predictions, metrics_of
from tests.helpers import oracle
from tests.helpers.evaluation_cases import Tables, random_cases

pytestmark = pytest.mark.quick

METRICS = metrics_of()

HITS_5 = Metric(
    key="top_5",
    kind="retrieval",
    label="top-5 accuracy",
    direction="maximize",
    unit="",
    ideal=1.0,
    summary="share of rows whose item ranks in the first 5 of the whole catalogue",
    formula=lambda ranking: ranking.ranks.expected_gain(lambda rank: rank <= 5),
    per="row",
    hits_within=5,
)


def median_error(predictions: Predictions) -> float:
    return float(np.median(abs(predictions.ratings - predictions.true_ratings)))


MEDIAN_ERROR = Metric(
    key="median_error",
    kind="rating",
    label="median error",
    direction="minimize",
    unit="stars",
    ideal=0.0,
    summary="median absolute error of unclipped predictions",
    formula=median_error,
    per=None,
)

RMS_RANK = Metric(
    key="rms_rank",
    kind="retrieval",
    label="rank",
    direction="minimize",
    unit="",
    ideal=1.0,
    summary="root mean square rank within the catalogue, averaged over users",
    formula=lambda ranking: ranking.ranks.expected_gain(lambda rank: rank * 1.0) ** 2,
    per="user",
    root=True,
)


def measure(
    case: tuple[Split, Tables], metrics: Mapping[str, Metric], drawn_from: int | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    split, tables = case
    return Evaluator(split, split.validation, drawn_from=drawn_from, metrics=metrics).measure(tables)


@settings(max_examples=100, deadline=None)
@given(random_cases())
def test_no_model_is_better_than_the_ideal(case: tuple[Split, Tables]) -> None:
    for key, value in measure(case, METRICS)[0].items():
        metric = METRICS[key]
        assert metric.sign * metric.ideal <= metric.sign * value, key


@settings(max_examples=60, deadline=None)
@given(random_cases())
def test_a_new_mean_over_rows_equals_the_oracle(case: tuple[Split, Tables]) -> None:
    split, tables = case
    ranks = oracle.row_ranks(split, split.validation, tables, unseen=False)
    values, _ = measure(case, {HITS_5.key: HITS_5})
    assert values == {"top_5": pytest.approx(fmean(oracle.expected(ranks, oracle.hit(5))))}


@settings(max_examples=60, deadline=None)
@given(random_cases())
def test_a_new_root_of_a_mean_over_users_equals_the_oracle(case: tuple[Split, Tables]) -> None:
    split, tables = case
    by_user: dict[int, list[float]] = {}
    ranks = oracle.row_ranks(split, split.validation, tables, unseen=False)
    for user, possible in zip(split.validation.users.tolist(), ranks, strict=True):
        by_user.setdefault(user, []).append(fmean(possible) ** 2 if possible else 0.0)  # a miss gains nothing
    values, _ = measure(case, {RMS_RANK.key: RMS_RANK})
    assert values == {"rms_rank": pytest.approx(math.sqrt(fmean(map(fmean, by_user.values()))))}


@settings(max_examples=60, deadline=None)
@given(random_cases())
def test_a_new_metric_that_is_no_mean(case: tuple[Split, Tables]) -> None:
    split, tables = case
    rows = zip(split.validation.users, split.validation.items, split.validation.ratings.tolist(), strict=True)
    wanted = median(abs(float(tables.rating_table[user, item]) - rating) for user, item, rating in rows)
    assert measure(case, {MEDIAN_ERROR.key: MEDIAN_ERROR})[0] == {"median_error": pytest.approx(wanted)}


@settings(max_examples=30, deadline=None)
@given(random_cases())
def test_new_metrics_change_no_other_and_come_last(case: tuple[Split, Tables]) -> None:
    users = len(np.unique(case[0].validation.users))
    drawn_from = users + 1 if users > 1 else None
    new = {metric.key: metric for metric in (HITS_5, MEDIAN_ERROR, RMS_RANK)}
    values, errors = measure(case, METRICS | new, drawn_from)
    old_values, old_errors = measure(case, METRICS, drawn_from)
    assert list(values) == [*METRICS, *new]
    assert {key: values[key] for key in METRICS} == old_values
    # What is no mean over rows or users has no standard error.
    assert list(errors) == ([*old_errors, "top_5", "rms_rank"] if drawn_from else [])
    assert {key: errors[key] for key in old_errors} == old_errors
