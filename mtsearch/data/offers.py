"""What the users of made-up data are offered: items, the popular ones more often."""

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]
Reals = NDArray[np.float64]

_HEAD = 60.0
"""Ranks after which popularity falls. With 60 half of the users of `synthetic/25m` have the most popular item."""


def offered(unit: Index, owner: Index, drawn: Index, items: int, bits: np.random.Philox) -> Index:
    """As many ranks as are `drawn` for each user, by popularity, at least half of them different.

    An item's chance to be drawn is in proportion to its popularity, but 1 at most. Laid end to end the chances of a
    user are a line of the length `drawn`, of which every unit has one draw: an item, no longer than one, lies in two
    units at most. The same ones are next to each other.

    Args:
        unit: `[N]` of which a draw is, from 0 on for each user.
        owner: `[N]` whose it is: 0 to n - 1, ascending.
        drawn: `[n]` even.
        items: I.
        bits: where the draws come from.
    """
    point = unit + (bits.random_raw(len(owner)) >> np.uint64(11)) * 2.0**-53
    certain, slope = (of_user[owner] for of_user in _line(drawn, items))
    # Up to r the line is r long while that is certain, then falls off: its density is slope / (r + _HEAD)**2.
    beyond = 1 / (1 / (certain + _HEAD) - np.maximum(point - certain, 0) / slope) - _HEAD
    return np.minimum(np.where(point < certain, point, beyond).astype(np.int64), items - 1)


def _line(drawn: Index, items: int) -> tuple[Reals, Reals]:
    """`[n]` ranks that are drawn for certain, s - h, and the factor s**2 of the others' chances, s**2 / (r + h)**2.

    They add up to `drawn`: s is the root below I + h of s**2 / (I + h) - 2 s + drawn + h = 0, with h = `_HEAD`. Where
    it is less than h, nothing is certain and the factor is drawn * h * (I + h) / I.
    """
    all_ = items + _HEAD
    root = all_ * (1 - np.sqrt(np.maximum(1 - (drawn + _HEAD) / all_, 0)))
    certain = np.maximum(root - _HEAD, 0)
    return certain, np.where(certain > 0, root**2, drawn * _HEAD * all_ / items)
