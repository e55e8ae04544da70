"""The Pareto front as data: which trials are on it, how much it covers, where it bends."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.trial import FrozenTrial, TrialState

from mtsearch.search.attributes import METRICS


@dataclass(frozen=True)
class FrontRow:
    """One trial as a point in the plane of the two objectives.

    Attributes:
        trial: its number in the study, 0-based.
        values: the two objectives, in the study's order and in their own directions.
        params: what was searched, by name.
        metrics: every validation metric, by the keys of `objectives.METRICS`.
    """

    trial: int
    values: tuple[float, float]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]


def pareto_front(rows: Sequence[FrontRow], signs: tuple[float, float]) -> list[FrontRow]:
    """The rows that no other row dominates, equal points all kept; O(n log n).

    Args:
        rows: in any order, without NaN.
        signs: per objective 1 where lower is better, -1 where higher is.

    Returns:
        Sorted by the first objective, best first, then the second, then trial number.
    """
    front: list[FrontRow] = []
    last: tuple[float, float] | None = None
    for row in sorted(rows, key=lambda row: (*_losses(row, signs), row.trial)):
        # Whatever came before is no worse in the first loss, so only a better second one or an equal point is kept.
        losses = _losses(row, signs)
        if last is None or losses[1] < last[1] or losses == last:
            front.append(row)
            last = losses
    return front


def dominates(row: FrontRow, other: FrontRow, signs: tuple[float, float]) -> bool:
    """Whether a row is no worse than another in both objectives and better in one."""
    losses, others = _losses(row, signs), _losses(other, signs)
    return losses != others and losses[0] <= others[0] and losses[1] <= others[1]


def hypervolume(
    values: ArrayLike, signs: tuple[float, float], reference: tuple[float, float], ideal: tuple[float, float]
) -> float:
    """The share of the box between `reference` and `ideal` that the points dominate.

    Points worse than the reference in either objective add nothing; what is better than the ideal counts as the ideal.

    Args:
        values: points, [n, 2], in any order, on a front or not.
        signs: per objective 1 where lower is better, -1 where higher is.
        reference: the worst corner, in the objectives' own directions.
        ideal: the best corner.

    Returns:
        Between 0 and 1; 0 for a box without area, in which nothing can be gained.
    """
    sign = np.asarray(signs, dtype=float)
    worst, best = sign * np.asarray(reference), sign * np.asarray(ideal)
    box = float(np.prod(worst - best))
    losses = np.maximum(np.asarray(values, dtype=float).reshape(-1, 2) * sign, best)
    losses = losses[(losses < worst).all(axis=1)]
    if len(losses) == 0 or (worst <= best).any():
        return 0.0
    losses = losses[np.lexsort((losses[:, 1], losses[:, 0]))]
    # Strips from each point to the next, each as high as the best second loss so far.
    widths = np.diff(losses[:, 0], append=worst[0])
    heights = worst[1] - np.minimum.accumulate(losses[:, 1])
    return float(widths @ heights) / box


def knee(front: Sequence[FrontRow], signs: tuple[float, float]) -> FrontRow | None:
    """The trial that gives up least of both objectives; None on an empty front.

    The front is normalised by its own extremes; the knee lies farthest below the chord between them. On fewer than
    three points it is the one nearest the normalised minimum of both losses. Of equals, the first.

    Args:
        front: finite rows from `pareto_front`.
        signs: per objective 1 where lower is better, -1 where higher is.
    """
    if not front:
        return None
    losses = np.array([_losses(row, signs) for row in front])
    scaled = _normalised(losses)
    distance = scaled.sum(axis=1) if len(front) >= 3 else np.hypot(scaled[:, 0], scaled[:, 1])
    return front[int(np.argmin(distance))]


def finite_rows(trials: Sequence[FrozenTrial]) -> list[FrontRow]:
    """The completed, feasible trials whose two values are finite, in the order given."""
    return [_row(trial) for trial in trials if trial.state == TrialState.COMPLETE and _is_point(trial)]


def feasible(trial: FrozenTrial) -> bool:
    """Whether it keeps every constraint that it was told."""
    return all(value <= 0 for value in trial.constraints.values())


def _losses(row: FrontRow, signs: tuple[float, float]) -> tuple[float, float]:
    return signs[0] * row.values[0], signs[1] * row.values[1]


def _normalised(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column from 0 (best) to 1 (worst); all 0 where it does not vary."""
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled: NDArray[np.float64] = (losses - low) / np.where(high > low, high - low, 1.0)
    return scaled


def _is_point(trial: FrozenTrial) -> bool:
    return feasible(trial) and all(math.isfinite(value) for value in trial.values)


def _row(trial: FrozenTrial) -> FrontRow:
    first, second = trial.values
    return FrontRow(trial.number, (first, second), trial.params, trial.user_attrs.get(METRICS, {}))
