"""The verbs of the command line, for Python: `from mtsearch import run`."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mtsearch.data import Interactions, Split, load, make_split
from mtsearch.definition import StudyDefinition
from mtsearch.errors import DefinitionError
from mtsearch.evaluation import baselines as evaluate_baselines
from mtsearch.machine import usable_cores
from mtsearch.search import record
from mtsearch.search.crew import Alone, Crew, MakeTrainer, Observer
from mtsearch.search.interrupts import graceful
from mtsearch.search.passport import make_passport
from mtsearch.search.record import StudyRecord
from mtsearch.search.runner import counting
from mtsearch.search.storage import checkpoint, open_reader, open_writer, resolve_url, storage_errors
from mtsearch.search.study import begin_or_continue
from mtsearch.search.views import ensure_views
from mtsearch.search.workers import Job, WorkerPool
from mtsearch.trial import Trainer

DEFAULT_DEFINITION = "ml-100k"
DEFAULT_TRIALS = 50


def prepare(definition: StudyDefinition) -> tuple[Interactions, Split]:
    """Load the definition's ratings and split them.

    Raises:
        DataError: they cannot be had or used.
    """
    interactions = load(definition.data)
    return interactions, make_split(interactions, definition.split)


def baselines(definition: StudyDefinition) -> dict[str, dict[str, float]]:
    """What needs no search: metrics of chance, popularity and biases on the validation rows."""
    _, split = prepare(definition)
    return evaluate_baselines(split, split.validation)


def joint_trainer(split: Split, threads: int | None) -> tuple[Trainer, Mapping[str, Any]]:
    """The TFRS joint model on the best device of this machine, and what to write into the passport of it."""
    from mtsearch.recsys import Device, JointTrainer  # TensorFlow takes seconds to import

    device = Device.default(threads)
    return JointTrainer(split, device), {"device": device.description, "threads": device.threads}


def run(
    definition: StudyDefinition,
    trials: int | None = None,
    *,
    until: int | None = None,
    timeout: float | None = None,
    workers: int = 1,
    storage: str | None = None,
    observer: Observer = lambda _: None,
    begun: Callable[[int, int], None] = lambda _done, _until: None,
    make_trainer: MakeTrainer = joint_trainer,
) -> StudyRecord:
    """Begin the definition's study or go on with it.

    Args:
        definition: what to search, on which data.
        trials: how many counting trials to add; by default 50, or the listed ones of a definition without [space].
        until: in place of `trials`: how many counting trials the study shall have in all.
        timeout: seconds after which no further trial begins.
        workers: processes; 1 is this one, and alone proposes the same configurations each time.
        storage: URL or path; by default `studies/mtsearch.db` under the current folder.
        observer: told of every trial that has ended.
        begun: told once how many counting trials there are and shall be.
        make_trainer: from the split to the trainer; a function of a module where there are several workers.

    Returns:
        The study as it stands after; `interrupted` where the user asked for the end.

    Raises:
        MtsearchError: see `mtsearch.errors`.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    interactions, split = prepare(definition)
    url = resolve_url(storage)
    with storage_errors(url), graceful() as interrupt:
        writer = open_writer(url, create=True)
        with _crew(definition, url, split, workers, make_trainer) as crew:
            passport = make_passport(interactions, split, {**crew.description(), "workers": workers})
            study = begin_or_continue(writer, definition, passport, evaluate_baselines(split, split.validation))
            ensure_views(writer)
            goal = _goal(definition, counting(study), trials, until)
            begun(counting(study), goal)
            try:
                crew.run(study, goal, deadline, observer, interrupt)
            finally:
                checkpoint(writer)
        return record.of(study, interrupted=interrupt.requested)


@contextmanager
def _crew(
    definition: StudyDefinition, url: str, split: Split, workers: int, make_trainer: MakeTrainer
) -> Iterator[Crew]:
    if workers == 1:
        yield Alone(definition, split, make_trainer)
        return
    threads = max(1, usable_cores() // workers)
    with WorkerPool(Job(definition, url, make_trainer, threads), workers) as pool:
        yield pool


def front(study: str | None = None, storage: str | None = None) -> StudyRecord:
    """The record of a study, its front included; without a name, of the one written last."""
    url = resolve_url(storage)
    with storage_errors(url):
        return record.read(open_reader(url), study)


def studies(storage: str | None = None) -> list[StudyRecord]:
    """The records of all studies in a storage."""
    url = resolve_url(storage)
    with storage_errors(url):
        return record.read_all(open_reader(url))


def _goal(definition: StudyDefinition, done: int, trials: int | None, until: int | None) -> int:
    """How many counting trials the study shall have."""
    listed = len(definition.trials)
    if definition.space:
        return until if until is not None else done + (trials if trials is not None else DEFAULT_TRIALS)
    goal = until if until is not None else listed if trials is None else done + trials
    if goal > listed:
        raise DefinitionError(
            f"{definition.study.name} lists {listed} trials and has no [space] to sample {goal - listed} more from",
            "run it without --trials, or add a [space]",
        )
    return goal
