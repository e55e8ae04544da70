"""Evaluate simple baselines that need no search: a useful model has to beat them.

Their metrics on MovieLens 100K, as `mtsearch baselines` shows them (72,000 training rows, 8,000 evaluated rows):

                 rmse   top_100  top_100_unseen
    chance      1.128     0.060           0.066
    popularity  1.128     0.298           0.400
    biases      0.948     0.184           0.236
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Rows
from mtsearch.data.split import Split
from mtsearch.evaluation.evaluator import Evaluator, Ranker, Rater
from mtsearch.metrics import Metric, TaskKind
from mtsearch.text import amount, plain

Reals = NDArray[np.float64]
Singles = NDArray[np.float32]

BIAS_ROUNDS = 10
ITEM_REGULARISATION = 10
USER_REGULARISATION = 15


@dataclass(frozen=True, eq=False)
class Baseline:
    """A `Scorer` that ranks the items in the same order for every user.

    Attributes:
        mean: mean training rating, in rating units.
        user_offsets: `[U]` added to the mean for each user, in rating units.
        item_offsets: `[I]` added to the mean for each item, in rating units.
        item_scores: `[C]` float32, scores of the catalogue, higher first.
        limits: lowest and highest rating that is predicted; None for no limits.
    """

    mean: float
    user_offsets: Reals
    item_offsets: Reals
    item_scores: Singles
    limits: tuple[float, float] | None = None

    def ratings(self, users: Codes, items: Codes) -> Singles:
        """Return the predicted ratings `[B]`: the mean plus both offsets."""
        ratings = self.mean + self.user_offsets[users] + self.item_offsets[items]
        return (ratings if self.limits is None else ratings.clip(*self.limits)).astype(np.float32)

    def scores(self, users: Codes) -> Singles:
        """Return read-only scores `[u, C]`; every row is the same."""
        return np.broadcast_to(self.item_scores, (len(users), len(self.item_scores)))


@dataclass(frozen=True)
class TaskBaselines:
    """A baseline of each task; see `mtsearch.evaluation.TasksScorer`."""

    by_task: Mapping[str, Rater | Ranker]

    def of_task(self, name: str) -> Rater | Ranker | None:
        """Return the baseline of a task, or None if it has none of this kind."""
        return self.by_task.get(name)


def evaluate_baselines(split: Split, rows: Rows) -> dict[str, dict[str, float]]:
    """Return the metrics of `chance`, `popularity` and `biases` on `rows`, learnt from `split.train`.

    In a study of several retrieval tasks there is also `popularity_of_all`, by the rows of all tasks.

    Raises:
        MalformedData: there are no rows to evaluate, no items to rank or no training rows.
    """
    evaluator = Evaluator(split, rows)
    made = {name: make(split) for name, make in BASELINES.items()}
    return {name: evaluator.evaluate(baseline) for name, baseline in made.items() if baseline.by_task}


def chance(split: Split) -> TaskBaselines:
    """Make the baseline without preferences: the mean rating for every pair; its top-k metrics are k / C.

    Of a label it predicts the share of yes.
    """
    scores = np.zeros(len(split.catalogue), np.float32)
    return TaskBaselines({task.name: _constant_baseline(split.of_task(task), scores) for task in split.tasks})


def popularity(split: Split) -> TaskBaselines:
    """Make the baseline that ranks items by their number of training rows of the task and predicts the mean rating."""
    views = {task.name: split.of_task(task) for task in split.tasks}
    return TaskBaselines({name: _constant_baseline(view, _popularity(view)) for name, view in views.items()})


def popularity_of_all(split: Split) -> TaskBaselines:
    """Make the baseline that ranks items by their number of training rows of all tasks; for several of retrieval."""
    ranking = [task for task in split.tasks if task.kind == "retrieval"]
    if len(ranking) < 2:
        return TaskBaselines({})
    scores = _popularity(split)
    return TaskBaselines({task.name: _constant_baseline(split.of_task(task), scores) for task in ranking})


def biases(split: Split) -> TaskBaselines:
    """Make the baseline of mean, user and item offsets, which ranks items by their offset.

    Regularised offsets by alternating least squares, items first (Koren 2010, "Factor in the Neighbors", eq. 4-5):
    b_i = sum(r - mean - b_u) / (10 + n_i), b_u = sum(r - mean - b_i) / (15 + n_u), ten rounds: the published defaults
    of Surprise's BaselineOnly, not tuned here. Unknown users and items have offset 0. Of a label these are the share of
    yes and how far users and items are from it. Items are ranked by the ratings of the first rating task, if there is
    one.

    The score is the item's offset alone: the user's is the same for all items, and adding it in float32 would round
    different items into ties.
    """
    made = {task.name: _biases(split.of_task(task), task.kind) for task in split.tasks if task.kind != "retrieval"}
    rating = next((made[task.name] for task in split.tasks if task.kind == "rating"), None)
    if rating is not None:
        made |= {task.name: rating for task in split.tasks if task.kind == "retrieval"}
    return TaskBaselines(made)


def _biases(split: Split, kind: TaskKind) -> Baseline:
    """Make the baseline of offsets of one task's rows."""
    rows, mean = split.train, _mean_rating(split)
    above_mean = rows.ratings.astype(np.float64) - mean  # float32 minus a Python float would stay float32
    users, items = np.zeros(len(split.user_ids)), np.zeros(len(split.item_ids))
    for _ in range(BIAS_ROUNDS):
        items = _offsets(rows.items, above_mean - users[rows.users], len(items), ITEM_REGULARISATION)
        users = _offsets(rows.users, above_mean - items[rows.items], len(users), USER_REGULARISATION)
    limits = limits_of_chance(len(rows)) if kind == "label" else None
    return Baseline(mean, users, items, items[split.catalogue].astype(np.float32), limits)


