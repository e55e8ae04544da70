"""The results of a study, read once from the storage, as plain data for tables, figures and JSON."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from math import nan
from statistics import stdev
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mtsearch.metrics import Metric
from mtsearch.search import attributes
from mtsearch.search.attributes import DEFINITION, TestResult, stored_test_baselines, stored_test_results
from mtsearch.search.pareto import (
    FrontRow,
    complete_rows,
    hypervolume,
    hypervolume_gain,
    is_feasible,
    knee,
    pareto_front,
)
from mtsearch.search.study import find_study, load_studies, stored_runs
from mtsearch.study_file.tasks import stored_metrics


@dataclass(frozen=True)
class Failure:
    """A failed trial with the reason of its failure.

    Attributes:
        trial: its number, 0-based.
        reason: a sentence for the user.
        counted: True if the trial used up budget.
        kind: of the reason, see `attributes.reason`.
    """

    trial: int
    reason: str
    counted: bool
    kind: attributes.ReasonKind = "model"


@dataclass(frozen=True)
class TrialTime:
    """The start and end of a trial, and the seconds that each of its phases took.

    Attributes:
        begun, ended: local time as Optuna stores it.
        seconds: by phase, see `mtsearch.models.trainer.TrialResult`; empty if the trial did not complete.
    """

    begun: datetime
    ended: datetime
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class StudyResults:
    """The results of all trials in a study, at the moment of reading.

    Attributes:
        name: of the study.
        objectives: its metrics, one to four, in its order.
        rows: its complete, feasible, finite trials, by number.
        counting: trials that used up budget.
        states: number of trials by state, in lower case.
        failures: by trial number.
        configs: resolved configuration of each trial, by number.
        baselines: metrics of each reference, by name; those that have one of the objectives at least.
        definition, provenance: as stored.
        begun, ended: first start and last end of a trial, local time as Optuna stores it; None before the first.
        interrupted: True if the user ended the run that returned these results.
        stopped: reason why that run ended before its budget was spent; empty if it did not.
        repeats: metrics of each seed of a trial, by number, for trials with several seeds.
        best_epochs: 1-based epoch whose metrics are the trial's, by number; an old trial without one used its last.
        initial: origin of each initial trial, which was not sampled, by number: "starting point", "[[trials]] 1".
        infeasible: numbers of the complete trials that exceed the [constraints].
        runs: provenance of the runs, each with its `begun`; a run with the same provenance as the one before is left
            out.
        curves: finished epochs of each trial, by number: `epoch`, `metrics` ..., as in `EpochMetrics`.
        times: of each trial that has ended, by number.
        test_results: test results by trial number and seed, after training on the training and validation rows.
        member_results: the same of models of several members, by their number, trial and the first member's seed.
        test_baselines: `baselines`, on the test rows; empty before a report.
        standard_errors: of a trial's metrics, by number, if only a sample of the validation users was evaluated.
        importances: per objective the share of each parameter; empty if they were not computed or cannot be.
    """

    name: str
    objectives: tuple[Metric, ...]
    rows: tuple[FrontRow, ...]
    counting: int
    states: Mapping[str, int]
    failures: tuple[Failure, ...]
    configs: Mapping[int, Mapping[str, Any]]
    baselines: Mapping[str, Mapping[str, float]]
    definition: Mapping[str, Any]
    provenance: Mapping[str, Any]
    begun: datetime | None = None
    ended: datetime | None = None
    interrupted: bool = False
    stopped: str = ""
    repeats: Mapping[int, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    best_epochs: Mapping[int, int] = field(default_factory=dict)
    initial: Mapping[int, str] = field(default_factory=dict)
    infeasible: tuple[int, ...] = ()
    runs: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    times: Mapping[int, TrialTime] = field(default_factory=dict)
    test_results: Mapping[int, Mapping[int, TestResult]] = field(default_factory=dict)
    member_results: Mapping[int, Mapping[int, Mapping[int, TestResult]]] = field(default_factory=dict)
    test_baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    standard_errors: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics of the study's tasks, by their keys in this study."""
        return stored_metrics(self.definition, _feedback_kind(self.definition, self.provenance))

    @property
    def signs(self) -> tuple[float, ...]:
        """The sign of each objective: 1 if lower is better, -1 if higher is better."""
        return tuple(metric.sign for metric in self.objectives)

    @cached_property
    def front(self) -> list[FrontRow]:
        """The Pareto front, sorted by the first objective, best first."""
        return pareto_front(self.rows, self.signs)

    @cached_property
    def knee(self) -> FrontRow | None:
        """The knee of the front; None if the front is empty."""
        return knee(self.front, self.signs)

    @property
    def seeds(self) -> int:
        """The number of seeds that a trial's metrics are the mean of; 1 if no trial was repeated."""
        return max(map(len, self.repeats.values()), default=1)

    @property
    def spread_of(self) -> str:
        """The name of the quantity that `spread` returns; empty if no trial has one."""
        if self.seeds > 1:
            return f"standard deviation over {self.seeds} seeds"
        if not self.standard_errors:
            return ""
        split = self.provenance.get("split", {})
        drawn, users = split.get("validation_users"), split.get("validation_users_drawn_from")
        return "standard error" + (f", {drawn:,} of {users:,} users evaluated" if drawn and users else "")

    @property
    def tested_members(self) -> int:
        """The largest number of members of which every trial of the front has a model that was tested; else 1."""
        front = {row.trial for row in self.front}
        return max((members for members, found in self.member_results.items() if front <= found.keys()), default=1)

    def tested(self, members: int) -> Mapping[int, Mapping[int, TestResult]]:
        """Return the test results of models of so many members, by trial and first seed."""
        return self.test_results if members == 1 else self.member_results.get(members, {})

    def provenance_of(self, trial: int) -> Mapping[str, Any]:
        """Return the provenance of the run that a trial belongs to: the last run that began before the trial."""
        # Of several runs at the same time it cannot be told which ran the trial: the latest is taken.
        if trial in self.times:
            began = self.times[trial].begun.astimezone(UTC)
            earlier = [run for run in self.runs if datetime.fromisoformat(run["begun"]) <= began]
            if earlier:
                return earlier[-1]
        return self.provenance

    def spread(self, trial: int) -> tuple[float, ...] | None:
        """Return the uncertainty of each objective of a trial; None if it is not known.

        It is the sample standard deviation over the seeds if trials were repeated. Otherwise it is the standard error
        if the validation users were sampled. The two are not added: all trials are evaluated on the same sample, so
        that its error is the same in all of them and does not matter when they are compared.
        """
        if self.seeds > 1:
            seeds = self.repeats.get(trial, ())
            return self._for_objectives(lambda key: stdev(seed[key] for seed in seeds)) if len(seeds) > 1 else None
        errors = self.standard_errors.get(trial, {})
        known = all(metric.key in errors for metric in self.objectives)
        return self._for_objectives(errors.__getitem__) if known else None

    def _for_objectives(self, value: Callable[[str], float]) -> tuple[float, ...]:
        """Return the value of each objective, computed from its key."""
        return tuple(value(metric.key) for metric in self.objectives)

    def baseline_values(self, name: str) -> tuple[float, ...]:
        """Return the values that a baseline reaches in the objectives; NaN in one of a task that it is none of."""
        return self._for_objectives(lambda key: self.baselines[name].get(key, nan))

    @property
    def hypervolume(self) -> float:
        """The share of the box between reference and ideal that the front dominates; 0 without stored baselines."""
        return self.volume([row.values for row in self.front])

    @property
    def reference(self) -> tuple[float, ...] | None:
        """The value of each objective that counts as no success; None if a baseline that gives one is not stored."""
        if any(metric.reference not in self.baselines for metric in self.objectives):
            return None
        return tuple(self.baselines[metric.reference][metric.key] for metric in self.objectives)

    @property
    def ideal(self) -> tuple[float, ...]:
        """The best possible value of each objective."""
        return tuple(metric.ideal for metric in self.objectives)

    def volume(self, values: Sequence[tuple[float, ...]]) -> float:
        """Return the hypervolume of the points `values`, each in the study's objectives; 0 without stored baselines."""
        if self.reference is None:
            return 0.0
        return hypervolume(values, self.signs, self.reference, self.ideal)

    def gain(self, point: tuple[float, ...], values: Sequence[tuple[float, ...]]) -> float:
        """Return by how much a point more raises the hypervolume of others; 0 where no baselines are stored."""
        if self.reference is None:
            return 0.0
        return hypervolume_gain(point, values, self.signs, self.reference, self.ideal)

    def beaten_by(self, row: FrontRow) -> list[str]:
        """Return the names of the baselines that are worse than the trial in every objective, and have every one."""
        return [name for name in self.baselines if self._better(row.values, self.baseline_values(name))]

    def _better(self, values: tuple[float, ...], others: tuple[float, ...]) -> bool:
        return all(s * a < s * b for s, a, b in zip(self.signs, values, others, strict=True))


