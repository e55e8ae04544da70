"""Tests of every metric against arithmetic by hand: 6 users, 8 catalogue items, a ninth item outside."""

import math

import numpy as np
import pytest

from mtsearch.evaluation import Evaluator
from mtsearch.evaluation.evaluator import BLOCK_BYTES
from mtsearch.evaluation.plan import make_plan
from mtsearch.evaluation.ranks import Ranks
from mtsearch.metrics import metrics_of
from tests.helpers.evaluation_cases import Tables, make_rows, make_split

pytestmark = pytest.mark.quick

SCORES = np.array(
    [
        [8, 7, 6, 5, 4, 3, 2, 1],
        [0.0, -0.0, 0.0, -0.0, 0.0, -0.0, 0.0, -0.0],
        [5, 5, 5, 1, 1, 1, 1, 1],
        [1, 2, 3, 4, 5, 6, 7, 8],
        [2, 2, 1, 1, 0, 0, -1, -1],
        [3, 9, 1, 4, 1, 5, 9, 2],
    ],
    np.float32,
)
TRAIN = [
    *[(0, 0, 5.0), (0, 1, 4.0), (0, 1, 4.0)],  # user 0 rated item 1 twice: left out once
    *[(1, 0, 1.0), (1, 1, 2.0), (1, 2, 3.0), (1, 3, 4.0)],
    *[(2, 0, 3.0), (2, 3, 3.0)],  # item 3 is also user 2's evaluated item
    *[(3, 8, 3.0), (3, 7, 3.0)],  # item 8 is outside the catalogue
    (4, 2, 3.0),
]  # user 5 is unknown
#              user, item, rating      above  ties   above  ties of the unseen
ROWS = [
    (0, 2, 4.0),  # 8 7 | 6              2     1       0      1    (0 and 1 left out)
    (0, 2, 4.0),  # the same row again
    (1, 5, 2.0),  # all equal            0     8       0      4    (0, 1, 2, 3 left out)
    (2, 3, 1.0),  # 5 5 5 | 1 1 1 1 1    3     5       2      5    (0 left out; 3 is its own)
    (3, 8, 5.0),  # outside: a miss      8     1       8      1
    (4, 4, 3.0),  # 2 2 1 1 | 0 0        4     2       3      2    (2 left out)
    (5, 6, 5.0),  # 9 9                  0     2       0      2
]
SPLIT = make_split(6, 9, range(8), make_rows(TRAIN), make_rows(ROWS))
# Predictions 4, 4, 3, 1, 5.5, 3, 7 of 4, 4, 2, 1, 5, 3, 5: errors 0, 0, 1, 0, 0.5, 0, 2.
PREDICTED = np.full((6, 9), 99.0, np.float32)
PREDICTED[[0, 1, 2, 3, 4, 5], [2, 5, 3, 8, 4, 6]] = [4, 3, 1, 5.5, 3, 7]
TABLES = Tables(SCORES, PREDICTED)


def hand_ranks() -> Ranks:
    plan = make_plan(SPLIT, SPLIT.validation, BLOCK_BYTES)
    ranks = Ranks.all_misses(len(ROWS), 8)
    (block,) = plan.blocks
    (tile,) = block.tiles
    ranks.record(tile, SCORES[block.users])
    return ranks


def test_ranks_are_those_worked_out_by_hand() -> None:
    ranks = hand_ranks()
    assert ranks.whole.above.tolist() == [2, 2, 0, 3, 8, 4, 0]
    assert ranks.whole.ties.tolist() == [1, 1, 8, 5, 1, 2, 2]
    assert ranks.unseen.above.tolist() == [0, 0, 0, 2, 8, 3, 0]
    assert ranks.unseen.ties.tolist() == [1, 1, 4, 5, 1, 2, 2]


def test_hits_of_the_first_three_are_those_worked_out_by_hand() -> None:
    ranks = hand_ranks()
    # (3 - above) / ties, between 0 and 1: 1/1, 1/1, 3/8, 0/5, miss, -1/2, 3/2
    assert ranks.whole.expected_gain(lambda rank: rank <= 3).tolist() == [1, 1, 3 / 8, 0, 0, 0, 1]
    # unseen: 3/1, 3/1, 3/4, 1/5, miss, 0/2, 3/2
    assert ranks.unseen.expected_gain(lambda rank: rank <= 3).tolist() == [1, 1, 3 / 4, 1 / 5, 0, 0, 1]


def test_metrics_are_those_worked_out_by_hand() -> None:
    measured = Evaluator(SPLIT, SPLIT.validation).evaluate(TABLES)
    reciprocal = [
        *[1 / 3, 1 / 3],
        (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6 + 1 / 7 + 1 / 8) / 8,
        (1 / 4 + 1 / 5 + 1 / 6 + 1 / 7 + 1 / 8) / 5,
        0,
        (1 / 5 + 1 / 6) / 2,
        (1 + 1 / 2) / 2,
    ]
    discount = [0, *(1 / math.log2(rank + 1) for rank in range(1, 9))]
    gained = [
        *[1 / 2, 1 / 2],
        sum(discount) / 8,
        sum(discount[4:]) / 5,
        0,
        sum(discount[5:7]) / 2,
        sum(discount[:3]) / 2,
    ]
    wanted = {
        "rmse": math.sqrt((1 + 0.25 + 4) / 7),
        "rmse_clipped": math.sqrt(1 / 7),  # 5.5 and 7 become 5
        "mae": 3.5 / 7,
        "top_10": 6 / 7,  # 8 items: all but the miss, although 10 > 8
        "top_10_unseen": 6 / 7,
        "top_100": 6 / 7,
        "top_100_unseen": 6 / 7,
        "ndcg_10": sum(gained) / 7,
        "mrr": sum(reciprocal) / 7,
        "recall_100": 5 / 6,  # five users of six, user 0's two rows counting as one
        "coverage": 1.0,
    }
    assert measured == pytest.approx(wanted, abs=1e-12)
    assert list(measured) == list(metrics_of())
