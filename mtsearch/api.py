"""The verbs of the command line, for Python: `from mtsearch import run`."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from os import PathLike
from typing import Any

from mtsearch.data import Interactions, Split, load, make_split
from mtsearch.definition import StudyDefinition
from mtsearch.errors import DefinitionError
from mtsearch.evaluation import baselines as evaluate_baselines
from mtsearch.export_file import Export
from mtsearch.guide import guide as guide  # noqa: PLC0414 # re-exported: a verb of the command line
from mtsearch.guide import guide_topics as guide_topics  # noqa: PLC0414
from mtsearch.objectives import METRICS
from mtsearch.report.comparison import Comparison, comparison
from mtsearch.report.notebook import ShownStudy, shown
from mtsearch.report.on_test import FrontOnTest, front_on_test
from mtsearch.report.wording import count
from mtsearch.retraining.judging import Begun, Listener, MakeJudge, Watcher, judge_front
from mtsearch.search import record, upkeep
from mtsearch.search.asked import DEFAULT_TRIALS, require_counts, require_seconds, trials_asked_for
from mtsearch.search.choosing import KNEE, choose
from mtsearch.search.crew import Alone, Budget, Crew, MakeTrainer, Observer, budget_of, tolerated
from mtsearch.search.database_file import DatabaseFile
from mtsearch.search.exporting import export_of
from mtsearch.search.interrupts import graceful
from mtsearch.search.judgements import Judgements
from mtsearch.search.passport import make_passport
from mtsearch.search.patience import Patience
from mtsearch.search.plan import plan, stored_definition
from mtsearch.search.runner import TrialEnd, counting
from mtsearch.search.seats import Seat, Workers, seats
from mtsearch.search.storage import (
    checkpoint,
    open_outdated,
    open_writer,
    reading,
    resolve_url,
    storage_errors,
    writing,
)
from mtsearch.search.study import begin_or_continue, find
from mtsearch.search.views import drop_views, ensure_views
from mtsearch.search.workers import Job, WorkerPool
from mtsearch.study_file.memory import require_memory
from mtsearch.study_file.reading import change
from mtsearch.study_file.sampler import require_packages
from mtsearch.trainers import trainer_of

_logger = logging.getLogger("mtsearch")


def prepare(definition: StudyDefinition) -> tuple[Interactions, Split]:
    """Load the definition's ratings and split them; the log says where an objective cannot tell models apart.

    Raises:
        DataError: they cannot be had or used.
    """
    interactions = load(definition.data, definition.split)
    split = make_split(interactions, definition.split)
    for key in definition.study.objectives:
        if len(split.catalogue) <= (METRICS[key].hits_within or 0):
            _logger.warning(
                "%s is the same for every model, since the catalogue has %d items; "
                "take another objective under [study], such as ndcg_10 or mrr",
                key,
                len(split.catalogue),
            )
    return interactions, split


def baselines(definition: StudyDefinition) -> dict[str, dict[str, float]]:
    """What needs no search: metrics of chance, popularity and biases on the validation rows."""
    _, split = prepare(definition)
    return evaluate_baselines(split, split.validation)


def run(
    definition: StudyDefinition,
    trials: int | None = None,
    *,
    until: int | None = None,
    timeout: float | None = None,
    patience: int | None = None,
    workers: Workers = 1,
    warm_start: str | None = None,
    storage: str | PathLike[str] | None = None,
    on_trial: Observer = lambda _: None,
    begun: Callable[[int, int], None] = lambda _done, _until: None,
    make_trainer: MakeTrainer | None = None,
) -> ShownStudy:
    """Begin the definition's study or go on with it.

    Args:
        definition: what to search, on which data.
        trials: how many counting trials to add; by default 50, or the listed ones of a definition without [space].
        until: in place of `trials`: how many counting trials the study shall have in all.
        timeout: seconds after which no further trial begins.
        patience: ends when so many counting trials of the study in a row have not moved its hypervolume.
        workers: processes; 1 is this one, and alone proposes the same configurations each time. `auto`: one per visible
            GPU, else one per core as far as the memory reaches. Several import the script that calls this when they
            begin: it must do so under `if __name__ == "__main__":`.
        warm_start: another study of the storage, whose front is run first when this one is begun.
        storage: URL or path; by default `studies/mtsearch.db` under the current folder.
        on_trial: called in this process with the `TrialEnd` of every trial that has ended, when it is stored; an
            exception in it is logged, and the study goes on. `TrialEnd` shows how to log elsewhere.
        begun: told once how many counting trials there are and shall be.
        make_trainer: from the split to the trainer; a function of a module where there are several workers. By default
            that of the joint model, or of the definition's own.

    Returns:
        The study as it stands after; `interrupted` where the user asked for the end, `stopped` says why where patience
        or the timeout ran out.

    Raises:
        MtsearchError: see `mtsearch.errors`.
    """
    require_counts(trials=trials, until=until, patience=patience, workers=None if workers == "auto" else workers)
    require_seconds(timeout)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    trials = trials_asked_for(definition, trials, until)
    url = resolve_url(storage)
    definition, warm = plan(url, definition, warm_start)
    if definition.space:
        require_packages(definition.study.sampler)
    make_trainer = make_trainer or trainer_of(definition)
    interactions, split = prepare(definition)
    places = seats(workers)
    require_memory(definition, len(split.user_ids), len(split.candidates), len(places))
    with storage_errors(url), graceful() as interrupt, ExitStack() as opened:
        with _crew(definition, url, split, places, make_trainer) as crew:
            writer = open_writer(url, create=True)  # while workers import TensorFlow
            opened.callback(checkpoint, writer)
            file = DatabaseFile(url)
            ensure_views(writer)  # before there is a study: who sees the study sees the views
            passport = make_passport(interactions, split, {**crew.description(), "workers": len(places)})
            references = partial(evaluate_baselines, split, split.validation)
            study = begin_or_continue(
                writer, definition, passport, references, warm, trials=until or trials or DEFAULT_TRIALS
            )
            budget = budget_of(study, definition, trials, until, Patience(study, patience) if patience else None)
            done = counting(study)
            begun(done, done + budget.left)
            crew.run(study, budget, deadline, _observer(file, on_trial), interrupt)
        stopped = budget.stopped or ("" if interrupt.requested else _out_of_time(budget, timeout))
        return shown(record.of(study, interrupted=interrupt.requested, stopped=stopped))


def _out_of_time(budget: Budget, timeout: float | None) -> str:
    """What the timeout kept from being run; empty where nothing."""
    if timeout is None or budget.left <= 0:
        return ""
    passed, left = f"timeout = {timeout:g} s had passed", count(budget.left, "trial")
    return f"{passed}, with {left} left to run" if budget.spent else f"no trial was run: {passed}"


def _observer(file: DatabaseFile, on_trial: Observer) -> Observer:
    """Who is told of a trial that has ended: `on_trial`, once it is sure that the trial is kept."""
    tell = tolerated(on_trial)

    def observe(end: TrialEnd) -> None:
        file.require()
        tell(end)

    return observe


def begun_as(
    study: str,
    storage: str | PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> StudyDefinition | None:
    """The definition that a study was begun with, for a machine without the file; None where there is no such study.

    Args:
        study: its name.
        storage: URL or path.
        overrides, values: see `StudyDefinition.load`.
    """
    raw = stored_definition(resolve_url(storage), study)
    if raw is None:
        return None
    change(raw, [overrides] if isinstance(overrides, str) else overrides, values or {})
    return StudyDefinition.from_mapping(raw, origin=f"study {study}")


@contextmanager
def _crew(
    definition: StudyDefinition, url: str, split: Split, places: Sequence[Seat], make_trainer: MakeTrainer
) -> Iterator[Crew]:
    if len(places) == 1:
        yield Alone(definition, split, make_trainer)
        return
    with WorkerPool(Job(definition, url, split.fingerprint, make_trainer), places) as pool:
        yield pool


def front(study: str | None = None, storage: str | PathLike[str] | None = None) -> ShownStudy:
    """The record of a study, its front included; without a name, of the one written last."""
    with reading(resolve_url(storage)) as reader:
        return shown(record.read(reader, study))


def front_in_full(study: str | None = None, storage: str | PathLike[str] | None = None) -> ShownStudy:
    """`front`, with the importance of each parameter."""
    with reading(resolve_url(storage)) as reader:
        return shown(record.read_in_full(reader, study))


def compare(studies: Sequence[str], storage: str | PathLike[str] | None = None) -> Comparison:
    """Two studies or more of one storage, measured alike.

    Raises:
        StudyMismatch: they have other objectives.
        StorageError: one cannot be read.
    """
    with reading(resolve_url(storage)) as reader:
        return comparison([record.read(reader, name) for name in studies])


def export(study: str | None = None, storage: str | PathLike[str] | None = None, pick: str = KNEE) -> Export:
    """The configuration of one trial, with its data, its split and where it comes from; `.save("best.toml")` writes it.

    Args:
        study: its name; without one, the study written last.
        storage: URL or path.
        pick: `knee`; an objective's key, for its best; `trial:17`; or a rule such as `rmse<=0.93`, for the best of the
            other objective among the front's trials that meet it.

    Raises:
        PickError: the pick cannot be read, or no trial is as it asks.
        StorageError: the study cannot be read.
    """
    stored = front(study, storage)
    return export_of(stored, choose(stored, pick))


def report_on(
    study: str | None = None,
    storage: str | PathLike[str] | None = None,
    *,
    seeds: int = 5,
    make_trainer: MakeJudge | None = None,
    begun: Begun = lambda _done, _all: None,
    on_epoch: Watcher = lambda _trial, _seed, _share: None,
    on_judged: Listener = lambda _trial, _seed, _judged: None,
) -> FrontOnTest:
    """`mtsearch report`: train the members of a front on training and validation rows, and judge them on test.

    Each training is kept in the study when it is judged, so that an interrupted report goes on, and a second one
    trains nothing that is there. (`mtsearch.report` is the package that draws.)

    Args:
        study: its name; without one, the study written last.
        storage: URL or path.
        seeds: trainings of each member, with its own seed and the ones after it.
        make_trainer, begun, on_epoch, on_judged: see `mtsearch.retraining.judging`.

    Raises:
        PickError: nothing is on the front.
        MtsearchError: see `mtsearch.errors`.
    """
    if seeds < 1:
        raise DefinitionError(f"seeds = {seeds}", "one or more")
    with writing(resolve_url(storage)) as writer:
        found = find(writer, study)
        judge_front(
            record.of(found),
            seeds,
            Judgements(found),
            make_trainer=make_trainer,
            begun=begun,
            on_epoch=on_epoch,
            on_judged=on_judged,
        )
        return front_on_test(record.of(found), seeds)


def studies(storage: str | PathLike[str] | None = None) -> list[ShownStudy]:
    """The records of all studies in a storage."""
    with reading(resolve_url(storage)) as reader:
        return [shown(each) for each in record.read_all(reader)]


def upgrade(storage: str | PathLike[str] | None = None) -> None:
    """Bring a storage that an older version of Optuna wrote to the installed one's schema.

    NOTE: a view on Optuna's tables breaks the renames of its migrations on SQLite, so the views go first.
    """
    url = resolve_url(storage)
    with storage_errors(url):
        outdated = open_outdated(url)
        drop_views(outdated)
        with _quiet_alembic():
            outdated.upgrade()
        ensure_views(open_writer(url))


def rename(old: str, new: str, storage: str | PathLike[str] | None = None) -> None:
    """Give a study another name; `mtsearch run --study NEW` then goes on with it."""
    with writing(resolve_url(storage)) as writer:
        upkeep.rename(writer, old, new)


def delete(study: str, storage: str | PathLike[str] | None = None) -> None:
    """Delete a study with all its trials."""
    with writing(resolve_url(storage)) as writer:
        upkeep.delete(writer, study)


@contextmanager
def _quiet_alembic() -> Iterator[None]:
    """Optuna's migrations print each of their steps, unless they find that somebody has set logging up."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
