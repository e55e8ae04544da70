"""Everything about ranking some rows that does not depend on the model, worked out once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Rows
from mtsearch.data.split import Split

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

OUTSIDE = -1
TILE_BYTES = 2**20
"""Scores that are sorted at a time.

NOTE: on 943 x 1,664 float32 one sort of the whole takes 15.7 ms, tiles of 1 MiB 11.1 ms: they and their sorted copies
stay in the cache.
"""


@dataclass(frozen=True, eq=False)
class Tile:
    """Some users of a block and the evaluated rows that they have within the catalogue; n users, R rows.

    Attributes:
        users: which rows of the block's scores.
        rows: `[R]` index into the evaluated rows.
        user: `[R]` 0-based within the tile.
        column: `[R]` the item's place in the catalogue.
        is_seen: `[R]` the user's training rows hold the item too.
        seen: `[n, W]` columns of the items of each user's training rows, each once, padded with 0; W >= 1.
        padding: `[n, W]` True where `seen` is padding.
        seen_count: `[n]`.
    """

    users: slice
    rows: Index
    user: Index
    column: Index
    is_seen: Mask
    seen: Index
    padding: Mask
    seen_count: Index


@dataclass(frozen=True, eq=False)
class Block:
    """The users of one call of the scorer: `[u]` codes, and the tiles that cover them."""

    users: Codes
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """Which users to score together, and what to look up in their scores.

    Attributes:
        user_index: `[B]` the user of each evaluated row, numbered from 0 without gaps.
        column: `[B]` the item's place in the catalogue, or `OUTSIDE`.
        blocks: every evaluated user once.
    """

    user_index: Index
    column: Index
    blocks: tuple[Block, ...]


def make_plan(split: Split, rows: Rows, block_bytes: int) -> Plan:
    """Plan the ranking of `rows`, at most `block_bytes` (and at least one user) of float32 scores in a block.

    Users are numbered by the size of their training history, largest first, so that those of one tile need about the
    same padding: 1.9 slots for an item seen on MovieLens 100K in place of 7.3.
    """
    size, place = len(split.catalogue), catalogue_columns(split)
    users, user_index = np.unique(rows.users, return_inverse=True)
    seen_keys = _seen_keys(split, place, users)
    histories = np.bincount(seen_keys // size, minlength=len(users))
    order = np.argsort(-histories, kind="stable")
    user_index, column = np.argsort(order)[user_index], place[rows.items]
    pairs = _Pairs.of(user_index, column, order, seen_keys, histories, size)
    return Plan(user_index, column, tuple(_blocks(users[order], pairs, size, block_bytes)))


def catalogue_columns(split: Split) -> Index:
    """`[I]` the place of each item in the catalogue, or `OUTSIDE`."""
    place = np.full(len(split.item_ids), OUTSIDE, np.intp)
    place[split.catalogue] = np.arange(len(split.catalogue))
    return place


def _seen_keys(split: Split, place: Index, users: Codes) -> Index:
    """Index into `users` * C + column of each training pair of theirs within the catalogue, each once, ascending."""
    index = np.full(len(split.user_ids), OUTSIDE, np.intp)
    index[users] = np.arange(len(users))
    user, column = index[split.train.users], place[split.train.items]
    inside = (user != OUTSIDE) & (column != OUTSIDE)
    keys = user[inside] * len(split.catalogue) + column[inside]
    # NOTE: rows of a table come sorted, which a stable sort sees at once; np.unique takes 21 s for 18 million.
    keys.sort(kind="stable")
    once: Index = np.concatenate([keys[:1], keys[1:][keys[1:] != keys[:-1]]])
    return once


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Evaluated rows and training pairs, user by user as they are numbered, so that a tile's lie together; n users.

    Attributes:
        rows: indices of the evaluated rows within the catalogue.
        user, column, is_seen: of each of them.
        row_ends: `[n + 1]` where those of a user begin, and those of the next.
        seen: columns of the training pairs.
        seen_ends: `[n + 1]`.
    """

    rows: Index
    user: Index
    column: Index
    is_seen: Mask
    row_ends: Index
    seen: Index
    seen_ends: Index

    @classmethod
    def of(
        cls, user_index: Index, column: Index, order: Index, seen_keys: Index, histories: Index, catalogue_size: int
    ) -> Self:
        """From `order[number]`, the place of a user among the keys of what was seen, which has `histories` of them."""
        inside = np.flatnonzero(column != OUTSIDE)
        rows = inside[np.argsort(user_index[inside] * catalogue_size + column[inside], kind="stable")]
        user, column = user_index[rows], column[rows]
        row_keys = order[user] * catalogue_size + column
        found = np.searchsorted(seen_keys, row_keys)
        is_seen = np.append(seen_keys, OUTSIDE)[found] == row_keys
        begins, counts = (np.cumsum(histories) - histories)[order], histories[order]
        seen_ends = _ends(counts)
        moved = np.arange(seen_ends[-1]) + np.repeat(begins - seen_ends[:-1], counts)
        row_ends = _ends(np.bincount(user, minlength=len(order)))
        return cls(rows, user, column, is_seen, row_ends, seen_keys[moved] % catalogue_size, seen_ends)

    def tile(self, users: slice, block_start: int) -> Tile:
        rows = slice(self.row_ends[users.start], self.row_ends[users.stop])
        seen_ends = self.seen_ends[users.start : users.stop + 1]
        seen_count = np.diff(seen_ends)
        seen, padding = _pad(self.seen[seen_ends[0] : seen_ends[-1]], seen_count)
        return Tile(
            users=slice(users.start - block_start, users.stop - block_start),
            rows=self.rows[rows],
            user=self.user[rows] - users.start,
            column=self.column[rows],
            is_seen=self.is_seen[rows],
            seen=seen,
            padding=padding,
            seen_count=seen_count,
        )


def _ends(counts: Index) -> Index:
    """`[n + 1]` where runs of so many begin, and the last one ends."""
    return np.append(0, np.cumsum(counts))


def _pad(values: Index, count: Index) -> tuple[Index, Mask]:
    """Runs of `count` values as the rows of a table, and where that is padding; a width of 1 at least."""
    padding = np.arange(max(1, count.max())) >= count[:, None]
    table = np.zeros(padding.shape, np.intp)
    table[~padding] = values
    return table, padding


def _blocks(users: Codes, pairs: _Pairs, catalogue_size: int, block_bytes: int) -> Iterator[Block]:
    row_bytes = catalogue_size * np.dtype(np.float32).itemsize
    for block in _cut(slice(0, len(users)), block_bytes // row_bytes):
        tiles = tuple(pairs.tile(tile, block.start) for tile in _cut(block, TILE_BYTES // row_bytes))
        yield Block(users[block], tiles)


def _cut(whole: slice, size: int) -> Iterator[slice]:
    """Consecutive slices of `whole` of at most `size` and at least 1."""
    step = max(1, size)
    for start in range(whole.start, whole.stop, step):
        yield slice(start, min(start + step, whole.stop))
