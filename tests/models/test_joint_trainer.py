"""Tests of `JointTrainer` through its protocol: curves, stopping, failures, unknown users and items."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mtsearch.data.interactions import Codes
from mtsearch.data.split import Split
from mtsearch.errors import NonFiniteLoss, NonFiniteMetric, OutOfMemory
from mtsearch.evaluation import Evaluator
from mtsearch.metrics import metrics_of
from mtsearch.models import Device, JointTrainer
from mtsearch.models import joint_scorer as scorer_module
from mtsearch.models.device import EpochOrders
from mtsearch.models.joint_model import JointModel
from mtsearch.models.joint_scorer import HeadScorer
from mtsearch.models.trainer import EpochMetrics
from mtsearch.study_file.config import TrialConfig
from tests.helpers.arithmetic import NumpyModel
from tests.helpers.model_cases import TutorialScorer, answer_of, go_on, make_split, recorder
from tests.helpers.stock import StockTraining, initial_model

CONFIG = TrialConfig(embedding_size=8, batch_size=500, epochs=3, retrieval_weight=1e-3)


def with_(**changes: Any) -> TrialConfig:
    return TrialConfig.model_validate({**CONFIG.model_dump(), **changes})


def test_a_curve_has_every_epoch_and_every_number(trainer: JointTrainer) -> None:
    seen: list[EpochMetrics] = []
    result = trainer.train(CONFIG, recorder(seen))
    assert list(result.curve) == seen
    assert [epoch.epoch for epoch in seen] == [1, 2, 3]
    for epoch in seen:
        assert list(epoch.metrics) == list(metrics_of())
        assert set(epoch.losses) == {"rating", "retrieval"}
        assert np.isfinite([*epoch.metrics.values(), *epoch.losses.values()]).all()
    assert result.metrics == seen[-1].metrics
    assert (result.best_epoch, result.stopped) == (3, False)
    assert 0 < seen[0].seconds < seen[1].seconds < seen[2].seconds


@pytest.mark.parametrize("last", [1, 2])
def test_false_stops(trainer: JointTrainer, last: int) -> None:
    result = trainer.train(CONFIG, lambda epoch: epoch.epoch < last)
    assert (len(result.curve), result.best_epoch, result.stopped) == (last, last, True)
    assert result.metrics == trainer.train(with_(epochs=last), go_on).metrics


def test_false_after_the_last_epoch_stopped_nothing(trainer: JointTrainer) -> None:
    assert not trainer.train(CONFIG, lambda epoch: epoch.epoch < 3).stopped


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7, 2**24])
def test_any_batch_size(split: Split, device: Device, batch_size: int) -> None:
    small = dataclasses.replace(split, train=split.train.take(np.arange(0, len(split.train), 30)))
    result = JointTrainer(small, device).train(with_(batch_size=batch_size, epochs=1), go_on)
    assert result.curve[0].losses["retrieval"] <= np.log(min(batch_size, len(small.train))) + 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("learns", "idle"), [("rating", "retrieval"), ("retrieval", "rating")])
def test_a_loss_of_weight_zero_trains_nothing_of_its_own(split: Split, device: Device, learns: str, idle: str) -> None:
    trainer = JointTrainer(split, device)
    config = with_(**{f"{learns}_weight": 1.0, f"{idle}_weight": 0.0}, epochs=12)
    losses = [epoch.losses[learns] for epoch in trainer.train(config, go_on).curve]
    assert losses[-1] < losses[0]
    head, fresh = _head(trainer.compiled_model(config).model), _head(initial_model(split, config))
    untouched = [np.array_equal(trained, start) for trained, start in zip(head, fresh, strict=True)]
    assert all(untouched) if idle == "rating" else not any(untouched)


def _head(model: JointModel) -> list[np.ndarray[Any, Any]]:
    weights: list[np.ndarray[Any, Any]] = model.heads["rating"].get_weights()
    return weights


# --- failures


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "place"), [(100, (1, 2)), (5000, (2, 1))])
def test_an_absurd_learning_rate_fails_where_stock_does(
    split: Split, trainer: JointTrainer, batch_size: int, place: tuple[int, int]
) -> None:
    config = with_(learning_rate=1e3, rating_weight=1e9, batch_size=batch_size)
    with pytest.raises(NonFiniteLoss, match="lower learning_rate") as caught:
        trainer.train(config, go_on)
    assert (caught.value.epoch, caught.value.step) == place == _first_bad_step(split, config)


def _first_bad_step(split: Split, config: TrialConfig) -> tuple[int, int] | None:
    stock = StockTraining(split, config)
    for epoch in range(1, config.epochs + 1):
        for step, (rating, retrieval) in enumerate(stock.epoch(epoch), start=1):
            loss = config.rating_weight * rating + config.retrieval_weight * retrieval
            if not loss <= float(np.finfo(np.float32).max):
                return epoch, step
    return None


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, 700, 1500])
def test_a_bad_row_fails_the_step_that_meets_it(split: Split, device: Device, row: int) -> None:
    """One rating, somewhere in an epoch, has a square beyond float32."""
    ratings = split.train.ratings.copy()
    ratings[row] = 1e20
    trainer = JointTrainer(dataclasses.replace(split, train=dataclasses.replace(split.train, ratings=ratings)), device)
    order = EpochOrders(split.train.items).draw(CONFIG.batch_size, CONFIG.seed, 1).rows
    with pytest.raises(NonFiniteLoss) as caught:
        trainer.train(CONFIG, go_on)
    assert (caught.value.epoch, caught.value.step) == (1, order.tolist().index(row) // CONFIG.batch_size + 1)


def test_a_prediction_that_is_no_number_names_the_epoch(trainer: JointTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(HeadScorer):
        """A scorer that returns NaN in the second epoch."""

        def ratings(self, users: Codes, items: Codes) -> Any:
            return super().ratings(users, items) * (np.float32(np.nan) if seen else np.float32(1))

    seen: list[EpochMetrics] = []
    monkeypatch.setattr(scorer_module, "HeadScorer", Broken)
    with pytest.raises(NonFiniteMetric, match=r"non-finite rating for user .* at epoch 2; lower learning_rate"):
        trainer.train(CONFIG, recorder(seen))
    assert len(seen) == 1


def test_a_failed_trial_leaves_the_next_one_alone(trainer: JointTrainer) -> None:
    expected = trainer.train(CONFIG, go_on).curve[-1].metrics
    with pytest.raises(NonFiniteLoss):
        trainer.train(with_(learning_rate=1e3, rating_weight=1e9), go_on)
    assert trainer.train(CONFIG, go_on).curve[-1].metrics == expected


@pytest.mark.slow  # TensorFlow asks for the memory again and again for 10 s
def test_out_of_memory_is_a_failure_of_the_trial() -> None:
    """Tables of 20 million users take 327 GB, in a process limited to 64 GB of addresses."""
    code = """
