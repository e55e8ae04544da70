"""Metrics: their descriptions, and the units of metrics of ratings."""

import pickle
import subprocess
import sys

import pytest

from mtsearch.evaluation.baselines import BASELINES
from mtsearch.metrics import METRICS, Metric, metrics_of, unit_of

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


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_metric_describes_itself(metric: Metric) -> None:
    assert metric.label.strip() == metric.label != ""
    assert metric.direction in {"minimize", "maximize"}
    assert metric.unit == ("stars" if metric.key in OF_RATINGS else "")
    assert metric.ideal == (0 if metric.direction == "minimize" else 1)
    assert metric.reference in BASELINES
    assert len(metric.summary) > 10
    assert not metric.summary.endswith(".")
    assert "the same" not in metric.summary  # the schema shows each alone


def test_no_two_metrics_share_a_key_a_label_or_a_summary() -> None:
    assert [metric.key for metric in METRICS.values()] == list(METRICS)
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    assert len({metric.summary for metric in METRICS.values()}) == len(METRICS)


def test_a_metric_goes_to_another_process() -> None:
    for metric in METRICS.values():
        assert pickle.loads(pickle.dumps(metric)).axis == metric.axis


def test_the_metrics_are_named_without_numpy() -> None:
    code = "import sys, mtsearch.metrics; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
