"""Run one trial: ask the study for its configuration, train it, and tell the study how it ended.

After each epoch the learning curve is stored, and the trial stops if the pruner, an interrupt or the loss of the trial
to another process asks for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from mtsearch.errors import NonFiniteMetric, TrialFailure
from mtsearch.host import is_gone
from mtsearch.models.trainer import EpochMetrics, RepeatedTrainer, Trainer, TrialResult
from mtsearch.search import attributes
from mtsearch.search.ownership import Heartbeat, fail_trial, withdraw_duplicate
from mtsearch.search.pareto import is_feasible
from mtsearch.search.samplers import InitialTrialsSampler
from mtsearch.search.space import Space
from mtsearch.search.storage.retry import TrialSnapshot
from mtsearch.signals import Interrupt, defer_signals, on_forced_exit
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import ConstraintsSection, StudyDefinition
from mtsearch.study_file.sections import Pruner

if TYPE_CHECKING:
    from mtsearch.pruning import MultiObjectivePruner, Rule

_CURVE_SECONDS = 2.0


@dataclass(frozen=True)
class TrialEnd:
    """The end of a trial as plain values, for observers that log it elsewhere; they are copies.

    Attributes:
        trial: its number, 0-based.
        values: the objectives, in the study's order; None if the trial did not complete.
        reason: why the trial did not complete; empty if it did.
        seconds: wall clock from asking for the trial to telling the study its end.
        feasible: True if the trial keeps the [constraints], or did not complete.
        counted: True if the trial used up budget.
        counting: number of trials in the study that have used up budget.
        state: `complete`, `pruned` or `fail`.
        params: the searched parameters, by name.
        metrics: every validation metric, by the keys of `metrics.METRICS`; empty if the trial did not complete.
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


