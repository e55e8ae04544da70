"""Studies in a storage: begun, continued, found."""

import time
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage

from mtsearch.definition import StudyDefinition
from mtsearch.errors import StudyMismatch, StudyNotFound
from mtsearch.objectives import METRICS
from mtsearch.search.attributes import BASELINES, DEFINITION, LISTED_TRIALS, PASSPORT, POPULATION, WARM_START
from mtsearch.search.listed import ListedFirst, WarmStart, listed_trials, storable, stored_listed
from mtsearch.search.outages import Outlasting
from mtsearch.search.passport import record_run
from mtsearch.search.resume import require_same_data, require_same_definition
from mtsearch.search.retries import give_up_the_dead, queue_the_lost
from mtsearch.search.sampling import make_sampler

optuna.logging.set_verbosity(optuna.logging.WARNING)

_DESCRIBE_SECONDS = 10


def begin_or_continue(
    storage: BaseStorage,
    definition: StudyDefinition,
    passport: Mapping[str, Any],
    baselines: Callable[[], Mapping[str, Mapping[str, float]]],
    warm_start: WarmStart | None = None,
    *,
    trials: int,
) -> optuna.Study:
    """The definition's study: a new one that knows what it runs first, or the one that is there.

    Whatever was running when its process died is given up and queued again. `trials`, how many are asked for, gives a
    new study of a genetic sampler its population, which it keeps. A new one alone asks for the `baselines`.

    Raises:
        StudyMismatch: a study of that name has another definition, or other data or another split, or is not ours.
    """
    name, lasting = definition.study.name, Outlasting.of(storage)
    directions = [METRICS[key].direction for key in definition.study.objectives]
    try:
        optuna.create_study(study_name=name, storage=lasting, directions=directions)
        created = True
    except DuplicatedStudyError:
        created = False
    study = optuna.load_study(study_name=name, storage=lasting)
    if created or not _is_described(study):
        _describe(study, definition, passport, baselines(), warm_start, trials)
    require_same_definition(study, definition, warm_start.study if warm_start else None)
    require_same_data(study, passport)
    record_run(study, passport)
    give_up_the_dead(study)
    queue_the_lost(study)
    return join(storage, definition)


def _is_described(study: optuna.Study) -> bool:
    """Whether it is one of ours; waits for a process that has just created it.

    Raises:
        StudyMismatch: somebody else's, with trials.
    """
    deadline = time.monotonic() + _DESCRIBE_SECONDS
    while DEFINITION not in study.user_attrs:
        if study.get_trials(deepcopy=False):
            problem = f"study {study.study_name!r} is in the storage already and was not made by mtsearch"
            raise StudyMismatch(problem, "give the new one another name with --study NAME")
        if time.monotonic() > deadline:
            return False  # its creator died before it could
        time.sleep(0.1)
    return True


def join(storage: BaseStorage, definition: StudyDefinition) -> optuna.Study:
    """The definition's study, which exists, with its sampler; what is done with it outlasts an outage."""
    study = optuna.load_study(study_name=definition.study.name, storage=Outlasting.of(storage))
    study.sampler = ListedFirst(make_sampler(definition), stored_listed(study))
    return study


def ours(storage: BaseStorage) -> list[optuna.Study]:
    """The studies in the storage that mtsearch made, by name."""
    names = sorted(optuna.get_all_study_names(storage))
    studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
    return [study for study in studies if DEFINITION in study.user_attrs]


def find(storage: BaseStorage, name: str | None) -> optuna.Study:
    """The study of that name; without one, the study written last.

    Raises:
        StudyNotFound: there is none, or it was not made by mtsearch.
    """
    studies = ours(storage)
    if not studies:
        raise StudyNotFound("the storage holds no study", "`mtsearch run` makes one")
    if name is None:
        return max(studies, key=_last_written)
    named = [study for study in studies if study.study_name == name]
    if not named:
        known = ", ".join(study.study_name for study in studies)
        raise StudyNotFound(f"no study {name!r} made by mtsearch in the storage", f"it holds: {known}")
    return named[0]


def _last_written(study: optuna.Study) -> tuple[datetime, int]:
    times = [trial.datetime_complete or trial.datetime_start for trial in study.get_trials(deepcopy=False)]
    return max((time for time in times if time), default=datetime.min), study._study_id


def _describe(
    study: optuna.Study,
    definition: StudyDefinition,
    passport: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, float]],
    warm_start: WarmStart | None,
    trials: int,
) -> None:
    """Write what makes it ours, the definition last: a study that has one has the rest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(definition.study.objectives))
    study.set_user_attr(PASSPORT, dict(passport))
    study.set_user_attr(BASELINES, {name: dict(metrics) for name, metrics in baselines.items()})
    study.set_user_attr(LISTED_TRIALS, storable(listed_trials(definition, warm_start)))
    if warm_start:
        study.set_user_attr(WARM_START, warm_start.study)
    population = definition.study.sampler.population(trials)
    if population is not None:
        study.set_user_attr(POPULATION, population)
    study.set_user_attr(DEFINITION, definition.resolved())