import dataclasses, json, resource
import numpy as np
from mtsearch.study_file.config import TrialConfig
from mtsearch.errors import OutOfMemory
from mtsearch.models import Device, JointTrainer
from tests.helpers.model_cases import go_on, make_split

resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**36))
split = dataclasses.replace(make_split(), user_ids=np.broadcast_to(np.array(["user"], object), 20_000_000))
trainer = JointTrainer(split, Device.default(1))
try:
    trainer.train(TrialConfig(embedding_size=4096, batch_size=500), go_on)
except OutOfMemory as error:
    print(json.dumps([str(error), len(trainer._compiled)]))
"""
    said, kept = answer_of(code)
    assert "embedding_size 4096 and batch_size 500; lower embedding_size or batch_size" in said
    assert kept == 0


@pytest.mark.slow
def test_out_of_memory_frees_the_compiled_models(split: Split, device: Device) -> None:
    """The error of TensorFlow is raised by hand."""
    trainer = JointTrainer(split, device)

    def run_out(_: EpochMetrics) -> bool:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    with pytest.raises(
        OutOfMemory, match=r"on /.PU:0 at embedding_size 8 and batch_size 500; lower embedding_size or batch_size"
    ):
        trainer.train(CONFIG, run_out)
    assert not trainer._compiled
    assert trainer.train(CONFIG, go_on).curve


# --- unknown: users and items without training rows


RICH = {
    "retrieval_loss": "full",
    "normalize": True,
    "item_bias": True,
    "rating_biases": True,
    "dot_product": True,
    "hidden_layers": "16-8",
    "embedding_dropout": 0.3,
    "hidden_dropout": 0.3,
}


@pytest.mark.parametrize("changes", [{}, {"embedding_size": 32}, {**RICH, "retrieval_loss": "in_batch"}, RICH])
def test_the_metrics_equal_numpy_arithmetic(device: Device, changes: dict[str, Any]) -> None:
    """Unknown users and items have the mean of the trained embeddings, and nothing is dropped."""
    split = make_split(unknown=5, rows=1000)
    split = dataclasses.replace(split, catalogue=np.r_[0:20, 40:78].astype(np.int32))
    assert not split.known_users[-5:].any()
    assert not split.known_items[-5:].any()
    trainer, config = JointTrainer(split, device), with_(**changes)
    metrics = trainer.train(config, go_on).metrics
    model = trainer.compiled_model(config).model
    expected = Evaluator(split, split.validation).evaluate(NumpyModel(model, split, config).with_unknown())
    assert metrics == pytest.approx(expected, abs=1e-3)
    assert metrics["rmse"] == pytest.approx(expected["rmse"], abs=1e-5)


def test_unknown_users_and_items_have_no_bias(device: Device) -> None:
    """Their biases stay 0, however the optimiser moves weights without a gradient."""
    split = make_split(unknown=5)
    trainer, config = JointTrainer(split, device), with_(rating_biases=True, item_bias=True, optimizer="adam", l2=0.1)
    trainer.train(config, go_on)
    model = trainer.compiled_model(config).model
    for biases, known in (
        (model.biases["rating"][0], split.known_users),
        (model.biases["rating"][1], split.known_items),
    ):
        assert (biases.numpy()[:, 0] != 0).tolist() == known.tolist()
    assert (model.score_biases["retrieval"].numpy()[:, 0] != 0).tolist() == split.known_items.tolist()


def test_an_unknown_item_is_ranked_with_the_mean_bias(device: Device) -> None:
    split = make_split(unknown=5)
    trainer, config = JointTrainer(split, device), with_(item_bias=True)
    trainer.train(config, go_on)
    compiled, known = trainer.compiled_model(config), split.known_items
    biases = np.where(known[:, np.newaxis], np.linspace(-1, 0, len(known))[:, np.newaxis], 0).astype(np.float32)
    compiled.model.score_biases["retrieval"].assign(biases)
    used = compiled.tables().towers["retrieval"][1].numpy()[:, -1:]
    np.testing.assert_array_equal(used[known], biases[known])
    np.testing.assert_allclose(used[~known], np.full((5, 1), biases[known].mean()), rtol=1e-5)


def test_an_item_of_the_full_softmax_keeps_its_embedding(device: Device) -> None:
    """It is trained as a negative; an item in neither catalogue nor training rows is not."""
    split = make_split(unknown=5)
    split = dataclasses.replace(split, catalogue=np.arange(78, dtype=np.int32))
    trainer, config = JointTrainer(split, device), with_(retrieval_loss="full")
    trainer.train(config, go_on)
    compiled = trainer.compiled_model(config)
    table, used = compiled.model.item_table.numpy(), compiled.tables().heads["rating"].items.numpy()
    np.testing.assert_array_equal(used[:78], table[:78])
    np.testing.assert_allclose(used[78:], np.tile(table[:78].mean(axis=0), (2, 1)), rtol=1e-5, atol=1e-6)
    assert not np.isclose(table[75:78], initial_model(split, config).item_table.numpy()[75:78]).any(axis=1).all()


def test_unknown_users_all_have_the_same_rating(device: Device) -> None:
    split = make_split(unknown=5)
    trainer = JointTrainer(split, device)
    trainer.train(CONFIG, go_on)
    scorer = TutorialScorer(trainer.compiled_model(CONFIG), split.catalogue)
    unknown, known = np.arange(55, 60, dtype=np.int32), np.arange(5, dtype=np.int32)
    assert len(np.unique(scorer.ratings(unknown, np.zeros(5, np.int32)))) == 1
    assert len(np.unique(scorer.ratings(known, np.zeros(5, np.int32)))) == 5
    assert (np.ptp(scorer.scores(unknown), axis=0) == 0).all()
    assert (np.ptp(scorer.scores(known)[:, -5:], axis=1) == 0).all()