def limits_of_chance(rows: int) -> tuple[float, float]:
    """Return the least and the largest chance of a yes that this number of answers shows, by the rule of succession.

    With answers of one kind only it would else be 0 or 1, and its log odds infinite.
    """
    return 1 / (rows + 2), 1 - 1 / (rows + 2)


BASELINES: dict[str, Callable[[Split], TaskBaselines]] = {
    "chance": chance,
    "popularity": popularity,
    "popularity_of_all": popularity_of_all,
    "biases": biases,
}


def _popularity(split: Split) -> Singles:
    """Return the number of training rows of each item of the catalogue."""
    counts = np.bincount(split.train.items, minlength=len(split.item_ids))
    # float32 distinguishes counts up to 2**24: 16.8 million rows of one item.
    return counts[split.catalogue].astype(np.float32)


def _offsets(codes: Codes, residuals: Reals, size: int, regularisation: int) -> Reals:
    """Return for each code the sum of its residuals over (regularisation + their number), `[size]`."""
    sums = np.bincount(codes, weights=residuals, minlength=size)
    return sums / (regularisation + np.bincount(codes, minlength=size))


def _constant_baseline(split: Split, item_scores: Singles) -> Baseline:
    """Make a baseline that predicts the mean rating for every pair."""
    return Baseline(_mean_rating(split), np.zeros(len(split.user_ids)), np.zeros(len(split.item_ids)), item_scores)


def _mean_rating(split: Split) -> float:
    """Return the mean training rating."""
    return float(split.train.ratings.mean(dtype=np.float64))


def best_baseline(baselines: Mapping[str, Mapping[str, float]], metric: Metric) -> str | None:
    """Return the name of the best baseline in a metric, the first of equal ones; None if none has the metric."""
    having = [name for name, values in baselines.items() if metric.key in values]
    return min(having, key=lambda name: metric.sign * baselines[name][metric.key], default=None)


def compare_with_best(metric: Metric, value: float, baselines: Mapping[str, Mapping[str, float]]) -> str:
    """Return a line such as `test RMSE 0.921 stars: beats biases (0.936 stars)`.

    If no baseline has the metric, the line has the value alone.
    """
    reached = f"test {metric.label} {amount(value, metric)}"
    name = best_baseline(baselines, metric)
    if name is None:
        return reached
    reference = baselines[name][metric.key]
    beats = metric.sign * value < metric.sign * reference
    return f"{reached}: {'beats' if beats else 'does not beat'} {plain(name)} ({amount(reference, metric)})"
