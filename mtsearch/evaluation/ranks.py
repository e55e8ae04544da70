"""Count for each evaluated row the catalogue items that are scored above its own, by sorting or by comparing.

NOTE: measured on one core, for a user's 62,000 scores: the 100th best by `np.partition` 342 us, and 25 us as
here. To compare both ways by catalogue and evaluated rows of a user: `python -m tests.benchmarks.ranking`.

NOTE: measured on one core with AVX-512, for the 8,000 validation rows, 943 users and 1,664 items of
MovieLens 100K, and 70,740 items seen. Whole catalogue: sorting every score row 11.1 ms plus two searches 0.8 ms;
comparing each row's item with all others directly 5.0 ms for `above`, as much again for `ties`, and 7.6 ms for the
partition that coverage then needs; `np.searchsorted` user by user 2.8 ms in place of the batched search. Unseen:
padded sort of the seen scores with its two searches 1.5 ms in tiles of similar histories (in one piece the sort alone
2.0 ms); comparing all pairs of evaluated and seen items 3.6 ms; masking the seen items and sorting once more 11.3 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mtsearch.evaluation.plan import Block, Floats, Index, Mask, Tile
from mtsearch.metrics import COVERAGE_CUT_OFF, PossibleRanks

Reals = NDArray[np.float64]

SCORES_OF_A_ROW = 2048
"""Scores per evaluated row above which items are counted by comparing; a compromise between processors.

NOTE: with AVX-512, sorting a user's 62,000 scores takes 155 us, as long as comparing 16 rows, and sorting 3,706 scores
takes 7.6 us, half as long as comparing one row. On an older core 62,000 scores take 1,550 us, as long as 110 rows, and
3,706 scores as long as 10.
"""


def count_by_comparing(scores: Floats, row: Index, value: Floats) -> tuple[Index, Index]:
    """Count for each value the scores of its row that are above it, and those that equal it.

    Args:
        scores: `[n, C]`.
        row: `[R]` number of the row to count in.
        value: `[R]`. -0.0 equals 0.0.

    Returns:
        `[R]` scores > value, and `[R]` scores == value.
    """
    above, not_below = np.empty(len(row), np.intp), np.empty(len(row), np.intp)
    outcome = np.empty(scores.shape[1], np.bool_)
    for place, (number, own) in enumerate(zip(row.tolist(), value, strict=True)):
        np.greater(scores[number], own, out=outcome)
        above[place] = np.count_nonzero(outcome)
        np.greater_equal(scores[number], own, out=outcome)
        not_below[place] = np.count_nonzero(outcome)
    return above, not_below - above


def update_missed(missed: Reals, scores: Floats, users: int = 1) -> None:
    """Multiply into `missed` `[C]` the chances that none of several users with these scores `[C]` is offered an item.

    An item scored above the one at the cut-off is always offered; those that tie with it share the places left. The
    users are taken one after the other, so that the result is the same to the last bit however users are grouped.
    """
    places = min(COVERAGE_CUT_OFF, len(scores))
    # Only the few scores above a cheap lower bound have to be partitioned.
    candidates = np.flatnonzero(scores >= _lower_bound(scores, places))
    values = scores[candidates]
    last = np.partition(values, -places)[-places]
    above, tied = candidates[values > last], candidates[values == last]
    missed[above] = 0
    chances = missed[tied]
    for _ in range(users):
        chances *= 1 - (places - len(above)) / len(tied)
    missed[tied] = chances


def _lower_bound(scores: Floats, places: int) -> np.floating:
    """Return a bound that at least `places` scores reach, and not many more."""
    # At least `places` groups have a maximum at or above the bound, and so at least that many scores.
    groups = min(2 * places, len(scores))
    best = scores[: len(scores) // groups * groups].reshape(-1, groups).max(axis=0)
    bound: np.floating = np.partition(best, -places)[-places]
    return bound


class BlockCounts(NamedTuple):
    """How the items of a block's rows compare with the items that their users are scored for; R rows, C items.

    Attributes:
        above, ties: `[R]` number of items above the row's own, and as high, itself among them; in the tiles' order.
        above_seen, ties_seen: `[R]` the same among the items of the user's training rows.
        offered: `[C]` True for the items that are certainly among the first `COVERAGE_CUT_OFF` of some user, of the
            users without such ties as `tied` has.
        tied: `[s, C]` scores of the users who have more items as high as the last place than places are left.
    """

    above: Index
    ties: Index
    above_seen: Index
    ties_seen: Index
    offered: Mask
    tied: Floats


@dataclass(frozen=True, eq=False)
class Ranks:
    """The rank of each evaluated row's item, ties not broken; B rows, C items in the catalogue.

    Attributes:
        whole: the ranks of each row's item in the whole catalogue.
        unseen: the same without the items of the user's training rows; the row's own item always stays.
        missed: `[C]` chance that the item is among the first `COVERAGE_CUT_OFF` of no evaluated user; users break ties
            independently.
    """

    whole: PossibleRanks
    unseen: PossibleRanks
    missed: Reals

    @classmethod
    def all_misses(cls, rows: int, catalogue_size: int) -> Self:
        """Make ranks in which every row is a miss, to be filled by `record`."""
        whole, unseen = (
            PossibleRanks(np.full(rows, catalogue_size, np.int64), np.ones(rows, np.int64), catalogue_size)
            for _ in range(2)
        )
        return cls(whole, unseen, np.ones(catalogue_size))

    def record(self, tile: Tile, scores: Floats) -> None:
        """Rank the rows of one tile.

        Args:
            tile: its users and rows.
            scores: `[n, C]` of the tile's users; finite.
        """
        own = scores[tile.user, tile.column]
        if scores.size > len(own) * SCORES_OF_A_ROW:
            above, ties = count_by_comparing(scores, tile.user, own)
            for row in scores:
                update_missed(self.missed, row)
        else:
            ordered = np.sort(scores, axis=1)
            below, not_above = count_below(ordered, tile.user, own)
            above, ties = scores.shape[1] - not_above, not_above - below
            self._update_missed(scores, ordered)
        above_seen, ties_seen = _count_seen(tile, np.take_along_axis(scores, tile.seen, axis=1), own)
        self._store(tile, above, ties, above_seen, ties_seen)

    def record_shared(self, block: Block, scores: Floats) -> None:
        """Rank the rows of a block whose users all have the same scores `[C]`, finite, with one sort for all."""
        ordered = np.sort(scores)
        for tile in block.tiles:
            own = scores[tile.column]
            below, not_above = np.searchsorted(ordered, own), np.searchsorted(ordered, own, side="right")
            seen = _count_seen(tile, scores[tile.seen], own)
            self._store(tile, len(scores) - not_above, not_above - below, *seen)
        update_missed(self.missed, scores, users=len(block.users))

    def record_counts(self, block: Block, counts: BlockCounts) -> None:
        """Rank the rows of a block that has been counted elsewhere."""
        start = 0
        for tile in block.tiles:
            end = start + len(tile.rows)
            self._store(tile, *(count[start:end] for count in counts[:4]))
            start = end
        self.missed[counts.offered] = 0
        for scores in counts.tied:
            update_missed(self.missed, scores)

    def _store(self, tile: Tile, above: Index, ties: Index, above_seen: Index, ties_seen: Index) -> None:
        """Store the counts of a tile's rows, in the whole catalogue and among the items seen."""
        self.whole.above[tile.rows] = above
        self.whole.ties[tile.rows] = ties
        self.unseen.above[tile.rows] = above - above_seen
        self.unseen.ties[tile.rows] = ties - ties_seen + tile.is_seen

    def _update_missed(self, scores: Floats, ordered: Floats) -> None:
        """Multiply into `missed` the chances that none of these users is offered an item.

        An item scored above the one at the cut-off is always offered; those that tie with it share the places left.
        NOTE: most models have no ties there, and one comparison is enough. If users share places, their chances are
        multiplied in the users' order, which gives the same to the last bit whatever the tiles.
        """
        size = scores.shape[1]
        places = min(COVERAGE_CUT_OFF, size)
        last = ordered[:, -places]
        below, not_above = count_below(ordered, np.arange(len(ordered)), last)
        chance = (places - (size - not_above)) / (not_above - below)
        # Users with more ties at the cut-off than places: their tied items are offered by chance.
        sharing = np.flatnonzero(chance < 1)
        offered = scores >= last[:, None]
        tied = scores[sharing] == last[sharing, None]
        offered[sharing] &= ~tied
        self.missed[offered.any(axis=0)] = 0
        # All other items above or at the cut-off are offered for certain; now the chances of the tied ones.
        columns = np.flatnonzero(tied.any(axis=0))
        factors = np.where(tied[:, columns], 1 - chance[sharing, None], 1.0)
        self.missed[columns] = np.vstack([self.missed[columns], factors]).prod(axis=0)


