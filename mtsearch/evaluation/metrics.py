"""From ranks and ratings to numbers, as `objectives.METRICS` defines them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mtsearch.evaluation.ranks import Counts, Ranks
from mtsearch.evaluation.scorer import Floats
from mtsearch.objectives import CUT_OFFS

Reals = NDArray[np.float64]


def rating_errors(predicted: Floats, actual: Floats, lowest: float, highest: float) -> Iterator[tuple[str, Reals]]:
    """What each row adds to `rmse` and `rmse_clipped` (squares) and to `mae`: `[B]` by key, in units of the ratings.

    Args:
        predicted: `[B]`, finite and within the range of float32, so that no square overflows.
        actual: `[B]`.
        lowest, highest: what `rmse_clipped` clips predictions to.
    """
    wanted = actual.astype(np.float64)
    error = predicted - wanted
    clipped = np.clip(predicted, lowest, highest) - wanted
    yield "rmse", np.square(error)
    yield "rmse_clipped", np.square(clipped)
    yield "mae", np.abs(error)


def ranking_gains(ranks: Ranks) -> Iterator[tuple[str, Reals]]:
    """What each row gains in the top-k accuracies, nDCG, MRR and recall under random tie-breaking: `[B]` by key."""
    rank = np.arange(1, len(ranks.missed) + 1)
    for k in CUT_OFFS:
        yield f"top_{k}", expected_gain(ranks.above, ranks.ties, rank <= k)
        yield f"top_{k}_unseen", expected_gain(ranks.above_unseen, ranks.ties_unseen, rank <= k)
    discount = np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0)
    yield "ndcg_10", expected_gain(ranks.above, ranks.ties, discount)
    yield "mrr", expected_gain(ranks.above, ranks.ties, 1 / rank)
    yield "recall_100", expected_gain(ranks.above, ranks.ties, rank <= 100)


def coverage(ranks: Ranks) -> float:
    """The expected share of the catalogue that somebody is offered; users break ties independently."""
    return float((1 - ranks.missed).mean())


def expected_gain(above: Counts, ties: Counts, gain: NDArray[np.floating | np.bool_]) -> Reals:
    """What each row gains on average where tied items are put in random order.

    With G(n) the sum of the first n gains, the mean over the ranks above + 1 ... above + ties is
    (G(above + ties) - G(above)) / ties. For the hits of a cut-off K this is clip((K - above) / ties, 0, 1).

    Args:
        above: `[B]`, 0 to C.
        ties: `[B]`, >= 1; above + ties <= C + 1.
        gain: `[C]` of the ranks 1 to C. Rank C + 1, a miss, gains nothing.
    """
    total = np.zeros(len(gain) + 2)
    np.cumsum(gain, out=total[1:-1])
    total[-1] = total[-2]
    mean: Reals = (total[above + ties] - total[above]) / ties
    return mean
