"""Compute all metrics of a model on the same rows, with their standard errors.

`Rater` and `Ranker` are the interfaces to the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, cast, runtime_checkable

import numpy as np

from mtsearch.data.interactions import Codes, Rows, Task
from mtsearch.data.split import Split
from mtsearch.errors import MalformedData, NonFiniteMetric
from mtsearch.evaluation.plan import Block, Floats, Index, make_plan
from mtsearch.evaluation.ranks import BlockCounts, Ranks, Reals
from mtsearch.metrics import Metric, Predictions, Ranking, metrics_of


class Rater(Protocol):
    """A model that predicts numbers: ratings, or chances of a yes.

    Codes are indices into `Split.user_ids` and `Split.item_ids`. The model decides what a user or an item without
    training rows gets, and into which batches it cuts a long call.
    """

    def ratings(self, users: Codes, items: Codes) -> Floats:
        """Return the prediction for each pair.

        Args:
            users: `[B]` codes.
            items: `[B]` codes, which may lie outside the catalogue.

        Returns:
            `[B]` float32, in rating units, unclipped; of labels in 0..1.
        """
        ...


class Ranker(Protocol):
    """A model that orders the catalogue; for codes see `Rater`."""

    def scores(self, users: Codes) -> Floats:
        """Return for each user a score of each item of the catalogue; items with higher scores are recommended first.

        Args:
            users: `[u]` codes, each once, in any order.

        Returns:
            `[u, C]` float32 in any unit, higher is better; column j scores `split.catalogue[j]`. Only the order within
            a row counts. float64 is ranked without rounding.
        """
        ...


@runtime_checkable
class CountingRanker(Ranker, Protocol):
    """A model that ranks by itself, where its scores are."""

    def counts(self, block: Block) -> BlockCounts | None:
        """Return how the items of a block's rows rank, or None if some score is not finite."""
        ...


class Scorer(Rater, Ranker, Protocol):
    """A model that predicts and orders alike for all tasks."""


BLOCK_BYTES = 64 * 2**20
LARGEST_RATING = float(np.finfo(np.float32).max)


@runtime_checkable
class TasksScorer(Protocol):
    """A model of several tasks, each with a part of its own."""

    def of_task(self, name: str) -> Rater | Ranker | None:
        """Return what predicts for a task, or orders for one of retrieval; None if the model says nothing of it."""
        ...


