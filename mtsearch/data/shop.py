"""Make the events of a shop that does not exist: views, carts, purchases and returns, and stars for some purchases.

Users, items and their long tails are those of `synthetic`. A user views the items that they like best at first sight,
puts some of these into the cart and buys some of those. What is bought, and which stars it gets, follows a second
taste, whose correlation with the first one is `SHARED_TASTE`: views tell much of the purchases to come, but not all.

    of 100 rows      views 87, carts 8.6, purchases 4, returns 0.4
    of 30 purchases  10 have stars, 3 are returned

NOTE: the same rows on every machine, for the reasons, and by the means, that `synthetic` has at its head.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mtsearch.data.interactions import Ids
from mtsearch.data.synthetic import (
    Index,
    Singles,
    Size,
    Streams,
    World,
    activity,
    choose_pairs,
    integers_below,
    normal,
    number_ids,
    stream,
)

SHOPS = {
    "synthetic/shop-100k": Size(100_000, 2_500, 1_500),
    "synthetic/shop-1m": Size(1_000_000, 20_000, 6_000),
}
"""Sizes of the named sources; a row is an event."""

SHARED_TASTE = 0.8
"""Correlation between how much a user likes an item at first sight, and how much when it comes to paying."""

EVENTS = ("view", "cart", "purchase", "return")

_MEAN, _USER_SPREAD, _ITEM_SPREAD, _LIKING_SPREAD, _NOISE_SPREAD = 2.4, 0.4, 0.5, 0.6, 0.5
"""In stars: the mean, and the standard deviations of its offsets, the liking and the noise."""

_OFFERS, _STRENGTH = 8, 3.0
"""How many items a user views something of, and how much the liking counts there; see `choose_pairs`.

NOTE: with the 1 and 1 of `synthetic`, no model of a short study was better than popularity: its top-100 accuracy was
0.535 of purchases and 0.481 of views. Here it is 0.514 and 0.323, where a model with good weights has 0.68 and 0.50.
"""

_FIRST_SECOND, _HOUR, _DAY = 1_735_689_600, 3_600, 86_400
_FIRST_STREAM = 6  # the ones before are those of `synthetic`


class _Pairs(NamedTuple):
    """Pairs of a user and an item, each with the second of its last event."""

    users: Index
    items: Index
    times: Index

    def take(self, rows: Index) -> "_Pairs":
        """Return some of the pairs."""
        return _Pairs(self.users[rows], self.items[rows], self.times[rows])

    def later(self, bits: np.random.Philox, least: int, most: int) -> "_Pairs":
        """Return the pairs with an event that follows within some seconds."""
        delay = least + integers_below(bits.random_raw(len(self.users)), most - least)
        return self._replace(times=self.times + delay)


def catalogue(items: int) -> Ids:
    """Return the ids of all items of a shop, viewed or not."""
    return number_ids("i", items)


def make_shop(rows: int, users: int, items: int, seed: int = 0, shared_taste: float = SHARED_TASTE) -> pa.Table:
    """Make a table of a shop's events, in the order of time.

    Its columns are user, item, event (one of `EVENTS`), stars (1 to 5, on a third of the purchases), returned (0 or 1,
    on purchases) and timestamp (seconds; the shop opens with the year 2025).

    Args:
        rows: number of events; nearly nine in ten are views, at least one for each user.
        users: number of users, 1 or more.
        items: number of items, 2 to 2**21.
        seed: 0 or more.
        shared_taste: correlation between the taste that views follow and the one that all else follows, 0 to 1.

    Raises:
        ValueError: a number is out of its range.
    """
    bought = rows // 25
    in_cart, back = rows * 86 // 1_000, bought // 10
    viewed = rows - in_cart - bought - back
    fits = users >= 1 and 2 <= items <= 2**21 and users <= viewed <= users * (items // 2)
    if not (fits and seed >= 0 and 0 <= shared_taste <= 1):
        raise ValueError(f"{rows} events of {users} users and {items} items, seed {seed}: one is out of its range")
    at_sight = World.draw(users, items, seed)
    bits = stream(seed, _FIRST_STREAM)
    opinion = form_opinion(at_sight, shared_taste, bits)
    views = _make_views(viewed, at_sight, bits, seed)
    wish = opinion.liking(views.users, views.items) + _noise(bits, viewed)
    carts = views.take(_best(wish, in_cart)).later(bits, 60, _HOUR)
    wish = opinion.liking(carts.users, carts.items) + _noise(bits, in_cart)
    purchases = carts.take(_best(wish, bought)).later(bits, 60, _DAY)
    stars = _give_stars(purchases, opinion, bits)
    rated = np.zeros(bought, np.bool_)
    rated[_best(_noise(bits, bought), bought // 3)] = True
    # What comes back is above all what its buyer did not like, and what never fits anybody.
    unfit = normal(bits.random_raw(items))[purchases.items]
    sent_back = _best(unfit + _noise(bits, bought) - opinion.liking(purchases.users, purchases.items), back)
    returns = purchases.take(sent_back).later(bits, 2 * _DAY, 30 * _DAY)
    returned = np.zeros(bought, np.int64)
    returned[sent_back] = 1
    return _tabulate((views, carts, purchases, returns), np.where(rated, stars, 0), returned, users, items)


def form_opinion(at_sight: World, shared_taste: float, bits: np.random.Philox) -> World:
    """Return the world as users see it when it comes to paying: its likings correlate with those at first sight."""
    shared, own = np.float32(shared_taste), np.sqrt(np.float32(1 - shared_taste * shared_taste))
    factors = at_sight.user_factors
    fresh = normal(bits.random_raw(factors.size)).reshape(factors.shape)
    return at_sight.with_user_factors(shared * factors + own * fresh)


def _make_views(count: int, world: World, bits: np.random.Philox, seed: int) -> _Pairs:
    """Make the views: different items of each user, within 60 days after the user's first visit in 2025."""
    users, items = len(world.user_rank), len(world.item_of_rank)
    each = activity(count, users, items)[world.user_rank]
    user, item = choose_pairs(np.arange(users), each, world, Streams.of(seed), _OFFERS, _STRENGTH)
    first = integers_below(bits.random_raw(users), 300 * _DAY)
    times = _FIRST_SECOND + first[user] + integers_below(bits.random_raw(count), 60 * _DAY)
    return _Pairs(user, item.astype(np.int64), times)


