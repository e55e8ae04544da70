"""Tests that the members of a model are one model: its predictions and scores are the means over trainings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes
from mtsearch.data.split import Split
from mtsearch.evaluation import Evaluator
from mtsearch.models import CustomTrainer, Device, JointTrainer, ModelFactory
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.sections import ModelSection
from tests.helpers.clean_process import Ask
from tests.helpers.custom_models import Small
from tests.helpers.model_cases import go_on, make_split
from tests.helpers.shops import NumpyShop, shop

Floats = NDArray[np.floating[Any]]
SHOP = {"losses": "normalized", "embedding_size": 4, "hidden_layers": "8", "batch_size": 300, "epochs": 6,
        "learning_rate": 0.03, "optimizer": "adam"}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "all": {},
    "cosine": {"normalize": True, "item_bias": True, "retrieval_loss": "full", "rating_biases": True,
               "dot_product": True},
    "experts": {"sharing": "experts", "experts": 3, "item_bias": True, "rating_biases": True},
}  # fmt: skip
RANKED, PREDICTED = ("view", "purchase"), ("stars", "returned")


class Mean:
    """The mean of several shops in NumPy, as a scorer of its tasks; ratings are within their range in each."""

    def __init__(self, shops: Sequence[NumpyShop]) -> None:
        self._shops = shops

    def scores(self, name: str) -> Floats:
        mean: Floats = np.mean([each.scores(name) for each in self._shops], axis=0)
        return mean

    def predictions(self, name: str) -> Floats:
        mean: Floats = np.mean([each.predictions(name) for each in self._shops], axis=0)
        return mean

    def of_task(self, name: str) -> "_OfTask":
        return _OfTask(self.scores(name) if name in RANKED else self.predictions(name))


class _OfTask:
    def __init__(self, table: Floats) -> None:
        self._table = table

    def scores(self, users: Codes) -> NDArray[np.float32]:
        return self._table[users].astype(np.float32)

    def ratings(self, users: Codes, items: Codes) -> NDArray[np.float32]:
        return self._table[users, items].astype(np.float32)


def train_members(trainer: JointTrainer | CustomTrainer, config: TrialConfig, seeds: Sequence[int]) -> None:
    for place, seed in enumerate(seeds):
        if place:
            trainer.keep()
        trainer.train(config.model_copy(update={"seed": seed}), go_on)


def ask(loaded: Any, name: str, **inputs: Any) -> dict[str, Floats]:
    found = loaded.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
    return {key: value.numpy() for key, value in found.items()}


class TrainedShop:
    """A model of three members of a shop, and its members, each trained alone."""

    def __init__(self, device: Device, folder: Path, changes: Mapping[str, Any]) -> None:
        self.split, self.folder = shop(unknown=3), folder / "1"
        config = TrialConfig.model_validate({**SHOP, **changes})
        alone = JointTrainer(self.split, device)
        shops = []
        for seed in (7, 8, 9):
            alone.train(config.model_copy(update={"seed": seed}), go_on)
            shops.append(NumpyShop(alone.last_model().model, self.split, config))
        self.mean, self.members = Mean(shops), shops
        self.trainer = JointTrainer(self.split, device)
        train_members(self.trainer, config, (7, 8, 9))
        self.metrics = self.trainer.evaluate(self.split.validation)
        self.trainer.save(self.folder, "purchase")
        self.loaded = tf.saved_model.load(str(self.folder))


@pytest.fixture(
    scope="module",
    params=[name if name == "cosine" else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS],
)
def trained(request: pytest.FixtureRequest, device: Device, tmp_path_factory: pytest.TempPathFactory) -> TrainedShop:
    return TrainedShop(device, tmp_path_factory.mktemp("members"), CONFIGS[request.param])


def test_predictions_are_the_mean_of_the_members(trained: TrainedShop) -> None:
    """Of every pair, those of unknown users and unknown items included."""
    split = trained.split
    users, items = [*split.user_ids, "nobody"], [*split.item_ids, "nothing"]
    pairs = [(user, item) for user in users for item in items]
    found = ask(trained.loaded, "predict", user_id=[user for user, _ in pairs], item_id=[item for _, item in pairs])
    assert set(found) == {*PREDICTED, "known_users", "known_items"}
    for task in PREDICTED:
        each = np.stack([member.predictions(task) for member in trained.members])
        # Within the range of the ratings the mean of limited predictions is the limited mean.
        low, high = (0, 1) if task == "returned" else (split.train.ratings[~np.isnan(split.train.ratings)].min(), 5)
        inside = ((each > low) & (each < high)).all(axis=0)
        assert inside.mean() > 0.2
        mean = trained.mean.predictions(task)
        np.testing.assert_allclose(found[task].reshape(mean.shape)[inside], mean[inside], rtol=0, atol=2e-5)
        assert np.abs(each - mean).max() > 1e-3  # the members differ


@pytest.mark.parametrize("task", RANKED)
def test_scores_are_the_mean_of_the_members(trained: TrainedShop, task: str) -> None:
    split = trained.split
    users, size = [*split.user_ids, "nobody"], len(split.catalogue)
    found = ask(trained.loaded, f"recommend_{task}", user_id=users, k=size, exclude_seen=False)
    mean = trained.mean.scores(task)
    codes = {item.encode(): place for place, item in enumerate(split.item_ids[split.catalogue])}
    places = np.array([[codes[item] for item in row] for row in found["item_ids"].tolist()])
    assert (np.sort(places) == np.arange(size)).all()
    expected = np.take_along_axis(mean, places, axis=1)
    np.testing.assert_allclose(found["scores"], expected, rtol=0, atol=1e-5)
    assert np.abs(trained.members[0].scores(task) - mean).max() > 1e-3


def test_metrics_are_those_of_the_mean(trained: TrainedShop) -> None:
    """Those of labels and rankings, and of ratings within their range: the mean of the others is limited elsewhere."""
    expected = Evaluator(trained.split, trained.split.validation).evaluate(trained.mean)
    assert trained.metrics.keys() == expected.keys()
    for key, value in expected.items():
        if not key.startswith("stars."):
            # A rank may differ where two mean scores are equal to rounding.
            assert trained.metrics[key] == pytest.approx(value, abs=1e-5 if key.startswith("returned") else 2e-3), key


def test_ratings_are_not_limited_before_the_mean(split: Split, device: Device) -> None:
    """The metrics of ratings are those of the mean of the members' own predictions."""
    config = TrialConfig(epochs=3, batch_size=256, learning_rate=0.3, rating_biases=True)
    predicted = []

    class Spy(JointTrainer):
        def predictions(self) -> NDArray[np.float32]:
            rater: Any = self._scorer(self._members()).of_task("rating")
            found: NDArray[np.float32] = rater.ratings(split.validation.users, split.validation.items)
            return found

    alone, together = Spy(split, device), Spy(split, device)
    for seed in (1, 2, 3, 4):
        alone.train(config.model_copy(update={"seed": seed}), go_on)
        predicted.append(alone.predictions().astype(np.float64))
    train_members(together, config, (1, 2, 3, 4))
    mean = np.mean(predicted, axis=0)
    np.testing.assert_allclose(together.predictions(), mean, rtol=0, atol=1e-5)
    metrics, truth = together.evaluate(split.validation), split.validation.ratings.astype(np.float64)
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean((mean - truth) ** 2)), abs=1e-6)
    assert metrics["mae"] == pytest.approx(np.mean(np.abs(mean - truth)), abs=1e-6)
    limited = np.clip(mean, split.train.ratings.min(), split.train.ratings.max())
    assert metrics["rmse_clipped"] == pytest.approx(np.sqrt(np.mean((limited - truth) ** 2)), abs=1e-6)


