"""Ranks that are counted on the device equal those that are counted on the host."""

from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.data.split import Split
from mtsearch.errors import NonFiniteMetric
from mtsearch.evaluation import Evaluator
from mtsearch.evaluation.plan import Block
from mtsearch.evaluation.ranks import BlockCounts
from mtsearch.models.joint_scorer import RankCounter
from tests.helpers.evaluation_cases import Tables, make_rows, make_split, random_cases


@cache
def counter() -> RankCounter:
    return RankCounter()


class OnDevice(Tables):
    """Tables that are ranked by a `RankCounter`."""

    def counts(self, block: Block) -> BlockCounts | None:
        # The product of a unit vector for each user with the scores is the scores themselves.
        users = tf.eye(len(self.score_table))
        return counter().count(block, users, tf.constant(self.score_table.T, tf.float32))


def evaluate(split: Split, tables: Tables, block_bytes: int = 2**26) -> dict[str, float]:
    return Evaluator(split, split.validation, block_bytes=block_bytes).evaluate(tables)


def on_device(tables: Tables) -> Tables:
    return OnDevice(tables.score_table.astype(np.float32), tables.rating_table)


@settings(max_examples=15, deadline=None)
@given(random_cases(), st.sampled_from([1, 100, 2**26]))
def test_equal_to_the_host(case: tuple[Split, Tables], block_bytes: int) -> None:
    split, tables = case
    assert evaluate(split, on_device(tables), block_bytes) == evaluate(split, tables, block_bytes)


def test_many_tiles_and_tied_places() -> None:
    rng, users, items = np.random.default_rng(5), 400, 1000

    def rows(count: int) -> list[tuple[int, int, float]]:
        return [(int(rng.integers(users)), int(rng.integers(items) ** 2 // items), 3.0) for _ in range(count)]

    split = make_split(users, items, range(items), make_rows(rows(5000)), make_rows(rows(1000)))
    # Of 1,000 items about 3 tie, and for every tenth user about 30: some at the last of 100 places.
    scores = rng.integers(300, size=(users, items))
    scores[::10] //= 10
    tables = Tables(scores.astype(np.float32), np.full((users, items), 3.0))
    assert evaluate(split, on_device(tables)) == evaluate(split, tables)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_named(bad: float) -> None:
    split = make_split(2, 3, range(3), make_rows([(0, 0, 3.0)]), make_rows([(0, 1, 3.0), (1, 2, 4.0)]))
    scores = np.zeros((2, 3), np.float32)
    scores[1, 0] = bad
    with pytest.raises(NonFiniteMetric) as on_host:
        evaluate(split, Tables(scores, np.full((2, 3), 3.0)))
    with pytest.raises(NonFiniteMetric) as counted:
        evaluate(split, OnDevice(scores, np.full((2, 3), 3.0)))
    assert str(counted.value) == str(on_host.value)