def read_results(storage: BaseStorage, name: str | None = None) -> StudyResults:
    """Read the results of a study by its name; without a name, of the study that was written last.

    Raises:
        StudyNotFound: the storage holds no such study, or mtsearch did not make it.
    """
    return results_of(find_study(storage, name))


def read_full_results(storage: BaseStorage, name: str | None = None) -> StudyResults:
    """Read the results of a study, with the importance of each parameter; see `read_results`."""
    study = find_study(storage, name)
    return replace(results_of(study), importances=compute_importances(study))


def read_all_results(storage: BaseStorage) -> list[StudyResults]:
    """Read the results of all studies that mtsearch made, sorted by name."""
    return [results_of(study) for study in load_studies(storage)]


def results_of(study: optuna.Study, interrupted: bool = False, stopped: str = "") -> StudyResults:
    """Return the results of a loaded study.

    Args:
        study: made by mtsearch.
        interrupted, stopped: how the run that has just ended did so, see `StudyResults`.
    """
    stored = study.user_attrs
    tested = stored_test_results(stored)
    trials = study.get_trials(deepcopy=False)
    definition = stored[attributes.DEFINITION]
    metrics = stored_metrics(definition, _feedback_kind(definition, stored.get(attributes.PROVENANCE, {})))
    return StudyResults(
        name=study.study_name,
        objectives=tuple(metrics[key] for key in definition["study"]["objectives"]),
        rows=tuple(complete_rows(trials)),
        counting=sum(map(attributes.counts, trials)),
        states=Counter(trial.state.name.lower() for trial in trials),
        failures=tuple(_to_failure(trial) for trial in trials if trial.state == TrialState.FAIL),
        configs={t.number: t.user_attrs[attributes.CONFIG] for t in trials if attributes.CONFIG in t.user_attrs},
        repeats={t.number: t.user_attrs[attributes.REPEATS] for t in trials if attributes.REPEATS in t.user_attrs},
        best_epochs={
            t.number: t.user_attrs[attributes.BEST_EPOCH] for t in trials if attributes.BEST_EPOCH in t.user_attrs
        },
        standard_errors={
            t.number: t.user_attrs[attributes.STANDARD_ERRORS]
            for t in trials
            if attributes.STANDARD_ERRORS in t.user_attrs
        },
        baselines={
            name: values
            for name, values in stored.get(attributes.BASELINES, {}).items()
            if not values.keys().isdisjoint(definition["study"]["objectives"])
        },
        definition=definition,
        provenance=stored.get(attributes.PROVENANCE, {}),
        begun=min((t.datetime_start for t in trials if t.datetime_start), default=None),
        ended=max((t.datetime_complete for t in trials if t.datetime_complete), default=None),
        interrupted=interrupted,
        stopped=stopped,
        initial={
            t.number: t.user_attrs[attributes.INITIAL_LABEL] for t in trials if attributes.INITIAL_LABEL in t.user_attrs
        },
        infeasible=tuple(t.number for t in trials if t.state == TrialState.COMPLETE and not is_feasible(t)),
        runs=stored_runs(study),
        curves={t.number: t.user_attrs[attributes.CURVE] for t in trials if attributes.CURVE in t.user_attrs},
        times={
            t.number: TrialTime(t.datetime_start, t.datetime_complete, t.user_attrs.get(attributes.SECONDS, {}))
            for t in trials
            if t.datetime_start and t.datetime_complete
        },
        test_results=tested.pop(1, {}),
        member_results=tested,
        test_baselines=stored_test_baselines(stored),
    )


