"""Train SVD and SVD++ of scikit-surprise, so that they are evaluated as every other model."""

from typing import Any

import numpy as np
import surprise
from numpy.typing import NDArray

from mtsearch.data import Split
from mtsearch.evaluation.factors import Factors

_CHECKED = 200
"""Test rows whose ratings are compared with what Surprise says of them."""


def svd(split: Split, **settings: float) -> Factors:
    """Train SVD; by default 100 factors, 20 epochs."""
    return _train(split, surprise.SVD(random_state=0, **settings))


def svdpp(split: Split, **settings: float) -> Factors:
    """Train SVD++; by default 20 factors, 20 epochs."""
    return _train(split, surprise.SVDpp(random_state=0, **settings))


def _train(split: Split, algorithm: Any) -> Factors:
    """Train on the split's training rows. Surprise itself predicts pair by pair: 1.6 million would take hours."""
    rows = split.train
    lowest, highest = float(rows.ratings.min()), float(rows.ratings.max())
    reader = surprise.Reader(rating_scale=(lowest, highest))
    triples = zip(rows.users.tolist(), rows.items.tolist(), rows.ratings.tolist(), strict=True)
    data = surprise.Dataset(reader)
    trainset = data.construct_trainset([(user, item, rating, None) for user, item, rating in triples])
    algorithm.fit(trainset)
    factors = _factors(split, trainset, algorithm)
    _check(split, factors, algorithm)
    return factors


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
    """Return an array `[size, ...]` with the values at their codes, 0 elsewhere, as Surprise has it."""
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
