"""Tests of `CustomTrainer`: a custom model is trained and evaluated as every other model."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mtsearch.data.split import Split
from mtsearch.errors import CustomModelFailure, DefinitionError, NonFiniteLoss
from mtsearch.evaluation import Evaluator
from mtsearch.models import CustomTrainer, Device, ModelFactory
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.sections import ModelSection
from tests.helpers.clean_process import Ask
from tests.helpers.custom_models import Small
from tests.helpers.model_cases import THREADS, answer_of, go_on, make_split

CONFIG = TrialConfig(
    embedding_size=8, embedding_dropout=0.3, optimizer="adam", learning_rate=0.02, batch_size=300, epochs=3,
    retrieval_weight=1e-3, schedule="cosine",
)  # fmt: skip


def factory(function: str) -> ModelFactory:
    return ModelFactory(ModelSection(factory=f"tests.helpers.custom_models:{function}"))


def custom(function: str, split: Split, device: Device) -> CustomTrainer:
    return CustomTrainer(factory(function), split, device)


@pytest.fixture(scope="module")
def trainer(split: Split, device: Device) -> CustomTrainer:
    return custom("small", split, device)


@pytest.mark.slow
def test_it_learns_and_has_every_metric_and_loss(trainer: CustomTrainer, split: Split) -> None:
    result = trainer.train(CONFIG.model_copy(update={"epochs": 12}), go_on)
    first, last = result.curve[0], result.curve[-1]
    assert [epoch.epoch for epoch in result.curve] == list(range(1, 13))
    assert last.losses["total"] < 0.6 * first.losses["total"]
    assert last.metrics["rmse"] < first.metrics["rmse"]
    assert result.parameters == (61 + 81) * 8 + 16 + 1
    assert set(result.seconds) == {"prepare", "train", "evaluate"}
    assert trainer.evaluate(split.validation) == last.metrics


def test_metrics_are_those_of_its_towers(trainer: CustomTrainer, split: Split) -> None:
    """The metrics equal those computed from the weights in NumPy."""
    metrics = trainer.train(CONFIG, go_on).metrics
    model = trainer.last_scorer().model
    users, items, kernel, bias = (variable.numpy() for variable in model.trainable_variables)

    class Oracle:
        def ratings(self, of: np.ndarray, what: np.ndarray) -> np.ndarray:
            return np.asarray(users[of] @ kernel[:8, 0] + items[what] @ kernel[8:, 0] + bias[0])

        def scores(self, of: np.ndarray) -> np.ndarray:
            return np.asarray(users[of] @ items[split.catalogue].T)

    expected = Evaluator(split, split.validation).evaluate(Oracle())
    assert metrics == pytest.approx(expected, abs=2e-3)
    assert metrics["rmse"] == pytest.approx(expected["rmse"], rel=1e-5)


@pytest.mark.slow
def test_the_same_bits_after_other_trials_and_in_a_fresh_process(trainer: CustomTrainer) -> None:
    first = numbers_of(trainer, CONFIG)
    trainer.train(CONFIG.model_copy(update={"embedding_size": 4, "seed": 5}), go_on)
    assert numbers_of(trainer, CONFIG) == first
    assert numbers_of(trainer, CONFIG.model_copy(update={"seed": 43})) != first
    code = f"""
