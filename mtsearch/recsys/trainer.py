"""`JointTrainer`: trains one configuration after another on one split and one device."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from mtsearch.config import TrialConfig
from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.errors import NonFiniteLoss, OutOfMemory
from mtsearch.evaluation.evaluator import Evaluator
from mtsearch.recsys.balance import dynamic_weight_average
from mtsearch.recsys.batches import EpochOrders
from mtsearch.recsys.compiled import CompiledModel
from mtsearch.recsys.device import Device
from mtsearch.recsys.epochs import Clock, train_epochs
from mtsearch.recsys.feed import Feed
from mtsearch.recsys.saved_model import save
from mtsearch.recsys.scorer import ModelScorer
from mtsearch.recsys.shape import Shape
from mtsearch.recsys.tracing import release_dropped
from mtsearch.signals import signals_deferred
from mtsearch.study_file.memory import REMEDY, lack_of_memory
from mtsearch.trial import EpochMetrics, TrialResult

# NOTE: on MovieLens 100K the tables and accumulators of a model at D=128 are 2.7 MB, its graphs come on top.
MAX_COMPILED_MODELS = 8


class JointTrainer:
    """Trains the TFRS joint model; made once per process.

    Args:
        split: trained on `split.train`, judged on `split.validation`.
        device: where to; None for the first GPU, else the CPU.
        validate: judge after every epoch; else no epoch has metrics, and a configuration may have no patience.
        resident_bytes: of the device's memory, for the training rows; see `Feed`. None: half of what a GPU has free.
    """

    @signals_deferred()
    def __init__(
        self,
        split: Split,
        device: Device | None = None,
        *,
        validate: bool = True,
        resident_bytes: int | None = None,
    ) -> None:
        self.split = split
        self.device = device or Device.default()
        self._evaluator = Evaluator(split, split.validation, drawn_from=split.drawn_from) if validate else None
        self._orders = EpochOrders(split.train.items)
        self._memory = self.device.free_memory()  # before TensorFlow keeps a part of a GPU's for itself
        self._compiled: OrderedDict[Shape, CompiledModel] = OrderedDict()
        self._last: CompiledModel | None = None
        with tf.device(self.device.name):
            self._feed = Feed(split.train, self._room_for_rows() if resident_bytes is None else resident_bytes)

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Train `config` from scratch and judge it after every epoch; see `mtsearch.trial.Trainer`.

        Raises:
            NonFiniteLoss: with epoch and step.
            NonFiniteMetric: predictions that are no numbers, with epoch.
            OutOfMemory: the model does not fit into the device's memory.
        """
        if lack := lack_of_memory(config, len(self.split.user_ids), len(self.split.candidates), self._memory):
            raise OutOfMemory(lack, REMEDY)
        clock = Clock()
        try:
            with self.device.training(config):
                return self._train(config, on_epoch, clock)
        except OutOfMemory:
            self._compiled.clear()
            self._last = None
            release_dropped()
            raise

    @signals_deferred()
    def evaluate(self, rows: Rows) -> dict[str, float]:
        """Metrics on `rows` of the model that was trained last, as its last epoch left it.

        Raises:
            NonFiniteMetric: predictions that are no numbers.
            MalformedData: there are no rows.
        """
        with tf.device(self.device.name):
            return Evaluator(self.split, rows).evaluate(ModelScorer(self._trained_last(), self.split.catalogue))

    @signals_deferred()
    def save(self, folder: Path) -> None:
        """Write the model that was trained last into `folder`; see `mtsearch.recsys.saved_model`."""
        save(self._trained_last(), self.split, folder)

    def _trained_last(self) -> CompiledModel:
        if self._last is None:
            raise ValueError("nothing was trained yet")
        return self._last

    def _train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool], clock: Clock) -> TrialResult:
        with clock.phase("prepare"), signals_deferred():
            compiled = self._last = self._model_of(config)
            compiled.reset(config)

        def run_epoch(curve: Sequence[EpochMetrics]) -> tuple[dict[str, float], dict[str, float]]:
            weights = self._weigh(compiled, config, curve)
            losses = self._run_epoch(compiled, config, len(curve) + 1)
            return losses, _learnt_weights(compiled, config) if config.balance == "uncertainty" else weights

        def scorer() -> ModelScorer:
            return ModelScorer(compiled, self.split.catalogue)

        return train_epochs(config, run_epoch, self._evaluator, scorer, on_epoch, clock, compiled.parameters)

    def _weigh(self, compiled: CompiledModel, config: TrialConfig, curve: Sequence[EpochMetrics]) -> dict[str, float]:
        """Weights of the losses in the next epoch, where they move by themselves."""
        if config.balance != "dwa":
            return {}
        rating, retrieval = dynamic_weight_average([epoch.losses for epoch in curve])
        weights = {"rating": config.rating_weight * rating, "retrieval": config.retrieval_weight * retrieval}
        compiled.set_weights_of_losses(weights["rating"], weights["retrieval"])
        return weights

    def _run_epoch(self, compiled: CompiledModel, config: TrialConfig, epoch: int) -> dict[str, float]:
        order = self._orders.draw(config.batch_size, config.seed, epoch)
        steps = math.ceil(len(self.split.train) / config.batch_size)
        losses = compiled.epoch(order, config.batch_size, first_step=(epoch - 1) * steps)
        if bad_step := int(losses.bad_step):
            raise NonFiniteLoss(epoch, bad_step)
        return {"rating": float(losses.rating), "retrieval": float(losses.retrieval)}

    def _room_for_rows(self) -> int | None:
        """A CPU has the host's memory, which holds the rows already."""
        return self._memory // 2 if self.device.is_gpu and self._memory is not None else None

    def _model_of(self, config: TrialConfig) -> CompiledModel:
        """The compiled model of the configuration's shape, the least recently used one making room."""
        shape = Shape.of(config, len(self.split.user_ids), len(self.split.item_ids))
        if shape not in self._compiled:
            while len(self._compiled) >= MAX_COMPILED_MODELS:
                self._compiled.popitem(last=False)
                release_dropped()
            self._compiled[shape] = CompiledModel(shape, self._feed, self.split)
        self._compiled.move_to_end(shape)
        return self._compiled[shape]


def _learnt_weights(compiled: CompiledModel, config: TrialConfig) -> dict[str, float]:
    rating, retrieval = compiled.model.balance_factors().numpy()
    return {"rating": config.rating_weight * float(rating), "retrieval": config.retrieval_weight * float(retrieval)}
