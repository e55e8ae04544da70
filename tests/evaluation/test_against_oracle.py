"""Tests of random cases against an independent implementation in plain Python."""

from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.data.split import Split
from mtsearch.evaluation import Evaluator
from mtsearch.metrics import PossibleRanks
from tests.helpers import oracle
from tests.helpers.evaluation_cases import Tables, random_cases

pytestmark = pytest.mark.quick


def assert_same_as_oracle(case: tuple[Split, Tables]) -> None:
    split, tables = case
    measured = Evaluator(split, split.validation).evaluate(tables)
    assert measured == pytest.approx(oracle.metrics(split, split.validation, tables), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(random_cases())
def test_small_catalogues(case: tuple[Split, Tables]) -> None:
    assert_same_as_oracle(case)


@settings(max_examples=40, deadline=None)
@given(random_cases(most_items=260))
def test_catalogues_around_both_cut_offs(case: tuple[Split, Tables]) -> None:
    assert_same_as_oracle(case)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.data())
def test_expected_gain_is_the_mean_over_all_shuffles(scores: list[int], data: st.DataObject) -> None:
    index, k = data.draw(st.integers(0, len(scores) - 1)), data.draw(st.integers(1, 7))
    shuffled = oracle.ranks_of_all_shuffles(scores, index)
    assert fmean(shuffled) == pytest.approx(fmean(oracle.possible_ranks(scores, scores[index])))
    above = np.array([sum(score > scores[index] for score in scores)])
    ties = np.array([scores.count(scores[index])])
    ranks = PossibleRanks(above, ties, len(scores))
    hits, reciprocals = ranks.expected_gain(lambda rank: rank <= k), ranks.expected_gain(lambda rank: 1 / rank)
    assert hits[0] == pytest.approx(fmean(place <= k for place in shuffled))
    assert reciprocals[0] == pytest.approx(fmean(1 / place for place in shuffled))


@pytest.mark.parametrize("k", [1, 10, 100, 1000])
def test_hits_equal_the_closed_formula_to_the_last_bit(k: int) -> None:
    above, ties = (grid.ravel() for grid in np.meshgrid(np.arange(0, 300, 7), np.arange(1, 300, 11)))
    gains = PossibleRanks(above, ties, 600).expected_gain(lambda rank: rank <= k)
    assert np.array_equal(gains, np.clip((k - above) / ties, 0, 1))
