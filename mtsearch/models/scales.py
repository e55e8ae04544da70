"""Find for each task what a predictor that knows nothing has on the training rows, in which losses are measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Task
from mtsearch.data.split import Split
from mtsearch.evaluation.baselines import limits_of_chance


@dataclass(frozen=True)
class TaskScale:
    """The units of one task, from its training rows; weights of rows count in all of them.

    Attributes:
        rows: number of the training rows that serve the task.
        center: of a rating the mean; of a label the log odds of the share of yes; else 0.
        spread: of a rating the standard deviation, in its units; else 1.
        loss: mean loss per row of the best constant prediction: of a rating its variance; of retrieval log C, with C
            items in the catalogue; of a label the entropy of the share of yes, in nats. 1 where it would be 0.
        weight: mean weight of the rows; 1 where they have none.
    """

    rows: int
    center: float
    spread: float
    loss: float
    weight: float


def make_scale(split: Split, task: Task) -> TaskScale:
    """Return the scale of a task of a split."""
    rows = split.train.serving(task)
    weights = np.ones(len(rows)) if rows.weights is None else rows.weights.astype(np.float64)
    weight = float(weights.mean()) if len(rows) else 1.0
    if weight == 0:
        weights, weight = np.ones(len(rows)), 1.0
    if task.kind == "retrieval":
        return TaskScale(len(rows), 0.0, 1.0, float(np.log(len(split.catalogue))) or 1.0, weight)
    values = rows.ratings.astype(np.float64)
    # NOTE: of rows without weights the same sum as NumPy's, to the last bit, whatever the numbers are.
    mean = float(rows.ratings.mean(dtype=np.float64)) if rows.weights is None else _mean(values, weights)
    if task.kind == "rating":
        variance = _mean((values - mean) ** 2, weights) or 1.0
        return TaskScale(len(rows), mean, float(np.sqrt(variance)), variance, weight)
    share = float(np.clip(mean, *limits_of_chance(len(rows))))
    entropy = -(share * np.log(share) + (1 - share) * np.log1p(-share))
    return TaskScale(len(rows), float(np.log(share / (1 - share))), 1.0, float(entropy), weight)


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return float(values @ weights / weights.sum()) if len(values) else 0.0
