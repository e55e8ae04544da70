"""From ranks and ratings to numbers, as `objectives.METRICS` defines them."""

import numpy as np
from numpy.typing import NDArray

from mtsearch.evaluation.plan import Index
from mtsearch.evaluation.ranks import Counts, Ranks
from mtsearch.evaluation.scorer import Floats
from mtsearch.objectives import CUT_OFFS

Reals = NDArray[np.float64]


def rating_metrics(predicted: Floats, actual: Floats, lowest: float, highest: float) -> dict[str, float]:
    """`rmse`, `rmse_clipped` and `mae`, in stars, summed in float64.

    Args:
        predicted: `[B]`, finite and within the range of float32, so that no square overflows.
        actual: `[B]`.
        lowest, highest: what `rmse_clipped` clips predictions to.
    """
    wanted = actual.astype(np.float64)
    error = predicted - wanted
    clipped = np.clip(predicted, lowest, highest) - wanted
    return {
        "rmse": float(np.sqrt(np.mean(np.square(error)))),
        "rmse_clipped": float(np.sqrt(np.mean(np.square(clipped)))),
        "mae": float(np.mean(np.abs(error))),
    }


def ranking_metrics(ranks: Ranks, user_index: Index) -> dict[str, float]:
    """Expected top-k accuracies, nDCG, MRR, recall per user, and coverage under random tie-breaking, user by user.

    Args:
        ranks: of B rows.
        user_index: `[B]` the user of each row, numbered from 0 without gaps.
    """
    rank = np.arange(1, len(ranks.missed) + 1)
    values = {}
    for k in CUT_OFFS:
        values[f"top_{k}"] = float(expected_gain(ranks.above, ranks.ties, rank <= k).mean())
        values[f"top_{k}_unseen"] = float(expected_gain(ranks.above_unseen, ranks.ties_unseen, rank <= k).mean())
    discount = np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0)
    hit = expected_gain(ranks.above, ranks.ties, rank <= 100)
    return values | {
        "ndcg_10": float(expected_gain(ranks.above, ranks.ties, discount).mean()),
        "mrr": float(expected_gain(ranks.above, ranks.ties, 1 / rank).mean()),
        "recall_100": float((np.bincount(user_index, weights=hit) / np.bincount(user_index)).mean()),
        "coverage": float((1 - ranks.missed).mean()),
    }


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
