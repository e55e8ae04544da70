"""Tests of the changes that must not change a rank, and of those that must."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.data.split import Split
from mtsearch.evaluation import Evaluator
from mtsearch.evaluation.plan import make_plan
from mtsearch.evaluation.ranks import count_below
from tests.helpers.evaluation_cases import Tables, make_rows, make_split, one_user, random_cases

pytestmark = pytest.mark.quick


def evaluate(split: Split, tables: Tables, block_bytes: int = 2**26) -> dict[str, float]:
    return Evaluator(split, split.validation, block_bytes=block_bytes).evaluate(tables)


@settings(max_examples=60, deadline=None)
@given(random_cases(), st.sampled_from([1, 100]))
def test_the_size_of_blocks_changes_nothing(case: tuple[Split, Tables], block_bytes: int) -> None:
    assert evaluate(*case, block_bytes) == evaluate(*case)


def test_many_tiles_in_a_block_give_the_same_as_one_user_each() -> None:
    rng, users, items = np.random.default_rng(5), 400, 1000  # 262 users of 1,000 scores fill a tile of 1 MiB

    def rows(count: int) -> list[tuple[int, int, float]]:
        return [(int(rng.integers(users)), int(rng.integers(items) ** 2 // items), 3.0) for _ in range(count)]

    split = make_split(users, items, range(items), make_rows(rows(5000)), make_rows(rows(1000)))
    tables = Tables(rng.integers(300, size=(users, items)).astype(np.float32), np.full((users, items), 3.0))
    assert [len(block.tiles) for block in make_plan(split, split.validation, 2**26).blocks] == [2]
    assert evaluate(split, tables, block_bytes=1) == evaluate(split, tables)


@settings(max_examples=60, deadline=None)
@given(random_cases())
def test_only_the_order_of_scores_counts(case: tuple[Split, Tables]) -> None:
    split, tables = case
    scores = tables.score_table
    for same_order in (scores + 4096, scores * 2 - 7, np.arctan(scores.astype(np.float64)), scores**3):
        assert evaluate(split, Tables(same_order, tables.rating_table)) == evaluate(split, tables)


def test_scores_one_bit_apart_are_no_ties() -> None:
    next_up = float(np.nextafter(np.float32(1), np.float32(2)))
    split, tables = one_user([1.0, next_up], evaluated=[0])
    assert evaluate(split, tables)["mrr"] == 1 / 2
    split, tables = one_user([1.0, next_up], evaluated=[1])
    assert evaluate(split, tables)["mrr"] == 1


def test_float64_scores_are_not_rounded() -> None:
    split, tables = one_user([0.0, 0.0], evaluated=[0])
    tables.score_table = np.array([[1.0, 1.0 + 1e-12]] * 2)
    assert evaluate(split, tables)["mrr"] == 1 / 2


def test_zero_and_minus_zero_are_ties() -> None:
    split, tables = one_user([0.0, -0.0, -0.0, 0.0], evaluated=[1])
    assert evaluate(split, tables)["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_unseen_leaves_out_seen_items_but_never_the_rows_own() -> None:
    best_first = [float(-item) for item in range(20)]
    split, tables = one_user(best_first, evaluated=[12], train=[0, 1, 2, 2, 19])
    assert evaluate(split, tables)["top_10"] == 0  # rank 13
    assert evaluate(split, tables)["top_10_unseen"] == 1  # rank 10: items 0, 1, 2 left out
    split, tables = one_user(best_first, evaluated=[12], train=[0, 1, 12])
    assert evaluate(split, tables)["top_10_unseen"] == 0  # rank 11: its own item stays
    split, tables = one_user(best_first, evaluated=[9], train=[9])
    assert evaluate(split, tables)["top_10_unseen"] == 1


def test_coverage_counts_items_of_the_first_hundred_and_shares_the_last_place_among_ties() -> None:
    split, tables = one_user([float(item) for item in range(150)], evaluated=[0])
    assert evaluate(split, tables)["coverage"] == 100 / 150
    tables.score_table[:, 49] = 50.0  # ranks 100 and 101 tie: either of them
    assert evaluate(split, tables)["coverage"] == 100 / 150
    tables.score_table[1] *= -1  # a user without evaluated rows adds nothing
    assert evaluate(split, tables)["coverage"] == 100 / 150


def test_coverage_of_users_who_break_their_ties_independently() -> None:
    rows = make_rows([(0, 0, 3.0), (1, 0, 3.0)])
    scores = np.zeros((2, 150), np.float32)
    scores[1, :99] = 1.0  # one place left for 51 items
    measured = evaluate(make_split(2, 150, range(150), rows, rows), Tables(scores, np.full((2, 150), 3.0)))
    assert measured["coverage"] == pytest.approx((99 + 51 * (1 - (50 / 150) * (50 / 51))) / 150)


@settings(max_examples=40, deadline=None)
@given(random_cases(most_items=260), st.sampled_from([1, 100]))
def test_tiles_change_no_bit_of_a_coverage_with_ties(case: tuple[Split, Tables], block_bytes: int) -> None:
    assert evaluate(*case, block_bytes)["coverage"] == evaluate(*case)["coverage"]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(-4, 4))
def test_batched_search_counts_like_a_loop(numbers: list[int], value: int) -> None:
    ordered = np.array([[9] * len(numbers), sorted(numbers), [-9] * len(numbers)], np.float32)
    below, not_above = count_below(ordered, np.array([1]), np.array([value], np.float32))
    assert below.tolist() == [sum(number < value for number in numbers)]
    assert not_above.tolist() == [sum(number <= value for number in numbers)]