class Evaluator:
    """An evaluator of models on fixed rows, which computes once whatever does not depend on the model.

    Each task is judged on the rows that serve it. What a user has seen, and the range of ratings, is that of the
    task's training rows.

    Args:
        split: its training rows tell which items a user has seen and which ids are known; its catalogue is ranked.
        rows: rows to evaluate on, such as `split.validation`.
        block_bytes: memory for the float32 scores of one call, in bytes; a call is for one user at least.
        drawn_from: number of users from which those of `rows`, two or more, were drawn; None if they are all.
        metrics: the metrics to compute, by key; None for all of the split's tasks. One without a task is of every task
            of its kind.

    Attributes:
        metrics: the metrics that are computed, by key.

    Raises:
        MalformedData: there are no rows to evaluate, no items to rank or no training rows.
    """

    def __init__(
        self,
        split: Split,
        rows: Rows,
        block_bytes: int = BLOCK_BYTES,
        drawn_from: int | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        _require_data(split, rows)
        self.metrics = metrics_of({task.name: task.kind for task in split.tasks}) if metrics is None else metrics
        self._of_tasks: dict[str, _TaskEvaluator] = {}
        for task in split.tasks:
            own = [
                each
                for each in self.metrics.values()
                if (each.task or task.name) == task.name and each.kind == task.kind
            ]
            if own:
                view = replace(split, train=split.train.serving(task))
                drawn = None if drawn_from is None else _scale_drawn(split, rows, task, drawn_from)
                self._of_tasks[task.name] = _TaskEvaluator(view, rows.serving(task), block_bytes, drawn, own)

    def evaluate(self, scorer: Scorer | TasksScorer) -> dict[str, float]:
        """Compute every metric, in the order of `metrics`.

        Args:
            scorer: of each task, or one for all.

        Raises:
            NonFiniteMetric: a rating or a score is NaN or infinite.
            ValueError: the scorer returns another shape or type than its protocol says.
        """
        return self.measure(scorer)[0]

    def measure(self, scorer: Scorer | TasksScorer) -> tuple[dict[str, float], dict[str, float]]:
        """Compute every metric as `evaluate` does, and their standard errors; see `Means`.

        If the rows are of all users, there are no standard errors. A task of which the model says nothing has no
        metrics.

        Raises:
            NonFiniteMetric, ValueError: as `evaluate` does.
        """
        values: dict[str, float] = {}
        errors: dict[str, float] = {}
        for name, evaluator in self._of_tasks.items():
            own = scorer.of_task(name) if isinstance(scorer, TasksScorer) else scorer
            if own is not None:
                means = evaluator.measure(own)
                values |= means.values
                errors |= means.errors
        return {key: values[key] for key in self.metrics if key in values}, errors


def _scale_drawn(split: Split, rows: Rows, task: Task, drawn_from: int) -> int | None:
    """Return the number of users from whom those with rows of a task were drawn; None if there is one alone."""
    if split.set_aside is None or rows is not split.validation or task.column is None:
        return drawn_from
    users, others = (len(np.unique(part.serving(task).users)) for part in (rows, split.set_aside))
    return users + others if users > 1 else None  # one user does not tell how far users differ


class _TaskEvaluator:
    """An evaluator of one task; see `Evaluator`.

    Args:
        split: with the training rows of the task.
        rows: to evaluate on, of the task.
        block_bytes, drawn_from: as there.
        metrics: of the task.
    """

    def __init__(
        self, split: Split, rows: Rows, block_bytes: int, drawn_from: int | None, metrics: Sequence[Metric]
    ) -> None:
        _require_data(split, rows)
        self._drawn_from, self._metrics = drawn_from, metrics
        self._split, self._rows = split, rows
        self._ranks_items = any(metric.kind == "retrieval" for metric in metrics)
        if self._ranks_items:
            self._plan = make_plan(split, rows, block_bytes)
            self._user_index = self._plan.user_index
        else:
            self._user_index = np.unique(rows.users, return_inverse=True)[1]
            self._lowest, self._highest = float(split.train.ratings.min()), float(split.train.ratings.max())

    def measure(self, scorer: Rater | Ranker) -> Means:
        """Compute the metrics."""
        if self._ranks_items:
            given: Ranking | Predictions = self._ranking(cast(Ranker, scorer))
        else:
            given = self._predictions(cast(Rater, scorer))
        means = Means(self._user_index, self._drawn_from)
        for metric in self._metrics:
            means.add(metric, metric.formula(given))
        return means

    def _predictions(self, scorer: Rater) -> Predictions:
        truth = self._rows.ratings.astype(np.float64)
        return Predictions(self._ratings(scorer), truth, self._lowest, self._highest)

    def _ranking(self, scorer: Ranker) -> Ranking:
        ranks = self._ranks(scorer)
        return Ranking(ranks.whole, ranks.unseen, ranks.missed)

    def _ratings(self, scorer: Rater) -> Reals:
        """Return the predicted ratings `[B]`; refuse values beyond float32, whose squares could overflow."""
        promised = _require_array("ratings", scorer.ratings(self._rows.users, self._rows.items), (len(self._rows),))
        ratings = promised.astype(np.float64)
        fine = np.abs(ratings) <= LARGEST_RATING
        if not fine.all():
            row = int(np.argmin(fine))
            raise self._non_finite("rating", self._rows.users[row], self._rows.items[row])
        return ratings

    def _ranks(self, scorer: Ranker) -> Ranks:
        """Rank the items of all evaluated rows, one block of users at a time."""
        catalogue = self._split.catalogue
        ranks = Ranks.all_misses(len(self._rows), len(catalogue))
        for block in self._plan.blocks:
            if isinstance(scorer, CountingRanker) and (counts := scorer.counts(block)):
                ranks.record_counts(block, counts)
                continue
            scores = _require_array("scores", scorer.scores(block.users), (len(block.users), len(catalogue)))
            alike = scores.strides[0] == 0  # as in a baseline: all users have the same scores
            fine = np.isfinite(scores[:1] if alike else scores)
            if not fine.all():
                user, column = np.unravel_index(np.argmin(fine), fine.shape)
                raise self._non_finite("score", block.users[user], catalogue[column])
            if alike:
                ranks.record_shared(block, scores[0])
            else:
                for tile in block.tiles:
                    ranks.record(tile, scores[tile.users])
        return ranks

    def _non_finite(self, what: str, user: np.int32, item: np.int32) -> NonFiniteMetric:
        """Make the error for a rating or score that is not finite."""
        user_id, item_id = self._split.user_ids[user], self._split.item_ids[item]
        return NonFiniteMetric(f"non-finite {what} for user {user_id!r} and item {item_id!r}", "lower learning_rate")


class Means:
    """The values of metrics and their standard errors, collected one metric at a time.

    If n users were drawn from N, each metric has a standard error: that of the mean of the n users as an estimate of
    the mean of all N. The rows of a user are not independent, so the error is computed over users. A mean over rows is
    the ratio R = sum(y) / sum(m) of the users' sums y to their numbers of rows m, and by Taylor linearisation (Cochran
    1977, Sampling Techniques, eq. 6.13)

        SE(R) = sqrt((1 - n / N) / n * sum((y - R m)^2) / (n - 1)) / mean(m).

    A mean over users is the same with their means as y and m = 1. The error of a root is SE(R) / (2 sqrt(R)), by the
    delta method.

    Args:
        user_index: `[B]` the user of each row, numbered from 0 without gaps.
        drawn_from: N; None if these are all users: there are no errors then.

    Attributes:
        values: metrics by key.
        errors: their standard errors, in the metrics' units; only for means over rows or users.
    """

    def __init__(self, user_index: Index, drawn_from: int | None = None) -> None:
        self._user_index, self._drawn_from = user_index, drawn_from
        self._sizes = np.bincount(user_index).astype(np.float64)
        self.values: dict[str, float] = {}
        self.errors: dict[str, float] = {}

    def add(self, metric: Metric, terms: Reals | float) -> None:
        """Compute one metric, and its standard error if it has one.

        Args:
            metric: tells what to average over, and whether to take the root.
            terms: the result of its formula.
        """
        terms, sizes = np.asarray(terms, np.float64), self._sizes
        if metric.per == "user":
            terms, sizes = self._sums(terms) / sizes, np.ones(len(sizes))
        mean = float(np.mean(terms))  # a single number stays as it is
        value = math.sqrt(mean) if metric.root else mean
        self.values[metric.key] = value
        if self._drawn_from is not None and metric.per in ("row", "user"):
            error = self._error(terms if metric.per == "user" else self._sums(terms), sizes, self._drawn_from)
            # If the root is 0, so are all terms and the error: dividing by 1 avoids 0 / 0.
            self.errors[metric.key] = error / (2 * value or 1) if metric.root else error

    def _sums(self, terms: Reals) -> Reals:
        """Return the sums over the rows of each user, `[n]`."""
        return np.bincount(self._user_index, weights=terms).astype(np.float64, copy=False)

    def _error(self, sums: Reals, sizes: Reals, drawn_from: int) -> float:
        """Return the standard error of a ratio of sums over users; see the formula of the class."""
        users = len(sizes)
        residuals = sums - sums.sum() / sizes.sum() * sizes
        variance = (1 - users / drawn_from) / users * (residuals @ residuals) / (users - 1)
        return math.sqrt(variance) / float(sizes.mean())


def _require_data(split: Split, rows: Rows) -> None:
    """Refuse a split or rows on which nothing can be evaluated."""
    if len(rows) == 0:
        raise MalformedData("no rows to evaluate on", "raise `validation` or `test` under [split]")
    if len(split.catalogue) == 0:
        raise MalformedData("the catalogue has no items", "name an items file with items, or remove it from [data]")
    if len(split.train) == 0:
        raise MalformedData("no training rows", "lower `validation` or `test` under [split]")


def _require_array(what: str, values: Floats, shape: tuple[int, ...]) -> Floats:
    """Return `values` as an array, and refuse another shape or type than the scorer promised.

    Broadcasting ([B, 1] for [B]) or rounding would silently change the metrics.
    """
    array = np.asarray(values)
    if array.shape != shape or array.dtype.kind != "f":
        raise ValueError(
            f"scorer.{what} returned {array.dtype} {list(array.shape)}, but float32 {list(shape)} was expected"
        )
    return array
