"""References that need no search: whoever does not beat them has found nothing.

What they reach on MovieLens 100K, as `mtsearch baselines` has it (72,000 rows to train on, 8,000 to judge):

                 rmse   top_100  top_100_unseen
    chance      1.128     0.060           0.066
    popularity  1.128     0.298           0.400
    biases      0.948     0.184           0.236
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Rows
from mtsearch.data.split import Split
from mtsearch.evaluation.evaluator import Evaluator

Reals = NDArray[np.float64]
Singles = NDArray[np.float32]

BIAS_ROUNDS = 10
ITEM_REGULARISATION = 10
USER_REGULARISATION = 15


@dataclass(frozen=True, eq=False)
class Baseline:
    """A `Scorer` that offers everyone the same order.

    Attributes:
        mean: rating of the average training row, in stars.
        user_offsets: `[U]` stars added to it.
        item_offsets: `[I]` stars added to it.
        item_scores: `[C]` float32.
    """

    mean: float
    user_offsets: Reals
    item_offsets: Reals
    item_scores: Singles

    def ratings(self, users: Codes, items: Codes) -> Singles:
        """`[B]` mean plus both offsets."""
        return (self.mean + self.user_offsets[users] + self.item_offsets[items]).astype(np.float32)

    def scores(self, users: Codes) -> Singles:
        """`[u, C]` read-only, every row the same."""
        return np.broadcast_to(self.item_scores, (len(users), len(self.item_scores)))


def baselines(split: Split, rows: Rows) -> dict[str, dict[str, float]]:
    """Metrics of `chance`, `popularity` and `biases` on `rows`, learnt from `split.train`.

    Raises:
        MalformedData: nothing to evaluate on, to rank or to learn from.
    """
    evaluator = Evaluator(split, rows)
    return {name: evaluator.evaluate(make(split)) for name, make in BASELINES.items()}


def chance(split: Split) -> Baseline:
    """The mean rating for every pair, and no preference: top-k is k / C."""
    return _constant(split, np.zeros(len(split.catalogue), np.float32))


def popularity(split: Split) -> Baseline:
    """The mean rating for every pair; items in the order of their number of training rows."""
    counts = np.bincount(split.train.items, minlength=len(split.item_ids))
    # float32 tells counts apart up to 2**24: 16.8 million ratings of one item.
    return _constant(split, counts[split.catalogue].astype(np.float32))


def biases(split: Split) -> Baseline:
    """Mean, user and item offset; items in the order of the rating that they predict.

    Regularised offsets by alternating least squares, items first (Koren 2010, "Factor in the Neighbors", eq. 4-5):
    b_i = sum(r - mean - b_u) / (10 + n_i), b_u = sum(r - mean - b_i) / (15 + n_u), ten rounds: the published defaults
    of Surprise's BaselineOnly, not tuned here. Unknown users and items have offset 0.

    The score is the item's offset alone: the user's is the same for all items, and adding it in float32 would round
    different items into ties.
    """
    rows, mean = split.train, _mean(split)
    above_mean = rows.ratings.astype(np.float64) - mean  # float32 minus a Python float would stay float32
    users, items = np.zeros(len(split.user_ids)), np.zeros(len(split.item_ids))
    for _ in range(BIAS_ROUNDS):
        items = _offsets(rows.items, above_mean - users[rows.users], len(items), ITEM_REGULARISATION)
        users = _offsets(rows.users, above_mean - items[rows.items], len(users), USER_REGULARISATION)
    return Baseline(mean, users, items, items[split.catalogue].astype(np.float32))


BASELINES: dict[str, Callable[[Split], Baseline]] = {"chance": chance, "popularity": popularity, "biases": biases}


def _offsets(codes: Codes, residuals: Reals, size: int, regularisation: int) -> Reals:
    """`[size]` sum of the residuals of each code over (regularisation + their number)."""
    sums = np.bincount(codes, weights=residuals, minlength=size)
    return sums / (regularisation + np.bincount(codes, minlength=size))


def _constant(split: Split, item_scores: Singles) -> Baseline:
    return Baseline(_mean(split), np.zeros(len(split.user_ids)), np.zeros(len(split.item_ids)), item_scores)


def _mean(split: Split) -> float:
    return float(split.train.ratings.mean(dtype=np.float64))
