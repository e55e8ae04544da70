"""One trial: ask, train, tell."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from mtsearch.config import TrialConfig
from mtsearch.definition import StudyDefinition
from mtsearch.errors import NonFiniteMetric, TrialFailure
from mtsearch.search import attributes
from mtsearch.search.front import feasible
from mtsearch.search.interrupts import Interrupt, last_wish
from mtsearch.search.limits import constrain, excesses
from mtsearch.search.listed import ListedFirst
from mtsearch.search.liveness import Heart
from mtsearch.search.one_reading import OneReading
from mtsearch.search.pruning import Judge, rule_of
from mtsearch.search.repeats import RepeatedTrainer
from mtsearch.search.retries import give_up, withdraw_duplicate
from mtsearch.search.space import Space
from mtsearch.signals import signals_deferred
from mtsearch.trial import EpochMetrics, Trainer, TrialResult

_CURVE_SECONDS = 2.0


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended: plain values of its own, for whoever logs it elsewhere.

    Attributes:
        trial: its number, 0-based.
        values: the two objectives; None where it did not complete.
        reason: why it did not complete; empty where it did.
        seconds: wall clock from asking to telling.
        feasible: whether it keeps the [constraints]; True of one that did not complete.
        counted: whether it used up budget.
        counting: trials of the study that have used up budget.
        state: `complete`, `pruned` or `fail`.
        params: what was searched, by name.
        metrics: every validation metric, by the keys of `objectives.METRICS`; empty where it did not complete.
        curve: its finished epochs, each with the attributes of `mtsearch.trial.EpochMetrics` as keys.

    To see the curves in TensorBoard, or to log to MLflow, `run(definition, on_trial=log)` with one of:

        def log(end):  # tf.summary.scalar asks for the package tensorboard; without it, see studies/notebook.ipynb
            with tf.summary.create_file_writer(f"logs/{end.trial}").as_default():
                for epoch in end.curve:
                    for key, value in epoch["metrics"].items():
                        tf.summary.scalar(key, value, step=epoch["epoch"])

        def log(end):
            with mlflow.start_run(run_name=f"trial {end.trial}"):
                mlflow.log_params(end.params)
                mlflow.log_metrics(end.metrics)
                mlflow.set_tag("state", end.state)
    """

    trial: int
    values: tuple[float, float] | None
    reason: str
    seconds: float
    feasible: bool
    counted: bool
    counting: int
    state: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float] = field(repr=False)
    curve: Sequence[Mapping[str, Any]] = field(repr=False)


