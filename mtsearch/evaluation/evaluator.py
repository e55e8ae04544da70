"""`Evaluator`: all metrics of any scorer on the same rows."""

from collections.abc import Mapping

import numpy as np

from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.errors import MalformedData, NonFiniteMetric
from mtsearch.evaluation.means import Means
from mtsearch.evaluation.plan import make_plan
from mtsearch.evaluation.ranks import Ranks, Reals
from mtsearch.evaluation.scorer import Floats, Scorer
from mtsearch.objectives import METRICS, Metric, Predictions

BLOCK_BYTES = 64 * 2**20
LARGEST_RATING = float(np.finfo(np.float32).max)


class Evaluator:
    """Judges scorers on `rows`; made once, since it works out beforehand all that does not depend on the model.

    Args:
        split: its training rows say what is seen and known, its catalogue what is ranked.
        rows: B rows to evaluate on, such as `split.validation`.
        block_bytes: float32 scores that are asked for at a time, in bytes; at least one user's.
        drawn_from: from how many users those of `rows`, two or more, were drawn; None where they are all.
        metrics: those to compute, by key.

    Raises:
        MalformedData: nothing to evaluate on, to rank or to learn from.
    """

    def __init__(
        self,
        split: Split,
        rows: Rows,
        block_bytes: int = BLOCK_BYTES,
        drawn_from: int | None = None,
        metrics: Mapping[str, Metric] = METRICS,
    ) -> None:
        _require_data(split, rows)
        self._drawn_from, self._metrics = drawn_from, metrics
        self._split, self._rows = split, rows
        self._plan = make_plan(split, rows, block_bytes)
        self._lowest = float(split.train.ratings.min())
        self._highest = float(split.train.ratings.max())

    def evaluate(self, scorer: Scorer) -> dict[str, float]:
        """Compute every metric, in the order of `metrics`.

        Raises:
            NonFiniteMetric: a rating or a score is NaN or infinite.
            ValueError: the scorer returns another shape or type than it promised.
        """
        return self.measure(scorer)[0]

    def measure(self, scorer: Scorer) -> tuple[dict[str, float], dict[str, float]]:
        """Compute every metric as `evaluate` does, and their standard errors; see `Means`. Of all users they are none.

        Raises:
            NonFiniteMetric, ValueError: as `evaluate` does.
        """
        predictions = self._predictions(scorer)
        means = Means(self._plan.user_index, self._drawn_from)
        for metric in self._metrics.values():
            means.add(metric, metric.formula(predictions))
        return means.values, means.errors

    def _predictions(self, scorer: Scorer) -> Predictions:
        ratings, ranks = self._ratings(scorer), self._ranks(scorer)
        return Predictions(
            ratings=ratings,
            true_ratings=self._rows.ratings.astype(np.float64),
            lowest=self._lowest,
            highest=self._highest,
            ranks=ranks.whole,
            ranks_unseen=ranks.unseen,
            missed=ranks.missed,
        )

    def _ratings(self, scorer: Scorer) -> Reals:
        """`[B]` predicted ratings. One beyond float32 would square to infinity, so it is refused as infinite."""
        promised = _promised("ratings", scorer.ratings(self._rows.users, self._rows.items), (len(self._rows),))
        ratings = promised.astype(np.float64)
        fine = np.abs(ratings) <= LARGEST_RATING
        if not fine.all():
            row = int(np.argmin(fine))
            raise self._non_finite("rating", self._rows.users[row], self._rows.items[row])
        return ratings

    def _ranks(self, scorer: Scorer) -> Ranks:
        catalogue = self._split.catalogue
        ranks = Ranks.misses(len(self._rows), len(catalogue))
        for block in self._plan.blocks:
            scores = _promised("scores", scorer.scores(block.users), (len(block.users), len(catalogue)))
            alike = scores.strides[0] == 0  # as in a baseline: everyone has the first one's
            fine = np.isfinite(scores[:1] if alike else scores)
            if not fine.all():
                user, column = np.unravel_index(np.argmin(fine), fine.shape)
                raise self._non_finite("score", block.users[user], catalogue[column])
            if alike:
                ranks.record_alike(block, scores[0])
            else:
                for tile in block.tiles:
                    ranks.record(tile, scores[tile.users])
        return ranks

    def _non_finite(self, what: str, user: np.int32, item: np.int32) -> NonFiniteMetric:
        user_id, item_id = self._split.user_ids[user], self._split.item_ids[item]
        return NonFiniteMetric(f"non-finite {what} for user {user_id!r} and item {item_id!r}", "lower learning_rate")


def _require_data(split: Split, rows: Rows) -> None:
    if len(rows) == 0:
        raise MalformedData("no rows to evaluate on", "raise `validation` or `test` under [split]")
    if len(split.catalogue) == 0:
        raise MalformedData("the catalogue has no items", "name an items file that has some, or none")
    if len(split.train) == 0:
        raise MalformedData("no training rows", "lower `validation` or `test` under [split]")


def _promised(what: str, values: Floats, shape: tuple[int, ...]) -> Floats:
    """`values` as an array, refused where broadcasting ([B, 1] for [B]) or rounding would change what is measured."""
    array = np.asarray(values)
    if array.shape != shape or array.dtype.kind != "f":
        raise ValueError(f"scorer.{what} returned {array.dtype} {list(array.shape)} in place of float32 {list(shape)}")
    return array
