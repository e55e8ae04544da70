"""Create, begin, resume, find, rename and delete the studies of a storage; what the numbers of a run depend on."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage, RDBStorage
from pydantic import ValidationError
from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from mtsearch.data import Interactions, Split
from mtsearch.errors import DefinitionError, StorageError, StudyMismatch, StudyNotFound
from mtsearch.host import usable_cores
from mtsearch.models.scales import make_scale
from mtsearch.models.trainer import MODEL_SOURCE
from mtsearch.search.attributes import BASELINES, DEFINITION, INITIAL_TRIALS, POPULATION, PROVENANCE, RUN, WARM_START
from mtsearch.search.ownership import ATTRIBUTES, STUDIES, require_no_owner
from mtsearch.search.samplers import InitialTrialsSampler, make_sampler
from mtsearch.search.space import WarmStart, initial_trials, storable, stored_initial_trials
from mtsearch.search.storage.owner import OwnerStorage
from mtsearch.search.trial import enqueue_lost, fail_running_trials
from mtsearch.signals import defer_signals
from mtsearch.study_file.config import PARAMETERS, Losses, default_of
from mtsearch.study_file.definition import StudyDefinition, StudySection
from mtsearch.text import listing, quote, shell_command

optuna.logging.set_verbosity(optuna.logging.WARNING)


def create_study(storage: RDBStorage, definition: StudyDefinition) -> None:
    """Create the study of a definition without trials or a description, unless the storage has one of that name."""
    directions = [definition.metrics[key].direction for key in definition.study.objectives]
    with suppress(DuplicatedStudyError):
        optuna.create_study(study_name=definition.study.name, storage=OwnerStorage(storage), directions=directions)


def begin_or_resume(
    storage: RDBStorage,
    definition: StudyDefinition,
    provenance: Mapping[str, Any],
    baselines: Callable[[], Mapping[str, Mapping[str, float]]],
    warm_start: WarmStart | None = None,
    *,
    trials: int,
) -> optuna.Study:
    """Describe the study of a definition if it is new, make it ready to go on if not, and return it with its sampler.

    Trials that an earlier owner was running fail and are queued again.

    Args:
        storage: from `open_writer`, with the study in it.
        definition: of the study.
        provenance: of this run, see `collect_provenance`.
        baselines: computes the metrics of the baselines by name; called for a new study only.
        warm_start: front of another study, which a new study runs among its initial trials.
        trials: number of trials in this run, from which a new study with a genetic sampler gets its population size.

    Raises:
        StudyMismatch: the study of that name has another definition, other data or another split, or mtsearch did not
            make it.
    """
    study = optuna.load_study(study_name=definition.study.name, storage=OwnerStorage(storage))
    # A study without a description is new, or its owner ended before it could write one.
    if DEFINITION not in study.user_attrs:
        if study.get_trials(deepcopy=False):
            problem = f"study {study.study_name!r} is in the storage already, and another program made it"
            raise StudyMismatch(problem, "give the new study another name with --study NAME")
        _store_description(study, definition, provenance, baselines(), warm_start, trials)
    require_same_definition(study, definition, warm_start.study if warm_start else None)
    require_same_data(study, provenance)
    store_run(study, provenance)
    fail_running_trials(study, "died", "its run ended")
    enqueue_lost(study)
    study.sampler = InitialTrialsSampler(make_sampler(definition), stored_initial_trials(study))
    return study


def load_studies(storage: BaseStorage) -> list[optuna.Study]:
    """Load the studies in a storage that mtsearch made, sorted by name."""
    names = sorted(optuna.get_all_study_names(storage))
    studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
    return [study for study in studies if DEFINITION in study.user_attrs]


def load_existing(storage: BaseStorage, name: str) -> optuna.Study:
    """Load a study that the storage held before.

    Raises:
        StudyNotFound: the study was deleted in the meantime.
    """
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        raise StudyNotFound(
            f"study {name!r} is no longer in the storage", "start a new one with `mtsearch run`"
        ) from None


def count_finished(study: optuna.Study) -> int:
    """Return the number of trials that have ended: complete, pruned or failed."""
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def find_study(storage: BaseStorage, name: str | None) -> optuna.Study:
    """Load a study by its name; without a name, the study that was written last.

    Raises:
        StudyNotFound: the storage holds no such study, or mtsearch did not make it.
    """
    studies = load_studies(storage)
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
    # Studies without a trial come before all others, the latest created last.
    return max((time for time in times if time), default=datetime.min), study._study_id


def _store_description(
    study: optuna.Study,
    definition: StudyDefinition,
    provenance: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, float]],
    warm_start: WarmStart | None,
    trials: int,
) -> None:
    """Store the description of a new study, the definition last: a study with a definition is complete."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(definition.study.objectives))
    study.set_user_attr(PROVENANCE, dict(provenance))
    study.set_user_attr(BASELINES, {name: dict(metrics) for name, metrics in baselines.items()})
    study.set_user_attr(INITIAL_TRIALS, storable(initial_trials(definition, warm_start)))
    if warm_start:
        study.set_user_attr(WARM_START, warm_start.study)
    population = definition.study.sampler.population(trials)
    if population is not None:
        study.set_user_attr(POPULATION, population)
    study.set_user_attr(DEFINITION, definition.resolved())


