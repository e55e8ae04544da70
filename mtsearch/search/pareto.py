"""The Pareto front of a study's trials, its hypervolume and its knee, as plain data."""

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
    """One trial as a point in the space of the objectives.

    Attributes:
        trial: its number in the study, 0-based.
        values: the objectives, in the study's order and in their own directions.
        params: what was searched, by name.
        metrics: every validation metric, by their keys in the study.
    """

    trial: int
    values: tuple[float, ...]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]


def pareto_front(rows: Sequence[FrontRow], signs: tuple[float, ...]) -> list[FrontRow]:
    """Return the rows that no other row dominates, equal points all kept.

    One and two objectives take O(n log n), more O(n f) with f rows on the front: of four objectives 0.2 s for 10,000
    rows with 213 on the front, 0.6 s where all are on it.

    Args:
        rows: in any order, without NaN.
        signs: per objective 1 if lower is better, -1 if higher is better.

    Returns:
        Sorted by the first objective, best first, then by the next ones, then by trial number.
    """
    ordered = sorted(rows, key=lambda row: (*_losses(row, signs), row.trial))
    losses = [_losses(row, signs) for row in ordered]
    if len(signs) <= 2:
        return [ordered[place] for place in _front_by_sweep(losses)]
    return [ordered[place] for place in _front_by_elimination(np.array(losses).reshape(-1, len(signs)).T)]


def dominates(row: FrontRow, other: FrontRow, signs: tuple[float, ...]) -> bool:
    """Tell whether a row is no worse than another in every objective and better in one."""
    losses, others = _losses(row, signs), _losses(other, signs)
    return losses != others and all(loss <= its for loss, its in zip(losses, others, strict=True))


def hypervolume(
    values: ArrayLike, signs: tuple[float, ...], reference: tuple[float, ...], ideal: tuple[float, ...]
) -> float:
    """Return the share of the box between `reference` and `ideal` that the points dominate.

    Points worse than the reference in any objective add nothing; what is better than the ideal counts as the ideal.
    One and two objectives take O(n log n), d objectives O(n^(d-1)) of the points on the front: 200 points in four
    objectives take 0.04 s, 1,000 points 2 s.

    Args:
        values: points, [n, objectives], in any order, on a front or not.
        signs: per objective 1 if lower is better, -1 if higher is better.
        reference: the worst corner, in the objectives' own directions.
        ideal: the best corner.

    Returns:
        Between 0 and 1; 0 for a box without volume, in which nothing can be gained.
    """
    sign = np.asarray(signs, dtype=float)
    worst, best = sign * np.asarray(reference), sign * np.asarray(ideal)
    box = float(np.prod(worst - best))
    losses = np.maximum(np.asarray(values, dtype=float).reshape(-1, len(signs)) * sign, best)
    losses = losses[(losses < worst).all(axis=1)]
    if len(losses) == 0 or (worst <= best).any():
        return 0.0
    if len(signs) == 1:
        return float(worst[0] - losses.min()) / box
    losses = losses[np.lexsort(losses.T[::-1])]
    volume = _dominated_area(losses, worst) if len(signs) == 2 else _dominated_volume(losses, worst)
    return volume / box


def hypervolume_gain(
    point: ArrayLike,
    values: ArrayLike,
    signs: tuple[float, ...],
    reference: tuple[float, ...],
    ideal: tuple[float, ...],
) -> float:
    """Return by how much one more point raises the `hypervolume` of others; 0 where one of them is as good.

    The others dominate of its box what they would if each were worsened to the point's own values where it is better.
    Few of those are on a front, so that the gain is found in a small part of the time that the whole volume takes
    (While et al. 2012, "A fast way of calculating exact hypervolumes"): of four objectives 3 ms beside 800 points.

    Args:
        point: [objectives].
        values: the others, [n, objectives].
        signs: per objective 1 where lower is better, -1 where higher is.
        reference: the worst corner, in the objectives' own directions.
        ideal: the best corner.
    """
    sign = np.asarray(signs, dtype=float)
    own = np.asarray(point, dtype=float) * sign
    worsened = np.maximum(np.asarray(values, dtype=float).reshape(-1, len(signs)) * sign, own)
    if (worsened == own).all(axis=1).any():
        return 0.0
    return hypervolume(own * sign, signs, reference, ideal) - hypervolume(worsened * sign, signs, reference, ideal)


def knee(front: Sequence[FrontRow], signs: tuple[float, ...]) -> FrontRow | None:
    """Return the best compromise on a front, its knee; None if the front is empty.

    The front is normalised by its own extremes: in each objective 0 is its best value on the front and 1 its worst. The
    knee lies farthest below the hyperplane that meets each axis at 1, so it has the least sum of normalised losses. On
    fewer than three points it is the one nearest the normalised minimum. Of equals, the first. With one objective a
    front is the best trial, and so is its knee.

    In two dimensions that hyperplane is the chord between the ends of the front. In more, Das (1999, "On characterizing
    the knee of the Pareto curve") lays it through the best point of each objective instead. That plane does not exist
    where one trial is best in two objectives, and it can lean so that a worse value lies farther below it; this one
    always exists, and a better value never lies less far below it. An objective that does not vary on the front adds 0.

    Args:
        front: finite rows from `pareto_front`.
        signs: per objective 1 if lower is better, -1 if higher is better.
    """
    if not front:
        return None
    scaled = _normalise(np.array([_losses(row, signs) for row in front]))
    distance = scaled.sum(axis=1) if len(front) >= 3 else np.linalg.norm(scaled, axis=1)
    return front[int(np.argmin(distance))]


