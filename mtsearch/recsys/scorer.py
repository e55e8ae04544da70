"""What a trained model says, in the form in which the protocol judges it."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes
from mtsearch.recsys.compiled import CompiledModel

ROWS_AT_ONCE = 2**16
"""Rows whose ratings are computed at a time: at 256 hidden values 67 MB for each layer."""


class ModelScorer:
    """Ratings and scores of a model as it stands; see `mtsearch.evaluation.Scorer`."""

    def __init__(self, compiled: CompiledModel, catalogue: Codes) -> None:
        self._compiled = compiled
        *self._tables, self._users, items = compiled.tables()
        self._catalogue = tf.gather(items, catalogue)

    def ratings(self, users: Codes, items: Codes) -> NDArray[np.float32]:
        """Predicted ratings `[B]` in stars, unclipped."""
        if len(users) <= ROWS_AT_ONCE:
            return self._rated(self._tables, users, items)
        cuts = range(0, len(users), ROWS_AT_ONCE)
        return np.concatenate([self._rated_apart(*(c[at : at + ROWS_AT_ONCE] for c in (users, items))) for at in cuts])

    def _rated_apart(self, users: Codes, items: Codes) -> NDArray[np.float32]:
        """The same by the rows of the tables that are asked for, since the first layer is computed for each of them."""
        (some_users, user_rows), (some_items, item_rows) = (np.unique(c, return_inverse=True) for c in (users, items))
        tables = [
            tf.gather(table, codes) if len(table) else table
            for table, codes in zip(self._tables, (some_users, some_items) * 2, strict=True)
        ]
        return self._rated(tables, user_rows.astype(np.int32), item_rows.astype(np.int32))

    def _rated(self, tables: Sequence[tf.Tensor], users: Codes, items: Codes) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._compiled.rate(*tables, tf.constant(users), tf.constant(items)).numpy()
        return result

    def scores(self, users: Codes) -> NDArray[np.float32]:
        """Scores `[u, C]` of the catalogue for each user."""
        rows = tf.gather(self._users, users)
        result: NDArray[np.float32] = tf.matmul(rows, self._catalogue, transpose_b=True).numpy()
        return result
