"""Metrics as means over rows or users, and their standard errors if only some of the users are evaluated."""

import math

import numpy as np
from numpy.typing import NDArray

from mtsearch.evaluation.plan import Index
from mtsearch.objectives import Metric

Reals = NDArray[np.float64]


class Means:
    """The values of metrics and their standard errors, collected one by one.

    Where n users were drawn from N, each metric has a standard error: of the n users' mean as an estimate of the mean
    that all N would give. The rows of a user are not independent, so that it is taken over users. A mean over rows is
    the ratio R = sum(y) / sum(m) of the users' sums y to their numbers of rows m, and by Taylor linearisation (Cochran
    1977, Sampling Techniques, eq. 6.13)

        SE(R) = sqrt((1 - n / N) / n * sum((y - R m)^2) / (n - 1)) / mean(m).

    A mean over users is the same with their means for y and m = 1. Of a root it is SE(R) / (2 sqrt(R)), the delta
    method.

    Args:
        user_index: `[B]` the user of each row, numbered from 0 without gaps.
        drawn_from: N; None where these are all users, and nothing has an error.

    Attributes:
        values: metrics by key.
        errors: their standard errors, in the metrics' units; of those that are no mean over rows or users none.
    """

    def __init__(self, user_index: Index, drawn_from: int | None = None) -> None:
        self._user_index, self._drawn_from = user_index, drawn_from
        self._sizes = np.bincount(user_index).astype(np.float64)
        self.values: dict[str, float] = {}
        self.errors: dict[str, float] = {}

    def add(self, metric: Metric, terms: Reals | float) -> None:
        """Work out one metric, and its standard error if it has one.

        Args:
            metric: says what to average over, and whether to take the root.
            terms: the answer of its formula.
        """
        terms, sizes = np.asarray(terms, np.float64), self._sizes
        if metric.per == "user":
            terms, sizes = self._sums(terms) / sizes, np.ones(len(sizes))
        mean = float(np.mean(terms))  # of a number alone: itself
        value = math.sqrt(mean) if metric.root else mean
        self.values[metric.key] = value
        if self._drawn_from is not None and metric.per in ("row", "user"):
            error = self._error(terms if metric.per == "user" else self._sums(terms), sizes, self._drawn_from)
            # A root of 0 is 0 for every user that was drawn, and so is its error.
            self.errors[metric.key] = error / (2 * value or 1) if metric.root else error

    def _sums(self, terms: Reals) -> Reals:
        """`[n]` over the rows of each user."""
        return np.bincount(self._user_index, weights=terms).astype(np.float64, copy=False)

    def _error(self, sums: Reals, sizes: Reals, drawn_from: int) -> float:
        users = len(sizes)
        residuals = sums - sums.sum() / sizes.sum() * sizes
        variance = (1 - users / drawn_from) / users * (residuals @ residuals) / (users - 1)
        return math.sqrt(variance) / float(sizes.mean())
