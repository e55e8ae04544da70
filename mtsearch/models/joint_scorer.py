"""Predict pairs and rank the catalogue with a joint model, task by task: `ModelScorer`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes
from mtsearch.evaluation.plan import Block
from mtsearch.evaluation.ranks import BlockCounts
from mtsearch.metrics import COVERAGE_CUT_OFF
from mtsearch.models.device import trace
from mtsearch.models.joint_model import Tables
from mtsearch.models.members import Member, join_towers

ROWS_AT_ONCE = 2**16
"""Number of rows whose ratings are computed at a time: at 256 hidden values 67 MB for each layer."""


class ModelScorer:
    """A joint model of one or more members; see `mtsearch.evaluation.TasksScorer`.

    Args:
        members: of one configuration, one or more.
        catalogue: `[C]` the items that are ranked.
        counter: ranks on the device; it is kept from model to model. None: the scores are ranked elsewhere.
    """

    def __init__(self, members: Sequence[Member], catalogue: Codes, counter: RankCounter | None = None) -> None:
        self._members, self._catalogue, self._counter = members, catalogue, counter

    def of_task(self, name: str) -> HeadScorer | TowerScorer:
        """Return what predicts for a task, or orders the catalogue for one of retrieval."""
        if name in self._members[0].tables.heads:
            return HeadScorer(self._members, name)
        users, items = join_towers([member.tables.towers[name] for member in self._members])
        if self._counter is not None:
            return DeviceTowerScorer(users, tf.gather(items, self._catalogue), self._counter)
        return TowerScorer(users, tf.gather(items, self._catalogue))


class HeadScorer:
    """The mean predictions of one task of ratings or labels over the members; see `mtsearch.evaluation.Rater`.

    Args:
        members: as in `ModelScorer`.
        task: name of the task.
    """

    def __init__(self, members: Sequence[Member], task: str) -> None:
        self._members, self._task = members, task

    def ratings(self, users: Codes, items: Codes) -> NDArray[np.float32]:
        """Return the predictions `[B]`: ratings in their units, unclipped, or chances of a yes."""
        return mean_predictions([self._ratings_of(member, users, items) for member in self._members])

    def _ratings_of(self, member: Member, users: Codes, items: Codes) -> NDArray[np.float32]:
        """Return the predictions `[B]` of one member."""
        if len(users) <= ROWS_AT_ONCE:
            return self._rate(member, member.tables.heads[self._task], users, items)
        cuts = range(0, len(users), ROWS_AT_ONCE)
        return np.concatenate(
            [self._rate_subset(member, *(c[at : at + ROWS_AT_ONCE] for c in (users, items))) for at in cuts]
        )

    def _rate_subset(self, member: Member, users: Codes, items: Codes) -> NDArray[np.float32]:
        """Return ratings as `ratings` does, from only the table rows of these users and items.

        The first layer is computed for each row of the tables.
        """
        (some_users, user_rows), (some_items, item_rows) = (np.unique(c, return_inverse=True) for c in (users, items))
        tables = Tables(
            *(
                tf.gather(table, codes) if len(table) else table
                for table, codes in zip(member.tables.heads[self._task], (some_users, some_items) * 2, strict=True)
            )
        )
        return self._rate(member, tables, user_rows.astype(np.int32), item_rows.astype(np.int32))

    def _rate(self, member: Member, tables: Tables, users: Codes, items: Codes) -> NDArray[np.float32]:
        """Return the predictions for pairs of rows of the given tables."""
        result: NDArray[np.float32] = member.predict(self._task, tables, users, items).numpy()
        return result


def mean_predictions(predictions: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the mean `[B]` of the predictions of several members."""
    mean: NDArray[np.float32] = np.mean(predictions, axis=0)
    return mean


class TowerScorer:
    """The scores of one task of retrieval; see `mtsearch.evaluation.Ranker`.

    Args:
        users: `[U, E]` embeddings of all users.
        catalogue: `[C, E]` embeddings of the catalogue.
    """

    def __init__(self, users: tf.Tensor, catalogue: tf.Tensor) -> None:
        self._users, self._catalogue = users, catalogue

    def scores(self, users: Codes) -> NDArray[np.float32]:
        """Return the scores `[u, C]` of the catalogue for each user."""
        rows = tf.gather(self._users, users)
        result: NDArray[np.float32] = tf.matmul(rows, self._catalogue, transpose_b=True).numpy()
        return result


class DeviceTowerScorer(TowerScorer):
    """A `TowerScorer` that ranks where the scores are; see `mtsearch.evaluation.CountingRanker`.

    Args:
        users, catalogue: as there.
        counter: ranks.
    """

    def __init__(self, users: tf.Tensor, catalogue: tf.Tensor, counter: RankCounter) -> None:
        super().__init__(users, catalogue)
        self._counter = counter

    def counts(self, block: Block) -> BlockCounts | None:
        """Return how the items of a block's rows rank, or None if some score is not finite."""
        return self._counter.count(block, self._users, self._catalogue)


_KEPT_BLOCKS = 8


class _Rows(NamedTuple):
    """The rows of a block on the device: see `Tile`, of which there is one here for the whole block.

    Rows and width are filled up to powers of 2, so that XLA compiles for few sizes.

    Attributes:
        users: `[u]` codes.
        user, column, seen, padding: as in `Tile`.
    """

    users: tf.Tensor
    user: tf.Tensor
    column: tf.Tensor
    seen: tf.Tensor
    padding: tf.Tensor