def complete_rows(trials: Sequence[FrozenTrial]) -> list[FrontRow]:
    """Return the complete, feasible trials with finite values as rows, in the given order."""
    return [_to_row(trial) for trial in trials if trial.state == TrialState.COMPLETE and _is_candidate(trial)]


def is_feasible(trial: FrozenTrial) -> bool:
    """Tell whether a trial keeps every constraint that is stored with it."""
    return all(value <= 0 for value in trial.constraints.values())


def _losses(row: FrontRow, signs: tuple[float, ...]) -> tuple[float, ...]:
    """Return the objectives of a row with the sign at which lower is better in each."""
    return tuple(sign * value for sign, value in zip(signs, row.values, strict=True))


def _front_by_sweep(losses: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the indices of the points that no other point dominates; for one or two objectives.

    Args:
        losses: the points in lexicographic order; lower is better.
    """
    front: list[int] = []
    last: tuple[float, ...] | None = None
    for index, point in enumerate(losses):
        # The points before are no worse in the first loss. A point is kept if its last loss is better than theirs, or
        # if it equals the point that was kept last.
        if last is None or point[-1] < last[-1] or point == last:
            front.append(index)
            last = point
    return front


def _front_by_elimination(losses: NDArray[np.float64]) -> list[int]:
    """Return the indices of the points that no other point dominates; for any number of objectives.

    Args:
        losses: [objectives, n], the points in lexicographic order; lower is better.
    """
    new = np.ones(losses.shape[1], dtype=bool)
    new[1:] = (losses[:, 1:] != losses[:, :-1]).any(axis=0)  # equal points stand side by side
    left, rest = np.flatnonzero(new), losses[1:, new]
    on_front = np.zeros(len(new), dtype=bool)
    while len(left):
        # The first point that is left is on the front: a point that dominates it would come before it. Remove the
        # points that are not better in any objective: the first one dominates them.
        on_front[left[0]] = True
        first, left, rest = rest[:, 0], left[1:], rest[:, 1:]
        better = np.zeros(len(left), dtype=bool)
        for loss, column in zip(first, rest, strict=True):
            better |= column < loss
        if not better.all():
            left, rest = left[better], rest[:, better]
    return np.flatnonzero(on_front[np.flatnonzero(new)[np.cumsum(new) - 1]]).tolist()


def _dominated_area(losses: NDArray[np.float64], worst: NDArray[np.float64]) -> float:
    """Return the area that points, [n, 2] in lexicographic order, dominate up to the corner `worst`."""
    # Strips from each point to the next, each as high as the best second loss so far.
    widths = np.diff(losses[:, 0], append=worst[0])
    heights = worst[1] - np.minimum.accumulate(losses[:, 1])
    return float(widths @ heights)


def _dominated_volume(losses: NDArray[np.float64], worst: NDArray[np.float64]) -> float:
    """Return the volume that points, [n, objectives >= 3] in lexicographic order, dominate up to the corner `worst`.

    It is sliced along the last objective, as by HSO (While et al. 2006, "A faster algorithm for calculating
    hypervolume"). A slice is a landscape: a grid of cells in all objectives but the last two, and in each cell the best
    second-last loss of the points so far. The next slice differs from it in the cells that one more point dominates.
    """
    losses = losses[_front_by_elimination(losses.T)]
    losses = losses[np.argsort(losses[:, -1], kind="stable")]
    # The grid has an edge at each value of a point; `cells` holds the index of each point in it.
    edges = [np.unique(column) for column in losses[:, :-2].T]
    cells = [np.searchsorted(edge, column) for edge, column in zip(edges, losses.T, strict=False)]
    widths = [np.diff(edge, append=end) for edge, end in zip(edges, worst, strict=False)]
    landscape = np.full([len(edge) for edge in edges], worst[-2])
    thicknesses = np.diff(losses[:, -1], append=worst[-1])
    volume = slice_ = 0.0
    for *corner, loss, thickness in zip(*cells, losses[:, -2], thicknesses, strict=True):
        # Lower the landscape to the new point in the cells that it dominates, and add the gain to the slice.
        dominated = landscape[tuple(slice(cell, None) for cell in corner)]
        gain = np.maximum(dominated - loss, 0.0)
        np.minimum(dominated, loss, out=dominated)
        for width, cell in zip(widths, corner, strict=True):
            gain = np.tensordot(width[cell:], gain, axes=1)
        slice_ += float(gain)
        volume += slice_ * float(thickness)
    return volume


def _normalise(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale each column to 0 (best) to 1 (worst); a column that does not vary becomes 0."""
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled: NDArray[np.float64] = (losses - low) / np.where(high > low, high - low, 1.0)
    return scaled


def _is_candidate(trial: FrozenTrial) -> bool:
    return is_feasible(trial) and all(math.isfinite(value) for value in trial.values)


def _to_row(trial: FrozenTrial) -> FrontRow:
    return FrontRow(trial.number, tuple(trial.values), trial.params, trial.user_attrs.get(METRICS, {}))
