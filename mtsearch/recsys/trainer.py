"""`JointTrainer`: trains one configuration after another on one split and one device."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tensorflow as tf

from mtsearch.config import TrialConfig
from mtsearch.data.split import Split
from mtsearch.errors import NonFiniteLoss, NonFiniteMetric, OutOfMemory
from mtsearch.evaluation.evaluator import Evaluator
from mtsearch.recsys.batches import epoch_order
from mtsearch.recsys.compiled import CompiledModel, TrainingRows
from mtsearch.recsys.device import Device
from mtsearch.recsys.model import Shape
from mtsearch.recsys.scorer import ModelScorer
from mtsearch.trial import EpochMetrics, TrialResult

# NOTE: on MovieLens 100K the tables and accumulators of a model at D=128 are 2.7 MB, its graphs come on top.
MAX_COMPILED_MODELS = 8


class JointTrainer:
    """Trains the TFRS joint model; made once per process.

    Args:
        split: trained on `split.train`, judged on `split.validation`.
        device: where to; None for the first GPU, else the CPU.
    """

    def __init__(self, split: Split, device: Device | None = None) -> None:
        self.split = split
        self.device = device or Device.default()
        self._evaluator = Evaluator(split, split.validation)
        self._compiled: OrderedDict[Shape, CompiledModel] = OrderedDict()
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
            raise OutOfMemory(
                f"out of memory on {self.device.name} at embedding_size {config.embedding_size} "
                f"and batch_size {config.batch_size}",
                "lower one of them",
            ) from None

    def _train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool], clock: "_Clock") -> TrialResult:
        with clock.phase("prepare"):
            compiled = self._model_of(config)
            compiled.reset(config)
        curve: list[EpochMetrics] = []
        go_on = True
        while go_on and len(curve) < config.epochs:
            epoch = len(curve) + 1
            with clock.phase("train"):
                losses = self._run_epoch(compiled, config, epoch)
            with clock.phase("evaluate"):
                metrics = self._judge(compiled, epoch)
            curve.append(EpochMetrics(epoch, metrics, losses, clock.elapsed))
            go_on = on_epoch(curve[-1])
        return TrialResult(
            metrics=curve[-1].metrics,
            curve=tuple(curve),
            best_epoch=len(curve),
            parameters=compiled.parameters,
            seconds=clock.seconds,
            stopped=not go_on and len(curve) < config.epochs,
        )

    def _run_epoch(self, compiled: CompiledModel, config: TrialConfig, epoch: int) -> dict[str, float]:
        order = epoch_order(len(self.split.train), config.batch_size, config.seed, epoch)
        losses = compiled.epoch(order, config.batch_size)
        if bad_step := int(losses.bad_step):
            raise NonFiniteLoss(epoch, bad_step)
        return {"rating": float(losses.rating), "retrieval": float(losses.retrieval)}

    def _judge(self, compiled: CompiledModel, epoch: int) -> dict[str, float]:
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
            self._compiled[shape] = CompiledModel(shape, self._rows, self.split)
        self._compiled.move_to_end(shape)
        return self._compiled[shape]


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
