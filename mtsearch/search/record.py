"""What a storage holds of a study, read once, as plain data for tables, figures and JSON."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from statistics import stdev
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mtsearch.objectives import Metric, metrics_of
from mtsearch.search import attributes
from mtsearch.search.front import FrontRow, feasible, finite_rows, hypervolume, knee, pareto_front
from mtsearch.search.importance import importances
from mtsearch.search.judgements import Judged, baselines_on_test, judged_of
from mtsearch.search.passport import runs_of
from mtsearch.search.study import find, ours


@dataclass(frozen=True)
class Failure:
    """A trial that did not complete, and why."""

    trial: int
    reason: str
    counted: bool
    kind: attributes.ReasonKind = "model"


@dataclass(frozen=True)
class TrialTime:
    """When a trial ran, and what it spent its time on.

    Attributes:
        begun, ended: local time as Optuna keeps it.
        seconds: by phase, see `mtsearch.trial.TrialResult`; empty where it did not complete.
    """

    begun: datetime
    ended: datetime
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class StudyRecord:
    """A study as it stands.

    Attributes:
        name: of the study.
        objectives: the two metrics.
        rows: its complete, feasible, finite trials, by number.
        counting: trials that used up budget.
        states: number of trials by state, in lower case.
        failures: by trial number.
        configs: resolved configuration of each trial, by number.
        baselines: metrics of each reference, by name.
        definition, passport: as stored.
        begun, ended: first start and last end of a trial, local time as Optuna keeps it; None before.
        interrupted: the user ended the run that returned it.
        stopped: why the run that returned it ended before its budget; empty where it did not.
        repeats: metrics of each seed of a trial, by number, where it was repeated.
        best_epochs: 1-based epoch whose metrics are the trial's, by number; an old trial without one took its last.
        listed: where a trial that was not sampled comes from, by number.
        infeasible: numbers of the complete trials that took more than [constraints] allow.
        runs: passports of the runs, each with its `begun`; a run like the one before it has none.
        curves: finished epochs of each trial, by number: `epoch`, `metrics` ..., as in `mtsearch.trial.EpochMetrics`.
        times: of each trial that has ended, by number.
        judged: by number, what trainings of it on training and validation rows reached on test, by seed.
        test_baselines: `baselines`, on the test rows; empty before a report.
        standard_errors: of a trial's metrics, by number, where the users that it was judged on were drawn from more.
        importances: per objective the share of each parameter; empty where they were not asked for or cannot be had.
    """

    name: str
    objectives: tuple[Metric, Metric]
    rows: tuple[FrontRow, ...]
    counting: int
    states: Mapping[str, int]
    failures: tuple[Failure, ...]
    configs: Mapping[int, Mapping[str, Any]]
    baselines: Mapping[str, Mapping[str, float]]
    definition: Mapping[str, Any]
    passport: Mapping[str, Any]
    begun: datetime | None = None
    ended: datetime | None = None
    interrupted: bool = False
    stopped: str = ""
    repeats: Mapping[int, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    best_epochs: Mapping[int, int] = field(default_factory=dict)
    listed: Mapping[int, str] = field(default_factory=dict)
    infeasible: tuple[int, ...] = ()
    runs: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    times: Mapping[int, TrialTime] = field(default_factory=dict)
    judged: Mapping[int, Mapping[int, Judged]] = field(default_factory=dict)
    test_baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    standard_errors: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def signs(self) -> tuple[float, float]:
        """1 per objective where lower is better, -1 where higher is."""
        return self.objectives[0].sign, self.objectives[1].sign

    @cached_property
    def front(self) -> list[FrontRow]:
        """The Pareto front, by the first objective, best first."""
        return pareto_front(self.rows, self.signs)

    @cached_property
    def knee(self) -> FrontRow | None:
        """The front's knee."""
        return knee(self.front, self.signs)

    @property
    def seeds(self) -> int:
        """K, how many seeds a trial is the mean over; 1 where none was repeated."""
        return max(map(len, self.repeats.values()), default=1)

    @property
    def spread_of(self) -> str:
        """What `spread` is; empty where no trial has any."""
        if self.seeds > 1:
            return f"standard deviation over {self.seeds} seeds"
        if not self.standard_errors:
            return ""
        split = self.passport.get("split", {})
        drawn, users = split.get("validation_users"), split.get("validation_users_drawn_from")
        return "standard error" + (f", {drawn:,} of {users:,} users judged" if drawn and users else "")

    def passport_of(self, trial: int) -> Mapping[str, Any]:
        """What the trial ran under: the last run to begin before it; of several at once the latest."""
        if trial in self.times:
            began = self.times[trial].begun.astimezone(UTC)
            earlier = [run for run in self.runs if datetime.fromisoformat(run["begun"]) <= began]
            if earlier:
                return earlier[-1]
        return self.passport

    def spread(self, trial: int) -> tuple[float, float] | None:
        """How far a trial's two objectives may be off; None where nothing says it.

        Where trials were repeated, the sample standard deviation over their seeds; else their standard errors, where
        users were drawn. Not both in one: what drawing users adds is the same in all trials, which are judged on the
        same ones, and tells none of them from another.
        """
        if self.seeds > 1:
            seeds = self.repeats.get(trial, ())
            return self._both(lambda key: stdev(seed[key] for seed in seeds)) if len(seeds) > 1 else None
        errors = self.standard_errors.get(trial, {})
        return self._both(errors.__getitem__) if all(metric.key in errors for metric in self.objectives) else None

    def _both(self, value: Callable[[str], float]) -> tuple[float, float]:
        first, second = self.objectives
        return value(first.key), value(second.key)

    def baseline_values(self, name: str) -> tuple[float, float]:
        """The two objectives of a baseline."""
        first, second = self.objectives
        return self.baselines[name][first.key], self.baselines[name][second.key]

    @property
    def hypervolume(self) -> float:
        """The front's share of the box between chance and the ideal; 0 where no baselines are stored."""
        return self.volume([row.values for row in self.front])

    @property
    def ideal(self) -> tuple[float, float]:
        """The best values that there can be."""
        first, second = (metric.ideal for metric in self.objectives)
        return first, second

    def volume(self, values: Sequence[tuple[float, float]]) -> float:
        """What the hypervolume of these points is."""
        if "chance" not in self.baselines:
            return 0.0
        return hypervolume(values, self.signs, self.baseline_values("chance"), self.ideal)

    def beaten_by(self, row: FrontRow) -> list[str]:
        """Names of the baselines that the trial is better than in both objectives."""
        return [name for name in self.baselines if self._better(row.values, self.baseline_values(name))]

    def _better(self, values: tuple[float, float], others: tuple[float, float]) -> bool:
        return all(s * a < s * b for s, a, b in zip(self.signs, values, others, strict=True))


