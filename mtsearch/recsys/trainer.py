"""`JointTrainer`: trains one configuration after another on one split and one device."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from mtsearch.config import TrialConfig
from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.errors import NonFiniteLoss, NonFiniteMetric, OutOfMemory
from mtsearch.evaluation.evaluator import Evaluator
from mtsearch.objectives import METRICS
from mtsearch.recsys.balance import dynamic_weight_average
from mtsearch.recsys.batches import EpochOrders
from mtsearch.recsys.compiled import CompiledModel, TrainingRows
from mtsearch.recsys.device import Device
from mtsearch.recsys.saved_model import save
from mtsearch.recsys.scorer import ModelScorer
from mtsearch.recsys.shape import Shape
from mtsearch.recsys.tracing import release_dropped
from mtsearch.trial import EpochMetrics, TrialResult

# NOTE: on MovieLens 100K the tables and accumulators of a model at D=128 are 2.7 MB, its graphs come on top.
MAX_COMPILED_MODELS = 8


class JointTrainer:
    """Trains the TFRS joint model; made once per process.

    Args:
        split: trained on `split.train`, judged on `split.validation`.
        device: where to; None for the first GPU, else the CPU.
        validate: judge after every epoch; else no epoch has metrics, and a configuration may have no patience.
    """

    def __init__(self, split: Split, device: Device | None = None, *, validate: bool = True) -> None:
        self.split = split
        self.device = device or Device.default()
        self._evaluator = Evaluator(split, split.validation) if validate else None
        self._orders = EpochOrders(split.train.items)
        self._compiled: OrderedDict[Shape, CompiledModel] = OrderedDict()
        self._last: CompiledModel | None = None
        with tf.device(self.device.name):
            rows = split.train
            self._rows = TrainingRows(tf.constant(rows.users), tf.constant(rows.items), tf.constant(rows.ratings))

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Train `config` from scratch and judge it after every epoch; see `mtsearch.trial.Trainer`.

        Raises:
            NonFiniteLoss: with epoch and step.
            NonFiniteMetric: predictions that are no numbers, with epoch.
            OutOfMemory: the model does not fit into the device's memory.
        """
        clock = _Clock()
        try:
            with tf.device(self.device.name):
                return self._train(config, on_epoch, clock)
        except tf.errors.ResourceExhaustedError:
            self._compiled.clear()
            self._last = None
            raise OutOfMemory(
                f"out of memory on {self.device.name} at embedding_size {config.embedding_size} "
                f"and batch_size {config.batch_size}",
                "lower one of them",
            ) from None

    def evaluate(self, rows: Rows) -> dict[str, float]:
        """Metrics on `rows` of the model that was trained last, as its last epoch left it.

        Raises:
            NonFiniteMetric: predictions that are no numbers.
            MalformedData: there are no rows.
        """
        with tf.device(self.device.name):
            return Evaluator(self.split, rows).evaluate(ModelScorer(self._trained_last(), self.split.catalogue))

    def save(self, folder: Path) -> None:
        """Write the model that was trained last into `folder`; see `mtsearch.recsys.saved_model`."""
        save(self._trained_last(), self.split, folder)

    def _trained_last(self) -> CompiledModel:
        if self._last is None:
            raise ValueError("nothing was trained yet")
        return self._last

    def _train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool], clock: "_Clock") -> TrialResult:
        with clock.phase("prepare"):
            compiled = self._last = self._model_of(config)
            compiled.reset(config)
        curve: list[EpochMetrics] = []
        best, done, go_on = 0, False, True
        while go_on and not done:
            epoch = len(curve) + 1
            with clock.phase("train"):
                weights = self._weigh(compiled, config, curve)
                losses = self._run_epoch(compiled, config, epoch)
            with clock.phase("evaluate"):
                metrics = self._judge(compiled, epoch)
            if config.balance == "uncertainty":
                weights = _learnt_weights(compiled, config)
            curve.append(EpochMetrics(epoch, metrics, losses, clock.elapsed, weights))
            if not config.patience or best == 0 or _is_better(config.monitor, metrics, curve[best - 1].metrics):
                best = epoch
            done = epoch == config.epochs or 0 < config.patience <= epoch - best
            go_on = on_epoch(curve[-1])
        return TrialResult(
            metrics=curve[best - 1].metrics,
            curve=tuple(curve),
            best_epoch=best,
            parameters=compiled.parameters,
            seconds=clock.seconds,
            stopped=not done,
        )

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

    def _judge(self, compiled: CompiledModel, epoch: int) -> dict[str, float]:
        if self._evaluator is None:
            return {}
        try:
            return self._evaluator.evaluate(ModelScorer(compiled, self.split.catalogue))
        except NonFiniteMetric as error:
            raise NonFiniteMetric(f"{error.problem} at epoch {epoch}", error.remedy) from None

    def _model_of(self, config: TrialConfig) -> CompiledModel:
        """The compiled model of the configuration's shape, the least recently used one making room."""
        shape = Shape.of(config, len(self.split.user_ids), len(self.split.item_ids))
        if shape not in self._compiled:
            while len(self._compiled) >= MAX_COMPILED_MODELS:
                self._compiled.popitem(last=False)
                release_dropped()
            self._compiled[shape] = CompiledModel(shape, self._rows, self.split)
        self._compiled.move_to_end(shape)
        return self._compiled[shape]


def _is_better(key: str, metrics: Mapping[str, float], others: Mapping[str, float]) -> bool:
    return METRICS[key].sign * metrics[key] < METRICS[key].sign * others[key]


def _learnt_weights(compiled: CompiledModel, config: TrialConfig) -> dict[str, float]:
    rating, retrieval = compiled.model.balance_factors().numpy()
    return {"rating": config.rating_weight * float(rating), "retrieval": config.retrieval_weight * float(retrieval)}


class _Clock:
    """Wall clock by phase."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._start

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
