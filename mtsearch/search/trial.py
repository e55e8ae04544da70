"""One trial as the owner of its study sees it: propose it, follow its epochs, store how it ended, queue it again.

After each epoch the trial stops if the pruner or an interrupt asks for it. Where it is trained is up to an executor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mtsearch.errors import NonFiniteMetric, TrialFailure
from mtsearch.models.trainer import EpochMetrics, TrainingEnd, TrialResult
from mtsearch.search import attributes
from mtsearch.search.pareto import is_feasible
from mtsearch.search.samplers import InitialTrialsSampler
from mtsearch.search.space import Space
from mtsearch.signals import Interrupt, defer_signals
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import ConstraintsSection, StudyDefinition
from mtsearch.study_file.sections import Pruner

if TYPE_CHECKING:
    from mtsearch.pruning import MultiObjectivePruner, Rule

_CURVE_SECONDS = 2.0
MAX_ATTEMPTS = 3
_BROKEN_OFF = ("died", "error")
_RETRIED = (*_BROKEN_OFF, "interrupted")


@dataclass(frozen=True)
class TrialEnd:
    """The end of a trial as plain values, for observers that log it elsewhere; they are copies.

    Attributes:
        trial: its number, 0-based.
        values: the objectives, in the study's order; None if the trial did not complete.
        reason: why the trial did not complete; empty if it did.
        seconds: wall clock of its training, to when its end was stored.
        feasible: True if the trial keeps the [constraints], or did not complete.
        counted: True if the trial used up budget.
        counting: number of trials in the study that have used up budget.
        state: `complete`, `pruned` or `fail`.
        params: the searched parameters, by name.
        metrics: every validation metric, by their keys in the study; empty if the trial did not complete.
        curve: its finished epochs, each with the attributes of `mtsearch.models.trainer.EpochMetrics` as keys.

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
    values: tuple[float, ...] | None
    reason: str
    seconds: float
    feasible: bool
    counted: bool
    counting: int
    state: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float] = field(repr=False)
    curve: Sequence[Mapping[str, Any]] = field(repr=False)


class TrialFactory:
    """A factory of a study's trials.

    Args:
        study: with its sampler.
        definition: of the study.
        interrupt: ends every trial after its current epoch.
    """

    def __init__(self, study: optuna.Study, definition: StudyDefinition, interrupt: Interrupt) -> None:
        self._study, self._interrupt = study, interrupt
        self._space = Space(definition)
        self._objectives, self._constraints = definition.study.objectives, definition.constraints
        self._rule = pruning_rule(definition.study.pruner)

    def propose(self) -> RunningTrial:
        """Ask the study for a trial and its configuration."""
        with defer_signals():
            trial = self._study.ask()
        try:
            # An initial trial is stored with its origin, so that reports can tell it from a sampled one.
            sampler = self._study.sampler
            if isinstance(sampler, InitialTrialsSampler) and sampler.label is not None:
                trial.set_user_attr(attributes.INITIAL_LABEL, sampler.label)
            config = self._space.sample(trial)
            trial.set_user_attr(attributes.CONFIG, config.model_dump())
        except Exception as error:
            fail_trial(self._study, trial.number, "error", f"{type(error).__name__}: {error}")
            raise
        pruner = TrialPruner(self._study, trial, self._rule, self._objectives)
        return RunningTrial(self._study, trial, config, pruner, self._interrupt, self._constraints)


