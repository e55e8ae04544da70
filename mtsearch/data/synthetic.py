"""Ratings that nobody gave, as many as wanted, with the long tails of MovieLens 25M and tastes that can be learnt.

Users: their numbers of rows are quantiles of a Pareto distribution of exponent 2 on top of a least number, see
`_activity`. Items: the chance to be offered to a user falls as 1 / (r + 60)**2 with the rank r by popularity
(Zipf-Mandelbrot), and is cut off at 1.

    at 25 million rows             MovieLens    here
    rows of a user: least                 20      20
                    median                71      76
                    mean                 154     154
                    most              32,202  31,000
    users of the most popular item      50 %    50 %
    rows of a tenth of the items        94 %    93 %

A user is offered twice as many items as he rates, and rates those that he likes best, with some noise: the nearer their
factors to his own. The rating is a mean, an offset of his, one of the item, the liking and noise, in half stars.

NOTE: the same rows on every machine. The bits come from Philox, whose stream is fixed, not from the distributions of
NumPy's Generator, which may change with a release (NEP 19); what is made of them needs +, -, *, / and the square root
alone, which IEEE 754 rounds one way everywhere, and no logarithm or matrix product, which differ with the processor.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Ids, Interactions, Rows
from mtsearch.data.offers import offered

Reals = NDArray[np.float64]
Singles = NDArray[np.float32]
Bits = NDArray[np.uint64]
Index = NDArray[np.int64]


class Size(NamedTuple):
    """How much a named source makes."""

    rows: int
    users: int
    items: int


SIZES = {
    "synthetic/100k": Size(100_000, 943, 1_682),
    "synthetic/1m": Size(1_000_000, 6_040, 3_706),
    "synthetic/25m": Size(25_000_000, 162_000, 62_000),
}
"""Those of the editions of MovieLens."""

_LEAST = 0.13
"""Rows of the least active user, as a share of the average."""

_FACTORS = 8
_MEAN, _OF_USER, _OF_ITEM, _OF_LIKING, _OF_NOISE = 3.3, 0.45, 0.5, 0.45, 0.75
"""In stars: the mean, and the standard deviations of what is added to it."""

_FIRST_DAY, _DAYS, _STAY = 820_454_400, 8_700, 30
"""Users come between 1996 and the end of 2019 and rate within a month."""

_DAY = 86_400
_BLOCK_ROWS = 2**19


def synthetic(rows: int, users: int, items: int, seed: int = 0, block_rows: int = _BLOCK_ROWS) -> Interactions:
    """A table of `rows` ratings of 0.5 to 5 stars in halves, no pair of a user and an item twice.

    Every user has a row at least; all items are the catalogue. The same users and items have the same factors and
    offsets whatever the number of rows.

    Args:
        rows: from one for each user to half of all pairs of a user and an item.
        users: 1 or more.
        items: 2 to 2**21.
        seed: 0 or more.
        block_rows: rows that are made at a time, one user's at least; the table is the same for all.

    Raises:
        ValueError: a number is out of its range.
    """
    if not (users >= 1 and 2 <= items <= 2**21 and users <= rows <= users * (items // 2) and seed >= 0):
        raise ValueError(f"{rows} rows of {users} users and {items} items, seed {seed}: one is out of its range")
    world = _World.drawn(users, items, seed)
    count = _activity(rows, users, items)[world.user_rank]
    columns = Rows(
        np.empty(rows, np.int32), np.empty(rows, np.int32), np.empty(rows, np.float32), np.empty(rows, np.int64)
    )
    streams = _Streams.of(seed)
    ends = np.cumsum(count)
    first = 0
    while first < users:
        start = ends[first] - count[first]
        last = max(first + 1, int(np.searchsorted(ends, start + block_rows, side="right")))
        block = np.arange(first, last)
        for column, values in zip(vars(columns).values(), _rows_of(block, count[block], world, streams), strict=True):
            column[start : ends[last - 1]] = values
        first = last
    catalogue = np.arange(items, dtype=np.int32)
    return Interactions(_ids("u", users), _ids("i", items), columns, catalogue)


@dataclass(frozen=True, eq=False)
class _World:
    """Who and what there is; standard normal numbers, nearly (see `_normal`).

    Attributes:
        user_rank: `[U]` place by activity, the most active first.
        item_of_rank: `[I]` item of each place by popularity.
        user_factors, item_factors: `[K, U]` and `[K, I]`; their dot product is `sqrt(K)` times a liking.
        user_offsets, item_offsets: `[U]` and `[I]`.
        comes: `[U]` second of the first rating.
    """

    user_rank: Index
    item_of_rank: Codes
    user_factors: Singles
    item_factors: Singles
    user_offsets: Singles
    item_offsets: Singles
    comes: Index

    @classmethod
    def drawn(cls, users: int, items: int, seed: int) -> "_World":
        of_users, of_items = _stream(seed, 0), _stream(seed, 1)
        return cls(
            user_rank=np.argsort(np.argsort(of_users.random_raw(users), kind="stable")),
            item_of_rank=np.argsort(of_items.random_raw(items), kind="stable").astype(np.int32),
            user_factors=_normal(of_users.random_raw(_FACTORS * users)).reshape(_FACTORS, users),
            item_factors=_normal(of_items.random_raw(_FACTORS * items)).reshape(_FACTORS, items),
            user_offsets=_normal(of_users.random_raw(users)),
            item_offsets=_normal(of_items.random_raw(items)),
            comes=_FIRST_DAY + _below(of_users.random_raw(users), _DAYS * _DAY),
        )

    def liking(self, users: Index, items: Codes) -> Singles:
        """`[N]` of pairs."""
        total = np.zeros(len(users), np.float32)
        for of_user, of_item in zip(self.user_factors, self.item_factors, strict=True):
            total += of_user[users] * of_item[items]
        total /= np.sqrt(np.float32(_FACTORS))
        return total


@dataclass(frozen=True, eq=False)
class _Streams:
    """Bits for what is drawn row after row, each kind from its own stream, so that no block ends them early."""

    candidates: np.random.Philox
    choice: np.random.Philox
    ratings: np.random.Philox
    times: np.random.Philox

    @classmethod
    def of(cls, seed: int) -> "_Streams":
        return cls(*(_stream(seed, number) for number in range(2, 6)))


def _stream(seed: int, number: int) -> np.random.Philox:
    return np.random.Philox(key=[seed, number])


def _activity(rows: int, users: int, items: int) -> Index:
    """`[U]` rows of each user, the most active first: `rows` in all, 1 at least and half of the items at most.

    Before it is cut off and rounded, the number at the quantile q from above is in proportion to
    `_LEAST + (1 - _LEAST) * (1 / sqrt(q) - 1)`, whose mean is 1.
    """
    quantile = (np.arange(users) + 0.5) / users
    shape = _LEAST + (1 - _LEAST) * (1 / np.sqrt(quantile) - 1)
    low, high = 0.0, float(rows * users)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _counts(shape * middle, items).sum() <= rows else (low, middle)
    count = _counts(shape * low, items)
    left = rows - int(count.sum())
    while left:
        spare = np.flatnonzero(count < items // 2)[:left]
        count[spare] += 1
        left -= len(spare)
    return count


def _counts(wanted: Reals, items: int) -> Index:
    return np.clip(wanted, 1, items // 2).astype(np.int64)


def _rows_of(users: Index, count: Index, world: _World, streams: _Streams) -> tuple[Codes, Codes, Singles, Index]:
    """The columns of some users, in the order of the table."""
    user, item = _picked(users, count, world, streams)
    size = len(user)
    noise = _normal(streams.ratings.random_raw(size))
    stars = np.float32(_MEAN) + np.float32(_OF_USER) * world.user_offsets[user]
    stars += np.float32(_OF_ITEM) * world.item_offsets[item]
    stars += np.float32(_OF_LIKING) * world.liking(user, item)
    stars += np.float32(_OF_NOISE) * noise
    ratings = np.clip(np.rint(stars * 2) / 2, 0.5, 5).astype(np.float32)
    times = world.comes[user] + _below(streams.times.random_raw(size), _STAY * _DAY)
    return user.astype(np.int32), item, ratings, times


def _picked(users: Index, count: Index, world: _World, streams: _Streams) -> tuple[Index, Codes]:
    """The pairs of some users, `count` each, by user and item."""
    drawn = 2 * count
    owner = np.repeat(np.arange(len(count)), drawn)
    start = np.cumsum(drawn) - drawn
    unit = np.arange(len(owner)) - start[owner]
    rank = offered(unit, owner, drawn, len(world.item_of_rank), streams.candidates)
    user, item = users[owner], world.item_of_rank[rank]
    wish = world.liking(user, item) + _normal(streams.choice.random_raw(len(owner)))
    # A wish is between -64 and 64, and no two keys are the same.
    key = owner << 43 | ((np.float32(64) - wish) * np.float32(2**14)).astype(np.int64) << 21 | unit
    again = np.flatnonzero((owner[1:] == owner[:-1]) & (rank[1:] == rank[:-1])) + 1
    key[again] |= 1 << 42  # behind all others of the user
    key.sort()
    chosen = (start[owner] + (key & (2**21 - 1)))[unit < count[owner]]
    pair = np.sort(user[chosen] << 32 | item[chosen])
    return pair >> 32, (pair & (2**32 - 1)).astype(np.int32)


def _normal(bits: Bits) -> Singles:
    """`[N]` numbers of mean 0 and variance 1: sums of four uniform ones, from -3.5 to 3.5."""
    quarters = bits.view(np.uint16).reshape(-1, 4)
    total = quarters[:, 0].astype(np.int32)
    for column in range(1, 4):
        total += quarters[:, column]
    scale = np.sqrt(3.0) / 2**16
    normal: Singles = ((total - 2 * (2**16 - 1)) * scale).astype(np.float32)
    return normal


def _below(bits: Bits, end: int) -> Index:
    """`[N]` whole numbers from 0 to end - 1."""
    return (bits % np.uint64(end)).astype(np.int64)


def _ids(letter: str, count: int) -> Ids:
    """As many ids, with as many digits, so that they are sorted."""
    width = max(6, len(str(count)))
    ids = np.empty(count, np.object_)
    ids[:] = [f"{letter}{number:0{width}}" for number in range(1, count + 1)]
    return ids