def read(storage: BaseStorage, name: str | None = None) -> StudyRecord:
    """The record of a study; without a name, of the one written last.

    Raises:
        StudyNotFound: there is none that mtsearch made.
    """
    return of(find(storage, name))


def read_in_full(storage: BaseStorage, name: str | None = None) -> StudyRecord:
    """`read`, with the importance of each parameter."""
    study = find(storage, name)
    return replace(of(study), importances=importances(study))


def read_all(storage: BaseStorage) -> list[StudyRecord]:
    """All studies that mtsearch made, by name."""
    return [of(study) for study in ours(storage)]


def of(study: optuna.Study, interrupted: bool = False, stopped: str = "") -> StudyRecord:
    """The record of a study that mtsearch made."""
    stored = study.user_attrs
    trials = study.get_trials(deepcopy=False)
    metrics = metrics_of(_feedback(stored))
    first, second = stored[attributes.DEFINITION]["study"]["objectives"]
    return StudyRecord(
        name=study.study_name,
        objectives=(metrics[first], metrics[second]),
        rows=tuple(finite_rows(trials)),
        counting=sum(map(attributes.counts, trials)),
        states=Counter(trial.state.name.lower() for trial in trials),
        failures=tuple(_failure(trial) for trial in trials if trial.state == TrialState.FAIL),
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
        baselines=stored.get(attributes.BASELINES, {}),
        definition=stored[attributes.DEFINITION],
        passport=stored.get(attributes.PASSPORT, {}),
        begun=min((t.datetime_start for t in trials if t.datetime_start), default=None),
        ended=max((t.datetime_complete for t in trials if t.datetime_complete), default=None),
        interrupted=interrupted,
        stopped=stopped,
        listed={t.number: t.user_attrs[attributes.LISTED] for t in trials if attributes.LISTED in t.user_attrs},
        infeasible=tuple(t.number for t in trials if t.state == TrialState.COMPLETE and not feasible(t)),
        runs=runs_of(study),
        curves={t.number: t.user_attrs[attributes.CURVE] for t in trials if attributes.CURVE in t.user_attrs},
        times={
            t.number: TrialTime(t.datetime_start, t.datetime_complete, t.user_attrs.get(attributes.SECONDS, {}))
            for t in trials
            if t.datetime_start and t.datetime_complete
        },
        judged=judged_of(stored),
        test_baselines=baselines_on_test(stored),
    )


def _feedback(stored: Mapping[str, Any]) -> str:
    """What the rows of a study say; the passport of an old one left it to the definition."""
    named = stored[attributes.DEFINITION].get("data", {}).get("feedback", "explicit")
    return str(stored.get(attributes.PASSPORT, {}).get("feedback", named))


def _failure(trial: FrozenTrial) -> Failure:
    reason = attributes.reason_of(trial)
    text, kind = reason.get("text", "ended from outside"), reason.get("kind", "died")
    return Failure(trial.number, text, attributes.counts(trial), kind)