def _give_stars(purchases: _Pairs, opinion: World, bits: np.random.Philox) -> Index:
    users, items = purchases.users, purchases.items
    stars = np.float32(_MEAN) + np.float32(_USER_SPREAD) * opinion.user_offsets[users]
    stars += np.float32(_ITEM_SPREAD) * opinion.item_offsets[items]
    stars += np.float32(_LIKING_SPREAD) * opinion.liking(users, items)
    stars += np.float32(_NOISE_SPREAD) * _noise(bits, len(users))
    given: Index = np.clip(np.rint(stars), 1, 5).astype(np.int64)
    return given


def _noise(bits: np.random.Philox, count: int) -> Singles:
    return normal(bits.random_raw(count))


def _best(wish: Singles, count: int) -> Index:
    """Return the places of the `count` largest numbers, ascending; of equal numbers the first come first."""
    return np.sort(np.argsort(-wish, kind="stable")[:count])


def _tabulate(kinds: tuple[_Pairs, ...], stars: Index, returned: Index, users: int, items: int) -> pa.Table:
    """Put the events of all kinds into one table.

    Args:
        kinds: the events in the order of `EVENTS`.
        stars: `[P]` of the purchases; 0 for none.
        returned: `[P]`, 0 or 1.
        users: number of users.
        items: number of items.
    """
    event = np.repeat(np.arange(len(kinds)), [len(pairs.users) for pairs in kinds])
    user, item, time = (np.concatenate(column) for column in zip(*kinds, strict=True))
    all_stars, all_returned = np.zeros(len(event), np.int8), np.zeros(len(event), np.int8)
    is_purchase = event == EVENTS.index("purchase")
    all_stars[is_purchase], all_returned[is_purchase] = stars, returned
    order = np.lexsort((event, item, user, time))
    is_purchase = is_purchase[order]
    return pa.table(
        {
            "user": _texts(number_ids("u", users), user[order]),
            "item": _texts(catalogue(items), item[order]),
            "event": _texts(np.array(EVENTS, np.object_), event[order]),
            "stars": pa.array(all_stars[order], mask=all_stars[order] == 0),
            "returned": pa.array(all_returned[order], mask=~is_purchase),
            "timestamp": time[order],
        }
    )


def _texts(names: Ids, codes: Index) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(codes))
