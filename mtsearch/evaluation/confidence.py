"""Compute the mean of a metric over seeds with its 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Self

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """The mean of a metric over seeds, with its 95 % confidence interval (Student's t).

    Attributes:
        mean: mean of the values.
        low, high: ends of the interval; for one value the value itself, since its spread is unknown.
        values: one per seed.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the interval of one value or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], tuple(values))
        mean = fmean(values)
        half = student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
        return cls(mean, mean - half, mean + half, tuple(values))


def intervals(metrics: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    """Return one interval per metric, from the metrics of one seed or more."""
    return {key: Interval.of([each[key] for each in metrics]) for key in metrics[0]}


def student_t(degrees: int) -> float:
    """Return the two-sided quantile of Student's distribution: |T| stays below it with probability `LEVEL`.

    With t = sqrt(degrees) * tan(theta) that probability is a finite sum in theta (Abramowitz and Stegun, 26.7.3 and
    26.7.4), which is solved by bisection.

    Args:
        degrees: degrees of freedom, 1 or more.
    """
    low, high = 0.0, math.pi / 2
    # Bisection, until the middle equals one of the ends in float64.
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _probability_within(middle, degrees) < LEVEL else (low, middle)
    return math.sqrt(degrees) * math.tan(high)


def _probability_within(theta: float, degrees: int) -> float:
    """Return the probability that |T| is below sqrt(degrees) * tan(theta)."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for factor in range(1 + odd, degrees, 2):
        total += term
        term *= factor / (factor + 1) * cosine**2
    return 2 / math.pi * (theta + sine * total) if odd else sine * total


Reals = NDArray[np.float64]