def test_a_model_begins_anew_without_keep(split: Split, device: Device, tmp_path: Path) -> None:
    """After a model of members, one of a single training has the same bits as in a fresh trainer."""
    config = TrialConfig(epochs=2, batch_size=256, rating_biases=True)
    fresh, used = JointTrainer(split, device), JointTrainer(split, device)
    expected = fresh.train(config, go_on).metrics
    train_members(used, config, (4, 5))
    two = used.evaluate(split.validation)
    assert used.evaluate(split.validation) == two  # evaluating leaves the members as they were
    assert used.train(config, go_on).metrics == expected
    assert used.evaluate(split.validation) == expected != two
    for trainer, name in ((fresh, "fresh"), (used, "used")):
        trainer.save(tmp_path / name)
    pair = {"user_id": list(split.user_ids[:40]), "item_id": list(split.item_ids[:40])}
    one, other = (ask(tf.saved_model.load(str(tmp_path / name)), "predict", **pair) for name in ("fresh", "used"))
    np.testing.assert_array_equal(one["ratings"], other["ratings"])


def test_nothing_is_kept_before_a_training(split: Split, device: Device) -> None:
    with pytest.raises(ValueError, match="no model has been trained"):
        JointTrainer(split, device).keep()


@pytest.mark.slow
def test_members_answer_in_plain_tensorflow(trained: TrainedShop, ask_a_clean_process: Ask) -> None:
    users, items = list(trained.split.user_ids[:20]), list(trained.split.item_ids[:20])
    pairs, lists = {"user_id": users, "item_id": items}, {"user_id": [*users, "nobody"], "k": 5, "exclude_seen": True}
    predicted, recommended = ask_a_clean_process(trained.folder, [("predict", pairs), ("recommend", lists)])
    for task in PREDICTED:
        here = ask(trained.loaded, "predict", **pairs)[task]
        np.testing.assert_allclose(predicted[task], here, rtol=0, atol=1e-5)
    found = ask(trained.loaded, "recommend", **lists)["item_ids"]
    assert recommended["item_ids"] == [[item.decode() for item in row] for row in found.tolist()]


