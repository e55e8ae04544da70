"""Ranks in a large catalogue: few rows are ranked of many scores, so that comparing beats sorting.

NOTE: what was measured, on one core, of a user's 62,000 scores: the 100th best by `np.partition` 342 us, and 25 us as
here. Comparing against sorting, by catalogue and evaluated rows of a user: `python -m tests.benchmarks.ranking`.
"""

import numpy as np
from numpy.typing import NDArray

from mtsearch.evaluation.plan import Index
from mtsearch.evaluation.scorer import Floats
from mtsearch.objectives import COVERAGE_CUT_OFF

Reals = NDArray[np.float64]

SCORES_OF_A_ROW = 2048
"""Scores for each evaluated row from which on rows are compared, a compromise between cores.

NOTE: where NumPy sorts with AVX-512 a user's 62,000 scores take 155 us, as long as comparing with 16 rows, and his
3,706 take 7.6 us, half of what a single row does; on an older core 1,550 us, as 110 rows, and as 10.
"""


def count_by_comparing(scores: Floats, row: Index, value: Floats) -> tuple[Index, Index]:
    """Two counts for each value: how many scores of its row are above it, and how many equal it.

    Args:
        scores: `[n, C]`.
        row: `[R]` which row to count in.
        value: `[R]`. -0.0 equals 0.0.

    Returns:
        `[R]` and `[R]`.
    """
    above, not_below = np.empty(len(row), np.intp), np.empty(len(row), np.intp)
    outcome = np.empty(scores.shape[1], np.bool_)
    for place, (number, own) in enumerate(zip(row.tolist(), value, strict=True)):
        np.greater(scores[number], own, out=outcome)
        above[place] = np.count_nonzero(outcome)
        np.greater_equal(scores[number], own, out=outcome)
        not_below[place] = np.count_nonzero(outcome)
    return above, not_below - above


def miss(missed: Reals, scores: Floats, users: int = 1) -> None:
    """Multiply into `missed` `[C]` the chances that so many users, all of these scores `[C]`, are not offered an item.

    An item scored above the one at the cut-off is always offered; those that tie with it share the places left. One
    user after the other, which gives the same to the last bit however users are grouped.
    """
    places = min(COVERAGE_CUT_OFF, len(scores))
    candidates = np.flatnonzero(scores >= _below_the_first(scores, places))
    values = scores[candidates]
    last = np.partition(values, -places)[-places]
    above, tied = candidates[values > last], candidates[values == last]
    missed[above] = 0
    chances = missed[tied]
    for _ in range(users):
        chances *= 1 - (places - len(above)) / len(tied)
    missed[tied] = chances


def _below_the_first(scores: Floats, places: int) -> np.floating:
    """A number that so many scores or more are not below, and not many more: that many groups have their best there."""
    groups = min(2 * places, len(scores))
    best = scores[: len(scores) // groups * groups].reshape(-1, groups).max(axis=0)
    bound: np.floating = np.partition(best, -places)[-places]
    return bound
