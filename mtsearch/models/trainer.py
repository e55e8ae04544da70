"""Define the interface between the search and any trainer: `Trainer`, its result, its loop over epochs, its factories.

`search` knows only this protocol, so that its tests need no TensorFlow and a user's own trainer can take its place.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from statistics import fmean, median
from tempfile import mkdtemp
from typing import Any, Protocol

from mtsearch.data import Split
from mtsearch.errors import NonFiniteMetric
from mtsearch.evaluation.evaluator import Evaluator, Scorer, TasksScorer
from mtsearch.metrics import METRICS
from mtsearch.signals import defer_signals
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.load import find_model_source
from mtsearch.study_file.sections import ModelSection

MODEL_SOURCE = "model_source"
"""Provenance key of the fingerprint of a custom model's source text."""


@dataclass(frozen=True)
class EpochMetrics:
    """The measurements at the end of one epoch.

    Attributes:
        epoch: 1-based.
        metrics: validation metrics by their keys in the study.
        losses: training losses of the epoch: `rating` (mean squared error per row), `retrieval` (per row); of a
            custom model `total`, the mean over its steps.
        seconds: seconds of training and evaluation since the trial began.
        weights: weights of the two losses, `rating` and `retrieval`, if the trial balances them by itself.
    """

    epoch: int
    metrics: Mapping[str, float]
    losses: Mapping[str, float]
    seconds: float
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    Attributes:
        metrics: validation metrics of `best_epoch`.
        curve: every finished epoch, in order.
        best_epoch: 1-based.
        parameters: number of trainable weights.
        seconds: wall clock by phase: `prepare` (make or reset the model, trace its graphs), `train`, `evaluate`.
        stopped: `on_epoch` returned False before the last epoch.
        repeats: metrics of each seed, if `metrics` are a mean over several seeds.
        errors: standard errors of `metrics` by key, if the evaluated users are a sample of all users; else empty.
    """

    metrics: Mapping[str, float]
    curve: tuple[EpochMetrics, ...]
    best_epoch: int
    parameters: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    stopped: bool = False
    repeats: tuple[Mapping[str, float], ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingEnd:
    """The end of a training that an executor was given; one of `result`, `error` and `lost` is set.

    Attributes:
        trial: number of the trial.
        result: None if the training did not come to its end.
        error: raised by the training: a `TrialFailure`, or what shows a bug.
        lost: reason why the training was lost with the worker that ran it.
    """

    trial: int
    result: TrialResult | None = None
    error: Exception | None = None
    lost: str = ""


class Trainer(Protocol):
    """A trainer of single configurations, on the split and the device that it was made with."""

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Train `config` from scratch.

        Args:
            config: the model and its training; its seed alone determines every random draw.
            on_epoch: called after each epoch; False stops the trial.

        Raises:
            TrialFailure: the model fails (non-finite numbers, out of memory).
        """
        ...


class RepeatedTrainer:
    """A trainer that trains each configuration with `repeats` seeds, its own and the next ones, and returns the mean.

    Args:
        trainer: trains one seed.
        repeats: K, number of seeds, at least 1.
    """

    def __init__(self, trainer: Trainer, repeats: int) -> None:
        self._trainer, self._repeats = trainer, repeats

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Train with every seed; see `Trainer`. `on_epoch` sees the epochs of all seeds and may stop at any of them."""
        results: list[TrialResult] = []
        for seed in config.seeds(self._repeats):
            # A training that is stopped at its last epoch is complete, but no further seed may be trained.
            listener = _StopListener(on_epoch)
            results.append(self._trainer.train(config.model_copy(update={"seed": seed}), listener))
            if results[-1].stopped:
                return results[-1]
            if listener.stopped and len(results) < self._repeats:
                return replace(results[-1], stopped=True)
        return results[0] if len(results) == 1 else _mean_result(results)


class _StopListener:
    """A wrapper of `on_epoch` that remembers whether it has stopped the training."""

    def __init__(self, on_epoch: Callable[[EpochMetrics], bool]) -> None:
        self._on_epoch = on_epoch
        self.stopped = False

    def __call__(self, epoch: EpochMetrics) -> bool:
        go_on = self._on_epoch(epoch)
        self.stopped = not go_on
        return go_on


def _mean_result(results: Sequence[TrialResult]) -> TrialResult:
    """Return the mean of the results of several seeds."""
    longest = max(len(result.curve) for result in results)
    # With patience some seeds end earlier: the mean of a later epoch is over the seeds that reached it.
    curves = ([result.curve[epoch] for result in results if epoch < len(result.curve)] for epoch in range(longest))
    return replace(
        results[0],
        metrics=_mean_values([result.metrics for result in results]),
        curve=tuple(_mean_epoch(epochs) for epochs in curves),
        best_epoch=round(median(result.best_epoch for result in results)),
        seconds={name: sum(result.seconds[name] for result in results) for name in results[0].seconds},
        repeats=tuple(result.metrics for result in results),
        # More seeds do not make the errors smaller: all seeds were evaluated on the same users.
        errors=_mean_values([result.errors for result in results]),
    )


def _mean_epoch(epochs: Sequence[EpochMetrics]) -> EpochMetrics:
    """Return the mean of one epoch over several seeds."""
    return EpochMetrics(
        epochs[0].epoch,
        _mean_values([epoch.metrics for epoch in epochs]),
        _mean_values([epoch.losses for epoch in epochs]),
        sum(epoch.seconds for epoch in epochs),
        _mean_values([epoch.weights for epoch in epochs]),
    )


def _mean_values(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each value over several mappings."""
    return {key: fmean(mapping[key] for mapping in mappings) for key in mappings[0]}


