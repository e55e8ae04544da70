"""Make any number of synthetic ratings, with the long tails of MovieLens 25M and tastes that can be learnt.

Users: their numbers of rows are quantiles of a Pareto distribution of exponent 2 above a lowest number, see
`activity`. Items: the chance to be offered to a user falls as 1 / (r + 60)**2 with the rank r by popularity
(Zipf-Mandelbrot), and is 1 at most.

    at 25 million rows             MovieLens    here
    rows of a user: least                 20      20
                    median                71      76
                    mean                 154     154
                    most              32,202  31,000
    users of the most popular item      50 %    50 %
    rows of a tenth of the items        94 %    93 %

A user is offered twice as many items as they rate, and rates those that they like best, with some noise: an item is
liked more, the nearer its factors are to the user's. The rating is the sum of a mean, an offset of the user, one of the
item, the liking and noise, rounded to half stars.

NOTE: the same rows on every machine. The bits come from Philox, whose stream is fixed, not from the distributions of
NumPy's Generator, which may change with a release (NEP 19); what is made of them needs +, -, *, / and the square root
alone, which IEEE 754 rounds one way everywhere, and no logarithm or matrix product, which differ with the processor.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Ids, Interactions, Rows

Index = NDArray[np.int64]
Reals = NDArray[np.float64]

_HEAD = 60.0
"""Rank from which popularity falls; with 60, half of the users of `synthetic/25m` have the most popular item."""


def draw_offers(unit: Index, owner: Index, drawn: Index, items: int, bits: np.random.Philox) -> Index:
    """Draw the items that each user is offered, as ranks by popularity; at least half of a user's are different.

    An item's chance to be drawn is in proportion to its popularity, but 1 at most. Laid end to end, the chances of a
    user form a line of the length `drawn`, and each unit of the line has one draw. An item's part is no longer than
    one unit, so it lies in two units at most. Repeated items are next to each other.

    Args:
        unit: `[N]` unit of the line of each draw, from 0 on for each user.
        owner: `[N]` user of each draw: 0 to n - 1, ascending.
        drawn: `[n]` number of draws of each user, even.
        items: number of items, I.
        bits: source of the random numbers.

    Returns:
        `[N]` ranks, 0 to I - 1.
    """
    point = unit + (bits.random_raw(len(owner)) >> np.uint64(11)) * 2.0**-53
    certain, slope = (of_user[owner] for of_user in _chance_line(drawn, items))
    # The chance of rank r is 1 below `certain`, then slope / (r + _HEAD)**2; `beyond` inverts the sum of the latter.
    beyond = 1 / (1 / (certain + _HEAD) - np.maximum(point - certain, 0) / slope) - _HEAD
    return np.minimum(np.where(point < certain, point, beyond).astype(np.int64), items - 1)


def _chance_line(drawn: Index, items: int) -> tuple[Reals, Reals]:
    """Return `[n]` numbers of ranks whose chance is 1, s - h, and `[n]` factors s**2 of the others, s**2 / (r + h)**2.

    The chances add up to `drawn`: s is the root below I + h of s**2 / (I + h) - 2 s + drawn + h = 0, with h = `_HEAD`.
    If s is less than h, no rank has the chance 1, and the factor is drawn * h * (I + h) / I.
    """
    all_ = items + _HEAD
    root = all_ * (1 - np.sqrt(np.maximum(1 - (drawn + _HEAD) / all_, 0)))
    certain = np.maximum(root - _HEAD, 0)
    return certain, np.where(certain > 0, root**2, drawn * _HEAD * all_ / items)


Singles = NDArray[np.float32]
Bits = NDArray[np.uint64]


class Size(NamedTuple):
    """The numbers of rows, users and items of a named source."""

    rows: int
    users: int
    items: int


SIZES = {
    "synthetic/100k": Size(100_000, 943, 1_682),
    "synthetic/1m": Size(1_000_000, 6_040, 3_706),
    "synthetic/25m": Size(25_000_000, 162_000, 62_000),
}
"""Sizes of the named sources, as those of the editions of MovieLens."""

_LEAST = 0.13
"""Rows of the least active user, as a share of the average."""

_FACTORS = 8
_MEAN, _USER_SPREAD, _ITEM_SPREAD, _LIKING_SPREAD, _NOISE_SPREAD = 3.3, 0.45, 0.5, 0.45, 0.75
"""In stars: the mean rating, and the standard deviations of its offsets, the liking and the noise."""

_FIRST_DAY, _DAYS, _STAY = 820_454_400, 8_700, 30
"""Users begin between 1996 and the end of 2019 and rate for a month: second, days and days."""

_DAY = 86_400
_BLOCK_ROWS = 2**19


def make_synthetic(rows: int, users: int, items: int, seed: int = 0, block_rows: int = _BLOCK_ROWS) -> Interactions:
    """Make a table of synthetic ratings from 0.5 to 5 in half stars, without a repeated pair of a user and an item.

    Every user has at least one row; the catalogue has all items. The same users and items have the same factors and
    offsets for any number of rows.

    Args:
        rows: number of rows, from one for each user to half of all pairs of a user and an item.
        users: number of users, 1 or more.
        items: number of items, 2 to 2**21.
        seed: 0 or more.
        block_rows: rows that are made at a time, at least those of one user; the table does not depend on it.

    Raises:
        ValueError: a number is out of its range.
    """
    if not (users >= 1 and 2 <= items <= 2**21 and users <= rows <= users * (items // 2) and seed >= 0):
        raise ValueError(f"{rows} rows of {users} users and {items} items, seed {seed}: one is out of its range")
    world = World.draw(users, items, seed)
    count = activity(rows, users, items)[world.user_rank]
    columns = Rows(
        np.empty(rows, np.int32), np.empty(rows, np.int32), np.empty(rows, np.float32), np.empty(rows, np.int64)
    )
    streams = Streams.of(seed)
    ends = np.cumsum(count)
    first = 0
    while first < users:
        start = ends[first] - count[first]
        last = max(first + 1, int(np.searchsorted(ends, start + block_rows, side="right")))
        block = np.arange(first, last)
        for column, values in zip(columns.columns, _make_rows(block, count[block], world, streams), strict=True):
            column[start : ends[last - 1]] = values
        first = last
    catalogue = np.arange(items, dtype=np.int32)
    return Interactions(number_ids("u", users), number_ids("i", items), columns, catalogue)


@dataclass(frozen=True, eq=False)
class World:
    """The properties of all users and items; factors and offsets are nearly standard normal (see `normal`).

    Attributes:
        user_rank: `[U]` rank of each user by activity, the most active first.
        item_of_rank: `[I]` item of each rank by popularity.
        user_factors, item_factors: `[K, U]` and `[K, I]`; their dot product is `sqrt(K)` times the liking.
        user_offsets, item_offsets: `[U]` and `[I]`.
        first_time: `[U]` earliest second of each user's ratings.
    """

    user_rank: Index
    item_of_rank: Codes
    user_factors: Singles
    item_factors: Singles
    user_offsets: Singles
    item_offsets: Singles
    first_time: Index

    @classmethod
    def draw(cls, users: int, items: int, seed: int) -> "World":
        """Draw the properties of users and items from two random streams of the seed."""
        of_users, of_items = stream(seed, 0), stream(seed, 1)
        return cls(
            user_rank=np.argsort(np.argsort(of_users.random_raw(users), kind="stable")),
            item_of_rank=np.argsort(of_items.random_raw(items), kind="stable").astype(np.int32),
            user_factors=normal(of_users.random_raw(_FACTORS * users)).reshape(_FACTORS, users),
            item_factors=normal(of_items.random_raw(_FACTORS * items)).reshape(_FACTORS, items),
            user_offsets=normal(of_users.random_raw(users)),
            item_offsets=normal(of_items.random_raw(items)),
            first_time=_FIRST_DAY + integers_below(of_users.random_raw(users), _DAYS * _DAY),
        )

    def with_user_factors(self, factors: Singles) -> "World":
        """Return the same world with other tastes of its users."""
        return replace(self, user_factors=factors)

    def liking(self, users: Index, items: Codes | Index) -> Singles:
        """Return `[N]`, how much each user likes the item of the same pair; nearly standard normal."""
        total = np.zeros(len(users), np.float32)
        for of_user, of_item in zip(self.user_factors, self.item_factors, strict=True):
            total += of_user[users] * of_item[items]
        total /= np.sqrt(np.float32(_FACTORS))
        return total


@dataclass(frozen=True, eq=False)
class Streams:
    """Random streams for the values that are drawn row by row; each kind has its own, so that blocks do not matter."""

    candidates: np.random.Philox
    choice: np.random.Philox
    ratings: np.random.Philox
    times: np.random.Philox

    @classmethod
    def of(cls, seed: int) -> "Streams":
        """Return the streams of a seed."""
        return cls(*(stream(seed, number) for number in range(2, 6)))


def stream(seed: int, number: int) -> np.random.Philox:
    """Return a source of random bits; those of different numbers are independent."""
    return np.random.Philox(key=[seed, number])


def activity(rows: int, users: int, items: int) -> Index:
    """Return `[U]` numbers of rows of the users, the most active first: `rows` in all, each from 1 to I // 2.

    Before it is cut off and rounded, the number at the quantile q from above is in proportion to
    `_LEAST + (1 - _LEAST) * (1 / sqrt(q) - 1)`, whose mean is 1.
    """
    quantile = (np.arange(users) + 0.5) / users
    shape = _LEAST + (1 - _LEAST) * (1 / np.sqrt(quantile) - 1)
    # Bisection down to neighbouring floating-point numbers: the largest scale with no more than `rows` rows in all.
    low, high = 0.0, float(rows * users)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _limit_counts(shape * middle, items).sum() <= rows else (low, middle)
    count = _limit_counts(shape * low, items)
    # The few rows that are left go to the most active users who may have more.
    left = rows - int(count.sum())
    while left:
        spare = np.flatnonzero(count < items // 2)[:left]
        count[spare] += 1
        left -= len(spare)
    return count


def _limit_counts(wanted: Reals, items: int) -> Index:
    return np.clip(wanted, 1, items // 2).astype(np.int64)


def _make_rows(users: Index, count: Index, world: World, streams: Streams) -> tuple[Codes, Codes, Singles, Index]:
    """Make the columns of some users' rows, in the order of the table."""
    user, item = choose_pairs(users, count, world, streams)
    size = len(user)
    noise = normal(streams.ratings.random_raw(size))
    stars = np.float32(_MEAN) + np.float32(_USER_SPREAD) * world.user_offsets[user]
    stars += np.float32(_ITEM_SPREAD) * world.item_offsets[item]
    stars += np.float32(_LIKING_SPREAD) * world.liking(user, item)
    stars += np.float32(_NOISE_SPREAD) * noise
    ratings = np.clip(np.rint(stars * 2) / 2, 0.5, 5).astype(np.float32)
    times = world.first_time[user] + integers_below(streams.times.random_raw(size), _STAY * _DAY)
    return user.astype(np.int32), item, ratings, times


