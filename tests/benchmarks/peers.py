"""The peers of the reference table: what is published as best for one task, each with the space of its settings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtsearch.data import Split
from mtsearch.data.interactions import Codes
from mtsearch.evaluation import Ranker, Rater
from mtsearch.evaluation.baselines import TaskBaselines
from mtsearch.evaluation.strong_baselines import fit_bayesian_fm, fit_ials, pair_matrix
from mtsearch.metrics import METRICS

Point = Mapping[str, float]
Measured = Mapping[str, Mapping[str, float]]
"""Metrics by point, as `label` writes it."""

Uses = Literal["ratings", "watches", "both", "nothing"]
"""What a model learns from: which ratings were given, or who has watched what."""

_SEED = 42


@dataclass(frozen=True)
class Range:
    """The values of a setting, drawn uniformly on a logarithmic axis.

    Attributes:
        low, high: ends.
        whole: True for whole numbers.
    """

    low: float
    high: float
    whole: bool = False

    def draw(self, rng: np.random.RandomState) -> float:
        """Return one value; a real one has three digits, so that it can be quoted."""
        value = float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return round(value) if self.whole else float(f"{value:.3g}")


@dataclass(frozen=True)
class Peer:
    """A model that is tuned by random points of a space.

    Attributes:
        name: of the model; peers of one name are tuned at once.
        chosen_by: metric of the point that is taken.
        fit: function from a split and a point to a model.
        space: of the points.
        uses: what it learns from.
        tasks: what it can do: all models of ratings rank by them.
        is_slow: comes last.
    """

    name: str
    chosen_by: str
    fit: Callable[..., Rater | Ranker]
    space: Mapping[str, Range]
    uses: Uses
    tasks: tuple[str, ...] = ("rating", "retrieval")
    is_slow: bool = False

    def train(self, split: Split, point: Point) -> TaskBaselines:
        """Train on the split's training rows."""
        model = self.fit(split, **point)
        return TaskBaselines(dict.fromkeys(self.tasks, model))

    def points(self, number: int) -> list[Point]:
        """Return the first points of the space; more of them begin with the same."""
        # NOTE: RandomState is frozen by NumPy's policy (NEP 19).
        rng = np.random.RandomState(_SEED)
        return [{name: each.draw(rng) for name, each in self.space.items()} for _ in range(number)]

    def best(self, points: Sequence[Point], measured: Measured) -> Point | None:
        """Return the best of the points, the first of equal ones; None unless all are measured."""
        if not all(label(point) in measured for point in points):
            return None
        sign = METRICS[self.chosen_by].sign
        return min(points, key=lambda point: sign * measured[label(point)][self.chosen_by])


def label(point: Point) -> str:
    """Return a point as text, such as `factors=20, alpha=8`."""
    return ", ".join(f"{name}={value:g}" for name, value in point.items())


class Ease:
    """EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data") as a `Ranker`.

    With X the pairs of the training rows and P = (X'X + regularization I)^-1, the score of an item is the sum over
    what the user has taken of B = -P / diag(P), whose diagonal is 0.
    """

    def __init__(self, split: Split, regularization: float) -> None:
        self._pairs, self._catalogue = pair_matrix(split), split.catalogue
        gram = (self._pairs.T @ self._pairs).toarray().astype(np.float64)
        inverse = np.linalg.inv(gram + regularization * np.identity(len(gram)))
        self._weights = -inverse / np.diag(inverse)
        np.fill_diagonal(self._weights, 0)

    def scores(self, users: Codes) -> NDArray[np.floating]:
        """Return the scores; see `Ranker`."""
        scores: NDArray[np.float64] = self._pairs[users] @ self._weights[:, self._catalogue]
        return scores


_IALS = {
    "factors": Range(8, 128, whole=True),
    "regularization": Range(3, 100),
    "alpha": Range(2, 30),
    "iterations": Range(5, 30, whole=True),
}
_BAYESIAN_FM = {"rank": Range(4, 24, whole=True), "iterations": Range(150, 500, whole=True)}
_SVD = {
    "n_factors": Range(10, 200, whole=True),
    "n_epochs": Range(20, 120, whole=True),
    "lr_all": Range(0.003, 0.03),
    "reg_all": Range(0.03, 0.3),
}
_SVDPP = {**_SVD, "n_factors": Range(5, 40, whole=True), "n_epochs": Range(20, 80, whole=True)}


def peers() -> Iterator[Peer]:
    """Yield all peers, in the order of the table."""
    rankings = ("retrieval",)
    for metric in ("top_100", "top_100_unseen"):
        yield Peer("implicit ALS", metric, fit_ials, _IALS, "watches", rankings)
    yield Peer("EASE", "top_100_unseen", Ease, {"regularization": Range(10, 3000)}, "watches", rankings)
    yield Peer("Bayesian FM, SVD++ features", "rmse", fit_bayesian_fm, _BAYESIAN_FM, "both")
    ids_alone = partial(fit_bayesian_fm, neighbours=False)
    yield Peer("Bayesian FM, ids alone", "rmse", ids_alone, _BAYESIAN_FM, "ratings")
    if find_spec("surprise") is not None:
        from tests.benchmarks import surprise_models

        yield Peer("SVD, tuned", "rmse", surprise_models.svd, _SVD, "ratings")
        yield Peer("SVD++, tuned", "rmse", surprise_models.svdpp, _SVDPP, "both", is_slow=True)
