"""Studies in a storage: begun, continued, found."""

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage

from mtsearch.definition import StudyDefinition
from mtsearch.errors import StudyMismatch, StudyNotFound
from mtsearch.objectives import METRICS
from mtsearch.search.attributes import BASELINES, DEFINITION, LISTED, PASSPORT
from mtsearch.search.passport import differences
from mtsearch.search.retries import give_up_the_dead
from mtsearch.search.sampling import make_sampler
from mtsearch.search.space import Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

_logger = logging.getLogger("mtsearch")
_DESCRIBE_SECONDS = 10


def begin_or_continue(
    storage: BaseStorage,
    definition: StudyDefinition,
    passport: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, float]],
) -> optuna.Study:
    """The definition's study: a new one with its listed trials queued, or the one that is there.

    Whatever was running when its process died is given up and queued again.

    Raises:
        StudyMismatch: a study of that name has another definition, or other data or another split, or is not ours.
    """
    name = definition.study.name
    directions = [METRICS[key].direction for key in definition.study.objectives]
    try:
        optuna.create_study(study_name=name, storage=storage, directions=directions)
        study, created = join(storage, definition), True
    except DuplicatedStudyError:
        study, created = join(storage, definition), False
    if created or not _is_described(study):
        _describe(study, definition, passport, baselines)
    _require_same(study, definition, passport)
    _queue_listed(study, Space(definition).listed)
    give_up_the_dead(study)
    return study


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
    """The definition's study, which exists, with its sampler."""
    sampler = make_sampler(definition.study.sampler, definition.study.seed)
    return optuna.load_study(study_name=definition.study.name, storage=storage, sampler=sampler)


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
) -> None:
    """Write what makes it ours, the definition last: a study that has one has the rest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(definition.study.objectives))
    study.set_user_attr(PASSPORT, dict(passport))
    study.set_user_attr(BASELINES, {name: dict(metrics) for name, metrics in baselines.items()})
    study.set_user_attr(DEFINITION, definition.resolved())


def _queue_listed(study: optuna.Study, listed: Sequence[Mapping[str, Any]]) -> None:
    """Queue the listed trials that are not there yet, each under its index."""
    present = {trial.user_attrs.get(LISTED) for trial in study.get_trials(deepcopy=False)}
    for index, params in enumerate(listed):
        if index not in present:
            study.enqueue_trial(dict(params), user_attrs={LISTED: index})


def _require_same(study: optuna.Study, definition: StudyDefinition, passport: Mapping[str, Any]) -> None:
    stored: Mapping[str, Any] = study.user_attrs[PASSPORT]
    found = list(differences(_comparable(study.user_attrs[DEFINITION]), _comparable(definition.resolved())))
    for part in ("data", "split"):
        found += [f"{part} {line}" for line in differences(stored[part], passport[part])]
    if found:
        raise StudyMismatch(
            f"study {study.study_name!r} was begun with another definition or other data ({'; '.join(found)})",
            "give the new one a name with --study NAME, or undo the difference",
        )
    for line in differences(stored, passport):
        _logger.warning("this run differs from the one that began the study: %s", line)


def _comparable(definition: Mapping[str, Any]) -> dict[str, Any]:
    """What the numbers depend on: the same data may be had from several places, as their fingerprint tells."""
    return {key: value for key, value in definition.items() if key not in ("data", "published")}