def add_baselines(
    study: optuna.Study,
    baselines: Mapping[str, Mapping[str, float]],
    definition: StudyDefinition,
    interactions: Interactions,
    split: Split,
) -> None:
    """Store baselines beside those of a study, in place of earlier ones of the same names.

    Args:
        study: made by mtsearch, in a storage that can be written.
        baselines: metrics on the validation rows, by name.
        definition, interactions, split: what the baselines were computed on.

    Raises:
        StudyMismatch: the study has other data, another split or other tasks; nothing is stored.
    """
    stored, provenance = study.user_attrs[DEFINITION], study.user_attrs.get(PROVENANCE, {})
    same = {
        "data": provenance.get("data", {}).get("fingerprint") == interactions.fingerprint,
        "split": provenance.get("split", {}).get("fingerprint") == split.fingerprint,
        "tasks": stored.get("tasks") == definition.resolved().get("tasks"),
    }
    if not all(same.values()):
        differing = listing([part for part, equal in same.items() if not equal])
        raise StudyMismatch(f"study {study.study_name!r} has other {differing}", "name its own definition")
    with defer_signals():
        study.set_user_attr(BASELINES, {**study.user_attrs.get(BASELINES, {}), **baselines})


_OPTIONS = ("seed", "sampler", "pruner", "losses")
_OLD_STUDY = {"pruner": {"kind": "none"}, "losses": "tutorial"}
"""What the definition of an older version has where it does not name these options."""
_logger = logging.getLogger("mtsearch")


def with_stored_options(study: optuna.Study, definition: StudyDefinition) -> StudyDefinition:
    """Return the definition with the study's options, such as its seed, that neither the file nor an option names."""
    stored, present = (
        {**_OLD_STUDY, **each["study"]} for each in (study.user_attrs[DEFINITION], definition.resolved())
    )
    named = definition.study.model_fields_set
    # The options that only the study names, and whose stored value differs from the present default.
    taken = {key: stored[key] for key in _OPTIONS if key not in named and stored.get(key, present[key]) != present[key]}
    if not taken:
        return definition
    changed = ", ".join(find_differences({key: present[key] for key in taken}, taken))
    _logger.info("study %s goes on as it was begun: %s", study.study_name, changed)
    section = StudySection.model_validate({**present, **taken})
    return definition.model_copy(update={"study": section})


