"""Who runs the trials of a study: this process alone, or several workers (`workers.py`)."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import optuna

from mtsearch.data import Split
from mtsearch.definition import StudyDefinition
from mtsearch.search.interrupts import Interrupt
from mtsearch.search.runner import TrialEnd, TrialRunner, counting
from mtsearch.trial import Trainer

MakeTrainer = Callable[[Split, int | None], tuple[Trainer, Mapping[str, Any]]]
"""From the split and a number of threads (None: one per core) to a trainer and its part of the passport."""

Observer = Callable[[TrialEnd], None]
"""Who is told of every trial that has ended and is stored."""


class Crew(Protocol):
    """Runs trials until the budget is used up."""

    def description(self) -> Mapping[str, Any]:
        """What the trainer says of itself, for the passport."""

    def run(self, study: optuna.Study, until: int, deadline: float, observer: Observer, interrupt: Interrupt) -> None:
        """Run until the study has `until` counting trials, `time.monotonic()` passes the deadline, or an interrupt.

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

    def run(self, study: optuna.Study, until: int, deadline: float, observer: Observer, interrupt: Interrupt) -> None:
        """See `Crew`."""
        while not interrupt.requested and time.monotonic() < deadline and counting(study) < until:
            observer(self._runner.run(study, interrupt))
