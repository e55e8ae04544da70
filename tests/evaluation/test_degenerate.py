"""Tests of metrics of degenerate models (constant, exploding, perfect) and on nearly empty data."""

from collections.abc import Callable

import numpy as np
import pytest

from mtsearch.errors import MalformedData, NonFiniteMetric
from mtsearch.evaluation import Evaluator, evaluate_baselines
from mtsearch.metrics import metrics_of
from tests.helpers.evaluation_cases import Floats, Tables, make_rows, make_split, one_user

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("items", [101, 150, 1664])
def test_a_constant_model_scores_like_chance(items: int) -> None:
    split, tables = one_user([0.25] * items, evaluated=[0, items // 2, items - 1])
    measured = Evaluator(split, split.validation).evaluate(tables)
    assert measured["top_10"] == pytest.approx(10 / items)
    assert measured["top_100"] == pytest.approx(100 / items)
    assert measured["recall_100"] == pytest.approx(100 / items)
    assert measured["coverage"] == pytest.approx(100 / items)  # one user is offered a hundred items, whichever


def test_a_perfect_model_gets_everything() -> None:
    scores = np.eye(200, dtype=np.float32)
    train = make_rows([(user, (user + 1) % 200, 1.0 + user % 5) for user in range(200)])
    rows = make_rows([(user, user, 1.0 + user % 5) for user in range(200)])
    ratings = np.tile((1.0 + np.arange(200) % 5)[:, None], (1, 200)).astype(np.float32)
    measured = Evaluator(make_split(200, 200, range(200), train, rows), rows).evaluate(Tables(scores, ratings))
    assert measured == {key: metric.ideal for key, metric in metrics_of().items()}


def test_predictions_are_clipped_to_the_training_ratings_and_not_to_the_evaluated() -> None:
    train = make_rows([(0, 0, 2.0), (0, 1, 4.0)])
    rows = make_rows([(0, 0, 1.0), (0, 1, 5.0)])
    tables = Tables(np.zeros((1, 2), np.float32), np.array([[1.0, 5.0]], np.float32))
    measured = Evaluator(make_split(1, 2, [0, 1], train, rows), rows).evaluate(tables)
    assert measured["rmse"] == 0
    assert measured["rmse_clipped"] == 1


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("table", ["score_table", "rating_table"])
def test_a_non_finite_prediction_is_named(table: str, value: float) -> None:
    split, tables = one_user([1.0, 2.0, 3.0], evaluated=[2, 1])
    getattr(tables, table)[0, 1] = value
    what = table.removesuffix("_table")
    with pytest.raises(NonFiniteMetric, match=f"non-finite {what} for user 'user 0000' and item 'item 0001'"):
        Evaluator(split, split.validation).evaluate(tables)


def test_a_non_finite_score_of_an_item_outside_all_rows_is_found() -> None:
    split, tables = one_user([1.0] * 500, evaluated=[0])
    tables.score_table[0, 250] = np.nan
    with pytest.raises(NonFiniteMetric, match="item 0250"):
        Evaluator(split, split.validation).evaluate(tables)


def test_a_rating_whose_square_would_overflow_is_refused() -> None:
    split, tables = one_user([1.0, 2.0], evaluated=[1])
    tables.rating_table = np.full((2, 2), 1e200)
    with pytest.raises(NonFiniteMetric, match="rating"):
        Evaluator(split, split.validation).evaluate(tables)


@pytest.mark.parametrize("spoil", [lambda a: a[..., None], lambda a: a[..., :-1], lambda a: a.astype(np.int64)])
@pytest.mark.parametrize("method", ["scores", "ratings"])
def test_another_shape_or_type_than_promised_is_refused(method: str, spoil: Callable[[Floats], Floats]) -> None:
    split, tables = one_user([1.0, 2.0], evaluated=[1, 0])
    honest = getattr(tables, method)
    setattr(tables, method, lambda *codes: spoil(honest(*codes)))
    with pytest.raises(ValueError, match=rf"scorer\.{method} returned .* but float32 .* was expected"):
        Evaluator(split, split.validation).evaluate(tables)


def test_nothing_to_evaluate_rank_or_learn_from_is_malformed() -> None:
    some, none = make_rows([(0, 0, 3.0)]), make_rows([])
    with pytest.raises(MalformedData, match="no rows to evaluate on"):
        Evaluator(make_split(1, 1, [0], some, none), none)
    with pytest.raises(MalformedData, match="catalogue has no items"):
        Evaluator(make_split(1, 1, [], some, some), some)
    with pytest.raises(MalformedData, match="no training rows"):
        evaluate_baselines(make_split(1, 1, [0], none, some), some)


def test_one_user_and_one_item() -> None:
    some = make_rows([(0, 0, 3.0)])
    tables = Tables(np.zeros((1, 1), np.float32), np.full((1, 1), 4.0, np.float32))
    measured = Evaluator(make_split(1, 1, [0], some, some), some).evaluate(tables)
    assert measured == dict.fromkeys(metrics_of(), 1.0) | {"rmse_clipped": 0.0}


def test_rows_outside_the_catalogue_are_misses_whatever_the_cut_off() -> None:
    train, rows = make_rows([(0, 0, 3.0)]), make_rows([(0, 2, 3.0), (1, 3, 3.0)])
    split = make_split(2, 4, [0, 1], train, rows)
    evaluator = Evaluator(split, rows)
    measured = evaluator.evaluate(Tables(np.ones((2, 2), np.float32), np.full((2, 4), 3.0, np.float32)))
    assert measured == dict.fromkeys(metrics_of(), 0.0) | {"coverage": 1.0}