def require_same_definition(study: optuna.Study, definition: StudyDefinition, warm_start: str | None) -> None:
    """Raise an error if a study was begun with another definition or from another warm start.

    Raises:
        StudyMismatch: they differ; the message names each difference.
    """
    found = list(
        find_differences(comparable_parts(study.user_attrs[DEFINITION]), comparable_parts(definition.resolved()))
    )
    begun_from = study.user_attrs.get(WARM_START)
    if warm_start is not None and warm_start != begun_from:
        found += find_differences({"warm start": begun_from}, {"warm start": warm_start})
    _refuse_differences(study, found)


def require_same_data(study: optuna.Study, provenance: Mapping[str, Any]) -> None:
    """Raise an error if a study was begun with other data, another split, or another source of a custom model.

    Raises:
        StudyMismatch: they differ; the message names each difference.
    """
    stored: Mapping[str, Any] = study.user_attrs[PROVENANCE]
    parts = ("data", "split")
    found = [f"{part} {line}" for part in parts for line in find_differences(stored[part], provenance[part])]
    # A custom model in code counts as the same if its source has the same fingerprint.
    before, now = ({"model": each["trainer"].get(MODEL_SOURCE)} for each in (stored, provenance))
    _refuse_differences(study, [*found, *find_differences(before, now)])


def _refuse_differences(study: optuna.Study, found: list[str]) -> None:
    if found:
        raise StudyMismatch(
            f"study {study.study_name!r} was begun with another definition or other data ({'; '.join(found)})",
            f"go on as it was begun with `{shell_command('run', study.study_name)} --until N`, without a definition; "
            "give the new study another name with --study NAME; or undo the difference",
        )