def choose_pairs(
    users: Index, count: Index, world: World, streams: Streams, offers: int = 1, strength: float = 1.0
) -> tuple[Index, Codes]:
    """Choose `count` items for each of some users, and return the pairs sorted by user and item.

    Args:
        users: `[n]`.
        count: `[n]`, at most half of all items.
        world: gives the items, and how much each user likes each.
        streams: of random numbers.
        offers: a user chooses among 2 * `offers` times as many items, as far as a quarter of all items reaches.
        strength: of the liking, in standard deviations of the noise.
    """
    drawn = 2 * np.maximum(count, np.minimum(offers * count, len(world.item_of_rank) // 8))
    owner = np.repeat(np.arange(len(count)), drawn)
    start = np.cumsum(drawn) - drawn
    unit = np.arange(len(owner)) - start[owner]
    rank = draw_offers(unit, owner, drawn, len(world.item_of_rank), streams.candidates)
    user, item = users[owner], world.item_of_rank[rank]
    wish = np.float32(strength) * world.liking(user, item) + normal(streams.choice.random_raw(len(owner)))
    # One sort chooses each user's best liked items. A key has the user, the liking (highest first) and the unit, from
    # high bits to low; a wish is between -64 and 64, and no two keys are equal.
    key = owner << 43 | ((np.float32(64) - wish) * np.float32(2**14)).astype(np.int64) << 21 | unit
    again = np.flatnonzero((owner[1:] == owner[:-1]) & (rank[1:] == rank[:-1])) + 1
    key[again] |= 1 << 42  # a repeated item goes behind all others of the user
    key.sort()
    chosen = (start[owner] + (key & (2**21 - 1)))[unit < count[owner]]
    pair = np.sort(user[chosen] << 32 | item[chosen])
    return pair >> 32, (pair & (2**32 - 1)).astype(np.int32)


def normal(bits: Bits) -> Singles:
    """Return `[N]` numbers with mean 0 and variance 1, nearly normal: sums of four uniform ones, from -3.5 to 3.5."""
    quarters = bits.view(np.uint16).reshape(-1, 4)
    total = quarters[:, 0].astype(np.int32)
    for column in range(1, 4):
        total += quarters[:, column]
    scale = np.sqrt(3.0) / 2**16
    normal: Singles = ((total - 2 * (2**16 - 1)) * scale).astype(np.float32)
    return normal


def integers_below(bits: Bits, end: int) -> Index:
    """Return `[N]` random whole numbers from 0 to end - 1."""
    return (bits % np.uint64(end)).astype(np.int64)


def number_ids(letter: str, count: int) -> Ids:
    """Return `count` ids with equally many digits, so that they are sorted as text."""
    width = max(6, len(str(count)))
    ids = np.empty(count, np.object_)
    ids[:] = [f"{letter}{number:0{width}}" for number in range(1, count + 1)]
    return ids
