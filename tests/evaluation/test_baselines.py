"""Tests of the baselines that need no search."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings

from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.evaluation import Evaluator, Scorer, evaluate_baselines
from mtsearch.evaluation.baselines import Baseline, TaskBaselines, biases, chance, popularity
from mtsearch.metrics import metrics_of
from tests.helpers.evaluation_cases import Tables, make_rows, make_split, random_cases

pytestmark = pytest.mark.quick


def of_rating(baselines: TaskBaselines) -> Baseline:
    """Return the baseline of the tutorial's rating task, which ranks too."""
    baseline = baselines.of_task("rating")
    assert isinstance(baseline, Baseline)
    return baseline


def plain_biases(train: Rows) -> tuple[float, dict[int, float], dict[int, float]]:
    """Return mean, user and item offsets, computed with dictionaries as the paper describes them."""
    rated = list(zip(train.users.tolist(), train.items.tolist(), train.ratings.tolist(), strict=True))
    mean = sum(rating for _, _, rating in rated) / len(rated)
    of_user: dict[int, float] = defaultdict(float)
    of_item: dict[int, float] = defaultdict(float)
    for _ in range(10):
        for item in {item for _, item, _ in rated}:
            residuals = [rating - mean - of_user[u] for u, i, rating in rated if i == item]
            of_item[item] = sum(residuals) / (10 + len(residuals))
        for user in {user for user, _, _ in rated}:
            residuals = [rating - mean - of_item[i] for u, i, rating in rated if u == user]
            of_user[user] = sum(residuals) / (15 + len(residuals))
    return mean, of_user, of_item


@settings(max_examples=40, deadline=None)
@given(random_cases())
def test_biases_equal_a_plain_implementation(case: tuple[Split, Tables]) -> None:
    split, _ = case
    mean, of_user, of_item = plain_biases(split.train)
    fitted, rows = of_rating(biases(split)), split.validation
    wanted = [mean + of_user[u] + of_item[i] for u, i in zip(rows.users.tolist(), rows.items.tolist(), strict=True)]
    assert fitted.ratings(rows.users, rows.items) == pytest.approx(wanted, abs=1e-6)
    assert fitted.item_scores == pytest.approx([of_item[item] for item in split.catalogue.tolist()], abs=1e-6)
    # The offsets themselves are float64: close enough to tell ten rounds from nine.
    assert fitted.user_offsets == pytest.approx([of_user[user] for user in range(len(split.user_ids))], abs=1e-12)
    assert fitted.item_offsets == pytest.approx([of_item[item] for item in range(len(split.item_ids))], abs=1e-12)


def fit_biases(*last_ratings: float) -> Tables:
    """Return predictions for 2 users x 3 items; `last_ratings` are user 0's of item 1; user 1 and item 2 have none."""
    train = make_rows([(0, 0, 3.0), *((0, 1, rating) for rating in last_ratings)])
    fitted = of_rating(biases(make_split(2, 3, range(3), train, train)))
    users, items = np.indices((2, 3), np.int32).reshape(2, -1)
    return Tables(fitted.scores(np.arange(2, dtype=np.int32)), fitted.ratings(users, items).reshape(2, 3))


def test_biases_move_towards_a_higher_rating_and_trust_more_ratings_more() -> None:
    low, high, often = fit_biases(4.0), fit_biases(5.0), fit_biases(5.0, 5.0, 5.0, 5.0)
    assert low.score_table[0, 1] < high.score_table[0, 1]
    assert low.rating_table[0, 1] < high.rating_table[0, 1]
    assert abs(often.rating_table[0, 1] - 5) < abs(high.rating_table[0, 1] - 5)
    assert np.argsort(high.rating_table[0]).tolist() == np.argsort(high.score_table[0]).tolist()


def test_biases_of_unknown_ids_are_zero() -> None:
    fitted = fit_biases(5.0)
    assert fitted.rating_table[1, 2] == 4  # the mean of 3 and 5
    assert fitted.score_table[0, 2] == 0


def test_popularity_orders_by_training_count() -> None:
    train = make_rows([(0, 0, 1.0), (0, 2, 2.0), (1, 2, 3.0), (1, 3, 4.0), (1, 3, 4.0), (1, 3, 4.0)])
    fitted = of_rating(popularity(make_split(2, 4, [0, 1, 3], train, train)))
    assert fitted.scores(np.array([1, 0], np.int32)).tolist() == [[1, 0, 3], [1, 0, 3]]
    assert fitted.ratings(np.array([0, 1], np.int32), np.array([0, 2], np.int32)).tolist() == [3, 3]


def test_chance_has_no_preference() -> None:
    train = make_rows([(0, 0, 1.0), (1, 1, 2.0)])
    split = make_split(2, 400, range(400), train, make_rows([(0, 7, 2.0), (1, 300, 5.0)]))
    measured = Evaluator(split, split.validation).evaluate(chance(split))
    assert measured["top_100"] == 100 / 400
    assert measured["top_100_unseen"] == pytest.approx(100 / 399)
    assert measured["mae"] == pytest.approx((0.5 + 3.5) / 2)
    assert measured["coverage"] == pytest.approx(1 - (1 - 100 / 400) ** 2)


def test_baselines_are_named_and_complete() -> None:
    rng = np.random.default_rng(3)
    taste, quality = rng.normal(size=60), rng.normal(size=150)
    users, items = rng.integers(60, size=4000), np.minimum(rng.geometric(0.02, size=4000) - 1, 149)
    ratings = np.clip(3 + taste[users] + quality[items] + rng.normal(size=4000) / 2, 1, 5)
    rows = Rows(users.astype(np.int32), items.astype(np.int32), ratings.astype(np.float32), np.zeros(4000, np.int64))
    train, held_out = rows.take(np.arange(3000)), rows.take(np.arange(3000, 4000))
    found = evaluate_baselines(make_split(60, 150, range(150), train, held_out), held_out)
    assert list(found) == ["chance", "popularity", "biases"]
    assert all(list(values) == list(metrics_of()) for values in found.values())
    assert found["popularity"]["rmse"] == found["chance"]["rmse"] > 1.2 * found["biases"]["rmse"]
    assert found["popularity"]["top_10"] > 2 * found["chance"]["top_10"]
    assert found["popularity"]["coverage"] < 0.8


def test_a_baseline_is_a_scorer() -> None:
    train = make_rows([(0, 0, 1.0)])
    scorer: Scorer = of_rating(chance(make_split(1, 1, [0], train, train)))
    assert scorer.scores(np.zeros(1, np.int32)).shape == (1, 1)
