"""What a model of the user's own says, in the form in which the protocol judges it."""

from collections.abc import Callable
from typing import Self

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes
from mtsearch.data.split import Split
from mtsearch.errors import OwnModelFailure
from mtsearch.recsys.own_model import Factory

CODES = tf.TensorSpec([None], tf.int32)
_BLOCK = 2**14
"""Codes or pairs that are asked for at a time: rating towers of 1,024 in 64 MiB."""


class OwnScorer:
    """Ratings and scores of a model as it stood when `renewed` was called; see `mtsearch.evaluation.Scorer`.

    A user or an item without training rows gets what the model says of it: it may know more than its rows.

    Args:
        factory: that made the model, and says whose failure it is that it raises something.
        model: that answers.
        split: its users and items.

    Attributes:
        model: that answers.
    """

    def __init__(self, factory: Factory, model: tfrs.models.Model, split: Split) -> None:
        self.model = model
        self._failures = factory.failures
        self._user_codes = np.arange(len(split.user_ids), dtype=np.int32)
        self._catalogue_codes = split.catalogue
        self._towers = [
            tf.function(tower, input_signature=[CODES])
            for tower in (model.query_embeddings, model.candidate_embeddings)
        ]
        self._rate: Callable[..., tf.Tensor] = tf.function(model.ratings, input_signature=[CODES, CODES])

    def renewed(self) -> Self:
        """This one, with the embeddings that the model has now.

        Raises:
            OwnModelFailure: a tower raises something.
        """
        with self._failures():
            self._users = in_blocks(self._towers[0], self._user_codes)
            self._catalogue = in_blocks(self._towers[1], self._catalogue_codes)
        return self

    def ratings(self, users: Codes, items: Codes) -> NDArray[np.float32]:
        """Predicted ratings `[B]`, unclipped.

        Raises:
            OwnModelFailure: the model raises something, or returns another number of them.
        """
        with self._failures():
            result: NDArray[np.float32] = in_blocks(self._rate, users, items).numpy()
        if result.shape != users.shape:
            problem = f"ratings() of {len(users)} rows returned float32 {list(result.shape)}"
            raise OwnModelFailure(problem, "return as many as it is asked for, whatever the number")
        return result

    def scores(self, users: Codes) -> NDArray[np.float32]:
        """Scores `[u, C]` of the catalogue for each user."""
        rows = tf.gather(self._users, users)
        result: NDArray[np.float32] = tf.matmul(rows, self._catalogue, transpose_b=True).numpy()
        return result


def in_blocks(graph: Callable[..., tf.Tensor], *columns: Codes) -> tf.Tensor:
    """`graph` of the columns, a block of rows at a time."""
    starts = range(0, max(1, len(columns[0])), _BLOCK)
    return tf.concat(
        [graph(*(tf.constant(column[start : start + _BLOCK]) for column in columns)) for start in starts], 0
    )