def comparable_parts(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a stored definition that the metrics depend on, with the defaults written out.

    The place of the data is left out: the same data may come from several places, and their fingerprint is compared.
    """
    # The definition of an older version names no parameter that is newer than it.
    study = {**_OLD_STUDY, **definition["study"]}
    defaults = {name: default_of(name) for name in PARAMETERS if name not in definition.get("space", {})}
    return {key: value for key, value in definition.items() if key not in ("data", "published", "model")} | {
        "study": study,
        "fixed": {**defaults, "seed": study["seed"], **definition.get("fixed", {})},
        "model": {**definition.get("model", {}), "folder": None},
    }


def rename_study(storage: RDBStorage, old: str, new: str) -> None:
    """Rename a study, in its stored definition too, so that a run under the new name resumes it.

    NOTE: Optuna has no such operation, and a copy would have other times, take the RUNNING trials along and leave two
    studies where it breaks off. One transaction on the tables does both or nothing.

    Raises:
        DefinitionError: the new name is not a valid name.
        StudyNotFound: there is no such study, or mtsearch did not make it.
        StorageError: the new name is taken.
        StudyInUse: a process runs the study.
    """
    _check_name(new)
    study = find_study(storage, old)
    require_no_owner(storage, study.study_name, "renamed")
    with storage.engine.begin() as connection:
        if _find_study_id(connection, new) is not None:
            raise StorageError(f"a study {new!r} is in the storage already", "choose another name")
        renamed = STUDIES.c.study_id == _find_study_id(connection, old)
        connection.execute(update(STUDIES).where(renamed).values(study_name=new))
        # The stored definition holds the name too.
        stored = (ATTRIBUTES.c.study_id == _find_study_id(connection, new)) & (ATTRIBUTES.c.key == DEFINITION)
        definition = json.loads(connection.execute(select(ATTRIBUTES.c.value_json).where(stored)).scalar_one())
        definition["study"]["name"] = new
        connection.execute(update(ATTRIBUTES).where(stored).values(value_json=json.dumps(definition)))


def delete_study(storage: RDBStorage, name: str) -> None:
    """Delete a study with all its trials.

    Raises:
        StudyNotFound: there is no such study, or mtsearch did not make it.
        StudyInUse: a process runs the study.
    """
    study = find_study(storage, name)
    require_no_owner(storage, study.study_name, "deleted")
    optuna.delete_study(study_name=study.study_name, storage=storage)


def _check_name(name: str) -> None:
    try:
        StudySection(name=name)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DefinitionError(f"{quote(name)} is not a valid name for a study: {problem}") from None


def _find_study_id(connection: Connection, name: str) -> int | None:
    number: int | None = connection.execute(select(STUDIES.c.study_id).where(STUDIES.c.study_name == name)).scalar()
    return number


_PACKAGES = ("mtsearch", "numpy", "optuna", "sqlalchemy", "tensorflow", "tensorflow-recommenders", "tf-keras")
_GIT_SECONDS = 5


def collect_provenance(
    interactions: Interactions, split: Split, trainer: Mapping[str, Any], losses: Losses = "tutorial"
) -> dict[str, Any]:
    """Return everything beside the definition that the numbers of a run depend on, as a JSON object.

    Args:
        interactions: the ratings.
        split: of them.
        trainer: the trainer's description of itself: device, threads.
        losses: of the study; normalized ones are divided by constants of the training rows.
    """
    validation = split.validation
    return {
        "data": {
            "fingerprint": interactions.fingerprint,
            "rows": len(interactions.rows),
            "users": len(interactions.user_ids),
            "items": len(interactions.item_ids),
        },
        "split": {
            "fingerprint": split.fingerprint,
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
            "catalogue": len(split.catalogue),
            "validation_rows_of_unknown_users": int(np.count_nonzero(~split.known_users[validation.users])),
            "validation_rows_of_unknown_items": int(np.count_nonzero(~split.known_items[validation.items])),
            "validation_rows_outside_catalogue": int(np.count_nonzero(~np.isin(validation.items, split.catalogue))),
            **_count_sampled_users(split),
        },
        **({"scales": _describe_scales(split)} if losses == "normalized" else {}),
        "feedback": interactions.report.feedback,
        "trainer": dict(trainer),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "commit": _find_commit(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _describe_scales(split: Split) -> dict[str, dict[str, float]]:
    """Return for each task the units in which it is learnt; see `TaskScale`."""
    return {task.name: asdict(make_scale(split, task)) for task in split.tasks}


def _count_sampled_users(split: Split) -> dict[str, int]:
    """Return the number of sampled validation users and of all of them; empty without a sample, as in old studies."""
    if split.drawn_from is None:
        return {}
    return {"validation_users": split.validation_users, "validation_users_drawn_from": split.drawn_from}


def store_run(study: optuna.Study, provenance: Mapping[str, Any]) -> None:
    """Store the provenance of a run if it differs from the last one, and warn of differences from the first run."""
    for line in find_differences(study.user_attrs[PROVENANCE], provenance):
        _logger.warning("this run differs from the one that began the study: %s", line)
    runs = stored_runs(study)
    if not runs or {**runs[-1], "begun": None} != {**provenance, "begun": None}:
        begun = datetime.now(UTC).isoformat()
        # Each run has its own key, so that two runs that begin at once do not overwrite each other's provenance.
        study.set_user_attr(f"{RUN}{begun}", {"begun": begun, **provenance})


def stored_runs(study: optuna.Study) -> list[dict[str, Any]]:
    """Return the stored provenance of the runs in order, each with the UTC time of its begin as `begun`.

    A run with the same provenance as the one before it is not stored.
    """
    stored = study.user_attrs
    return [stored[key] for key in sorted(stored) if key.startswith(RUN)]


def find_differences(stored: Mapping[str, Any], present: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield a line `key: stored -> present` for each value that differs between two nested mappings."""
    for key in {**stored, **present}:
        place = f"{path}{key}"
        old, new = stored.get(key), present.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from find_differences(old, new, f"{place}.")
        elif old != new:
            yield f"{place}: {_format_value(old)} -> {_format_value(new)}"


def _find_commit() -> str | None:
    """Return the git commit of the checkout that mtsearch runs from; None if mtsearch is installed.

    It ends in `-dirty` if files differ from the commit.
    """
    checkout = Path(str(files("mtsearch"))).parent
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    # The user's environment may name another repository; and git must not lock this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _format_value(value: object) -> str:
    return "nothing" if value is None else str(value)
