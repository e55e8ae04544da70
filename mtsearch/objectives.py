"""Every metric once: its key, label, direction, unit, and what it is a mean over.

Whoever names, stores, compares or draws a metric reads it from here. K in a key is a cut-off: `top_100` is the share
of rows whose item ranks among the first 100 of the catalogue.
"""

from dataclasses import dataclass, replace
from typing import Literal

CUT_OFFS = (10, 100)

STARS = "stars"
UNITS = {"explicit": STARS, "binary": "", "count": "log count"}
"""What a rating is counted in, by the kind of feedback; counts are learnt as log(1 + number of times)."""


@dataclass(frozen=True)
class Metric:
    """One number that says how good a model is.

    Attributes:
        key: its name in files, databases and JSON.
        label: its name in tables and on axes.
        direction: which way is better.
        unit: "stars" for those of ratings, see `metrics_of`; "" for shares and other pure numbers.
        per: what the mean is taken over; `catalogue`: it is no mean over rows or users.
        summary: one sentence with its definition.
        hits_within: where a rank is a hit or a miss and nothing between, the last that is a hit. In a catalogue of no
            more items the metric is the same for every model.
    """

    key: str
    label: str
    direction: Literal["minimize", "maximize"]
    unit: str
    per: Literal["row", "user", "catalogue"]
    summary: str
    hits_within: int | None = None

    @property
    def sign(self) -> float:
        """What turns a value into a loss: 1 where lower is better, -1 where higher is."""
        return 1.0 if self.direction == "minimize" else -1.0

    @property
    def axis(self) -> str:
        """Label with unit, for an axis or a column."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _ranking_metrics() -> list[Metric]:
    metrics = []
    for k in CUT_OFFS:
        metrics += [
            Metric(
                f"top_{k}",
                f"top-{k} accuracy",
                "maximize",
                "",
                "row",
                f"share of rows whose item ranks in the first {k} of the whole catalogue",
                k,
            ),
            Metric(
                f"top_{k}_unseen",
                f"top-{k} accuracy, unseen",
                "maximize",
                "",
                "row",
                "the same, items of the user's training rows left out, the row's own item never",
                k,
            ),
        ]
    return metrics


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in [
        Metric("rmse", "RMSE", "minimize", STARS, "row", "root mean square error of unclipped predictions"),
        Metric("rmse_clipped", "RMSE, clipped", "minimize", STARS, "row",
               "the same of predictions clipped to the rating range of the training rows"),
        Metric("mae", "MAE", "minimize", STARS, "row", "mean absolute error of unclipped predictions"),
        *_ranking_metrics(),
        Metric("ndcg_10", "nDCG@10", "maximize", "", "row", "mean of 1/log2(rank + 1) for ranks up to 10, else 0"),
        Metric("mrr", "MRR", "maximize", "", "row", "mean of 1/rank"),
        Metric("recall_100", "recall@100 per user", "maximize", "", "user",
               "mean over users of the share of their rows with a rank up to 100", 100),
        Metric("coverage", "coverage@100", "maximize", "", "catalogue",
               "share of the catalogue in the first 100 of at least one evaluated user, each breaking ties at random",
               100),
    ]
}  # fmt: skip


def metrics_of(feedback: str) -> dict[str, Metric]:
    """`METRICS`, those of ratings in the unit that such feedback has."""
    unit = unit_of(feedback)
    return {key: replace(metric, unit=unit) if metric.unit == STARS else metric for key, metric in METRICS.items()}


def unit_of(feedback: str) -> str:
    """What a rating of such feedback is counted in; empty where that is nothing, or the kind is not known."""
    return UNITS.get(feedback, "")
