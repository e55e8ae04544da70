"""Epoch after epoch, each judged, until the last one, patience or somebody else ends it: the same for every model."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from mtsearch.config import TrialConfig
from mtsearch.errors import NonFiniteMetric
from mtsearch.evaluation.evaluator import Evaluator
from mtsearch.evaluation.scorer import Scorer
from mtsearch.objectives import METRICS
from mtsearch.signals import signals_deferred
from mtsearch.trial import EpochMetrics, TrialResult

Numbers = dict[str, float]
RunEpoch = Callable[[Sequence[EpochMetrics]], tuple[Numbers, Numbers]]
"""Trains the epoch after those that are over: its losses, and the weights of the losses where they move."""


class Clock:
    """Wall clock by phase; it runs from when it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.seconds: Numbers = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time within it to the phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def train_epochs(
    config: TrialConfig,
    run_epoch: RunEpoch,
    evaluator: Evaluator | None,
    scorer: Callable[[], Scorer],
    on_epoch: Callable[[EpochMetrics], bool],
    clock: Clock,
    parameters: int,
) -> TrialResult:
    """Train a model that stands ready.

    Args:
        config: says how many epochs, and when to stop earlier.
        run_epoch: trains one.
        evaluator: judges every epoch; None: none has metrics, and `config` may have no patience.
        scorer: the model as it stands.
        on_epoch: see `mtsearch.trial.Trainer`.
        clock: of the trial.
        parameters: number of trainable weights.

    Raises:
        NonFiniteMetric: predictions that are no numbers, with epoch.
    """
    curve: list[EpochMetrics] = []
    errors: Numbers = {}
    best, done, go_on = 0, False, True
    while go_on and not done:
        epoch = len(curve) + 1
        with signals_deferred():  # they are heard between epochs
            with clock.phase("train"):
                losses, weights = run_epoch(curve)
            with clock.phase("evaluate"):
                metrics, errors_here = _judge(evaluator, scorer, epoch)
        curve.append(EpochMetrics(epoch, metrics, losses, clock.elapsed, weights))
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


def _judge(evaluator: Evaluator | None, scorer: Callable[[], Scorer], epoch: int) -> tuple[Numbers, Numbers]:
    """Metrics and their standard errors."""
    if evaluator is None:
        return {}, {}
    try:
        return evaluator.measure(scorer())
    except NonFiniteMetric as error:
        raise NonFiniteMetric(f"{error.problem} at epoch {epoch}", error.remedy) from None


def _is_better(key: str, metrics: Mapping[str, float], others: Mapping[str, float]) -> bool:
    return METRICS[key].sign * metrics[key] < METRICS[key].sign * others[key]