class RankCounter:
    """Counts on the device the items that are scored above those of evaluated rows."""

    def __init__(self) -> None:
        self._rows: OrderedDict[Block, _Rows] = OrderedDict()
        table, index = tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)
        rows = _Rows(index, index, index, tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.bool))
        self._count = trace(_count, table, table, rows, xla=True)

    def count(self, block: Block, users: tf.Tensor, catalogue: tf.Tensor) -> BlockCounts | None:
        """Return the counts of a block, or None if some score is not finite.

        Args:
            block: its users and rows.
            users: `[U, E]` embeddings of all users.
            catalogue: `[C, E]` embeddings of the catalogue; scores are products of both.
        """
        counts, is_finite, offered, is_sharing = (
            tensor.numpy() for tensor in self._count(users, catalogue, self._rows_of(block))
        )
        if not is_finite:
            return None
        size = sum(len(tile.rows) for tile in block.tiles)
        sharing = tf.gather(users, block.users[is_sharing])
        tied = tf.matmul(sharing, catalogue, transpose_b=True).numpy() if len(sharing) else np.zeros((0, len(offered)))
        above, ties, above_seen, ties_seen = counts[:, :size].astype(np.intp)
        return BlockCounts(above, ties, above_seen, ties_seen, offered, tied)

    def _rows_of(self, block: Block) -> _Rows:
        """Return the rows of a block, copied to the device unless they were used lately."""
        if block not in self._rows:
            while len(self._rows) >= _KEPT_BLOCKS:
                self._rows.popitem(last=False)
            self._rows[block] = _copy_rows(block)
        self._rows.move_to_end(block)
        return self._rows[block]


def _copy_rows(block: Block) -> _Rows:
    """Copy the rows of the tiles of a block to the device."""
    # In width to an even power: with all powers, XLA compiled for 12 s during the first evaluation of 25 million rows.
    width = _power_of_2(max(tile.seen.shape[1] for tile in block.tiles), multiple=2)
    # The table of items seen has one width in each tile: all are padded to the same.
    wide = [[(0, 0), (0, width - tile.seen.shape[1])] for tile in block.tiles]
    seen = [np.pad(tile.seen, more) for tile, more in zip(block.tiles, wide, strict=True)]
    padding = [np.pad(tile.padding, more, constant_values=True) for tile, more in zip(block.tiles, wide, strict=True)]
    user = np.concatenate([tile.user + tile.users.start for tile in block.tiles])
    column = np.concatenate([tile.column for tile in block.tiles])
    filling = (0, _power_of_2(len(user)) - len(user))
    return _Rows(
        tf.constant(block.users, tf.int32),
        tf.constant(np.pad(user, filling), tf.int32),
        tf.constant(np.pad(column, filling), tf.int32),
        tf.constant(np.concatenate(seen), tf.int32),
        tf.constant(np.concatenate(padding)),
    )


def _power_of_2(size: int, multiple: int = 1) -> int:
    """Return the smallest power of 2, with an exponent that is a multiple, that is at least `size`, and at least 1."""
    exponent = max(0, size - 1).bit_length()
    return 1 << exponent + -exponent % multiple


def _count(users: tf.Tensor, catalogue: tf.Tensor, rows: _Rows) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Count for each row the items above its own and those that equal it, and find the items that are offered.

    NOTE: XLA compares without making the `[R, C]` arrays of the outcomes.

    Returns:
        `[4, R]` int32, above, ties, above_seen and ties_seen of `BlockCounts`; whether all scores are finite; and what
        `_offer` returns.
    """
    scores = tf.matmul(tf.gather(users, rows.users), catalogue, transpose_b=True)
    own = tf.gather_nd(scores, tf.stack([rows.user, rows.column], axis=1))[:, tf.newaxis]
    seen = tf.where(rows.padding, -np.inf, tf.gather(scores, rows.seen, batch_dims=1))
    values = [tf.gather(table, rows.user) for table in (scores, seen)]
    outcomes = [outcome for each in values for outcome in (each > own, each == own)]
    counts = tf.stack([tf.reduce_sum(tf.cast(outcome, tf.int32), axis=1) for outcome in outcomes])
    return counts, tf.reduce_all(tf.math.is_finite(scores)), *_offer(scores)


def _offer(scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Find the items that are offered, for `BlockCounts`.

    NOTE: the score at the last place is found by bisection of the bits of float32. On an H200, an evaluation of
    943 users and 1,664 items took 10 ms with `tf.math.top_k` and comparisons by several graphs, and 6 ms as here.

    Returns:
        Which items `[C]` are certainly offered to some user, of the users without ties that share the last places; and
        which users `[u]` have such ties.
    """
    places = tf.minimum(COVERAGE_CUT_OFF, tf.shape(scores)[1])
    bits = tf.bitcast(tf.where(scores == 0, 0.0, scores), tf.int32)  # -0.0 becomes 0.0
    order = tf.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # ascends as the scores do

    def set_bit(bit: tf.Tensor, last: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        trial = last + tf.bitwise.left_shift(1, bit)  # at the first bit, from the lowest number to 0
        reaching = tf.reduce_sum(tf.cast(order >= trial, tf.int32), axis=1, keepdims=True)
        return bit - 1, tf.where(reaching >= places, trial, last)

    # The number of the last place is built bit by bit: one is set if enough scores reach the result.
    lowest = tf.fill([tf.shape(scores)[0], 1], np.int32(-(2**31)))
    _, last = tf.while_loop(lambda bit, _: bit >= 0, set_bit, (31, lowest), maximum_iterations=32)
    reached = order >= last
    is_sharing = tf.reduce_sum(tf.cast(reached, tf.int32), axis=1) > places
    return tf.reduce_any(reached & ~is_sharing[:, tf.newaxis], axis=0), is_sharing
