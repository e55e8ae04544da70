"""Train, evaluate and save custom models (`CustomTrainer`), as `JointTrainer` does for the joint model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Rows
from mtsearch.data.split import Split
from mtsearch.errors import CustomModelFailure, MalformedData, NonFiniteLoss, OutOfMemory
from mtsearch.evaluation.evaluator import Evaluator
from mtsearch.models.custom_model import ModelFactory
from mtsearch.models.device import Device, EpochOrders, release_dropped
from mtsearch.models.joint_scorer import TowerScorer, mean_predictions
from mtsearch.models.members import Towers, join_towers
from mtsearch.models.saved_model import MeanHead, Servable, write_servable
from mtsearch.models.trainer import Clock, EpochMetrics, TrialResult, train_epochs
from mtsearch.signals import defer_signals
from mtsearch.study_file.config import TrialConfig

_OPTIMIZERS = {
    "adagrad": tf_keras.optimizers.Adagrad,
    "adam": tf_keras.optimizers.Adam,
    "adamw": tf_keras.optimizers.AdamW,
    "sgd": tf_keras.optimizers.SGD,
}


class CustomTrainer:
    """A trainer of the custom models that a factory makes; each process makes one.

    A model that the factory did not compile gets the optimiser of the configuration, with its learning rate, schedule
    and weight decay. Every step is the model's own `train_step`.

    Args:
        factory: makes the models.
        split: trained on `split.train`, evaluated on `split.validation`.
        device: to train on; None for the first GPU, else the CPU.
        validate: evaluate after every epoch; else no epoch has metrics, and a configuration may have no patience.

    Raises:
        MalformedData: a training row has no rating.
    """

    @defer_signals()
    def __init__(
        self, factory: ModelFactory, split: Split, device: Device | None = None, *, validate: bool = True
    ) -> None:
        if without := int(np.isnan(split.train.ratings).sum()):
            raise MalformedData(
                f"{without:,} training rows have no rating, and a custom model gets one with every row",
                'write missing = "drop" under [data] to leave such rows out',
            )
        self.split = split
        self.device = device or Device.default()
        self._factory = factory
        self._evaluator = Evaluator(split, split.validation, drawn_from=split.drawn_from) if validate else None
        self._orders = EpochOrders(split.train.items)
        self._scorer: CustomScorer | None = None
        self._earlier: list[CustomScorer] = []
        self._kept: list[CustomScorer] = []
        with tf.device(self.device.name):
            rows = split.train
            self._rows = {name: tf.constant(getattr(rows, name)) for name in ("users", "items", "ratings")}

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Train a model of `config` from scratch and evaluate it after every epoch; see `models.trainer.Trainer`.

        After `keep` this trains a further member of a model; else a new model begins.

        Raises:
            NonFiniteLoss: with epoch and step.
            NonFiniteMetric: predictions that are no numbers, with epoch.
            OutOfMemory: the model does not fit into the device's memory.
            CustomModelFailure: the model raises an error, or returns another type or shape than expected.
            DefinitionError: the factory does not return a model of the right kind.
        """
        self._scorer = None
        self._earlier, self._kept = self._kept, []
        release_dropped()
        clock = Clock()
        try:
            with self.device.training(config):
                return self._train(config, on_epoch, clock)
        except OutOfMemory:
            self._scorer = None
            self._earlier = []
            raise

    @defer_signals()
    def keep(self) -> None:
        """Keep the model that was trained last: the next training, of another seed, adds a member to it.

        Raises:
            CustomModelFailure: as `train` does.
            ValueError: no model has been trained yet.
        """
        with tf.device(self.device.name):
            self._kept = self._members()

    @defer_signals()
    def evaluate(self, rows: Rows) -> dict[str, float]:
        """Return the metrics on `rows` of the model that was trained last, after its last epoch.

        Those of a model of several members are of their mean predictions and their mean scores.

        Raises:
            NonFiniteMetric: predictions that are no numbers.
            CustomModelFailure: as `train` does.
            MalformedData: there are no rows.
        """
        with tf.device(self.device.name):
            return Evaluator(self.split, rows).evaluate(MeanScorer(self._members()))

    @defer_signals()
    def save(self, folder: Path, first: str | None = None) -> None:
        """Write the model that was trained last into `folder`; see `mtsearch.models.saved_model.write_servable`."""
        with self._factory.failures():
            save_custom([member.model for member in self._members()], self.split, folder)

    def _members(self) -> list[CustomScorer]:
        """Return scorers of the members of the model that was trained last."""
        return [*self._earlier, self.last_scorer()]

    def last_scorer(self) -> CustomScorer:
        """Return a scorer of the model that was trained last.

        Raises:
            CustomModelFailure: a tower raises an error.
            ValueError: no model has been trained yet.
        """
        if self._scorer is None:
            raise ValueError("no model has been trained yet")
        return self._scorer.refresh()

    def _train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool], clock: Clock) -> TrialResult:
        with clock.phase("prepare"), defer_signals():
            # NOTE: the user's layers draw from the global state, which no other model here does.
            tf_keras.utils.set_random_seed(config.seed)
            model = self._factory.make(config, self.split)
            if model.optimizer is None:
                steps = config.epochs * math.ceil(len(self.split.train) / config.batch_size)
                model.compile(optimizer=_make_optimizer(config, steps))
            if hasattr(model.optimizer, "build"):  # optimisers from before Keras 2.11 have no `build`
                model.optimizer.build(model.trainable_variables)
            step = self._make_step(model)
            self._scorer = scorer = CustomScorer(self._factory, model, self.split)

        def run_epoch(curve: Sequence[EpochMetrics]) -> tuple[dict[str, float], dict[str, float]]:
            model.reset_metrics()
            with self._factory.failures():
                return {"total": self._run_epoch(step, config, len(curve) + 1)}, {}

        parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
        return train_epochs(config, run_epoch, self._evaluator, scorer.refresh, on_epoch, clock, parameters)

    def _run_epoch(self, step: Callable[[tf.Tensor], tf.Tensor], config: TrialConfig, epoch: int) -> float:
        """Train one epoch and return the mean loss of its steps."""
        rows = self._orders.draw(config.batch_size, config.seed, epoch).rows
        starts = range(0, len(rows), config.batch_size)
        # The losses are read after the epoch: reading them at each step would wait for the device each time.
        losses = tf.stack([step(tf.constant(rows[start : start + config.batch_size])) for start in starts]).numpy()
        if not np.isfinite(losses).all():
            raise NonFiniteLoss(epoch, int(np.argmin(np.isfinite(losses))) + 1)
        return float(losses.mean(dtype=np.float64))

    def _make_step(self, model: tfrs.models.Model) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the graph of one training step, from the indices `[B]` of training rows to the loss."""

        def step(places: tf.Tensor) -> tf.Tensor:
            logs: dict[str, Any] = model.train_step(
                {name: tf.gather(rows, places) for name, rows in self._rows.items()}
            )
            loss = logs.get("total_loss", logs.get("loss"))
            if loss is None:
                raise CustomModelFailure("train_step() of the model returned no loss", 'return {"loss": ..., ...}')
            return tf.reshape(tf.cast(loss, tf.float32), [])

        graph: Callable[[tf.Tensor], tf.Tensor] = tf.function(step, input_signature=[tf.TensorSpec([None], tf.int32)])
        return graph


def _make_optimizer(config: TrialConfig, steps: int) -> tf_keras.optimizers.Optimizer:
    """Make the optimiser of a configuration, for a number of steps in all."""
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        rate = tf_keras.optimizers.schedules.CosineDecay(rate, steps)
    options = {"weight_decay": config.weight_decay} if config.optimizer == "adamw" else {}
    return _OPTIMIZERS[config.optimizer](learning_rate=rate, **options)


CODES = tf.TensorSpec([None], tf.int32)
_BLOCK = 2**14
"""Codes or pairs in one call of the model: with rating towers of 1,024, 64 MiB."""


class CustomScorer:
    """Ratings and scores of a custom model, with the weights that it had at the last call of `refresh`.

    See `mtsearch.evaluation.Scorer`.

    A user or an item without training rows gets the output of the model: the model may know more than its rows.

    Args:
        factory: made the model; names the user's file if the model raises an error.
        model: to evaluate.
        split: gives the users and the catalogue.

    Attributes:
        model: the evaluated model.
        towers: embeddings of all users and of the catalogue.
    """

    towers: Towers

    def __init__(self, factory: ModelFactory, model: tfrs.models.Model, split: Split) -> None:
        self.model = model
        self._failures = factory.failures
        self._user_codes = np.arange(len(split.user_ids), dtype=np.int32)
        self._catalogue_codes = split.catalogue
        self._tower_graphs = [
            tf.function(tower, input_signature=[CODES])
            for tower in (model.query_embeddings, model.candidate_embeddings)
        ]
        self._rate: Callable[..., tf.Tensor] = tf.function(model.ratings, input_signature=[CODES, CODES])

    def refresh(self) -> Self:
        """Compute the embeddings again with the present weights, and return this scorer.

        Raises:
            CustomModelFailure: a tower raises an error.
        """
        with self._failures():
            of_users, of_items = self._tower_graphs
            self.towers = call_in_blocks(of_users, self._user_codes), call_in_blocks(of_items, self._catalogue_codes)
        return self

    def ratings(self, users: Codes, items: Codes) -> NDArray[np.float32]:
        """Return the predicted ratings `[B]`, unclipped.

        Raises:
            CustomModelFailure: the model raises an error, or returns another number of ratings.
        """
        with self._failures():
            result: NDArray[np.float32] = call_in_blocks(self._rate, users, items).numpy()
        if result.shape != users.shape:
            problem = f"ratings() of {len(users)} rows returned float32 {list(result.shape)}"
            raise CustomModelFailure(problem, "return one rating for each pair")
        return result

    def scores(self, users: Codes) -> NDArray[np.float32]:
        """Return the scores `[u, C]` of the catalogue for each user."""
        return TowerScorer(*self.towers).scores(users)


class MeanScorer:
    """The mean ratings and the mean scores of the members of a custom model; see `mtsearch.evaluation.Scorer`.

    Args:
        members: one or more.
    """

    def __init__(self, members: Sequence[CustomScorer]) -> None:
        self._members = members
        self._tower = TowerScorer(*join_towers([member.towers for member in members]))

    def ratings(self, users: Codes, items: Codes) -> NDArray[np.float32]:
        """Return the predicted ratings `[B]`; see `CustomScorer.ratings`."""
        return mean_predictions([member.ratings(users, items) for member in self._members])

    def scores(self, users: Codes) -> NDArray[np.float32]:
        """Return the scores `[u, C]` of the catalogue for each user."""
        return self._tower.scores(users)


def call_in_blocks(graph: Callable[..., tf.Tensor], *columns: Codes) -> tf.Tensor:
    """Call `graph` on the columns, one block of rows at a time, and join the results."""
    starts = range(0, max(1, len(columns[0])), _BLOCK)
    return tf.concat(
        [graph(*(tf.constant(column[start : start + _BLOCK]) for column in columns)) for start in starts], 0
    )


def save_custom(models: Sequence[tfrs.models.Model], split: Split, folder: Path) -> None:
    """Write a custom model into `folder`, with the embeddings of every id computed beforehand.

    An id that is not in the split gets the mean of the trained users' embeddings, and the mean training rating.

    Args:
        models: the members, each a `CustomModel`, trained on `split.train`; one or more.
        split: gives ids, catalogue, the rating range, and what each user has seen.
        folder: to write; made with its parents.
    """
    with tf.device("/CPU:0"):
        towers = join_towers([_towers_to_save(model, split) for model in models])
        heads = {"rating": MeanHead([CustomRating(model, split) for model in models])}
        servable = Servable(split, {"retrieval": towers}, heads)
    write_servable(servable, folder)


def _towers_to_save(model: tfrs.models.Model, split: Split) -> Towers:
    """Return the embeddings of users and items of a custom model, the last user the unknown one."""
    towers = (
        tf.function(tower, input_signature=[CODES]) for tower in (model.query_embeddings, model.candidate_embeddings)
    )
    users, items = (
        call_in_blocks(tower, np.arange(len(ids), dtype=np.int32))
        for tower, ids in zip(towers, (split.user_ids, split.item_ids), strict=True)
    )
    unknown = tf.reduce_mean(tf.boolean_mask(users, split.known_users), axis=0, keepdims=True)
    return tf.concat([users, unknown], axis=0), items


class CustomRating(tf.Module):  # type: ignore[misc]
    """The `ratings` method of a custom model, with every variable and look-up table that its graph reads.

    Args:
        model: a `CustomModel`.
        split: that it was trained on.
    """

    def __init__(self, model: tfrs.models.Model, split: Split) -> None:
        super().__init__()
        # NOTE: keep what the graph reads, not the model: only Keras can load what TensorFlow saves of a Keras object.
        # The look-up table of a layer for strings is no variable, and has to be saved too.
        self._variables = list(model.variables)
        self._resources = list(model._flatten(predicate=_is_resource))
        self._rate = tf.function(model.ratings, input_signature=[CODES, CODES])
        self._sizes = len(split.user_ids), len(split.item_ids)
        self._mean = float(split.train.ratings.mean(dtype=np.float64))

    def __call__(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Return the ratings of pairs of codes; see `Servable`."""
        # An unknown code is replaced by code 0 for the call; its rating is the mean.
        known = tf.logical_and(users < self._sizes[0], items < self._sizes[1])
        inside = (tf.where(known, codes, 0) for codes in (users, items))
        return tf.where(known, self._rate(*inside), self._mean)


def _is_resource(held: object) -> bool:
    """Return whether TensorFlow has to save an object for the graph."""
    return isinstance(held, tf.Variable | tf.saved_model.experimental.TrackableResource)
