"""The run of a study: the steps from the user's request to the stored results.

`plan_run` checks the request before ratings are loaded and before anything is written. `run_study` then opens the
storage, becomes the owner of the study, begins or resumes it, and runs trials (`run_trials`): the owner asks, stores
and tells, and an `Executor` (`mtsearch.executors`) trains. The `Budget` says how many more trials may begin; a
`StoppingRule` ends it early. One trial: `mtsearch.search.trial`.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from mtsearch.data import Interactions, Split
from mtsearch.errors import DefinitionError, StudyNotFound, TrialFailure
from mtsearch.evaluation import evaluate_baselines
from mtsearch.models.trainer import EpochMetrics, TrainingEnd
from mtsearch.search.attributes import DEFINITION, counts
from mtsearch.search.ownership import own_study
from mtsearch.search.pareto import complete_rows
from mtsearch.search.results import StudyResults, read_results, results_of
from mtsearch.search.space import WarmStart, warm_start_from
from mtsearch.search.storage import (
    DatabaseFile,
    checkpoint,
    open_writer,
    reading_storage,
    require_writable,
    storage_errors,
)
from mtsearch.search.storage.views import ensure_views
from mtsearch.search.study import (
    begin_or_resume,
    collect_provenance,
    create_study,
    find_study,
    load_studies,
    require_same_definition,
    with_stored_options,
)
from mtsearch.search.trial import RunningTrial, TrialEnd, TrialFactory, fail_running_trials
from mtsearch.signals import catch_termination, on_forced_exit
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.sections import require_counts, require_packages, require_seconds
from mtsearch.text import count, quote

DEFAULT_TRIALS = 50

POLL_SECONDS = 0.5
"""How long the owner waits for the workers before it looks at the clock again, in seconds."""

Observer = Callable[[TrialEnd], None]
"""Called with the end of every trial, once it is stored."""

_RELATIVE_GAIN = 1e-9
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunPlan:
    """The checked request for a run, made before ratings are loaded and before anything is written.

    Attributes:
        url: of the storage.
        definition: of the study; an existing study keeps the options that it was begun with.
        warm_start: front of another study whose trials run first; None without one.
        trials: number of counting trials to add; None if `until` is given.
        until: number of counting trials that the study shall have in all; None if `trials` is given.
        timeout: seconds after which no further trial begins; None for no limit.
        patience: number of counting trials in a row without a gain after which the run ends; None for no such end.
        deadline: `time.monotonic()` at which the timeout is over; infinite without one.
    """

    url: str
    definition: StudyDefinition
    warm_start: WarmStart | None
    trials: int | None
    until: int | None
    timeout: float | None
    patience: int | None
    deadline: float


def plan_run(
    url: str,
    definition: StudyDefinition,
    trials: int | None = None,
    *,
    until: int | None = None,
    timeout: float | None = None,
    patience: int | None = None,
    warm_start: str | None = None,
) -> RunPlan:
    """Check a request for a run against the definition and the storage, and return the plan; nothing is written.

    Args:
        url: of the storage; neither the storage nor the study needs to exist.
        definition: of the study.
        trials, until, timeout, patience: see `RunPlan`.
        warm_start: name of a study in the same storage.

    Raises:
        DefinitionError: a number is out of its range, or a package of the sampler is missing.
        StudyMismatch: the study has another definition, or nothing of the other study's front can be used.
        StudyNotFound: the storage has no study `warm_start`.
        StorageError: the storage cannot be reached or written.
    """
    require_counts(trials=trials, until=until, patience=patience)
    require_seconds(timeout)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    trials = trials_to_add(definition, trials, until)
    require_writable(url)
    definition, front = _compare_with_storage(url, definition, warm_start)
    if definition.space:
        require_packages(definition.study.sampler)
    return RunPlan(url, definition, front, trials, until, timeout, patience, deadline)


def run_study(
    plan: RunPlan,
    interactions: Interactions,
    split: Split,
    open_executor: Callable[[], AbstractContextManager[Executor]],
    on_trial: Observer,
    on_begin: Callable[[int, int], None],
) -> StudyResults:
    """Begin or resume the planned study, run its trials, and return its results.

    Args:
        plan: from `plan_run`.
        interactions: the definition's ratings.
        split: of them.
        open_executor: makes the executor; it is closed before the results are read.
        on_trial: called with the end of every trial, once it is stored; its exceptions are logged.
        on_begin: called once, with the number of counting trials in the study and the number after the run.

    Returns:
        The results of all trials in the study, also those of earlier runs.

    Raises:
        StudyInUse: another process runs the study.
    """
    with storage_errors(plan.url), ExitStack() as opened:
        # Open the storage, and own the study from here on.
        storage = open_writer(plan.url, create=True)
        opened.callback(checkpoint, storage)
        database = DatabaseFile(plan.url)
        ensure_views(storage)  # before the study exists, so that every reader of the study finds the views
        create_study(storage, plan.definition)
        ownership = opened.enter_context(own_study(storage, plan.definition.study.name))

        with catch_termination() as interrupt:
            with open_executor() as executor:
                # Begin or resume the study, with a description of this run.
                trainer = {**executor.description(), "workers": executor.workers}
                study = begin_or_resume(
                    storage,
                    plan.definition,
                    collect_provenance(interactions, split, trainer, plan.definition.losses),
                    partial(evaluate_baselines, split, split.validation),
                    plan.warm_start,
                    trials=plan.until or plan.trials or DEFAULT_TRIALS,
                )

                # Run trials until the budget is spent, the deadline passes, or the user interrupts.
                budget = make_budget(study, plan)
                on_begin(budget.counted, budget.counted + budget.left)
                trials = TrialFactory(study, plan.definition, interrupt)
                observe = tolerate_errors(on_trial)

                def is_over() -> bool:
                    database.require_unchanged()
                    ownership.require()
                    return interrupt.requested or time.monotonic() >= plan.deadline

                run_trials(study, trials, executor, budget, is_over, observe)

            # The executor is closed and every trial is stored: say why the run ended early, and read the results.
            stopped = budget.stopped or ("" if interrupt.requested else _describe_timeout(budget, plan.timeout))
            return results_of(study, interrupted=interrupt.requested, stopped=stopped)


class Executor(Protocol):
    """What trains: this process, or workers in other processes, which know nothing of the study.

    Attributes:
        workers: number of trainings that run at the same time.
        ready: number of workers that can train now; it changes as workers begin, die and are replaced.
    """

    @property
    def workers(self) -> int:
        """The number of trainings that run at the same time."""
        ...

    @property
    def ready(self) -> int:
        """The number of workers that can train now, at most `workers`."""
        ...

    def description(self) -> Mapping[str, Any]:
        """Return the trainer's description of itself for the provenance: device, threads."""
        ...

    def start(self, trial: int, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> None:
        """Begin a training in a worker that is ready and idle.

        Args:
            trial: number that the end of the training carries.
            config: to be trained.
            on_epoch: called by `wait` after each epoch; False stops the training.
        """
        ...

    def wait(self, seconds: float) -> Sequence[TrainingEnd]:
        """Return the trainings that have ended; wait until something happens, for a number of seconds at most."""
        ...


def run_trials(
    study: optuna.Study,
    trials: TrialFactory,
    executor: Executor,
    budget: Budget,
    is_over: Callable[[], bool],
    observe: Observer,
) -> None:
    """Run trials, one in each of the executor's workers, until the budget is spent or the run is over.

    A trial that began before the run was over ends in its own time. With several workers the next trial is proposed
    while all are training, so that none has to wait for it.

    Args:
        study: of the trials.
        trials: proposes them.
        executor: trains them.
        budget: says how many more trials may begin; told of every trial that ended.
        is_over: tells whether no further trial may begin.
        observe: called with the end of every trial, once it is stored.
    """
    ahead = 1 if executor.workers > 1 else 0
    running: dict[int, RunningTrial] = {}
    proposed: deque[RunningTrial] = deque()

    def begin_proposed() -> None:
        while proposed and len(running) < min(executor.ready, budget.left) and not is_over():
            trial = proposed.popleft()
            running[trial.number] = trial
            trial.begin()
            executor.start(trial.number, trial.config, trial.on_epoch)

    with on_forced_exit(lambda: fail_running_trials(study, "interrupted", "interrupted twice")):
        try:
            while True:
                # Propose a trial for each idle worker, and one ahead. Each may be one that counts.
                while len(running) + len(proposed) < min(executor.ready + ahead, budget.left) and not is_over():
                    proposed.append(trials.propose())
                    begin_proposed()
                if not running and (budget.left == 0 or is_over()):
                    return
                ended = [(running.pop(end.trial), end) for end in executor.wait(POLL_SECONDS)]
                begin_proposed()  # before anything is stored, so that the idle worker need not wait
                for trial, end in ended:
                    stored = trial.end(end, budget.counted)
                    budget.spend(stored)
                    observe(stored)
                    if end.error is not None and not isinstance(end.error, TrialFailure):
                        raise end.error
        finally:
            # Trials that the run did not begin, or broke off.
            fail_running_trials(study, "interrupted", "the run ended")


def trials_to_add(definition: StudyDefinition, trials: int | None, until: int | None) -> int | None:
    """Return the number of trials to add to a study; None if `until` limits the run instead.

    Raises:
        DefinitionError: both numbers are given, or one exceeds the trials that a definition without [space] lists.
    """
    if trials is not None and until is not None:
        raise DefinitionError("both trials and until are given", "give one of them")
    requested = trials if trials is not None else until
    listed = len(definition.trials)
    if not definition.space and requested is not None and requested > listed:
        raise DefinitionError(
            f"{definition.study.name} lists {listed} trials and has no [space] to sample {requested - listed} more "
            "from",
            "run it without --trials, or add a [space]",
        )
    if until is not None:
        return None
    return trials or (DEFAULT_TRIALS if definition.space else listed)


def _compare_with_storage(
    url: str, definition: StudyDefinition, warm_start: str | None
) -> tuple[StudyDefinition, WarmStart | None]:
    """Return the definition with the options of an existing study, and the front that a new study begins with.

    A storage that does not exist yet is not an error, unless it should hold the study of a warm start.
    """
    is_there = False
    try:
        with reading_storage(url) as storage:
            is_there = True
            return _compare_with_studies(storage, definition, warm_start)
    except StudyNotFound as error:
        if warm_start is None:
            return definition, None
        if is_there:
            raise
        problem = f"there is no study {quote(warm_start)} to start from: {error.problem}"
        raise StudyNotFound(problem, "name the storage that holds it with --storage") from None


def _compare_with_studies(
    storage: BaseStorage, definition: StudyDefinition, warm_start: str | None
) -> tuple[StudyDefinition, WarmStart | None]:
    """Do the same as `_compare_with_storage`, in a storage that exists and is open."""
    begun = [study for study in load_studies(storage) if study.study_name == definition.study.name]
    if begun:
        definition = with_stored_options(begun[0], definition)
        require_same_definition(begun[0], definition, warm_start)
        # The study has its initial trials already: only the name of the warm start is compared.
        return definition, WarmStart(warm_start) if warm_start is not None else None
    if warm_start is None:
        return definition, None
    return definition, warm_start_from(warm_start, read_results(storage, warm_start).front, definition)


def make_budget(study: optuna.Study, plan: RunPlan) -> Budget:
    """Return the budget of a run; a definition without [space] limits it to the trials that the definition lists."""
    counted = sum(map(counts, study.get_trials(deepcopy=False)))
    until = plan.until or counted + (plan.trials or 0)
    if not plan.definition.space:
        until = min(len(plan.definition.trials), until)
    return Budget(counted, until, StoppingRule(study, plan.patience) if plan.patience else None)


class Budget:
    """The number of counting trials that a study shall have, and how many it has.

    Args:
        counted: number of counting trials in the study now.
        until: number that it shall have.
        stopping: ends the budget early.

    Attributes:
        counted: as given, and those that have ended since.
        spent: number of trials that have ended since, counting or not.
    """

    def __init__(self, counted: int, until: int, stopping: StoppingRule | None = None) -> None:
        self._until, self._stopping = until, stopping
        self.counted, self.spent = counted, 0

    @property
    def left(self) -> int:
        """The number of counting trials that are missing; 0 once the stopping rule is met."""
        return 0 if self._stopping and self._stopping.is_met() else max(self._until - self.counted, 0)

    @property
    def stopped(self) -> str:
        """The reason why the stopping rule ended the run; empty if it did not."""
        return str(self._stopping) if self._stopping and self.counted < self._until and self.left == 0 else ""

    def spend(self, end: TrialEnd) -> None:
        """Note that a trial has ended."""
        self.spent += 1
        self.counted += end.counted
        if self._stopping:
            self._stopping.update()


class StoppingRule:
    """The rule that ends a run after a number of counting trials in a row that did not increase the hypervolume.

    Trials are taken in the order of their ends, whichever run they belong to, so that a resumed study stops at the same
    trial as one that was never interrupted.

    Args:
        study: whose trials.
        trials: number of trials in a row.
    """

    def __init__(self, study: optuna.Study, trials: int) -> None:
        self._study, self._trials = study, trials
        self._compute_gain = results_of(study).gain
        self._seen: set[int] = set()
        self._points: list[tuple[float, ...]] = []
        self._volume = 0.0
        self._without_gain = 0
        self.update()

    def is_met(self) -> bool:
        """Tell whether the study has had this many trials in a row without a gain, at the latest update."""
        return self._without_gain >= self._trials

    def update(self) -> None:
        """Take the trials of the study that have ended since the latest update."""
        trials = self._study.get_trials(deepcopy=False)
        for trial in sorted((t for t in trials if t.number not in self._seen and counts(t)), key=_end_of):
            self._add(trial)

    def _add(self, trial: FrozenTrial) -> None:
        self._seen.add(trial.number)
        gain = 0.0
        for row in complete_rows([trial]):
            gain = self._compute_gain(row.values, self._points)
            self._points.append(row.values)
        # Rounding in the volume of many points must not look like a gain.
        gained = gain > self._volume * _RELATIVE_GAIN
        self._volume += gain
        self._without_gain = 0 if gained else self._without_gain + 1

    def __str__(self) -> str:
        return f"the hypervolume has not moved in the last {self._trials} trials"


def _end_of(trial: FrozenTrial) -> tuple[float, int]:
    """Return the time of a trial's end in seconds, and its number for trials that ended together."""
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0, trial.number


def tolerate_errors(observer: Observer) -> Observer:
    """Return the observer with its exceptions logged, with their traceback, instead of raised.

    A tracking server that is down for a minute must not end a study. The trial is stored before the observer is called.
    """

    def observe(end: TrialEnd) -> None:
        try:
            observer(end)
        except Exception:
            _log.warning("on_trial failed at trial %d, which is stored; the study goes on", end.trial, exc_info=True)

    return observe


def _describe_timeout(budget: Budget, timeout: float | None) -> str:
    """Return a sentence on the trials that the timeout did not allow to run; empty if there are none."""
    if timeout is None or budget.left <= 0:
        return ""
    passed, left = f"timeout = {timeout:g} s had passed", count(budget.left, "trial")
    return f"{passed}, with {left} left to run" if budget.spent else f"no trial was run: {passed}"


def stored_definition(url: str, name: str) -> dict[str, Any] | None:
    """Return the stored definition of a study as a mapping of its tables; None if there is no such study."""
    with suppress(StudyNotFound), reading_storage(url) as storage:
        definition: dict[str, Any] = find_study(storage, name).user_attrs[DEFINITION]
        # What an older version stored names no losses: a file that names none has others.
        return {**definition, "study": {"losses": "tutorial", **definition["study"]}}
    return None
