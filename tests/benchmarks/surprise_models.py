"""Evaluate SVD and SVD++ of scikit-surprise, with its defaults, as every other model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import surprise
from numpy.typing import NDArray

from mtsearch.data import Split
from mtsearch.data.interactions import Codes
from mtsearch.evaluation import Evaluator

_CHECKED = 200
"""Test rows whose ratings are compared with what Surprise says of them."""


class Factors:
    """A trained SVD or SVD++ as a `Scorer`: mean + user bias + item bias + product, unclipped; items by that rating.

    Surprise itself predicts pair by pair in Python: 1.6 million pairs of SVD++ would take hours.

    Args:
        mean: global mean, in stars.
        user_biases, item_biases: `[U]` and `[I]`; 0 for the unknown, as Surprise has it.
        users, items: `[U, D]` and `[I, D]`; the same.
        catalogue: `[C]` codes of the items that are ranked.
    """

    def __init__(
        self,
        mean: float,
        user_biases: NDArray[np.float64],
        item_biases: NDArray[np.float64],
        users: NDArray[np.float64],
        items: NDArray[np.float64],
        catalogue: Codes,
    ) -> None:
        self._mean, self._user_biases, self._item_biases = mean, user_biases, item_biases
        self._users, self._items, self._catalogue = users, items, catalogue
        self._ranked = items[catalogue].T

    def ratings(self, users: Codes, items: Codes) -> NDArray[np.floating]:
        """Return the predicted ratings; see `Scorer`."""
        products = np.einsum("bd,bd->b", self._users[users], self._items[items])
        ratings: NDArray[np.float64] = self._mean + self._user_biases[users] + self._item_biases[items] + products
        return ratings

    def scores(self, users: Codes) -> NDArray[np.floating]:
        """Return the scores; see `Scorer`. The user's bias is left out: it is the same for all items."""
        scores: NDArray[np.float64] = self._item_biases[self._catalogue] + self._users[users] @ self._ranked
        return scores


def svd(split: Split) -> Mapping[str, float]:
    """Evaluate SVD: 100 factors, 20 epochs."""
    return _evaluate(split, surprise.SVD(random_state=0))


def svdpp(split: Split) -> Mapping[str, float]:
    """Evaluate SVD++: 20 factors, 20 epochs."""
    return _evaluate(split, surprise.SVDpp(random_state=0))


def _evaluate(split: Split, algorithm: Any) -> Mapping[str, float]:
    rows = split.train
    lowest, highest = float(rows.ratings.min()), float(rows.ratings.max())
    reader = surprise.Reader(rating_scale=(lowest, highest))
    triples = zip(rows.users.tolist(), rows.items.tolist(), rows.ratings.tolist(), strict=True)
    data = surprise.Dataset(reader)
    trainset = data.construct_trainset([(user, item, rating, None) for user, item, rating in triples])
    algorithm.fit(trainset)
    factors = _factors(split, trainset, algorithm)
    _check(split, factors, algorithm)
    return Evaluator(split, split.test).evaluate(factors)


def _factors(split: Split, trainset: Any, algorithm: Any) -> Factors:
    """Return Surprise's arrays in the numbering of the split."""
    users = [trainset.to_raw_uid(inner) for inner in trainset.all_users()]
    items = [trainset.to_raw_iid(inner) for inner in trainset.all_items()]
    of_users = np.asarray(algorithm.pu)
    if hasattr(algorithm, "yj"):  # SVD++: what a user has rated moves its factors
        implicit = np.asarray(algorithm.yj)
        rated = [[item for item, _ in trainset.ur[inner]] for inner in trainset.all_users()]
        of_users = of_users + np.stack([implicit[each].sum(axis=0) / np.sqrt(len(each)) for each in rated])
    return Factors(
        trainset.global_mean,
        _spread(np.asarray(algorithm.bu), users, len(split.user_ids)),
        _spread(np.asarray(algorithm.bi), items, len(split.item_ids)),
        _spread(of_users, users, len(split.user_ids)),
        _spread(np.asarray(algorithm.qi), items, len(split.item_ids)),
        split.catalogue,
    )


def _spread(values: NDArray[np.float64], codes: list[int], size: int) -> NDArray[np.float64]:
    """Return an array `[size, ...]` with the values at their codes, 0 elsewhere."""
    whole = np.zeros((size, *values.shape[1:]))
    whole[codes] = values
    return whole


def _check(split: Split, factors: Factors, algorithm: Any) -> None:
    """Check that our arithmetic equals that of Surprise."""
    rows = split.test.take(np.arange(min(_CHECKED, len(split.test))))
    said = [
        algorithm.predict(user, item, clip=False).est
        for user, item in zip(rows.users.tolist(), rows.items.tolist(), strict=True)
    ]
    np.testing.assert_allclose(factors.ratings(rows.users, rows.items), said, rtol=0, atol=1e-9)
