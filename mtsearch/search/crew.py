"""Who runs the trials of a study: this process alone, or several workers (`workers.py`)."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState

from mtsearch.data import Split
from mtsearch.definition import StudyDefinition
from mtsearch.search.attributes import WORKER
from mtsearch.search.interrupts import Interrupt
from mtsearch.search.liveness import watching
from mtsearch.search.one_reading import OneReading
from mtsearch.search.patience import Patience
from mtsearch.search.runner import TrialEnd, TrialRunner, counting
from mtsearch.trial import Trainer

MakeTrainer = Callable[[Split, int | None], tuple[Trainer, Mapping[str, Any]]]
"""From the split and a number of threads (None: one per core) to a trainer and its part of the passport."""

Observer = Callable[[TrialEnd], None]
"""Who is told of every trial that has ended and is stored."""

POLL_SECONDS = 0.5

_log = logging.getLogger(__name__)


def tolerated(observer: Observer) -> Observer:
    """The observer, its exceptions logged with their traceback and passed over.

    A tracking server that is down for a minute must not end a study, whose trials are stored before anyone is told.
    """

    def observe(end: TrialEnd) -> None:
        try:
            observer(end)
        except Exception:
            _log.warning("on_trial failed at trial %d, which is stored; the study goes on", end.trial, exc_info=True)

    return observe


class Budget:
    """How many counting trials are left to run.

    Args:
        study: whose trials count.
        trials: to add by this run, whatever others add at the same time.
        until: in place of it: to have in all.
        patience: ends it early.

    Attributes:
        until: as given.
        spent: trials of this run that have ended, counting or not.
    """

    def __init__(
        self, study: optuna.Study, trials: int | None, until: int | None, patience: Patience | None = None
    ) -> None:
        self._study, self._trials, self._patience = study, trials, patience
        self.until = until
        self._counted = 0
        self.spent = 0

    @property
    def left(self) -> int:
        """Counting trials still to begin or to end."""
        with OneReading():
            return 0 if self._patience and self._patience.over else self._unspent

    def free(self, mine: Sequence[Mapping[str, Any]] = ()) -> int:
        """Trials that may run now: with `until` the running ones of others have their places too.

        Args:
            mine: the workers of this run.
        """
        if self.until is None:
            return self.left
        with OneReading():
            running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            others = sum(trial.user_attrs.get(WORKER) not in mine for trial in running)
            return self.left - others

    @property
    def stopped(self) -> str:
        """Why it was not used up; empty where only time or the user's wish were in the way."""
        return str(self._patience) if self._patience and self._patience.over and self._unspent > 0 else ""

    @property
    def _unspent(self) -> int:
        if self.until is not None:
            return max(self.until - counting(self._study), 0)
        return (self._trials or 0) - self._counted

    def spend(self, end: TrialEnd) -> None:
        """A trial of this run has ended."""
        self.spent += 1
        self._counted += end.counted


def budget_of(
    study: optuna.Study,
    definition: StudyDefinition,
    trials: int | None,
    until: int | None,
    patience: Patience | None = None,
) -> Budget:
    """The budget of a run; of a definition without [space] never more than it lists."""
    if not definition.space:
        until = min(len(definition.trials), until or counting(study) + (trials or 0))
    return Budget(study, None if until else trials, until, patience)


class Crew(Protocol):
    """Runs trials until the budget is used up."""

    def description(self) -> Mapping[str, Any]:
        """What the trainer says of itself, for the passport."""

    def run(
        self, study: optuna.Study, budget: Budget, deadline: float, observer: Observer, interrupt: Interrupt
    ) -> None:
        """Run until the budget is spent, `time.monotonic()` passes the deadline, or an interrupt.

        A trial that was begun before the deadline ends.
        """


class Alone:
    """A crew of this process.

    Args:
        definition: of the study.
        split: of its data.
        make_trainer: makes the trainer, here and now.
    """

    def __init__(self, definition: StudyDefinition, split: Split, make_trainer: MakeTrainer) -> None:
        trainer, self._description = make_trainer(split, None)
        self._runner = TrialRunner(definition, trainer)

    def description(self) -> Mapping[str, Any]:
        """See `Crew`."""
        return self._description

    def run(
        self, study: optuna.Study, budget: Budget, deadline: float, observer: Observer, interrupt: Interrupt
    ) -> None:
        """See `Crew`."""
        with watching(study):
            while not interrupt.requested and time.monotonic() < deadline and budget.left > 0:
                if budget.free() <= 0:  # others run the last ones, and may fail to
                    time.sleep(POLL_SECONDS)
                    continue
                end = self._runner.run(study, interrupt, budget.until)
                budget.spend(end)
                observer(end)
