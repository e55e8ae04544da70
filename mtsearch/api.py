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
from mtsearch.search.crew import Alone, Crew, MakeTrainer, Observer, budget_of
from mtsearch.search.interrupts import graceful
from mtsearch.search.passport import make_passport
from mtsearch.search.record import StudyRecord
from mtsearch.search.runner import counting
from mtsearch.search.storage import checkpoint, open_outdated, open_reader, open_writer, resolve_url, storage_errors
from mtsearch.search.study import begin_or_continue
from mtsearch.search.views import drop_views, ensure_views
from mtsearch.search.workers import Job, WorkerPool
from mtsearch.trial import Trainer

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
    trials = _trials_asked_for(definition, trials, until)
    if workers < 1:
        raise DefinitionError(f"workers = {workers}", "one or more")
    interactions, split = prepare(definition)
    url = resolve_url(storage)
    with storage_errors(url), graceful() as interrupt:
        with _crew(definition, url, split, workers, make_trainer) as crew:
            writer = open_writer(url, create=True)  # while workers import TensorFlow
            passport = make_passport(interactions, split, {**crew.description(), "workers": workers})
            study = begin_or_continue(writer, definition, passport, evaluate_baselines(split, split.validation))
            ensure_views(writer)
            budget = budget_of(study, definition, trials, until)
            done = counting(study)
            begun(done, done + budget.left)
            crew.run(study, budget, deadline, observer, interrupt)
        result = record.of(study, interrupted=interrupt.requested)
        checkpoint(writer)
        return result


def _trials_asked_for(definition: StudyDefinition, trials: int | None, until: int | None) -> int | None:
    """How many trials to add; None where `until` says it.

    Raises:
        DefinitionError: less than one, both at once, or more than a definition without [space] lists.
    """
    if trials is not None and until is not None:
        raise DefinitionError("both trials and until are given", "give one of them")
    asked = trials if trials is not None else until
    if asked is not None and asked < 1:
        raise DefinitionError(f"{asked} trials", "one or more")
    listed = len(definition.trials)
    if not definition.space and asked is not None and asked > listed:
        raise DefinitionError(
            f"{definition.study.name} lists {listed} trials and has no [space] to sample {asked - listed} more from",
            "run it without --trials, or add a [space]",
        )
    if until is not None:
        return None
    return trials or (DEFAULT_TRIALS if definition.space else listed)


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


def upgrade(storage: str | None = None) -> None:
    """Bring a storage that an older version of Optuna wrote to the installed one's schema.

    NOTE: a view on Optuna's tables breaks the renames of its migrations on SQLite, so the views go first.
    """
    url = resolve_url(storage)
    with storage_errors(url):
        outdated = open_outdated(url)
        drop_views(outdated)
        outdated.upgrade()
        ensure_views(open_writer(url))