@pytest.mark.slow
def test_members_of_a_custom_model(device: Device, tmp_path: Path, ask_a_clean_process: Ask) -> None:
    split = make_split()
    config = TrialConfig(embedding_size=8, optimizer="adam", learning_rate=0.02, batch_size=300, epochs=3)
    trainer = CustomTrainer(ModelFactory(ModelSection(factory="tests.helpers.custom_models:small")), split, device)
    codes, models = tf.range(60), []
    for seed in (3, 4, 5):
        trainer.train(config.model_copy(update={"seed": seed}), go_on)
        model: Small = trainer.last_scorer().model
        models.append([variable.numpy().astype(np.float64) for variable in model.trainable_variables])
    scores = np.mean([users[:60] @ items[:80].T for users, items, *_ in models], axis=0)
    ratings = np.mean(
        [
            (users @ kernel[:8])[:60] + (items @ kernel[8:])[:80].T + bias
            for users, items, kernel, bias in models
        ],
        axis=0,
    )  # fmt: skip
    train_members(trainer, config, (3, 4, 5))
    metrics, rows = trainer.evaluate(split.validation), split.validation
    errors = ratings[rows.users, rows.items] - rows.ratings
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    trainer.save(tmp_path / "1")
    users = [split.user_ids[code] for code in codes]
    best, rated = ask_a_clean_process(
        tmp_path / "1",
        [
            ("recommend", {"user_id": [*users, "nobody"], "k": 80, "exclude_seen": False}),
            ("predict", {"user_id": [*users, "nobody"], "item_id": [split.item_ids[3]] * 61}),
        ],
    )
    everyone = np.concatenate([scores, scores[split.known_users].mean(axis=0, keepdims=True)])
    np.testing.assert_allclose(best["scores"], -np.sort(-everyone), rtol=1e-4, atol=1e-5)
    expected = np.append(np.clip(ratings[:, 3], 1, 5), split.train.ratings.mean())
    np.testing.assert_allclose(rated["ratings"], expected, rtol=1e-5)
