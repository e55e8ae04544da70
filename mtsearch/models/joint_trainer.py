"""Train and evaluate the joint model (`JointTrainer`): one configuration after another, on one split and one device."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.errors import NonFiniteLoss, OutOfMemory
from mtsearch.evaluation.evaluator import Evaluator
from mtsearch.models.compiled_model import CompiledModel
from mtsearch.models.cost import REMEDY, memory_shortage
from mtsearch.models.device import Device, EpochOrders, InputPipeline, release_dropped
from mtsearch.models.graph_key import GraphKey, learnt_tasks, target_columns
from mtsearch.models.joint_scorer import ModelScorer, RankCounter
from mtsearch.models.members import Member
from mtsearch.models.saved_model import save_joint
from mtsearch.models.tasks import dynamic_weight_average
from mtsearch.models.trainer import Clock, EpochMetrics, TrialResult, train_epochs
from mtsearch.signals import defer_signals
from mtsearch.study_file.config import TrialConfig

# NOTE: on MovieLens 100K the tables and accumulators of a model at D=128 are 2.7 MB, its graphs come on top.
MAX_COMPILED_MODELS = 8


class JointTrainer:
    """A trainer of the TFRS joint model; each process makes one.

    Args:
        split: trained on `split.train`, evaluated on `split.validation`.
        device: to train on; None for the first GPU, else the CPU.
        validate: evaluate after every epoch; else no epoch has metrics, and a configuration may have no patience.
        resident_bytes: device memory for the training rows; see `InputPipeline`. None: half of a GPU's free memory.

    Attributes:
        pipeline: delivers the training rows.
    """

    @defer_signals()
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
        self._tasks = learnt_tasks(split)
        self._memory = self.device.free_memory()  # before TensorFlow keeps a part of a GPU's for itself
        self._compiled: OrderedDict[GraphKey, CompiledModel] = OrderedDict()
        self._last: CompiledModel | None = None
        self._earlier: list[Member] = []
        self._kept: list[Member] = []
        with tf.device(self.device.name):
            self._counter = RankCounter() if self.device.is_gpu else None
            self.pipeline = InputPipeline(
                split.train,
                target_columns(split.train, split),
                self._bytes_for_rows() if resident_bytes is None else resident_bytes,
            )

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Train `config` from scratch and evaluate it after every epoch; see `mtsearch.models.trainer.Trainer`.

        After `keep` this trains a further member of a model; else a new model begins.

        Raises:
            NonFiniteLoss: with epoch and step.
            NonFiniteMetric: predictions that are no numbers, with epoch.
            OutOfMemory: the model does not fit into the device's memory.
        """
        self._earlier, self._kept = self._kept, []
        users, candidates = len(self.split.user_ids), len(self.split.candidates)
        rankings = sum(task.kind == "retrieval" for task in self._tasks)
        if shortage := memory_shortage(config, users, candidates, self._memory, rankings):
            raise OutOfMemory(shortage, REMEDY)
        clock = Clock()
        try:
            with self.device.training(config):
                return self._train(config, on_epoch, clock)
        except OutOfMemory:
            self._compiled.clear()
            self._last = None
            self._earlier = []
            release_dropped()
            raise

    @defer_signals()
    def keep(self) -> None:
        """Keep the model that was trained last: the next training, of another seed, adds a member to it.

        Raises:
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
            MalformedData: there are no rows.
        """
        with tf.device(self.device.name):
            return Evaluator(self.split, rows).evaluate(self._scorer(self._members()))

    @defer_signals()
    def save(self, folder: Path, first: str | None = None) -> None:
        """Write the model that was trained last into `folder`; see `mtsearch.models.saved_model.write_servable`."""
        save_joint(self._members(), self.split, folder, first)

    def _members(self) -> list[Member]:
        """Return the members of the model that was trained last."""
        return [*self._earlier, Member.kept(self.last_model())]

    def last_model(self) -> CompiledModel:
        """Return the model that was trained last.

        Raises:
            ValueError: no model has been trained yet.
        """
        if self._last is None:
            raise ValueError("no model has been trained yet")
        return self._last

    def _train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool], clock: Clock) -> TrialResult:
        with clock.phase("prepare"), defer_signals():
            compiled = self._last = self.compiled_model(config)
            compiled.reset(config)

        def run_epoch(curve: Sequence[EpochMetrics]) -> tuple[dict[str, float], dict[str, float]]:
            weights = self._set_loss_weights(compiled, config, curve)
            losses = self._run_epoch(compiled, config, len(curve) + 1)
            return losses, _learnt_weights(compiled, config) if config.balance == "uncertainty" else weights

        def scorer() -> ModelScorer:
            return self._scorer([Member.present(compiled)])

        return train_epochs(config, run_epoch, self._evaluator, scorer, on_epoch, clock, compiled.parameters)

    def _scorer(self, members: Sequence[Member]) -> ModelScorer:
        """Return a scorer of a model of these members."""
        return ModelScorer(members, self.split.catalogue, self._counter)

    def _set_loss_weights(
        self, compiled: CompiledModel, config: TrialConfig, curve: Sequence[EpochMetrics]
    ) -> dict[str, float]:
        """Set the weights of the losses for the next epoch if they change by themselves, and return them."""
        if config.balance != "dwa":
            return {}
        factors = dynamic_weight_average([epoch.losses for epoch in curve])
        weights = {name: weight * factors.get(name, 1.0) for name, weight in _weights(compiled, config).items()}
        compiled.set_loss_weights(weights.values())
        return weights

    def _run_epoch(self, compiled: CompiledModel, config: TrialConfig, epoch: int) -> dict[str, float]:
        """Train one epoch and return its mean losses."""
        order = self._orders.draw(config.batch_size, config.seed, epoch)
        steps = math.ceil(len(self.split.train) / config.batch_size)
        losses = compiled.epoch(order, config.batch_size, first_step=(epoch - 1) * steps)
        if bad_step := int(losses.bad_step):
            raise NonFiniteLoss(epoch, bad_step)
        return {task.name: float(loss) for task, loss in zip(self._tasks, losses.of_tasks, strict=True)}

    def _bytes_for_rows(self) -> int | None:
        """Return the bytes of device memory for the training rows; None (no limit) on a CPU, which uses host memory."""
        return self._memory // 2 if self.device.is_gpu and self._memory is not None else None

    def compiled_model(self, config: TrialConfig) -> CompiledModel:
        """Return the compiled model for `config`, made if needed in place of the least recently used one."""
        graph_key = GraphKey.of(
            config,
            len(self.split.user_ids),
            len(self.split.item_ids),
            xla=self.device.xla,
            tasks=self._tasks,
            has_weights=self.split.train.weights is not None,
        )
        if graph_key not in self._compiled:
            # The oldest model is dropped first: its memory is free before the new one needs it.
            while len(self._compiled) >= MAX_COMPILED_MODELS:
                self._compiled.popitem(last=False)
                release_dropped()
            self._compiled[graph_key] = CompiledModel(graph_key, self.pipeline, self.split)
        self._compiled.move_to_end(graph_key)
        return self._compiled[graph_key]


def _learnt_weights(compiled: CompiledModel, config: TrialConfig) -> dict[str, float]:
    """Return the weights of the losses that follow from learnt uncertainties."""
    factors = compiled.model.balance_factors().numpy().tolist()
    return {
        name: weight * factor
        for (name, weight), factor in zip(_weights(compiled, config).items(), factors, strict=True)
    }


def _weights(compiled: CompiledModel, config: TrialConfig) -> dict[str, float]:
    """Return the weights of a configuration by task."""
    return {task.name: config.weight_of(task.name, task.kind) for task in compiled.model.graph_key.tasks}
