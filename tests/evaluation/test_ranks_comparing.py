"""Tests that ranks by comparing equal ranks by sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.data.interactions import Codes
from mtsearch.data.split import Split
from mtsearch.evaluation import Evaluator, ranks
from mtsearch.evaluation.plan import Floats
from mtsearch.evaluation.ranks import count_by_comparing, update_missed
from tests.helpers.evaluation_cases import Tables, make_rows, make_split, random_cases

pytestmark = pytest.mark.quick

COMPARED, SORTED = 0, 10**9


def evaluate(split: Split, tables: Tables, scores_of_a_row: int, block_bytes: int = 2**26) -> dict[str, float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "SCORES_OF_A_ROW", scores_of_a_row)
        return Evaluator(split, split.validation, block_bytes).evaluate(tables)


@settings(max_examples=80, deadline=None)
@given(random_cases(most_items=400), st.sampled_from([1, 2**26]))
def test_every_metric_is_the_same_to_the_last_bit(case: tuple[Split, Tables], block_bytes: int) -> None:
    assert evaluate(*case, COMPARED, block_bytes) == evaluate(*case, SORTED, block_bytes)


def test_a_large_catalogue_is_compared_and_ranked_as_by_definition() -> None:
    rng, users, items = np.random.default_rng(3), 20, 20_000
    triples = [(int(rng.integers(users)), int(rng.integers(items)), 3.0) for _ in range(60)]
    seen = [(int(rng.integers(users)), int(rng.integers(items)), 3.0) for _ in range(3_000)]
    split = make_split(users, items, range(items), make_rows(seen), make_rows(triples))
    table = rng.integers(3_000, size=(users, items)).astype(np.float32)
    measured = Evaluator(split, split.validation).evaluate(Tables(table, np.full((users, items), 3.0)))
    hits = []
    for user, item, _ in triples:
        above, ties = np.sum(table[user] > table[user, item]), np.sum(table[user] == table[user, item])
        hits.append(np.clip((100 - above) / ties, 0, 1))
    assert measured["top_100"] == pytest.approx(np.mean(hits))
    assert measured == evaluate(split, Tables(table, np.full((users, items), 3.0)), SORTED)


@settings(max_examples=60, deadline=None)
@given(random_cases(most_items=260), st.sampled_from([1, 100, 2**26]))
def test_users_of_the_same_scores_are_ranked_by_one_sort(case: tuple[Split, Tables], block_bytes: int) -> None:
    split, tables = case
    alike = Alike(tables.score_table[0], tables.rating_table)
    copied = Tables(np.repeat(tables.score_table[:1], len(split.user_ids), axis=0), tables.rating_table)
    assert evaluate(split, alike, SORTED, block_bytes) == evaluate(split, copied, SORTED, block_bytes)


class Alike(Tables):
    """A scorer with the same scores `[C]` for all users, stored only once."""

    def scores(self, users: Codes) -> Floats:
        return np.broadcast_to(self.score_table, (len(users), len(self.score_table)))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(-4, 4))
def test_counts_are_those_of_a_loop(numbers: list[int], value: int) -> None:
    scores = np.array([[9] * len(numbers), numbers, [-9] * len(numbers)], np.float32)
    above, ties = count_by_comparing(scores, np.array([1]), np.array([value], np.float32))
    assert above.tolist() == [sum(number > value for number in numbers)]
    assert ties.tolist() == [sum(number == value for number in numbers)]


@given(st.integers(101, 3_000), st.sampled_from([1, 3, 10**6]), st.integers(0, 1000))
def test_the_first_hundred_are_found_in_any_order(size: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.integers(levels, size=size).astype(np.float32))[:: rng.choice([-1, 1])]
    missed = np.ones(size)
    update_missed(missed, scores)
    last = np.sort(scores)[-100]
    assert (missed[scores > last] == 0).all()
    assert (missed[scores < last] == 1).all()
    share = (100 - np.sum(scores > last)) / np.sum(scores == last)
    assert missed[scores == last] == pytest.approx(1 - share)
