"""Measure two ways to rank a user's evaluated rows in a catalogue.

    python -m tests.benchmarks.ranking

Prints microseconds of a user, on one core; takes some seconds. `comparing.SCORES_OF_A_ROW` was set from it.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from mtsearch.evaluation.plan import TILE_BYTES, Floats, Index
from mtsearch.evaluation.ranks import Ranks, count_below, count_by_comparing, update_missed

CATALOGUES = (500, 1_664, 3_706, 8_000, 16_000, 62_000)
ROWS = (1, 3, 12, 40)


def main() -> None:
    """Measure both ways by size of the catalogue and number of rows of a user."""
    print("| items | rows of a user | comparing, us | sorting, us |\n|--|--|--|--|")
    rng = np.random.default_rng(0)
    for items in CATALOGUES:
        scores = rng.normal(size=(max(1, TILE_BYTES // 4 // items), items)).astype(np.float32)
        for rows in ROWS:
            user = np.repeat(np.arange(len(scores)), rows)
            own = scores[user, rng.integers(0, items, len(user))]
            costs = (_best(partial(way, scores, user, own)) / len(scores) for way in (compare, sort))
            print(f"| {items} | {rows} | {' | '.join(f'{cost:.1f}' for cost in costs)} |")


def compare(scores: Floats, user: Index, own: Floats) -> None:
    """Count by comparing, as `Ranks.record` does for few rows of many scores."""
    ranks = Ranks.all_misses(1, scores.shape[1])
    count_by_comparing(scores, user, own)
    for row in scores:
        update_missed(ranks.missed, row)


def sort(scores: Floats, user: Index, own: Floats) -> None:
    """Count by sorting, as `Ranks.record` does otherwise."""
    ordered = np.sort(scores, axis=1)
    count_below(ordered, user, own)
    Ranks.all_misses(1, scores.shape[1])._update_missed(scores, ordered)


def _best(action: Callable[[], None]) -> float:
    """Return the microseconds of the fastest of some runs."""
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return 1e6 * min(seconds)


if __name__ == "__main__":
    main()