import json
from mtsearch.models import Device
device = Device.default({THREADS})
from tests.helpers.model_cases import make_split
from tests.models.test_custom_trainer import CONFIG, custom, numbers_of
print(json.dumps(numbers_of(custom("small", make_split(), device), CONFIG)))
"""
    assert answer_of(code) == first


def numbers_of(trainer: CustomTrainer, config: TrialConfig) -> list[dict[str, float]]:
    return [{**epoch.metrics, **epoch.losses} for epoch in trainer.train(config, go_on).curve]


def test_patience_and_stopping_are_as_of_every_model(trainer: CustomTrainer) -> None:
    stopped = trainer.train(CONFIG, lambda epoch: epoch.epoch < 2)
    assert (stopped.stopped, len(stopped.curve)) == (True, 2)
    patient = trainer.train(CONFIG.model_copy(update={"epochs": 60, "patience": 2, "learning_rate": 0.2}), go_on)
    best = min(patient.curve, key=lambda epoch: epoch.metrics["rmse"])
    assert (patient.best_epoch, len(patient.curve)) == (best.epoch, best.epoch + 2)


def test_a_model_that_is_compiled_keeps_its_optimiser(split: Split, device: Device) -> None:
    result = custom("compiled", split, device).train(CONFIG, go_on)  # a learning rate of 0
    assert len({epoch.metrics["rmse"] for epoch in result.curve}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        ("raising", CustomModelFailure, r"raised ZeroDivisionError: no such tower \(custom_models.py, line \d+\)"),
        ("wide_ratings", CustomModelFailure, r"ratings\(\) of 2 rows returned float32 \[2, 1\]; return float32 \[2\]"),
        ("few_ratings", CustomModelFailure, r"ratings\(\) of \d+ rows returned float32 \[\d+\]; return one rating"),
        ("eager_ratings", CustomModelFailure, r"raised AttributeError: .*numpy.* \(custom_models.py, line \d+\)"),
        ("nothing", DefinitionError, "returned NoneType; return a tfrs.models.Model"),
        ("half", DefinitionError, r"without query_embeddings\(\)"),
        (
            "untrainable",
            CustomModelFailure,
            r"raised ValueError: this tower cannot learn \(custom_models.py, line \d+\)",
        ),
        ("diverging", NonFiniteLoss, "non-finite loss at epoch 1, step 3"),
    ],
)
def test_a_wrong_model_is_refused(
    split: Split, device: Device, function: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as raised:
        custom(function, split, device).train(CONFIG, go_on)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("function", ["small", pytest.param("by_name", marks=pytest.mark.slow)])
def test_saved_it_answers_in_plain_tensorflow(
    split: Split, device: Device, tmp_path: Path, ask_a_clean_process: Ask, function: str
) -> None:
    trainer = custom(function, split, device)
    trainer.train(CONFIG, go_on)
    model: Small = trainer.last_scorer().model
    trainer.save(tmp_path / "1")
    users = ["user 0007", "nobody"]
    best, rated = ask_a_clean_process(
        tmp_path / "1",
        [
            ("recommend", {"user_id": users, "k": 80, "exclude_seen": False}),
            ("predict", {"user_id": users, "item_id": ["item 0003"] * 2}),
        ],
    )
    table = model.query_embeddings(tf.range(60)).numpy()
    queries = np.stack([table[7], table[split.known_users].mean(axis=0)])
    expected = queries @ model.candidate_embeddings(tf.range(80)).numpy().T
    assert best["known"] == [True, False]
    np.testing.assert_allclose(best["scores"], -np.sort(-expected), rtol=1e-4, atol=1e-6)
    assert best["item_ids"][0][0] == split.item_ids[int(expected[0].argmax())]
    mine = float(model.ratings(tf.constant([7]), tf.constant([3]))[0])
    np.testing.assert_allclose(rated["ratings"], [np.clip(mine, 1, 5), split.train.ratings.mean()], rtol=1e-5)


def test_users_that_are_not_trained_get_what_the_model_says(device: Device) -> None:
    strange = make_split(unknown=3)
    trainer = custom("small", strange, device)
    trainer.train(CONFIG, go_on)
    scorer = trainer.last_scorer()
    users = np.array([59], np.int32)
    expected = scorer.model.query_embeddings(users).numpy() @ scorer.model.candidate_embeddings(tf.range(80)).numpy().T
    np.testing.assert_allclose(scorer.scores(users), expected, rtol=1e-5)


def test_the_rest_of_a_package_stays_as_it_was_imported() -> None:
    """Workers pickle functions by name: a second object of the same name could not be pickled."""
    others = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "tests"}
    del others["tests.helpers.custom_models"]
    sys.modules["tests.helpers.custom_models"].__dict__.pop(
        "__mtsearch_fingerprint__", None
    )  # as the tests imported it
    factory("small")
    assert {name: sys.modules.get(name) for name in others} == others
