"""A model of the user's own as a SavedModel that plain TensorFlow loads; see `saved_model`."""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from mtsearch.data.split import Split
from mtsearch.recsys.own_scorer import CODES, in_blocks
from mtsearch.recsys.saved_model import Servable, write


def save_own(model: tfrs.models.Model, split: Split, folder: Path) -> None:
    """Write the model as it stands into `folder`; what its towers say of every id is worked out beforehand.

    An id that the split has not gets the mean of the trained users' embeddings, and the mean training rating.

    Args:
        model: an `OwnModel`, trained on `split.train`.
        split: gives ids, catalogue, the rating range, and what each user has seen.
        folder: made, with its parents.
    """
    with tf.device("/CPU:0"):
        towers = (
            tf.function(tower, input_signature=[CODES])
            for tower in (model.query_embeddings, model.candidate_embeddings)
        )
        users, items = (
            in_blocks(tower, np.arange(len(ids), dtype=np.int32))
            for tower, ids in zip(towers, (split.user_ids, split.item_ids), strict=True)
        )
        unknown = tf.reduce_mean(tf.boolean_mask(users, split.known_users), axis=0, keepdims=True)
        servable = Servable(split, tf.concat([users, unknown], axis=0), items, OwnRating(model, split))
    write(servable, folder)


class OwnRating(tf.Module):  # type: ignore[misc]
    """The model's `ratings`, with all that its graph reads.

    Args:
        model: see `save_own`.
        split: see `save_own`.
    """

    def __init__(self, model: tfrs.models.Model, split: Split) -> None:
        super().__init__()
        # NOTE: what the graph reads, not the model: what TensorFlow saves of a Keras object only Keras can load. A
        # layer's look-up of strings is no variable, and has to be saved too.
        self._variables = list(model.variables)
        self._resources = list(model._flatten(predicate=_is_resource))
        self._rate = tf.function(model.ratings, input_signature=[CODES, CODES])
        self._sizes = len(split.user_ids), len(split.item_ids)
        self._mean = float(split.train.ratings.mean(dtype=np.float64))

    def __call__(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Ratings of codes; see `Servable`."""
        known = tf.logical_and(users < self._sizes[0], items < self._sizes[1])
        inside = (tf.where(known, codes, 0) for codes in (users, items))
        return tf.where(known, self._rate(*inside), self._mean)


def _is_resource(held: object) -> bool:
    return isinstance(held, tf.Variable | tf.saved_model.experimental.TrackableResource)