class TrialRunner:
    """The runner of a study's trials, one at a time: it asks for a configuration, trains it, and tells the result.

    Args:
        definition: of the study.
        trainer: trains one configuration with one seed; see `mtsearch.models.trainer`.
    """

    def __init__(self, definition: StudyDefinition, trainer: Trainer) -> None:
        self._space = Space(definition)
        self._objectives = definition.study.objectives
        self._constraints = definition.constraints
        self._rule = pruning_rule(definition.study.pruner)
        self._trainer = RepeatedTrainer(trainer, definition.study.repeats)

    def run(self, study: optuna.Study, interrupt: Interrupt, until: int | None = None) -> TrialEnd:
        """Run one trial until it completes, is pruned or fails; an interrupt ends it after the current epoch.

        A trial that another process ends in the meantime is dropped: that process has queued its retry.

        Args:
            study: proposes and stores the trial.
            interrupt: ends the trial early.
            until: number of counting trials that the study may have; a trial beyond it fails before it is trained.
        """
        begun = time.perf_counter()
        with TrialSnapshot() as snapshot:
            trial = _ask(study, snapshot)
            with suppress(UpdateFinishedTrialError):
                if until is not None and _exceeds_budget(study, trial.number, until):
                    fail_trial(study, trial.number, "interrupted", f"the last of {until} trials runs elsewhere")
                else:
                    self._run(study, trial, interrupt, snapshot)
        return trial_end(study, trial.number, time.perf_counter() - begun)

    def _run(self, study: optuna.Study, trial: optuna.Trial, interrupt: Interrupt, snapshot: TrialSnapshot) -> None:
        """Train the configuration of a trial and tell its end; other errors than `TrialFailure` are raised again."""
        pruner = TrialPruner(study, trial, self._rule, self._objectives)
        with (
            Heartbeat(trial) as heartbeat,
            on_forced_exit(lambda: fail_trial(study, trial.number, "interrupted", "interrupted twice")),
        ):
            curve = _CurveWriter(trial, interrupt, pruner, heartbeat)
            try:
                # An initial trial is stored with its origin, so that reports can tell it from a sampled one.
                if isinstance(study.sampler, InitialTrialsSampler) and study.sampler.label is not None:
                    trial.set_user_attr(attributes.INITIAL_LABEL, study.sampler.label)
                config = self._sample(trial, snapshot)
                trial.set_user_attr(attributes.CONFIG, config.model_dump())
                training = time.perf_counter()
                result = self._trainer.train(config, curve)
                if pruner.reason and result.stopped:
                    _tell_pruned(study, trial, result, pruner.reason)
                else:
                    self._tell_result(study, trial, result, time.perf_counter() - training)
            # The model failed: the trial counts, and the study goes on.
            except TrialFailure as failure:
                curve.flush()
                with defer_signals():
                    trial.set_user_attr(attributes.REASON, attributes.reason("model", str(failure)))
                    _tell(study, trial, state=TrialState.FAIL)
            except UpdateFinishedTrialError:
                raise
            # An interrupt or a bug: the trial is queued again, and the run ends.
            except BaseException as error:
                kind: attributes.ReasonKind = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
                fail_trial(study, trial.number, kind, f"{type(error).__name__}: {error}")
                raise

    def _sample(self, trial: optuna.Trial, snapshot: TrialSnapshot) -> TrialConfig:
        """Return the configuration that the sampler proposes, and close the snapshot of the other trials."""
        try:
            return self._space.sample(trial)
        finally:
            snapshot.close()

    def _tell_result(self, study: optuna.Study, trial: optuna.Trial, result: TrialResult, seconds: float) -> None:
        """Store what a training reached and complete the trial; a training that was stopped early makes it fail.

        Args:
            study: of the trial.
            trial: that was trained.
            result: of the training.
            seconds: wall clock of the training.

        Raises:
            NonFiniteMetric: an objective is NaN or infinite.
        """
        trial.set_user_attr(attributes.CURVE, [asdict(epoch) for epoch in result.curve])
        if result.stopped:
            fail_trial(study, trial.number, "interrupted", f"interrupted after epoch {len(result.curve)}")
            return
        values = [result.metrics[key] for key in self._objectives]
        for key, value in zip(self._objectives, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteMetric(f"{key} is {value} at epoch {result.best_epoch}", "lower learning_rate")
        trial.set_user_attr(attributes.METRICS, dict(result.metrics))
        trial.set_user_attr(attributes.SECONDS, dict(result.seconds))
        trial.set_user_attr(attributes.PARAMETERS, result.parameters)
        trial.set_user_attr(attributes.BEST_EPOCH, result.best_epoch)
        seconds_per_seed = result.seconds.get("train", seconds) / max(len(result.repeats), 1)
        store_constraints(trial, constraint_excesses(self._constraints, result.parameters, seconds_per_seed))
        if result.repeats:
            trial.set_user_attr(attributes.REPEATS, [dict(metrics) for metrics in result.repeats])
        if result.errors:
            trial.set_user_attr(attributes.STANDARD_ERRORS, dict(result.errors))
        _tell(study, trial, values)


class _CurveWriter:
    """A callback for each epoch that stores the learning curve and tells the trainer whether to go on.

    NOTE: a write costs 4-16 ms on SQLite, so that curves of short epochs are written every 2 s and at the end.
    """

    def __init__(self, trial: optuna.Trial, interrupt: Interrupt, pruner: TrialPruner, heartbeat: Heartbeat) -> None:
        self._trial, self._interrupt, self._pruner, self._heartbeat = trial, interrupt, pruner, heartbeat
        self._epochs: list[dict[str, Any]] = []
        self._written = time.monotonic()

    def __call__(self, epoch: EpochMetrics) -> bool:
        if epoch.epoch == 1:
            self._epochs = []  # with several seeds, the curve of the current one is kept
        self._epochs.append(asdict(epoch))
        if time.monotonic() - self._written > _CURVE_SECONDS:
            self.flush()
        return not (self._pruner.should_stop(epoch) or self._interrupt.requested or self._heartbeat.lost)

    def flush(self) -> None:
        """Store the epochs that have ended so far."""
        self._trial.set_user_attr(attributes.CURVE, self._epochs)
        self._written = time.monotonic()


def _ask(study: optuna.Study, snapshot: TrialSnapshot) -> optuna.Trial:
    """Ask the study for a trial that this process owns.

    Trials that were queued twice are ended, and trials that another process ended before this one owned them are left.
    """
    while True:
        snapshot.forget()
        with suppress(UpdateFinishedTrialError), defer_signals():
            trial = study.ask()
            if attributes.RETRY_OF not in trial.user_attrs or not withdraw_duplicate(study, trial.number):
                return trial


def _exceeds_budget(study: optuna.Study, number: int, until: int) -> bool:
    """Tell whether the counting trials and the earlier running trials already fill the budget of `until` trials.

    NOTE: several runs may each begin the last trial at once. All of them see the others' trials by then, and the lowest
    number goes first. A retry got its number when it was queued, long ago, and so gives way to all that run.
    """
    trials = study.get_trials(deepcopy=False)
    # Count the running trials that go before this one: those with lower numbers, or all if this one is a retry.
    last = len(trials) if attributes.RETRY_OF in trials[number].user_attrs else number
    running = sum(trial.state == TrialState.RUNNING and trial.number != number for trial in trials[:last])
    return sum(map(attributes.counts, trials)) + running >= until


def _tell(
    study: optuna.Study, trial: optuna.Trial, values: Sequence[float] | None = None, state: TrialState | None = None
) -> None:
    """Tell the study the end of a trial; do nothing if another process has ended the trial in the meantime."""
    study.tell(trial, values, state, skip_if_finished=True)


def _tell_pruned(study: optuna.Study, trial: optuna.Trial, result: TrialResult, reason: str) -> None:
    """Store the curve of a pruned trial with the reason, and tell the study that the trial was pruned."""
    with defer_signals():
        trial.set_user_attr(attributes.CURVE, [asdict(epoch) for epoch in result.curve])
        trial.set_user_attr(attributes.SECONDS, dict(result.seconds))
        trial.set_user_attr(attributes.PRUNED_AT, len(result.curve))
        trial.set_user_attr(attributes.REASON, attributes.reason("pruned", reason))
        _tell(study, trial, state=TrialState.PRUNED)


def trial_end(study: optuna.Study, number: int, seconds: float) -> TrialEnd:
    """Return the end of a trial as it is stored.

    Args:
        study: of the trial.
        number: of the trial, which has ended.
        seconds: wall clock of the trial.
    """
    trials = study.get_trials(deepcopy=False)
    stored = trials[number]
    values = tuple(stored.values) if stored.values else None
    # An observer may change the values: it must not change those that Optuna keeps in memory.
    own = deepcopy(stored.user_attrs)
    return TrialEnd(
        trial=number,
        values=values,
        # A complete trial may hold the reason of a process that wanted to fail it and came too late.
        reason="" if stored.state == TrialState.COMPLETE else attributes.reason_of(stored).get("text", ""),
        seconds=seconds,
        feasible=is_feasible(stored),
        counted=attributes.counts(stored),
        counting=sum(map(attributes.counts, trials)),
        state=stored.state.name.lower(),
        params=dict(stored.params),
        metrics=own.get(attributes.METRICS, {}),
        curve=own.get(attributes.CURVE, ()),
    )


def count_trials(study: optuna.Study) -> int:
    """Return the number of trials in a study that have used up budget."""
    return sum(map(attributes.counts, study.get_trials(deepcopy=False)))


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
        self._trial, self._rule, self._objectives = trial, rule, objectives
        self._pruner: MultiObjectivePruner[FrozenTrial] | None = None
        if rule is not None:
            from mtsearch.pruning import MultiObjectivePruner

            self._pruner = MultiObjectivePruner(study, rule, attributes.RUNGS, ignore=_is_lost)
        self._seeds = 0
        self.reason = ""

    def should_stop(self, epoch: EpochMetrics) -> bool:
        """Tell whether the trial is pruned at this epoch; at a rung its objectives are stored for comparison."""
        self.reason = ""
        self._seeds += epoch.epoch == 1
        # The first epoch of a further seed raises this count: from then on nothing is compared.
        if self._pruner is None or self._seeds > 1:
            return False
        values = [epoch.metrics[key] for key in self._objectives]
        worse = self._pruner.should_stop(self._trial, epoch.epoch, values)
        if worse and attributes.INITIAL_LABEL not in self._trial.user_attrs:
            self.reason = f"{self._rule} at epoch {epoch.epoch}"
        return bool(self.reason)


def _is_lost(trial: FrozenTrial) -> bool:
    """Tell whether the process of a running trial has ended, before the trial is failed."""
    worker = trial.user_attrs.get(attributes.WORKER)
    return trial.state == TrialState.RUNNING and worker is not None and is_gone(worker)


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
