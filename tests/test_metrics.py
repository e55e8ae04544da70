"""Metrics: their descriptions, and the units of metrics of ratings."""

import pickle
import subprocess
import sys

import pytest

from mtsearch.evaluation.baselines import BASELINES
from mtsearch.metrics import METRICS, Metric, find_metric, metrics_of, unit_of

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
    metrics = metrics_of(units={"rating": unit_of(feedback)})
    assert {key: metric.unit for key, metric in metrics.items()} == {
        key: unit if key in OF_RATINGS else "" for key in METRICS if METRICS[key].kind != "label"
    }
    assert metrics["rmse"].axis == axis
    assert unit_of(feedback) == unit


def test_the_tutorials_metrics_have_bare_keys_and_are_those_of_stars() -> None:
    metrics = metrics_of()
    assert list(metrics) == [key for key, metric in METRICS.items() if metric.kind != "label"]
    assert {metric.task for metric in metrics.values()} == {"rating", "retrieval"}
    assert metrics["rmse"].axis == "RMSE (stars)"


def test_each_task_has_the_metrics_of_its_kind_with_its_name() -> None:
    metrics = metrics_of({"view": "retrieval", "stars": "rating", "bought": "label"}, {"stars": "points"})
    ranking = [key for key, metric in METRICS.items() if metric.kind == "retrieval"]
    assert list(metrics) == [
        *(f"view.{key}" for key in ranking),
        *("stars.rmse", "stars.rmse_clipped", "stars.mae"),
        *("bought.auc", "bought.log_loss"),
    ]
    assert [metrics[key].axis for key in ("stars.mae", "bought.auc")] == ["stars MAE (points)", "bought AUC"]
    assert all(metric.task == key.partition(".")[0] for key, metric in metrics.items())


def test_a_bare_name_will_do_where_one_task_alone_has_it() -> None:
    one = metrics_of({"view": "retrieval", "stars": "rating"})
    assert [find_metric(name, one) for name in ("rmse", "stars.rmse", "top_10", "auc", "buy.top_10")] == [
        *("stars.rmse", "stars.rmse", "view.top_10"),
        *(None, None),
    ]
    two = metrics_of({"view": "retrieval", "buy": "retrieval"})
    assert [find_metric(name, two) for name in ("top_10", "buy.top_10")] == [None, "buy.top_10"]
    assert [find_metric(name, metrics_of()) for name in ("rating.rmse", "retrieval.mrr")] == ["rmse", "mrr"]


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
