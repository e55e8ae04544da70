"""What a trained model says, in the form in which the protocol judges it."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes
from mtsearch.recsys.compiled import CompiledModel


class ModelScorer:
    """Ratings and scores of a model as it stands; see `mtsearch.evaluation.Scorer`."""

    def __init__(self, compiled: CompiledModel, catalogue: Codes) -> None:
        self._compiled = compiled
        *self._tables, self._users, items = compiled.tables()
        self._catalogue = tf.gather(items, catalogue)

    def ratings(self, users: Codes, items: Codes) -> NDArray[np.float32]:
        """Predicted ratings `[B]` in stars, unclipped; `users` ascending."""
        result: NDArray[np.float32] = self._compiled.rate(*self._tables, tf.constant(users), tf.constant(items)).numpy()
        return result

    def scores(self, users: Codes) -> NDArray[np.float32]:
        """Scores `[u, C]` of the catalogue for each user."""
        rows = tf.gather(self._users, users)
        result: NDArray[np.float32] = tf.matmul(rows, self._catalogue, transpose_b=True).numpy()
        return result
