"""Write a trained model as a SavedModel that plain TensorFlow serves, without this package, TFRS or Keras."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mtsearch.data.interactions import Task
from mtsearch.data.split import Split
from mtsearch.metrics import output_name
from mtsearch.models.graph_key import LearntTask
from mtsearch.models.joint_model import JointModel, Tables
from mtsearch.models.members import Member, join_towers
from mtsearch.models.tasks import SortedIndex

DEFAULT_K = 10


def save_joint(members: Sequence[Member], split: Split, folder: Path, first: str | None = None) -> None:
    """Write a joint model into `folder`; see `write_servable` for its signatures.

    Args:
        members: of the model, one or more, trained on `split.train`.
        split: gives ids, catalogue, the ranges of ratings, and what each user has seen.
        folder: to write; made with its parents.
        first: as there.
    """
    tasks = members[0].compiled.model.graph_key.tasks
    # NOTE: on the CPU whatever trained the model: strings live there, and a graph that names no device loads anywhere.
    with tf.device("/CPU:0"):
        rankings = {}
        for name in (task.name for task in tasks if task.kind == "retrieval"):
            towers = [(*member.tables.towers[name], member.unknown[name][0]) for member in members]
            rankings[name] = join_towers([(tf.concat([users, last], axis=0), items) for users, items, last in towers])
        models = [member.own_model(split) for member in members]
        heads = {
            task.name: MeanHead([JointHead(*pair, task) for pair in zip(members, models, strict=True)])
            for task in tasks
            if task.kind != "retrieval"
        }
        servable = Servable(split, rankings, heads)
    write_servable(servable, folder, first)


def write_servable(servable: "Servable", folder: Path, first: str | None = None) -> None:
    """Write a servable model with its signatures into `folder`.

    `recommend` and `serving_default` are of the task of retrieval that comes `first`, by default of the only one or of
    the first in the study; of several, each has a `recommend_TASK` too. `predict` is of all tasks of ratings and
    labels, and is left out if there are none, as those of retrieval are.
    """
    signatures: dict[str, Any] = {}
    if servable.rankings:
        default = servable.rankings[first or next(iter(servable.rankings))]
        signatures |= {"serving_default": default.recommend_ten, "recommend": default.recommend}
        if len(servable.rankings) > 1:
            signatures |= {f"recommend_{task}": ranking.recommend for task, ranking in servable.rankings.items()}
    if servable.heads:
        signatures["predict"] = servable.predict
        signatures.setdefault("serving_default", servable.predict)
    tf.saved_model.save(servable, str(folder), signatures)


class Servable(tf.Module):  # type: ignore[misc]
    """The part of a trained model that serving needs: its tables by id, and the functions that read them.

    Args:
        split: gives ids, catalogue, the ranges of ratings, and what each user has seen.
        rankings: of each task of retrieval the embeddings of users `[U + 1, E]`, float32, the last row that of unknown
            users, and of items `[I, E]`.
        heads: of each task of ratings or labels a function from codes `[B]` of users and items to its predictions
            `[B]`; the code after the last is unknown.

    Attributes:
        rankings: `Ranking` of each task of retrieval.
        predict: user_id `[B]`, item_id `[B]` -> predictions of each head (see `output_name`), known_users,
            known_items `[B]`; known: has training rows.
    """

    def __init__(
        self,
        split: Split,
        rankings: Mapping[str, tuple[tf.Tensor, tf.Tensor]],
        heads: Mapping[str, Callable[..., tf.Tensor]],
    ) -> None:
        super().__init__()
        self.heads = dict(heads)
        self._tables = _Constants(
            known_users=np.append(split.known_users, False), known_items=np.append(split.known_items, False)
        )
        self._limits = {task.name: _find_limits(split, task) for task in split.tasks if task.name in heads}
        self._user_codes, self._item_codes = _make_code_table(split.user_ids), _make_code_table(split.item_ids)
        names = tf.constant([*_encode_ids(split.item_ids[split.catalogue]), b""])
        titles = split.item_ids if split.titles is None else split.titles
        shown = _Names(names, tf.constant([*_encode_ids(titles[split.catalogue]), b""]), self._user_codes, self._tables)
        self.rankings = {
            task.name: Ranking(split.of_task(task), *rankings[task.name], shown)
            for task in split.tasks
            if task.name in rankings
        }
        ids = tf.TensorSpec([None], tf.string)
        self.predict = _make_function(self._predict, user_id=ids, item_id=ids)

    def _predict(self, user_id: tf.Tensor, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        users, items = self._user_codes.lookup(user_id), self._item_codes.lookup(item_id)
        predictions = {
            output_name(task): tf.clip_by_value(head(users, items), *self._limits[task])
            for task, head in self.heads.items()
        }
        return {
            **predictions,
            "known_users": tf.gather(self._tables.known_users, users),
            "known_items": tf.gather(self._tables.known_items, items),
        }


def _find_limits(split: Split, task: Task) -> tuple[float, float]:
    """Return the range of the training ratings of a task; of a label 0 and 1."""
    if task.kind == "label":
        return 0.0, 1.0
    ratings = split.train.serving(task).ratings
    return float(ratings.min()), float(ratings.max())


class _Names(NamedTuple):
    """What all rankings of a model share: ids and titles of the catalogue with an empty one behind, and the users."""

    names: tf.Tensor
    titles: tf.Tensor
    user_codes: tf.lookup.StaticHashTable
    tables: "_Constants"


class Ranking(tf.Module):  # type: ignore[misc]
    """The best items of the catalogue for a user, by one task of retrieval.

    Args:
        split: with the training rows of the task.
        users, items: as in `Servable`.
        shared: what all rankings share.

    Attributes:
        recommend: user_id `[B]`, k, exclude_seen -> item_ids, titles, scores `[B, k]`, known `[B]`.
        recommend_ten: the same of user_id `[B]` alone, at k = 10 (or the catalogue's size), items seen left out.
    """

    def __init__(self, split: Split, users: tf.Tensor, items: tf.Tensor, shared: _Names) -> None:
        super().__init__()
        self._names, self._titles, self._user_codes, self._shared = shared
        self._tables = _Constants(users=users, catalogue=tf.gather(items, split.catalogue))
        self._seen = _Constants(**_seen_columns(split))
        ids, number, flag = tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)
        self.recommend = _make_function(self._recommend, user_id=ids, k=number, exclude_seen=flag)
        self.recommend_ten = _make_function(self._recommend_ten, user_id=ids)

    def _recommend(self, user_id: tf.Tensor, k: tf.Tensor, exclude_seen: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the best k items of each user; see the attribute `recommend`."""
        size = tf.shape(self._tables.catalogue)[0]
        checks = (
            tf.debugging.assert_less_equal(k, size, "k is larger than the catalogue"),
            tf.debugging.assert_positive(k, "k is less than 1"),
        )
        with tf.control_dependencies(checks):  # else top_k may refuse k first, with another message
            k = tf.identity(k)
        users = self._user_codes.lookup(user_id)
        scores = tf.matmul(tf.gather(self._tables.users, users), self._tables.catalogue, transpose_b=True)
        scores, columns = tf.math.top_k(
            self._mask_seen(scores, users, exclude_seen), k
        )  # of equal scores, the first in the catalogue
        # An item that was left out has no id and no title: `size` is the index of the empty ones.
        columns = tf.where(tf.math.is_inf(scores), size, columns)
        known = tf.gather(self._shared.known_users, users)
        names, titles = tf.gather(self._names, columns), tf.gather(self._titles, columns)
        return {"item_ids": names, "titles": titles, "scores": scores, "known": known}

    def _mask_seen(self, scores: tf.Tensor, users: tf.Tensor, exclude_seen: tf.Tensor) -> tf.Tensor:
        """Return scores `[B, C]` with -inf for the items that each user has seen, if they are left out."""
        seen = tf.RaggedTensor.from_row_splits(self._seen.columns, self._seen.row_splits, validate=False)
        nobody = tf.shape(self._tables.users)[0] - 1  # an unknown user has seen nothing
        of_users = tf.gather(seen, tf.where(exclude_seen, users, nobody))
        places = tf.stack([tf.cast(of_users.value_rowids(), tf.int32), of_users.flat_values], axis=1)
        return tf.tensor_scatter_nd_update(scores, places, tf.fill([tf.shape(places)[0]], -np.inf))

    def _recommend_ten(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        k = tf.minimum(DEFAULT_K, tf.shape(self._tables.catalogue)[0])
        return self._recommend(user_id, k, tf.constant(True))


class MeanHead(tf.Module):  # type: ignore[misc]
    """The mean of the heads of the members of a model, for one task of ratings or labels.

    Args:
        heads: of the members, one or more.
    """

    def __init__(self, heads: Sequence[Callable[..., tf.Tensor]]) -> None:
        super().__init__()
        self._heads = list(heads)

    def __call__(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Return the predictions for pairs of codes; see `Servable`."""
        return tf.add_n([head(users, items) for head in self._heads]) / len(self._heads)


class JointHead(tf.Module):  # type: ignore[misc]
    """The head of one task of ratings or labels of the joint model, with the tables that it reads.

    The last row of a user or item table is that of an unknown id: the mean of the trained embeddings, bias 0.

    Args:
        member: what was trained.
        model: with the layers of the member.
        task: of the head.
    """

    def __init__(self, member: Member, model: JointModel, task: LearntTask) -> None:
        super().__init__()
        users, items, user_bias, item_bias = member.tables.heads[task.name]
        user_mean, item_mean = member.unknown[task.name]
        self._tables = _Constants(
            users=tf.concat([users, user_mean], axis=0),
            items=tf.concat([items, item_mean], axis=0),
            user_bias=tf.pad(user_bias, [[0, 1], [0, 0]]),
            item_bias=tf.pad(item_bias, [[0, 1], [0, 0]]),
        )
        # Keep the variables and not the model: only Keras can load what TensorFlow saves of a Keras object.
        self._weights = list(model.heads[task.name].variables)
        self._predict: Callable[..., tf.Tensor] = partial(model.predictions, task)
        self._has_biases = model.graph_key.rating_biases

    def __call__(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Return the predictions for pairs of codes; see `Servable`."""
        # The rows of the pairs are looked up first, so that the cost does not grow with the size of the tables.
        embeddings = tf.gather(self._tables.users, users), tf.gather(self._tables.items, items)
        biases = tf.zeros([0, 1]), tf.zeros([0, 1])
        if self._has_biases:
            biases = tf.gather(self._tables.user_bias, users), tf.gather(self._tables.item_bias, items)
        each = SortedIndex(tf.range(tf.size(users)))
        return self._predict(Tables(*embeddings, *biases), each, each)


class _Constants(tf.Module):  # type: ignore[misc]
    """Named arrays, stored as variables: the constants of a graph may not be larger than 2 GB."""

    def __init__(self, **arrays: tf.Tensor | NDArray[np.generic]) -> None:
        super().__init__()
        for name, array in arrays.items():
            setattr(self, name, tf.Variable(array, trainable=False, name=name))


def _seen_columns(split: Split) -> dict[str, NDArray[np.generic]]:
    """Return the catalogue indices of each user's training items as a ragged table: `columns` and `row_splits`.

    User u has the entries of `columns` from `row_splits[u]` up to, not including, `row_splits[u + 1]`. `row_splits` is
    `[U + 2]`: the last user is the unknown one, who has no entries.
    """
    place = np.full(len(split.item_ids), -1, np.int64)
    place[split.catalogue] = np.arange(len(split.catalogue))
    column = place[split.train.items]
    keys = np.unique(split.train.users[column >= 0].astype(np.int64) * len(split.catalogue) + column[column >= 0])
    users, columns = np.divmod(keys, len(split.catalogue))
    row_splits = np.searchsorted(users, np.arange(len(split.user_ids) + 2))
    return {"columns": columns.astype(np.int32), "row_splits": row_splits.astype(np.int64)}


def _make_code_table(ids: NDArray[np.object_]) -> tf.lookup.StaticHashTable:
    """Make a look-up table from an id to its index in `ids`, and from any other id to the index after the last."""
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(_encode_ids(ids)), tf.range(len(ids)))
    return tf.lookup.StaticHashTable(initializer, default_value=len(ids))


def _encode_ids(ids: Iterable[str]) -> list[bytes]:
    """Return ids as UTF-8 bytes."""
    return [id_.encode("utf-8", "surrogatepass") for id_ in ids]


def _make_function(graph: Callable[..., Any], **signature: tf.TensorSpec) -> Any:
    """Make a TensorFlow function whose inputs have these names and types."""
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in signature.items()}
    return tf.function(graph, input_signature=list(named.values()), autograph=False)
