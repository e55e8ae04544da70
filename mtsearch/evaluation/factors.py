"""A model of factors as a scorer: its rating is a mean, an offset of the user, one of the item, and a product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes
from mtsearch.evaluation.plan import Floats

_BATCH_VALUES = 2**22
"""Values of the users' vectors that are gathered at a time: 16 MiB in float32."""


@dataclass(frozen=True, eq=False)
class Factors:
    """A trained model of factors as a `Scorer`, which ranks the items by their ratings.

    Attributes:
        mean: added to every rating, in rating units.
        user_offsets: `[U]` in rating units.
        item_offsets: `[I]` in rating units.
        users: `[U, D]` vectors.
        items: `[I, D]` vectors.
        catalogue: `[C]` codes of the items that are ranked.
    """

    mean: float
    user_offsets: Floats
    item_offsets: Floats
    users: Floats
    items: Floats
    catalogue: Codes

    def ratings(self, users: Codes, items: Codes) -> Floats:
        """Return the predicted ratings `[B]`, unclipped; see `Rater`."""
        products = np.empty(len(users), np.result_type(self.users, self.items))
        step = max(1, _BATCH_VALUES // max(1, self.users.shape[1]))
        for start in range(0, len(users), step):
            part = slice(start, start + step)
            np.einsum("bd,bd->b", self.users[users[part]], self.items[items[part]], out=products[part])
        ratings: Floats = self.mean + self.user_offsets[users] + self.item_offsets[items] + products
        return ratings

    def scores(self, users: Codes) -> Floats:
        """Return the scores `[u, C]`; see `Ranker`. The user's offset is left out: it is the same for all items."""
        of_items: Floats = self.items[self.catalogue]
        scores: Floats = self.item_offsets[self.catalogue] + self.users[users] @ of_items.T
        return scores


def spread(values: Floats, codes: NDArray[np.integer], size: int) -> Floats:
    """Return an array `[size, ...]` with the values at their codes, and their mean at every other code.

    So a model says of an id that it has not seen what it says of the average one.
    """
    whole: Floats = np.broadcast_to(values.mean(axis=0, dtype=np.float64), (size, *values.shape[1:])).astype(
        values.dtype
    )
    whole[codes] = values
    return whole
