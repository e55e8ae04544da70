"""The table of all metrics: key, label, direction, unit, reference, ideal and formula of each.

Code that names, computes, stores, compares or draws a metric reads it from here: a new metric is one more entry of
`METRICS`. K in a key is a cut-off: `top_100` is the share of rows whose item ranks among the first 100 of the
catalogue.

NOTE: the formulas import NumPy when they run. Reading a study file needs the keys alone, and importing NumPy would add
0.1 s to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Reals = NDArray[np.float64]
    Counts = NDArray[np.int64]
    Gains = NDArray[np.floating | np.bool_]

TaskKind = Literal["rating", "retrieval", "label"]
TASK_KINDS: tuple[TaskKind, ...] = ("rating", "retrieval", "label")
"""What a task learns: a number, which item, or yes or no; each kind has metrics of its own."""

TUTORIAL_KINDS: Mapping[str, TaskKind] = {"rating": "rating", "retrieval": "retrieval"}
"""The tasks of a study that names none. Their metrics have bare keys: `rmse`, not `rating.rmse`."""


def output_name(task: str) -> str:
    """Return the name that a served model has for the predictions of a task: its own, but `ratings` for `rating`."""
    return "ratings" if task == "rating" else task


CUT_OFFS = (10, 100)
COVERAGE_CUT_OFF = 100
"""Number of items that `coverage` offers each user."""

STARS = "stars"
UNITS = {"explicit": STARS, "binary": "", "count": "log count"}
"""Units of ratings by kind of feedback; counts are learnt as log(1 + number of times)."""


@dataclass(frozen=True, eq=False)
class PossibleRanks:
    """The possible ranks of each evaluated row's item in the catalogue, before ties are broken; B rows, C items.

    A row has the ranks above + 1 ... above + ties with equal chances. A miss, whose item is outside the catalogue, has
    above = C and ties = 1, which is rank C + 1: behind every item, and nothing is ever gained there.

    Attributes:
        above: `[B]` number of items scored strictly above the row's own, 0 to C.
        ties: `[B]` number of items with an equal score, its own item included; >= 1, and above + ties <= C + 1.
        catalogue_size: C.
    """

    above: Counts
    ties: Counts
    catalogue_size: int

    def expected_gain(self, gain: Callable[[Counts], Gains]) -> Reals:
        """Return each row's gain, averaged over all orders of the items that tie with its own.

        With G(n) the sum of the first n gains, the mean over the ranks above + 1 ... above + ties is
        (G(above + ties) - G(above)) / ties. For the hits of a cut-off K this is clip((K - above) / ties, 0, 1).

        Args:
            gain: gives the gains `[C]` of the ranks 1 to C. Rank C + 1, a miss, gains nothing.

        Returns:
            `[B]`
        """
        import numpy as np

        total = np.zeros(self.catalogue_size + 2)
        np.cumsum(gain(np.arange(1, self.catalogue_size + 1)), out=total[1:-1])
        total[-1] = total[-2]
        mean: Reals = (total[self.above + self.ties] - total[self.above]) / self.ties
        return mean


@dataclass(frozen=True, eq=False)
class Predictions:
    """The input of the formulas of ratings and labels: predictions for the evaluated rows, and the truth; B rows.

    Attributes:
        ratings: `[B]` predicted, unclipped, of labels the chance of a yes; finite and within the range of float32, so
            that no square overflows.
        true_ratings: `[B]`, of labels 0 or 1.
        lowest, highest: the range of the training ratings.
    """

    ratings: Reals
    true_ratings: Reals
    lowest: float
    highest: float


@dataclass(frozen=True, eq=False)
class Ranking:
    """The input of the formulas of retrieval: where the catalogue's order has the evaluated rows; B rows, C items.

    Attributes:
        ranks: of each row's item in the whole catalogue.
        ranks_unseen: the same without the items of the user's training rows; the row's own item always stays.
        missed: `[C]` the chance that no evaluated user is offered the item among their first `COVERAGE_CUT_OFF`;
            users break ties independently.
    """

    ranks: PossibleRanks
    ranks_unseen: PossibleRanks
    missed: Reals


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A measure of a model's quality, with its names, direction, unit and formula.

    Attributes:
        key: name in files, databases and JSON; in a study with [tasks] `task.metric`, such as `purchase.top_100`.
        kind: of the tasks that have it.
        task: name of the task that it measures; empty in `METRICS`.
        label: name in tables and on axes.
        direction: the better direction.
        unit: "stars" for metrics of ratings, see `metrics_of`; "" for shares and other pure numbers.
        ideal: the best possible value: 0 for errors, 1 for shares.
        reference: key in `evaluation.baselines.BASELINES` of the baseline that knows nothing. A front is measured
            from that baseline's value (worth nothing) to the ideal.
        summary: one sentence with its definition.
        formula: gives the numbers whose mean is the metric, of `Ranking` for retrieval and of `Predictions` for all
            other kinds. A module's function or a `partial` of one can be pickled
            with its metric, a lambda cannot.
        per: what the mean is taken over.
            "row": the formula gives `[B]`, one number for each row.
            "user": the same, averaged over the rows of each user first.
            "catalogue": the formula gives `[C]`, one number for each item of the catalogue.
            None: the metric is no mean; the formula gives its value.
        root: True if the metric is the square root of the mean.
        hits_within: for a metric that counts hits, the last rank that is a hit. If the catalogue has no more items
            than this, the metric is the same for every model.
    """

    key: str
    kind: TaskKind
    task: str = ""
    label: str
    direction: Literal["minimize", "maximize"]
    unit: str
    ideal: float
    reference: str = "chance"
    summary: str
    formula: Callable[[Any], Reals | float]
    per: Literal["row", "user", "catalogue"] | None
    root: bool = False
    hits_within: int | None = None

    @property
    def sign(self) -> float:
        """Factor that turns a value into a loss: 1 if lower is better, -1 if higher is."""
        return 1.0 if self.direction == "minimize" else -1.0

    @property
    def axis(self) -> str:
        """Label with unit, for the title of an axis or a column."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _squared_error(predictions: Predictions) -> Reals:
    error: Reals = predictions.ratings - predictions.true_ratings
    return error * error


def _squared_error_clipped(predictions: Predictions) -> Reals:
    error: Reals = predictions.ratings.clip(predictions.lowest, predictions.highest) - predictions.true_ratings
    return error * error


def _absolute_error(predictions: Predictions) -> Reals:
    error: Reals = abs(predictions.ratings - predictions.true_ratings)
    return error


def _hits(ranking: Ranking, within: int) -> Reals:
    return ranking.ranks.expected_gain(lambda rank: rank <= within)


def _hits_unseen(ranking: Ranking, within: int) -> Reals:
    return ranking.ranks_unseen.expected_gain(lambda rank: rank <= within)


def _discount_10(ranking: Ranking) -> Reals:
    import numpy as np

    return ranking.ranks.expected_gain(lambda rank: np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0))


def _reciprocal_rank(ranking: Ranking) -> Reals:
    return ranking.ranks.expected_gain(lambda rank: 1 / rank)


def _offered(ranking: Ranking) -> Reals:
    """Return `[C]`, for each item the chance that at least one user is offered it."""
    return 1 - ranking.missed


LEAST_CHANCE = 1e-7
"""Chances of a yes or a no are raised to this, so that a certain mistake has a finite loss."""


def _cross_entropy(predictions: Predictions) -> Reals:
    import numpy as np

    chance = predictions.ratings.clip(LEAST_CHANCE, 1 - LEAST_CHANCE)
    entropy: Reals = -np.log(np.where(predictions.true_ratings > 0.5, chance, 1 - chance))
    return entropy


def _area_under_curve(predictions: Predictions) -> float:
    """Return the share of pairs of a yes and a no in which the yes is predicted higher, ties counting half.

    The rank-sum formula of Mann and Whitney (1947), with mean ranks for ties. With rows of one kind only there are no
    pairs, and nothing can be told: 0.5.
    """
    import numpy as np

    is_yes = predictions.true_ratings > 0.5
    yes, no = int(is_yes.sum()), int((~is_yes).sum())
    if not yes or not no:
        return 0.5
    _, place, count = np.unique(predictions.ratings, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2
    return float((mean_rank[place][is_yes].sum() - yes * (yes + 1) / 2) / (yes * no))


def _rating_metrics() -> list[Metric]:
    error = partial(Metric, kind="rating", direction="minimize", unit=STARS, ideal=0.0, per="row")
    return [
        error(
            key="rmse",
            label="RMSE",
            summary="root mean square error of unclipped predictions",
            formula=_squared_error,
            root=True,
        ),
        error(
            key="rmse_clipped",
            label="RMSE, clipped",
            summary="root mean square error of predictions clipped to the rating range of the training rows",
            formula=_squared_error_clipped,
            root=True,
        ),
        error(
            key="mae",
            label="MAE",
            summary="mean absolute error of unclipped predictions",
            formula=_absolute_error,
        ),
    ]


def _ranking_metrics() -> list[Metric]:
    share = partial(Metric, kind="retrieval", direction="maximize", unit="", ideal=1.0)
    metrics = []
    for k in CUT_OFFS:
        metrics += [
            share(
                key=f"top_{k}",
                label=f"top-{k} accuracy",
                summary=f"share of rows whose item ranks in the first {k} of the whole catalogue",
                formula=partial(_hits, within=k),
                per="row",
                hits_within=k,
            ),
            share(
                key=f"top_{k}_unseen",
                label=f"top-{k} accuracy, unseen",
                summary=f"share of rows whose item ranks in the first {k} of the catalogue, items of the user's "
                "training rows left out, the row's own item never",
                formula=partial(_hits_unseen, within=k),
                per="row",
                hits_within=k,
            ),
        ]
    return [
        *metrics,
        share(
            key="ndcg_10",
            label="nDCG@10",
            summary="mean of 1/log2(rank + 1) for ranks up to 10, else 0",
            formula=_discount_10,
            per="row",
        ),
        share(
            key="mrr",
            label="MRR",
            summary="mean of 1/rank",
            formula=_reciprocal_rank,
            per="row",
        ),
        share(
            key="recall_100",
            label="recall@100 per user",
            summary="mean over users of the share of their rows with a rank up to 100",
            formula=partial(_hits, within=100),
            per="user",
            hits_within=100,
        ),
        share(
            key="coverage",
            label=f"coverage@{COVERAGE_CUT_OFF}",
            summary=f"share of the catalogue in the first {COVERAGE_CUT_OFF} of at least one evaluated user, "
            "each breaking ties at random",
            formula=_offered,
            per="catalogue",
            hits_within=COVERAGE_CUT_OFF,
        ),
    ]


def _label_metrics() -> list[Metric]:
    label = partial(Metric, kind="label", unit="")
    return [
        label(
            key="auc",
            label="AUC",
            direction="maximize",
            ideal=1.0,
            summary="share of pairs of a yes and a no in which the yes is predicted higher, ties counting half",
            formula=_area_under_curve,
            per=None,
        ),
        label(
            key="log_loss",
            label="log loss",
            direction="minimize",
            ideal=0.0,
            summary="mean of -log of the chance that was predicted for what is true",
            formula=_cross_entropy,
            per="row",
        ),
    ]


METRICS: dict[str, Metric] = {
    metric.key: metric for metric in [*_rating_metrics(), *_ranking_metrics(), *_label_metrics()]
}
"""Every metric, by its bare key."""


def metrics_of(
    kinds: Mapping[str, TaskKind] = TUTORIAL_KINDS, units: Mapping[str, str] | None = None
) -> dict[str, Metric]:
    """Return the metrics of a study's tasks, by the key that the study has for each.

    Args:
        kinds: kind of each task by name.
        units: unit of the ratings of each task by name; `STARS` for those that are left out.
    """
    is_tutorial = dict(kinds) == dict(TUTORIAL_KINDS)
    metrics: dict[str, Metric] = {}
    for name, kind in kinds.items():
        for metric in METRICS.values():
            if metric.kind != kind:
                continue
            unit = (units or {}).get(name, STARS) if metric.unit == STARS else metric.unit
            named = (
                metric if is_tutorial else replace(metric, key=f"{name}.{metric.key}", label=f"{name} {metric.label}")
            )
            metrics[named.key] = replace(named, task=name, unit=unit)
    return metrics


def find_metric(name: str, metrics: Mapping[str, Metric]) -> str | None:
    """Return the key of the metric that a name means, or None if it means none or several.

    Args:
        name: a key, or a bare key that one task alone has, or the tutorial's with its task.
        metrics: those of the study.
    """
    if name in metrics:
        return name
    found = [key for key, metric in metrics.items() if name in (key.rpartition(".")[2], f"{metric.task}.{key}")]
    return found[0] if len(found) == 1 else None


def unit_of(feedback: str) -> str:
    """Return the unit of ratings of this kind of feedback; empty if they have none or the kind is unknown."""
    return UNITS.get(feedback, "")