def _feedback_kind(definition: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Return the kind of feedback in a study's ratings; an old study stores it in its definition only."""
    return str(provenance.get("feedback", definition.get("data", {}).get("feedback", "explicit")))


def _to_failure(trial: FrozenTrial) -> Failure:
    reason = attributes.reason_of(trial)
    text, kind = reason.get("text", "ended from outside"), reason.get("kind", "died")
    return Failure(trial.number, text, attributes.counts(trial), kind)


FEWEST_FOR_IMPORTANCE = 20
"""The least number of complete trials for importances; with fewer, the best tenth says nothing."""

_FEWEST_BEST = 5  # the least number of trials that count as good, as PED-ANOVA's authors advise


def compute_importances(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Return, by objective key, the share of each parameter in reaching the best trials (PED-ANOVA).

    Watanabe, Bansal, Hutter: PED-ANOVA (IJCAI 2023). Of the trials with finite values the best tenth, at least five,
    are compared with all.

    Returns:
        Shares that add up to 1, the largest first; empty under `FEWEST_FOR_IMPORTANCE` trials or if no parameter
        varies.
    """
    # Only complete, feasible trials with finite values: an infinite value would be among the best or shift the rest.
    usable = {row.trial for row in complete_rows(study.get_trials(deepcopy=False))}
    if len(usable) < FEWEST_FOR_IMPORTANCE:
        return {}
    own = _copy_trials(study, usable)
    definition = study.user_attrs[DEFINITION]
    metrics = stored_metrics(definition)
    shares = {
        key: _importance_shares(own, index, metrics[key].sign, max(0.1, _FEWEST_BEST / len(usable)))
        for index, key in enumerate(definition["study"]["objectives"])
    }
    return {key: by_name for key, by_name in shares.items() if by_name}


def _importance_shares(study: optuna.Study, index: int, sign: float, quantile: float) -> dict[str, float]:
    """Return the share of each parameter in one objective, by name, the largest first; empty if none varies."""

    def loss(trial: FrozenTrial) -> float:
        return sign * float(trial.values[index])

    with warnings.catch_warnings():
        # Optuna warns that low values are taken for good ones, which is intended, and that this is experimental.
        warnings.simplefilter("ignore")
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        found: Mapping[str, float] = get_param_importances(study, evaluator=evaluator, target=loss, normalize=False)
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else {}


def _copy_trials(study: optuna.Study, numbers: set[int]) -> optuna.Study:
    """Return a study in memory that holds only the trials with these numbers.

    The evaluator would otherwise use trials with infinite values, which would be among the best or shift the rest.
    """
    copy = optuna.create_study(directions=study.directions)
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.number in numbers]
    copy.add_trials(
        optuna.trial.create_trial(
            state=TrialState.COMPLETE, values=trial.values, params=trial.params, distributions=trial.distributions
        )
        for trial in trials
    )
    return copy
