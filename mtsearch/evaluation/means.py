"""Means of what rows reach, and how far those of some users may be from those of all."""

import math

import numpy as np
from numpy.typing import NDArray

from mtsearch.evaluation.plan import Index
from mtsearch.objectives import METRICS

Reals = NDArray[np.float64]

ROOTS = ("rmse", "rmse_clipped")
"""Metrics that are the square root of a mean."""


class Means:
    """Metrics as means over rows or over users, as `Metric.per` says, collected one by one.

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
        errors: their standard errors, in the metrics' units; of those that are no mean none.
    """

    def __init__(self, user_index: Index, drawn_from: int | None = None) -> None:
        self._user_index, self._drawn_from = user_index, drawn_from
        self._sizes = np.bincount(user_index).astype(np.float64)
        self.values: dict[str, float] = {}
        self.errors: dict[str, float] = {}

    def add(self, key: str, reached: Reals) -> None:
        """Take one metric.

        Args:
            key: of it.
            reached: `[B]` of each row; squares of a metric that is a root.
        """
        by_user, sizes = METRICS[key].per == "user", self._sizes
        if by_user:
            reached, sizes = self._sums(reached) / sizes, np.ones(len(sizes))
        mean = float(np.mean(reached))
        self.values[key] = math.sqrt(mean) if key in ROOTS else mean
        if self._drawn_from is not None:
            error = self._error(reached if by_user else self._sums(reached), sizes, self._drawn_from)
            # A root of 0 is 0 for every user that was drawn, and so is its error.
            self.errors[key] = error / (2 * self.values[key] or 1) if key in ROOTS else error

    def _sums(self, reached: Reals) -> Reals:
        """`[n]` over the rows of each user."""
        return np.bincount(self._user_index, weights=reached).astype(np.float64, copy=False)

    def _error(self, sums: Reals, sizes: Reals, drawn_from: int) -> float:
        users = len(sizes)
        residuals = sums - sums.sum() / sizes.sum() * sizes
        variance = (1 - users / drawn_from) / users * (residuals @ residuals) / (users - 1)
        return math.sqrt(variance) / float(sizes.mean())