class TrialRunner:
    """Runs trials of a definition's study: asks, trains, tells.

    Args:
        definition: of the study.
        trainer: of one seed; see `mtsearch.trial`.
    """

    def __init__(self, definition: StudyDefinition, trainer: Trainer) -> None:
        self._space = Space(definition)
        self._objectives = definition.study.objectives
        self._limits = definition.constraints
        self._rule = rule_of(definition.study.pruner)
        self._trainer = RepeatedTrainer(trainer, definition.study.repeats)

    def run(self, study: optuna.Study, interrupt: Interrupt, until: int | None = None) -> TrialEnd:
        """Run one trial to its end, whatever that is; an interrupt is seen after each epoch.

        A trial that others give up meanwhile is dropped: its retry is theirs to run.

        Args:
            study: asks for the trial.
            interrupt: ends it early.
            until: how many counting trials the study may have; one beyond is not begun.
        """
        begun = time.perf_counter()
        with OneReading() as reading:
            trial = _ask(study, reading)
            with suppress(UpdateFinishedTrialError):
                if until is not None and _is_one_too_many(study, trial.number, until):
                    give_up(study, trial.number, "interrupted", f"the last of {until} trials runs elsewhere")
                else:
                    self._run(study, trial, interrupt, reading)
        return end_of(study, trial.number, time.perf_counter() - begun)

    def _run(self, study: optuna.Study, trial: optuna.Trial, interrupt: Interrupt, reading: OneReading) -> None:
        judge = Judge(study, trial, self._rule, self._objectives)
        with Heart(trial) as heart, last_wish(lambda: give_up(study, trial.number, "interrupted", "interrupted twice")):
            curve = _CurveWriter(trial, interrupt, judge, heart)
            try:
                if isinstance(study.sampler, ListedFirst) and study.sampler.label is not None:
                    trial.set_user_attr(attributes.LISTED, study.sampler.label)
                config = self._sample(trial, reading)
                trial.set_user_attr(attributes.CONFIG, config.model_dump())
                training = time.perf_counter()
                result = self._trainer.train(config, curve)
                if judge.reason and result.stopped:
                    _prune(study, trial, result, judge.reason)
                else:
                    self._tell(study, trial, result, time.perf_counter() - training)
            except TrialFailure as failure:
                curve.flush()
                with signals_deferred():
                    trial.set_user_attr(attributes.REASON, attributes.reason("model", str(failure)))
                    _end(study, trial, state=TrialState.FAIL)
            except UpdateFinishedTrialError:
                raise
            except BaseException as error:
                kind: attributes.ReasonKind = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
                give_up(study, trial.number, kind, f"{type(error).__name__}: {error}")
                raise

    def _sample(self, trial: optuna.Trial, reading: OneReading) -> TrialConfig:
        """Its configuration; from now on, and where there is none, what others do is read afresh."""
        try:
            return self._space.sample(trial)
        finally:
            reading.close()

    def _tell(self, study: optuna.Study, trial: optuna.Trial, result: TrialResult, seconds: float) -> None:
        trial.set_user_attr(attributes.CURVE, [asdict(epoch) for epoch in result.curve])
        if result.stopped:
            give_up(study, trial.number, "interrupted", f"interrupted after epoch {len(result.curve)}")
            return
        values = [result.metrics[key] for key in self._objectives]
        for key, value in zip(self._objectives, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteMetric(f"{key} is {value} at epoch {result.best_epoch}", "lower learning_rate")
        trial.set_user_attr(attributes.METRICS, dict(result.metrics))
        trial.set_user_attr(attributes.SECONDS, dict(result.seconds))
        trial.set_user_attr(attributes.PARAMETERS, result.parameters)
        trial.set_user_attr(attributes.BEST_EPOCH, result.best_epoch)
        of_one_seed = result.seconds.get("train", seconds) / max(len(result.repeats), 1)
        constrain(trial, excesses(self._limits, result.parameters, of_one_seed))
        if result.repeats:
            trial.set_user_attr(attributes.REPEATS, [dict(metrics) for metrics in result.repeats])
        if result.errors:
            trial.set_user_attr(attributes.STANDARD_ERRORS, dict(result.errors))
        _end(study, trial, values)


class _CurveWriter:
    """Keeps the learning curve as it comes, and ends the trial where the pruner or an interrupt asks for it.

    NOTE: a write costs 4-16 ms on SQLite, so that curves of short epochs are written every 2 s and at the end.
    """

    def __init__(self, trial: optuna.Trial, interrupt: Interrupt, judge: Judge, heart: Heart) -> None:
        self._trial, self._interrupt, self._judge, self._heart = trial, interrupt, judge, heart
        self._epochs: list[dict[str, Any]] = []
        self._written = time.monotonic()

    def __call__(self, epoch: EpochMetrics) -> bool:
        if epoch.epoch == 1:
            self._epochs = []  # of several seeds the latest
        self._epochs.append(asdict(epoch))
        if time.monotonic() - self._written > _CURVE_SECONDS:
            self.flush()
        return not (self._judge.stops(epoch) or self._interrupt.requested or self._heart.taken)

    def flush(self) -> None:
        """Write what has come so far."""
        self._trial.set_user_attr(attributes.CURVE, self._epochs)
        self._written = time.monotonic()


def _ask(study: optuna.Study, reading: OneReading) -> optuna.Trial:
    """A trial of this process; what was queued twice, or given up before it was signed, is left behind."""
    while True:
        reading.forget()
        with suppress(UpdateFinishedTrialError), signals_deferred():
            trial = study.ask()
            if attributes.RETRY_OF not in trial.user_attrs or not withdraw_duplicate(study, trial.number):
                return trial


def _is_one_too_many(study: optuna.Study, number: int, until: int) -> bool:
    """Whether others count or run that had this trial's place before it.

    NOTE: several runs may each begin the last trial at once. All see each other's by then, and the storage's numbers
    say which was first; those of the queue were numbered long ago, and so give way to all that run.
    """
    trials = study.get_trials(deepcopy=False)
    last = len(trials) if attributes.RETRY_OF in trials[number].user_attrs else number
    running = sum(trial.state == TrialState.RUNNING and trial.number != number for trial in trials[:last])
    return sum(map(attributes.counts, trials)) + running >= until


def _end(
    study: optuna.Study, trial: optuna.Trial, values: Sequence[float] | None = None, state: TrialState | None = None
) -> None:
    """Tell the study; nothing where the trial was given up meanwhile."""
    study.tell(trial, values, state, skip_if_finished=True)


def _prune(study: optuna.Study, trial: optuna.Trial, result: TrialResult, reason: str) -> None:
    with signals_deferred():
        trial.set_user_attr(attributes.CURVE, [asdict(epoch) for epoch in result.curve])
        trial.set_user_attr(attributes.SECONDS, dict(result.seconds))
        trial.set_user_attr(attributes.PRUNED_AT, len(result.curve))
        trial.set_user_attr(attributes.REASON, attributes.reason("pruned", reason))
        _end(study, trial, state=TrialState.PRUNED)


def end_of(study: optuna.Study, number: int, seconds: float) -> TrialEnd:
    """How a trial that is over ended, as the storage has it."""
    trials = study.get_trials(deepcopy=False)
    stored = trials[number]
    values = (stored.values[0], stored.values[1]) if stored.values else None
    # Copied: what a reader of it changes must not change what Optuna keeps in memory.
    own = deepcopy(stored.user_attrs)
    return TrialEnd(
        trial=number,
        values=values,
        # Somebody may have been about to give it up, and too late.
        reason="" if stored.state == TrialState.COMPLETE else attributes.reason_of(stored).get("text", ""),
        seconds=seconds,
        feasible=feasible(stored),
        counted=attributes.counts(stored),
        counting=sum(map(attributes.counts, trials)),
        state=stored.state.name.lower(),
        params=dict(stored.params),
        metrics=own.get(attributes.METRICS, {}),
        curve=own.get(attributes.CURVE, ()),
    )


def counting(study: optuna.Study) -> int:
    """How many trials have used up budget."""
    return sum(map(attributes.counts, study.get_trials(deepcopy=False)))