Numbers = dict[str, float]
RunEpoch = Callable[[Sequence[EpochMetrics]], tuple[Numbers, Numbers]]
"""Function that trains the next epoch, given the finished ones; returns its losses, and weights that change."""


class Clock:
    """Wall-clock seconds by phase, counted from when the clock was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.seconds: Numbers = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._start

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time inside the context to the phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def train_epochs(
    config: TrialConfig,
    run_epoch: RunEpoch,
    evaluator: Evaluator | None,
    scorer: Callable[[], Scorer | TasksScorer],
    on_epoch: Callable[[EpochMetrics], bool],
    clock: Clock,
    parameters: int,
) -> TrialResult:
    """Train a prepared model epoch by epoch, until its last epoch, its patience or `on_epoch` ends it.

    Args:
        config: gives the number of epochs, and the patience.
        run_epoch: trains one epoch.
        evaluator: evaluates every epoch; None: no epoch has metrics, and `config` may have no patience.
        scorer: returns a scorer of the model with its present weights.
        on_epoch: see `Trainer.train`.
        clock: clock of the trial.
        parameters: number of trainable weights.

    Raises:
        NonFiniteMetric: predictions that are no numbers, with epoch.
    """
    curve: list[EpochMetrics] = []
    errors: Numbers = {}
    best, done, go_on = 0, False, True
    while go_on and not done:
        epoch = len(curve) + 1
        with defer_signals():  # they are heard between epochs
            with clock.phase("train"):
                losses, weights = run_epoch(curve)
            with clock.phase("evaluate"):
                metrics, errors_here = _evaluate(evaluator, scorer, epoch)
        curve.append(EpochMetrics(epoch, metrics, losses, clock.elapsed, weights))
        # Without patience the last epoch counts; with it, the best one in the monitored metric.
        if not config.patience or best == 0 or _is_better(config.monitor, metrics, curve[best - 1].metrics):
            best, errors = epoch, errors_here
        done = epoch == config.epochs or 0 < config.patience <= epoch - best
        go_on = on_epoch(curve[-1])
    return TrialResult(
        metrics=curve[best - 1].metrics,
        curve=tuple(curve),
        best_epoch=best,
        parameters=parameters,
        seconds=clock.seconds,
        stopped=not done,
        errors=errors,
    )


def _evaluate(
    evaluator: Evaluator | None, scorer: Callable[[], Scorer | TasksScorer], epoch: int
) -> tuple[Numbers, Numbers]:
    """Return the metrics of an epoch and their standard errors; both are empty without an evaluator."""
    if evaluator is None:
        return {}, {}
    try:
        return evaluator.measure(scorer())
    except NonFiniteMetric as error:
        raise NonFiniteMetric(f"{error.problem} at epoch {epoch}", error.remedy) from None


def _is_better(key: str, metrics: Mapping[str, float], others: Mapping[str, float]) -> bool:
    """Return whether the first metrics are better than the others in the metric `key`."""
    sign = METRICS[key.rpartition(".")[2]].sign
    return sign * metrics[key] < sign * others[key]


MakeTrainer = Callable[[Split, int | None], tuple[Trainer, Mapping[str, Any]]]
"""Function from a split and a number of threads (None: one per core) to a trainer and its provenance entries."""


def make_joint_trainer(split: Split, threads: int | None) -> tuple[Trainer, Mapping[str, Any]]:
    """Make a trainer of the TFRS joint model on the best device, and its entries for the provenance."""
    from mtsearch.models import Device, JointTrainer  # TensorFlow takes seconds to import

    device = Device.default(threads)
    return JointTrainer(split, device), {"device": device.description, "threads": device.threads}


def make_custom_trainer(
    model: ModelSection, source: str, split: Split, threads: int | None
) -> tuple[Trainer, Mapping[str, Any]]:
    """Make a trainer of a custom model, whose source has the fingerprint `source`, and its entries for the provenance.

    Raises:
        DefinitionError: the module cannot be found or imported, or was changed.
    """
    from mtsearch.models import CustomTrainer, Device, ModelFactory

    device = Device.default(threads)
    trainer = CustomTrainer(ModelFactory(model, source), split, device)
    return trainer, {"device": device.description, "threads": device.threads, MODEL_SOURCE: source}


def make_sent_trainer(
    model: ModelSection, source: str, texts: Mapping[str, bytes], split: Split, threads: int | None
) -> tuple[Trainer, Mapping[str, Any]]:
    """Make a trainer of a custom model on a machine that need not have its module; see `make_custom_trainer`.

    Args:
        model, source, split, threads: as there.
        texts: the module's files, see `ModelSource.texts`.
    """
    # The files stay as long as the process: TensorFlow reads the source of the functions that it traces.
    folder = Path(mkdtemp(prefix="mtsearch-model-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    return make_custom_trainer(model.model_copy(update={"folder": str(folder)}), source, split, threads)


def trainer_factory(definition: StudyDefinition, *, send: bool = False) -> MakeTrainer:
    """Return a function that makes the trainer of a definition, in this process or another.

    Args:
        definition: of the study.
        send: let the function carry the source of a custom model, for machines that do not have it.

    Raises:
        DefinitionError: the module of a custom model is not found.
    """
    if definition.model is None:
        return make_joint_trainer
    source = find_model_source(definition.model)
    if send:
        return partial(make_sent_trainer, definition.model, source.fingerprint, source.texts())
    return partial(make_custom_trainer, definition.model, source.fingerprint)
