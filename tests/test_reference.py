"""The script of the reference table keeps its measurements and does not repeat them."""

import json
from pathlib import Path

import numpy as np
import pytest

from mtsearch.data import Split
from mtsearch.evaluation.baselines import Baseline
from tests.benchmarks.peers import Ease, Peer, Range, label
from tests.benchmarks.reference import (
    CPU,
    METRICS,
    Figures,
    Model,
    Trainers,
    differences,
    evaluate_models,
    table,
    tune_peers,
    tuning,
)
from tests.helpers.evaluation_cases import make_rows, make_split


class Counted:
    """A model with given metrics that counts its evaluations and can raise an error."""

    def __init__(self, log: list[str], name: str, is_slow: bool = False, breaks: bool = False) -> None:
        self.log, self.breaks = log, breaks
        self.model = Model(name, self.evaluate, is_slow, "v1")

    def evaluate(self, split: Split, _trainers: Trainers) -> dict[str, float]:
        assert len(split.train) == 80_000
        assert len(split.test) == 20_000
        if self.breaks:
            raise KeyboardInterrupt
        self.log.append(self.model.name)
        value = float(split.test.ratings.mean())  # tells the splits apart
        return dict.fromkeys(METRICS, value)


def test_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    log: list[str] = []
    figures: Figures = {}
    first = [Counted(log, "a").model, Counted(log, "slow", is_slow=True, breaks=True).model, Counted(log, "b").model]
    with pytest.raises(KeyboardInterrupt):
        evaluate_models(first, (101, 102), figures, path)
    assert log == ["a", "b", "a", "b"]  # the quick ones on every split before the slow one
    held = json.loads(path.read_text())
    assert held == figures
    again: list[str] = []
    models = [Counted(again, "a").model, Counted(again, "slow", is_slow=True).model, Counted(again, "b").model]
    evaluate_models(models, (101, 102), held, path)
    assert again == ["slow", "slow"]
    assert json.loads(path.read_text())["101"]["a v1"] == figures["101"]["a v1"]
    assert figures["101"]["a v1"] != figures["102"]["a v1"]
    assert [name.name for name in tmp_path.iterdir()] == ["r.json"]


def test_means_and_intervals_over_splits() -> None:
    """0.9 and 1.0: s = 0.0707, t(1) = 12.706, half = 12.706 * 0.0707 / sqrt(2) = 0.6353."""
    models = [Counted([], name).model for name in ("one", "both", "none")]
    by_split = [
        {"both v1": dict.fromkeys(METRICS, 0.9), "one v1": dict.fromkeys(METRICS, 0.5)},
        {"both v1": dict.fromkeys(METRICS, 1.0)},
    ]
    lines = table(models, by_split).splitlines()
    assert lines[0] == "| | uses | splits | rmse | rmse_clipped | top_100 | top_100_unseen | CPU s |"
    assert lines[2] == "| one | both | 1 | 0.5000 | 0.5000 | 0.5000 | 0.5000 |  |"
    assert lines[3].startswith("| both | both | 2 | 0.9500 (0.3147 to 1.5853) |")
    assert len(lines) == 4


def test_a_model_without_ratings_has_empty_cells_and_its_seconds_are_a_mean() -> None:
    ranker = Model("ranker", Counted([], "ranker").evaluate, uses="watches")
    by_split = [{"ranker": {"top_100": 0.4, CPU: seconds}} for seconds in (1.0, 2.5)]
    last = table([ranker], by_split).splitlines()[-1]
    assert last == "| ranker | watches | 2 |  |  | 0.4000 (0.4000 to 0.4000) |  | 1.75 |"


def test_differences_are_paired_by_split() -> None:
    """0.1 and 0.3: mean 0.2, s = 0.1414, half = 12.706 * 0.1414 / sqrt(2) = 1.2706; unpaired it would be wider."""
    own = Model("own", Counted([], "own").evaluate)
    peer = Model("peer", Counted([], "peer").evaluate, is_peer=True)
    by_split = [
        {"own": {"rmse": 1.1, "top_100": 0.5}, "peer": {"top_100": 0.4}},
        {"own": {"rmse": 1.2, "top_100": 0.9}, "peer": {"top_100": 0.6}},
        {"own": {"rmse": 1.2, "top_100": 0.9}},  # the peer is not done yet
    ]
    lines = differences(own, [own, peer], by_split).splitlines()
    assert lines[0] == "| own minus | splits | rmse | rmse_clipped | top_100 | top_100_unseen |"
    assert lines[2:] == ["| peer | 2 |  |  | +0.2000 (-1.0706 to +1.4706) |  |"]


class Constant:
    """A peer that predicts one number, `rating` above the mean, and counts its trainings."""

    def __init__(self, breaks_at: int = 1000) -> None:
        self.trained: list[float] = []
        self.breaks_at = breaks_at
        self.peer = Peer("constant", "rmse", self.fit, {"rating": Range(0.001, 2)}, "ratings", ("rating",))

    def fit(self, split: Split, rating: float) -> Baseline:
        assert len(split.train) == 72_000
        if len(self.trained) == self.breaks_at:
            raise KeyboardInterrupt
        self.trained.append(rating)
        mean = float(split.train.ratings.mean())
        zeros = np.zeros(len(split.item_ids))
        return Baseline(mean + rating, np.zeros(len(split.user_ids)), zeros, zeros[split.catalogue].astype(np.float32))


def test_tuning_goes_on_where_it_was_ended_and_takes_the_best_point(tmp_path: Path) -> None:
    path, figures = tmp_path / "r.json", Figures()
    ended = Constant(breaks_at=2)
    points = ended.peer.points(4)
    with pytest.raises(KeyboardInterrupt):
        tune_peers([ended.peer], 4, figures, path)
    held = json.loads(path.read_text())
    assert ended.peer.best(points, held[tuning(ended.peer)]) is None  # a peer that is half tuned is not shown
    further = Constant()
    tune_peers([further.peer], 4, held, path)
    drawn = [point["rating"] for point in points]
    assert ended.trained + further.trained == drawn
    assert further.peer.points(2) == points[:2]
    # Farther from the mean is worse.
    best = further.peer.best(points, held[tuning(further.peer)])
    assert best == {"rating": min(drawn)}
    assert label(best) in json.loads(path.read_text())[tuning(further.peer)]


def test_whole_numbers_stay_whole_and_in_their_range() -> None:
    rng = np.random.RandomState(0)
    drawn = [Range(3, 6, whole=True).draw(rng) for _ in range(100)]
    assert set(drawn) == {3, 4, 5, 6}
    assert all(isinstance(value, int) for value in drawn)


def test_ease_is_a_ridge_regression_of_each_item_on_the_others() -> None:
    rng = np.random.default_rng(5)
    taken = rng.random((12, 6)) < 0.4
    rows = make_rows([(user, item, 3.0) for user, item in np.argwhere(taken).tolist()])
    split = make_split(12, 6, [0, 2, 3, 4, 5], rows, rows)
    pairs, wanted = taken.astype(float), np.empty((12, 6))
    for item in range(6):
        others = np.delete(pairs, item, axis=1)
        weights = np.linalg.solve(others.T @ others + 2.5 * np.identity(5), others.T @ pairs[:, item])
        wanted[:, item] = others @ weights
    scores = Ease(split, regularization=2.5).scores(np.array([3, 0, 11], np.int32))
    np.testing.assert_allclose(scores, wanted[[3, 0, 11]][:, split.catalogue], atol=1e-12)
