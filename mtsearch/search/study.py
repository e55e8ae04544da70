"""Studies in a storage: begun, continued, found."""

import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage

from mtsearch.definition import StudyDefinition
from mtsearch.errors import StudyMismatch, StudyNotFound
from mtsearch.objectives import METRICS
from mtsearch.search.attributes import BASELINES, DEFINITION, PASSPORT
from mtsearch.search.passport import differences
from mtsearch.search.sampling import make_sampler
from mtsearch.search.space import Space

optuna.logging.set_verbosity(optuna.logging.WARNING)


def begin_or_continue(
    storage: BaseStorage,
    definition: StudyDefinition,
    passport: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, float]],
) -> optuna.Study:
    """The definition's study: a new one with its listed trials queued, or the one that is there.

    Raises:
        StudyMismatch: a study of that name has another definition, or other data or another split.
    """
    name = definition.study.name
    if name in optuna.get_all_study_names(storage):
        study = join(storage, definition)
        # NOTE: a process killed between these steps leaves a study without attributes; it has no trials either.
        if DEFINITION in study.user_attrs:
            _require_same(study, definition, passport)
            return study
    else:
        directions = [METRICS[key].direction for key in definition.study.objectives]
        optuna.create_study(study_name=name, storage=storage, directions=directions)
        study = join(storage, definition)
    _describe(study, definition, passport, baselines)
    return study


def join(storage: BaseStorage, definition: StudyDefinition) -> optuna.Study:
    """The definition's study, which exists, with its sampler."""
    sampler = make_sampler(definition.study.sampler, definition.study.seed)
    return optuna.load_study(study_name=definition.study.name, storage=storage, sampler=sampler)


def find(storage: BaseStorage, name: str | None) -> optuna.Study:
    """The study of that name; without one, the study written last.

    Raises:
        StudyNotFound: there is none.
    """
    names = optuna.get_all_study_names(storage)
    if not names:
        raise StudyNotFound("the storage holds no study", "`mtsearch run` makes one")
    if name is None:
        name = max(names, key=lambda each: _last_written(optuna.load_study(study_name=each, storage=storage)))
    elif name not in names:
        raise StudyNotFound(f"no study {name!r} in the storage", f"it holds: {', '.join(sorted(names))}")
    return optuna.load_study(study_name=name, storage=storage)


def _last_written(study: optuna.Study) -> tuple[datetime, int]:
    times = [trial.datetime_complete or trial.datetime_start for trial in study.get_trials(deepcopy=False)]
    return max((time for time in times if time), default=datetime.min), study._study_id


def _describe(
    study: optuna.Study,
    definition: StudyDefinition,
    passport: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, float]],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(definition.study.objectives))
    for params in Space(definition).listed:
        study.enqueue_trial(params)
    study.set_user_attr(PASSPORT, dict(passport))
    study.set_user_attr(BASELINES, {name: dict(metrics) for name, metrics in baselines.items()})
    study.set_user_attr(DEFINITION, definition.resolved())


def _require_same(study: optuna.Study, definition: StudyDefinition, passport: Mapping[str, Any]) -> None:
    found = list(differences(study.user_attrs[DEFINITION], definition.resolved()))
    for part in ("data", "split"):
        stored = study.user_attrs[PASSPORT][part]
        found += [f"{part} {line}" for line in differences(stored, passport[part])]
    if found:
        raise StudyMismatch(
            f"study {study.study_name!r} was begun with another definition or other data ({'; '.join(found)})",
            "give the new one a name with --study NAME, or undo the difference",
        )
