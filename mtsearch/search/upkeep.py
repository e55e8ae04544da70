"""Studies renamed and deleted."""

import json
import logging
import time
from collections.abc import Sequence

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial
from pydantic import ValidationError
from sqlalchemy import column, select, table, update
from sqlalchemy.engine import Connection

from mtsearch.definition import StudySection
from mtsearch.errors import DefinitionError, StorageError
from mtsearch.machine import lives_here
from mtsearch.search import liveness
from mtsearch.search.attributes import ALIVE, DEFINITION, WORKER
from mtsearch.search.retries import not_known_dead
from mtsearch.search.study import find
from mtsearch.study_file.mistakes import shown

_logger = logging.getLogger("mtsearch")

# Optuna's tables, the columns that its migrations have never touched.
_STUDIES = table("studies", column("study_id"), column("study_name"))
_ATTRIBUTES = table("study_user_attributes", column("study_id"), column("key"), column("value_json"))


def rename(storage: BaseStorage, old: str, new: str) -> None:
    """Give a study another name, in its stored definition too, so that a run under the new name goes on with it.

    NOTE: Optuna has no such operation, and a copy would have other times, take the RUNNING trials along and leave two
    studies where it breaks off. One transaction on the tables does both or nothing.

    Raises:
        DefinitionError: no study can have the new name.
        StudyNotFound: there is no such study, or mtsearch did not make it.
        StorageError: the new name is taken, or a process works on the study.
    """
    _check_name(new)
    study = find(storage, old)
    _refuse_while_running(study, "renamed")
    if not isinstance(storage, RDBStorage):
        raise StorageError("a proxy cannot rename studies", "name the database behind it with --storage")
    with storage.engine.begin() as connection:
        if _id_of(connection, new) is not None:
            raise StorageError(f"a study {new!r} is in the storage already", "choose another name")
        place = _STUDIES.c.study_id == _id_of(connection, old)
        connection.execute(update(_STUDIES).where(place).values(study_name=new))
        stored = (_ATTRIBUTES.c.study_id == _id_of(connection, new)) & (_ATTRIBUTES.c.key == DEFINITION)
        definition = json.loads(connection.execute(select(_ATTRIBUTES.c.value_json).where(stored)).scalar_one())
        definition["study"]["name"] = new
        connection.execute(update(_ATTRIBUTES).where(stored).values(value_json=json.dumps(definition)))


def delete(storage: BaseStorage, name: str) -> None:
    """Delete a study with all its trials.

    Raises:
        StudyNotFound: there is no such study, or mtsearch did not make it.
        StorageError: a process works on it.
    """
    study = find(storage, name)
    _refuse_while_running(study, "deleted")
    optuna.delete_study(study_name=study.study_name, storage=storage)


def _check_name(name: str) -> None:
    try:
        StudySection(name=name)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DefinitionError(f"{shown(name)} can be no study's name: {problem}") from None


def _refuse_while_running(study: optuna.Study, what: str) -> None:
    running = not_known_dead(study)
    at_work = [trial for trial in running if lives_here(trial.user_attrs[WORKER])] or _showing_life(study, running)
    for trial in at_work:
        process = "process {pid} on {host}".format_map(trial.user_attrs[WORKER])
        problem = f"study {study.study_name!r} cannot be {what}: {process} runs its trial {trial.number}"
        raise StorageError(problem, "end it first (Ctrl-C keeps what is finished)")


def _showing_life(study: optuna.Study, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those of other machines' trials of which something changes within two beats of their hearts."""
    if not running:
        return []
    seconds = 2 * liveness.BEAT_SECONDS
    _logger.info("trials seem to run on other machines: looking for a sign of life of them for %g s", seconds)
    time.sleep(seconds)
    now = study.get_trials(deepcopy=False)
    return [trial for trial in running if _life_of(now[trial.number]) != _life_of(trial)]


def _life_of(trial: FrozenTrial) -> tuple[object, ...]:
    return trial.state, trial.user_attrs.get(ALIVE)


def _id_of(connection: Connection, name: str) -> int | None:
    number: int | None = connection.execute(select(_STUDIES.c.study_id).where(_STUDIES.c.study_name == name)).scalar()
    return number
