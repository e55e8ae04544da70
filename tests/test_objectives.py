"""Metrics: what they are counted in, and what they are a mean over."""

import pytest

from mtsearch.objectives import METRICS, metrics_of, unit_of

OF_RATINGS = {"rmse", "rmse_clipped", "mae"}


@pytest.mark.parametrize(
    ("feedback", "unit", "axis"),
    [
        ("explicit", "stars", "RMSE (stars)"),
        ("binary", "", "RMSE"),
        ("count", "log count", "RMSE (log count)"),
        ("of another time", "", "RMSE"),
    ],
)
def test_the_unit_is_that_of_the_feedback(feedback: str, unit: str, axis: str) -> None:
    metrics = metrics_of(feedback)
    assert list(metrics) == list(METRICS)
    assert {key: metric.unit for key, metric in metrics.items()} == {
        key: unit if key in OF_RATINGS else "" for key in METRICS
    }
    assert metrics["rmse"].axis == axis
    assert unit_of(feedback) == unit


def test_ratings_are_what_a_metric_is_of_where_nothing_else_is_said() -> None:
    assert metrics_of("explicit") == METRICS