class RunningTrial:
    """A trial from its proposal to its end.

    Attributes:
        number: 0-based.
        config: to be trained.
    """

    def __init__(
        self,
        study: optuna.Study,
        trial: optuna.Trial,
        config: TrialConfig,
        pruner: TrialPruner,
        interrupt: Interrupt,
        constraints: ConstraintsSection,
    ) -> None:
        self._study, self._trial, self._pruner, self._interrupt = study, trial, pruner, interrupt
        self._constraints = constraints
        self.number, self.config = trial.number, config
        self._epochs: list[dict[str, Any]] = []
        self._begun = self._written = time.monotonic()

    def begin(self) -> None:
        """Count the seconds from here on, when the training begins: a trial may be proposed long before."""
        self._begun = self._written = time.monotonic()

    def on_epoch(self, epoch: EpochMetrics) -> bool:
        """Take an epoch that has ended, and tell whether the training goes on.

        NOTE: a write costs 4-16 ms on SQLite, so that curves of short epochs are stored every 2 s and at the end.
        """
        if epoch.epoch == 1:
            self._epochs = []  # with several seeds, the curve of the current one is kept
        self._epochs.append(asdict(epoch))
        if time.monotonic() - self._written > _CURVE_SECONDS:
            self._store_curve()
        return not (self._pruner.should_stop(epoch) or self._interrupt.requested)

    def end(self, end: TrainingEnd, counted: int) -> TrialEnd:
        """Store how the training ended and tell the study; a lost training is queued again.

        Args:
            end: of the training.
            counted: number of trials in the study that have used up budget before.
        """
        with defer_signals():
            try:
                if end.result is None:
                    self._fail(end)
                elif end.result.stopped and self._pruner.reason:
                    self._prune(end.result)
                elif end.result.stopped:
                    self._store_curve()
                    self.give_back(f"interrupted after epoch {len(end.result.curve)}")
                else:
                    self._complete(end.result)
            except TrialFailure as failure:
                self._fail(TrainingEnd(self.number, error=failure))
            return self._read_end(counted)

    def give_back(self, text: str) -> None:
        """End the trial for a reason that is not its own, a sentence for the user, and queue it again."""
        fail_trial(self._study, self.number, "interrupted", text)

    def _fail(self, end: TrainingEnd) -> None:
        """Store that the training failed, or that it was lost with its worker."""
        self._store_curve()
        if isinstance(end.error, TrialFailure):  # the model's own: it counts
            self._trial.set_user_attr(attributes.REASON, attributes.reason("model", str(end.error)))
            self._study.tell(self._trial, state=TrialState.FAIL)
        elif end.error is not None:
            fail_trial(self._study, self.number, "error", f"{type(end.error).__name__}: {end.error}")
        else:
            fail_trial(self._study, self.number, "died", end.lost)

    def _prune(self, result: TrialResult) -> None:
        self._trial.set_user_attr(attributes.CURVE, [asdict(epoch) for epoch in result.curve])
        self._trial.set_user_attr(attributes.SECONDS, dict(result.seconds))
        self._trial.set_user_attr(attributes.PRUNED_AT, len(result.curve))
        self._trial.set_user_attr(attributes.REASON, attributes.reason("pruned", self._pruner.reason))
        self._study.tell(self._trial, state=TrialState.PRUNED)

    def _complete(self, result: TrialResult) -> None:
        """Store what a training reached.

        Raises:
            NonFiniteMetric: an objective is NaN or infinite.
        """
        trial, objectives = self._trial, self._pruner.objectives
        trial.set_user_attr(attributes.CURVE, [asdict(epoch) for epoch in result.curve])
        values = [result.metrics[key] for key in objectives]
        for key, value in zip(objectives, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteMetric(f"{key} is {value} at epoch {result.best_epoch}", "lower learning_rate")
        trial.set_user_attr(attributes.METRICS, dict(result.metrics))
        trial.set_user_attr(attributes.SECONDS, dict(result.seconds))
        trial.set_user_attr(attributes.PARAMETERS, result.parameters)
        trial.set_user_attr(attributes.BEST_EPOCH, result.best_epoch)
        seconds = result.seconds.get("train", time.monotonic() - self._begun) / max(len(result.repeats), 1)
        store_constraints(trial, constraint_excesses(self._constraints, result.parameters, seconds))
        if result.repeats:
            trial.set_user_attr(attributes.REPEATS, [dict(metrics) for metrics in result.repeats])
        if result.errors:
            trial.set_user_attr(attributes.STANDARD_ERRORS, dict(result.errors))
        self._study.tell(trial, values)

    def _read_end(self, counted: int) -> TrialEnd:
        """Return the end of the trial as it is stored."""
        stored = self._study.get_trials(deepcopy=False)[self.number]
        # An observer may change the values: it must not change those that are kept in memory.
        own = deepcopy(stored.user_attrs)
        return TrialEnd(
            trial=self.number,
            values=tuple(stored.values) if stored.values else None,
            reason=attributes.reason_of(stored).get("text", ""),
            seconds=time.monotonic() - self._begun,
            feasible=is_feasible(stored),
            counted=attributes.counts(stored),
            counting=counted + attributes.counts(stored),
            state=stored.state.name.lower(),
            params=dict(stored.params),
            metrics=own.get(attributes.METRICS, {}),
            curve=own.get(attributes.CURVE, ()),
        )

    def _store_curve(self) -> None:
        self._trial.set_user_attr(attributes.CURVE, self._epochs)
        self._written = time.monotonic()


def fail_trial(study: optuna.Study, number: int, kind: attributes.ReasonKind, text: str) -> None:
    """End a running trial as failed and queue its parameters again.

    A configuration that has ended its run or its worker `MAX_ATTEMPTS` times is not tried again: it fails for a reason
    of the model, and uses up budget.

    Args:
        study: of the trial.
        number: of the trial.
        kind: of the reason, see `attributes.reason`.
        text: the reason, a sentence for the user.
    """
    with defer_signals():
        trials = study.get_trials(deepcopy=False)
        trial = trials[number]
        # Only attempts that ended their run or their worker count, not those that the user interrupted.
        broken_off = sum(
            attributes.reason_of(each).get("kind") in _BROKEN_OFF for each in attributes.retry_history(trials, trial)
        )
        is_last = kind in _BROKEN_OFF and broken_off + 1 >= MAX_ATTEMPTS
        if is_last:
            hint = " (out of memory?)" if kind == "died" else ""
            kind, text = "model", f"tried {MAX_ATTEMPTS} times, last error: {text}{hint}"
        # The reason comes first, because an ended trial cannot be changed any more.
        # NOTE: a trial of an earlier run has no Trial object here. The storage's methods are public, its id is not.
        study._storage.set_trial_user_attr(trial._trial_id, attributes.REASON, attributes.reason(kind, text))
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        if not is_last:
            _enqueue_retry(study, trial)


def fail_running_trials(study: optuna.Study, kind: attributes.ReasonKind, text: str) -> None:
    """End all running trials as failed and queue them again; for the owner of the study, when none of them runs."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        fail_trial(study, trial.number, kind, text)


def enqueue_lost(study: optuna.Study) -> None:
    """Queue again the failed trials that were to be retried when the process that failed them died."""
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get(attributes.RETRY_OF) for trial in trials}
    for trial in trials:
        retried = trial.state == TrialState.FAIL and attributes.reason_of(trial).get("kind") in _RETRIED
        if retried and trial.number not in queued and attributes.reason_of(trial) != attributes.QUEUED_TWICE:
            _enqueue_retry(study, trial)


def _enqueue_retry(study: optuna.Study, trial: FrozenTrial) -> None:
    params: dict[str, Any] = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    study.enqueue_trial(params, user_attrs={attributes.RETRY_OF: trial.number})


def pruning_rule(options: Pruner) -> Rule | None:
    """Return the pruning rule that a definition names; None if it names none."""
    if options.kind == "none":
        return None
    from mtsearch import pruning

    kinds: Mapping[str, type[Rule]] = {"halving": pruning.Halving, "dominated": pruning.Dominated}
    return kinds[options.kind](**options.options())


class TrialPruner:
    """The decision after each epoch whether to prune a trial.

    Only sampled trials are pruned: an initial trial is wanted for itself, and others are compared with its values. With
    several seeds only the first seed decides, since the early epochs of the others say nothing new. So a trial is
    pruned before the other seeds are trained, or runs with all of them.

    Args:
        study: of the trial.
        trial: that runs.
        rule: of the study; None if trials are not pruned.
        objectives: keys of its metrics.

    Attributes:
        reason: why the trial is pruned at the latest epoch; empty if it is not.
    """

    def __init__(
        self, study: optuna.Study, trial: optuna.Trial, rule: Rule | None, objectives: tuple[str, ...]
    ) -> None:
        self._trial, self._rule, self.objectives = trial, rule, objectives
        self._pruner: MultiObjectivePruner[FrozenTrial] | None = None
        if rule is not None:
            from mtsearch.pruning import MultiObjectivePruner

            self._pruner = MultiObjectivePruner(study, rule, attributes.RUNGS)
        self._seeds = 0
        self.reason = ""

    def should_stop(self, epoch: EpochMetrics) -> bool:
        """Tell whether the trial is pruned at this epoch; at a rung its objectives are stored for comparison."""
        self.reason = ""
        self._seeds += epoch.epoch == 1
        # The first epoch of a further seed raises this count: from then on nothing is compared.
        if self._pruner is None or self._seeds > 1:
            return False
        values = [epoch.metrics[key] for key in self.objectives]
        worse = self._pruner.should_stop(self._trial, epoch.epoch, values)
        if worse and attributes.INITIAL_LABEL not in self._trial.user_attrs:
            self.reason = f"{self._rule} at epoch {epoch.epoch}"
        return bool(self.reason)


_OLD_KEY = "constraints"


def constraint_excesses(constraints: ConstraintsSection, parameters: int, seconds: float) -> dict[str, float]:
    """Return by which share of itself each constraint is exceeded, by name; 0 or less if it is kept.

    Args:
        constraints: of the definition.
        parameters: number of trainable weights.
        seconds: of training, with one seed.
    """
    used_and_limit = {
        "max_parameters": (parameters, constraints.max_parameters),
        "max_seconds": (seconds, constraints.max_seconds),
    }
    return {name: used / limit - 1 for name, (used, limit) in used_and_limit.items() if limit is not None}


def store_constraints(trial: optuna.Trial, values: Mapping[str, float]) -> None:
    """Store the excess of each constraint as Optuna's constraints of a running trial."""
    for name, value in values.items():
        trial.set_constraint(name, value)
    if values:
        # NOTE: optuna-dashboard 0.21 knows only the attribute of Optuna 4; its best trials would be infeasible ones.
        trial.storage.set_trial_system_attr(trial._trial_id, _OLD_KEY, list(values.values()))
