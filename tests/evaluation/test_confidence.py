"""Tests of the interval of a mean over seeds, against SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mtsearch.evaluation.confidence import Interval, student_t

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("degrees", [*range(1, 41), 99, 1000])
def test_quantiles(degrees: int) -> None:
    assert math.isclose(student_t(degrees), stats.t.ppf(0.975, degrees), rel_tol=1e-12)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12))
def test_interval_of_the_mean(values: list[float]) -> None:
    interval = Interval.of(values)
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert interval.values == tuple(values)
    assert math.isclose(interval.mean, np.mean(values), rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(interval.high - interval.mean, half, rel_tol=1e-6, abs_tol=1e-9)
    assert math.isclose(interval.mean - interval.low, half, rel_tol=1e-6, abs_tol=1e-9)


def test_by_hand() -> None:
    """Of 1 and 3: mean 2, standard error 1, and 12.7062 is Student's t with one degree of freedom."""
    interval = Interval.of([1.0, 3.0])
    assert (interval.mean, round(interval.low, 4), round(interval.high, 4)) == (2.0, -10.7062, 14.7062)


def test_one_value_says_nothing_of_the_others() -> None:
    assert Interval.of([0.25]) == Interval(0.25, 0.25, 0.25, (0.25,))


def test_equal_values() -> None:
    assert Interval.of([0.1] * 3).low == Interval.of([0.1] * 3).high == Interval.of([0.1] * 3).mean