def _count_seen(tile: Tile, seen: Floats, own: Floats) -> tuple[Index, Index]:
    """Count for each row the seen items scored above `own`, and those equal to it, `[R]`; overwrites `seen`."""
    seen[tile.padding] = np.inf  # finite scores are below it, so padding never counts as not above
    seen.sort(axis=1)
    below, not_above = count_below(seen, tile.user, own)
    return tile.seen_count[tile.user] - not_above, not_above - below


def count_below(ordered: Floats, row: Index, value: Floats) -> tuple[Index, Index]:
    """Count for each value the numbers of its row that are below it, and those that are not above it.

    Args:
        ordered: `[n, W]` contiguous, each row ascending, W >= 1.
        row: `[R]` number of the row to count in.
        value: `[R]`. -0.0 equals 0.0.

    Returns:
        `[R]` numbers < value, and `[R]` numbers <= value.
    """
    return _search(ordered, row, value, np.less), _search(ordered, row, value, np.less_equal)


def _search(ordered: Floats, row: Index, value: Floats, goes_before: Callable[[Floats, Floats], Mask]) -> Index:
    """Count the numbers that go before each value, by binary search for all values at once.

    At every step all numbers up to `before` go before the value, and the last such number is `before` or one of the
    next `length` numbers.
    """
    numbers, length = ordered.reshape(-1), ordered.shape[1]
    start: Index = row * length - 1
    before = start.copy()
    while length > 1:
        half = length // 2
        before += half * goes_before(numbers.take(before + half), value)
        length -= half
    before += goes_before(numbers.take(before + 1), value)
    return before - start
