"""One trial: ask, train, tell."""

import math
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from mtsearch.definition import StudyDefinition
from mtsearch.errors import NonFiniteMetric, TrialFailure
from mtsearch.search import attributes
from mtsearch.search.interrupts import Interrupt
from mtsearch.search.repeats import RepeatedTrainer
from mtsearch.search.space import Space
from mtsearch.trial import EpochMetrics, Trainer, TrialResult

_CURVE_SECONDS = 2.0


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended.

    Attributes:
        trial: its number, 0-based.
        values: the two objectives; None where it did not complete.
        reason: why it did not complete; empty where it did.
        seconds: wall clock from asking to telling.
        counting: trials of the study that have used up budget, this one included where it did.
    """

    trial: int
    values: tuple[float, float] | None
    reason: str
    seconds: float
    counting: int


class TrialRunner:
    """Runs trials of a definition's study: asks, trains, tells.

    Args:
        definition: of the study.
        trainer: of one seed; see `mtsearch.trial`.
    """

    def __init__(self, definition: StudyDefinition, trainer: Trainer) -> None:
        self._space = Space(definition)
        self._objectives = definition.study.objectives
        self._trainer = RepeatedTrainer(trainer, definition.study.repeats)

    def run(self, study: optuna.Study, interrupt: Interrupt) -> TrialEnd:
        """Run one trial to its end, whatever that is; an interrupt is seen after each epoch."""
        begun = time.perf_counter()
        trial = study.ask()
        try:
            trial.set_user_attr(attributes.WORKER, attributes.worker_name(os.getpid()))
            config = self._space.sample(trial)
            trial.set_user_attr(attributes.CONFIG, config.model_dump())
            result = self._trainer.train(config, _CurveWriter(trial, interrupt))
            self._tell(study, trial, result)
        except TrialFailure as failure:
            _fail(study, trial, "model", str(failure))
        except BaseException as error:
            kind: attributes.ReasonKind = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
            _fail(study, trial, kind, f"{type(error).__name__}: {error}")
            raise
        return _end(study, trial.number, time.perf_counter() - begun)

    def _tell(self, study: optuna.Study, trial: optuna.Trial, result: TrialResult) -> None:
        trial.set_user_attr(attributes.CURVE, [asdict(epoch) for epoch in result.curve])
        if result.stopped:
            _fail(study, trial, "interrupted", f"interrupted after epoch {len(result.curve)}")
            return
        values = [result.metrics[key] for key in self._objectives]
        for key, value in zip(self._objectives, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteMetric(f"{key} is {value} at epoch {result.best_epoch}", "lower learning_rate")
        trial.set_user_attr(attributes.METRICS, dict(result.metrics))
        trial.set_user_attr(attributes.SECONDS, dict(result.seconds))
        trial.set_user_attr(attributes.PARAMETERS, result.parameters)
        if result.repeats:
            trial.set_user_attr(attributes.REPEATS, [dict(metrics) for metrics in result.repeats])
        study.tell(trial, values)


class _CurveWriter:
    """Keeps the learning curve as it comes, and ends the trial where an interrupt asks for it.

    NOTE: a write costs 4-16 ms on SQLite, so that curves of short epochs are written every 2 s and at the end.
    """

    def __init__(self, trial: optuna.Trial, interrupt: Interrupt) -> None:
        self._trial, self._interrupt = trial, interrupt
        self._epochs: dict[int, dict[str, Any]] = {}
        self._written = time.monotonic()

    def __call__(self, epoch: EpochMetrics) -> bool:
        self._epochs[epoch.epoch] = asdict(epoch)  # of several seeds the latest
        if time.monotonic() - self._written > _CURVE_SECONDS:
            self._trial.set_user_attr(attributes.CURVE, list(self._epochs.values()))
            self._written = time.monotonic()
        return not self._interrupt.requested


def _end(study: optuna.Study, number: int, seconds: float) -> TrialEnd:
    stored = study.get_trials(deepcopy=False)[number]
    values = (stored.values[0], stored.values[1]) if stored.values else None
    return TrialEnd(number, values, attributes.reason_of(stored).get("text", ""), seconds, counting(study))


def counting(study: optuna.Study) -> int:
    """How many trials have used up budget."""
    return sum(map(attributes.counts, study.get_trials(deepcopy=False)))


def _fail(study: optuna.Study, trial: optuna.Trial, kind: attributes.ReasonKind, text: str) -> None:
    """End a trial as FAIL with its reason; what the user interrupted is queued again."""
    trial.set_user_attr(attributes.REASON, attributes.reason(kind, text))
    study.tell(trial, state=TrialState.FAIL)
    if kind == "interrupted":
        study.enqueue_trial(dict(trial.params), user_attrs={attributes.RETRY_OF: trial.number})
