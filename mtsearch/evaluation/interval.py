"""What several seeds say together: their mean, and how far it may be off."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Self

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """The mean of a metric over seeds, with the interval that holds the mean of all seeds at 95 % (Student's t).

    Attributes:
        mean: of the values.
        low, high: ends of the interval; of one value the value itself, since it says nothing of the others.
        values: one per seed.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The interval of one value or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], tuple(values))
        mean = fmean(values)
        half = student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
        return cls(mean, mean - half, mean + half, tuple(values))


def intervals(metrics: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    """The metrics of each seed, one seed or more, as one interval per metric."""
    return {key: Interval.of([each[key] for each in metrics]) for key in metrics[0]}


def student_t(degrees: int) -> float:
    """The t that a variable of Student's distribution stays below, in absolute value, with probability `LEVEL`.

    With t = sqrt(degrees) * tan(theta) that probability is a finite sum in theta (Abramowitz and Stegun, 26.7.3 and
    26.7.4), which is solved by bisection.

    Args:
        degrees: of freedom, 1 or more.
    """
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, degrees) < LEVEL else (low, middle)
    return math.sqrt(degrees) * math.tan(high)


def _within(theta: float, degrees: int) -> float:
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for factor in range(1 + odd, degrees, 2):
        total += term
        term *= factor / (factor + 1) * cosine**2
    return 2 / math.pi * (theta + sine * total) if odd else sine * total
