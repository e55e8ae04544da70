"""`OwnTrainer`: trains and judges models of the user's own, as `JointTrainer` does the joint model."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from mtsearch.config import TrialConfig
from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.errors import NonFiniteLoss, OutOfMemory, OwnModelFailure
from mtsearch.evaluation.evaluator import Evaluator
from mtsearch.recsys.batches import EpochOrders
from mtsearch.recsys.device import Device
from mtsearch.recsys.epochs import Clock, train_epochs
from mtsearch.recsys.own_model import Factory
from mtsearch.recsys.own_saved import save_own
from mtsearch.recsys.own_scorer import OwnScorer
from mtsearch.recsys.tracing import release_dropped
from mtsearch.signals import signals_deferred
from mtsearch.trial import EpochMetrics, TrialResult

_OPTIMIZERS = {
    "adagrad": tf_keras.optimizers.Adagrad,
    "adam": tf_keras.optimizers.Adam,
    "adamw": tf_keras.optimizers.AdamW,
    "sgd": tf_keras.optimizers.SGD,
}


class OwnTrainer:
    """Trains what a factory makes; made once per process.

    A model that the factory did not compile gets the optimiser of the configuration, with its learning rate, schedule
    and weight decay. Every step is the model's own `train_step`.

    Args:
        factory: makes the models.
        split: trained on `split.train`, judged on `split.validation`.
        device: where to; None for the first GPU, else the CPU.
        validate: judge after every epoch; else no epoch has metrics, and a configuration may have no patience.
    """

    @signals_deferred()
    def __init__(self, factory: Factory, split: Split, device: Device | None = None, *, validate: bool = True) -> None:
        self.split = split
        self.device = device or Device.default()
        self._factory = factory
        self._evaluator = Evaluator(split, split.validation, drawn_from=split.drawn_from) if validate else None
        self._orders = EpochOrders(split.train.items)
        self._scorer: OwnScorer | None = None
        with tf.device(self.device.name):
            rows = split.train
            self._rows = {name: tf.constant(getattr(rows, name)) for name in ("users", "items", "ratings")}

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Train a model of `config` from scratch and judge it after every epoch; see `mtsearch.trial.Trainer`.

        Raises:
            NonFiniteLoss: with epoch and step.
            NonFiniteMetric: predictions that are no numbers, with epoch.
            OutOfMemory: the model does not fit into the device's memory.
            OwnModelFailure: the model raises something, or returns what it must not.
            DefinitionError: the factory makes no model of the kind, whatever the configuration.
        """
        self._scorer = None
        release_dropped()
        clock = Clock()
        try:
            with self.device.training(config):
                return self._train(config, on_epoch, clock)
        except OutOfMemory:
            self._scorer = None
            raise

    @signals_deferred()
    def evaluate(self, rows: Rows) -> dict[str, float]:
        """Metrics on `rows` of the model that was trained last, as its last epoch left it.

        Raises:
            NonFiniteMetric: predictions that are no numbers.
            OwnModelFailure: as `train` does.
            MalformedData: there are no rows.
        """
        with tf.device(self.device.name):
            return Evaluator(self.split, rows).evaluate(self._trained_last())

    @signals_deferred()
    def save(self, folder: Path) -> None:
        """Write the model that was trained last into `folder`; see `mtsearch.recsys.saved_model`."""
        with self._factory.failures():
            save_own(self._trained_last().model, self.split, folder)

    def _trained_last(self) -> OwnScorer:
        if self._scorer is None:
            raise ValueError("nothing was trained yet")
        return self._scorer.renewed()

    def _train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool], clock: Clock) -> TrialResult:
        with clock.phase("prepare"), signals_deferred():
            # NOTE: the user's layers draw from the global state, which no other model here does.
            tf_keras.utils.set_random_seed(config.seed)
            model = self._factory.make(config, self.split)
            if model.optimizer is None:
                steps = config.epochs * math.ceil(len(self.split.train) / config.batch_size)
                model.compile(optimizer=_optimizer(config, steps))
            if hasattr(model.optimizer, "build"):  # those of before Keras 2.11 have none, and need none
                model.optimizer.build(model.trainable_variables)
            step = self._step_of(model)
            self._scorer = scorer = OwnScorer(self._factory, model, self.split)

        def run_epoch(curve: Sequence[EpochMetrics]) -> tuple[dict[str, float], dict[str, float]]:
            model.reset_metrics()
            with self._factory.failures():
                return {"total": self._run_epoch(step, config, len(curve) + 1)}, {}

        parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
        return train_epochs(config, run_epoch, self._evaluator, scorer.renewed, on_epoch, clock, parameters)

    def _run_epoch(self, step: Callable[[tf.Tensor], tf.Tensor], config: TrialConfig, epoch: int) -> float:
        """The mean of the steps' losses."""
        rows = self._orders.draw(config.batch_size, config.seed, epoch).rows
        starts = range(0, len(rows), config.batch_size)
        # Looked at after the epoch: a look at each step would wait for the device each time.
        losses = tf.stack([step(tf.constant(rows[start : start + config.batch_size])) for start in starts]).numpy()
        if not np.isfinite(losses).all():
            raise NonFiniteLoss(epoch, int(np.argmin(np.isfinite(losses))) + 1)
        return float(losses.mean(dtype=np.float64))

    def _step_of(self, model: tfrs.models.Model) -> Callable[[tf.Tensor], tf.Tensor]:
        """One step on the training rows of these places `[B]`: its loss."""

        def step(places: tf.Tensor) -> tf.Tensor:
            logs: dict[str, Any] = model.train_step(
                {name: tf.gather(rows, places) for name, rows in self._rows.items()}
            )
            loss = logs.get("total_loss", logs.get("loss"))
            if loss is None:
                raise OwnModelFailure("train_step() of the model returned no loss", 'return {"loss": ..., ...}')
            return tf.reshape(tf.cast(loss, tf.float32), [])

        graph: Callable[[tf.Tensor], tf.Tensor] = tf.function(step, input_signature=[tf.TensorSpec([None], tf.int32)])
        return graph


def _optimizer(config: TrialConfig, steps: int) -> tf_keras.optimizers.Optimizer:
    """As the configuration says, for that many steps in all."""
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        rate = tf_keras.optimizers.schedules.CosineDecay(rate, steps)
    options = {"weight_decay": config.weight_decay} if config.optimizer == "adamw" else {}
    return _OPTIMIZERS[config.optimizer](learning_rate=rate, **options)
